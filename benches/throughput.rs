//! The real binary under closed-loop load from this process, on the machine's own cores: `record`, `update`, and
//! delegate to reply, flag on. `cargo bench --bench throughput`; with `BATON_TEST_POSTGRES_URL`, on PostgreSQL too.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a load tool that meets something unexpected has nothing better to do than to stop"
)]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const CLIENTS: usize = 64;
const ADMIN: &str = "benchmark";

fn main() {
    let size = std::env::var("BATON_BENCH_SIZE").ok();
    let size = size.map_or(10_000, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}", directory.path().join("bench.db").display());
    runtime.block_on(measure("sqlite", &sqlite, size));
    if let Ok(admin) = std::env::var("BATON_TEST_POSTGRES_URL") {
        let name = format!("baton_bench_{}", std::process::id());
        let (base, _) = admin.rsplit_once('/').unwrap();
        execute(&admin, &format!("CREATE DATABASE {name}"));
        runtime.block_on(measure("postgres", &format!("{base}/{name}"), size));
        execute(&admin, &format!("DROP DATABASE {name} WITH (FORCE)"));
    }
}

fn execute(url: &str, statement: &str) {
    use diesel::{Connection as _, RunQueryDsl as _};
    let mut connection = diesel::PgConnection::establish(url).unwrap();
    diesel::sql_query(statement)
        .execute(&mut connection)
        .unwrap();
}

/// A workspace's id and token.
type Seat = (String, String);

async fn measure(name: &str, database: &str, size: usize) {
    let (mut server, address) = start(database);
    let agent = agent().await;
    let root = create(&address, &json!({"name": "root", "external": true})).await;
    let target = json!({"name": "agent", "external": true, "parent_id": root.0, "url": agent});
    let target = create(&address, &target).await.0;
    let mut callers = Vec::new();
    for number in 0..CLIENTS {
        let body = json!({"name": format!("c{number}"), "external": true, "parent_id": root.0});
        callers.push(create(&address, &body).await);
    }
    let text = "x".repeat(200);
    println!("{name}: idle memory {} KiB", resident(server.id()));

    let record = requests(&callers, size, |id, number| {
        let path = format!("/workspaces/{id}/delegations/record");
        let id = format!("d{number}");
        (
            path,
            json!({"target_id": target, "task": text, "delegation_id": id}),
        )
    });
    report(name, "record", &load(&address, record, 202).await);
    let update = requests(&callers, size, |id, number| {
        let path = format!("/workspaces/{id}/delegations/d{number}/update");
        (
            path,
            json!({"status": "completed", "response_preview": text}),
        )
    });
    report(name, "update", &load(&address, update, 200).await);
    let delegate = requests(&callers, size, |id, _| {
        let path = format!("/workspaces/{id}/delegate");
        (path, json!({"target_id": target, "task": text}))
    });
    let started = Instant::now();
    let accepted = load(&address, delegate, 202).await;
    while completed(&address).await < 2 * size {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let whole = rate(size, started.elapsed());
    report(name, "delegate, to the 202", &accepted);
    println!("{name}: delegate, to the last reply: {whole:.0}/s");
    println!("{name}: memory after that {} KiB", resident(server.id()));
    server.kill().unwrap();
    server.wait().unwrap();
}

fn requests(
    callers: &[Seat],
    count: usize,
    make: impl Fn(&str, usize) -> (String, Value),
) -> Vec<Vec<u8>> {
    let numbered = (0..count).map(|number| (number, &callers[number % callers.len()]));
    let encoded = numbered.map(|(number, (id, token))| {
        let (path, body) = make(id, number);
        request(&path, token, &body)
    });
    encoded.collect()
}

struct Load {
    took: Duration,
    latencies: Vec<Duration>,
}

/// Sends all requests, each client the next one that is left, and checks every status.
async fn load(address: &str, requests: Vec<Vec<u8>>, expected: u16) -> Load {
    let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
    let started = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
            let address = address.to_owned();
            tokio::spawn(async move {
                let mut connection = TcpStream::connect(&address).await.unwrap();
                connection.set_nodelay(true).unwrap();
                let mut latencies = Vec::new();
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let sent = Instant::now();
                    connection.write_all(request).await.unwrap();
                    let (status, body) = read(&mut connection).await;
                    assert_eq!(status, expected, "{body}");
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for client in clients {
        latencies.extend(client.await.unwrap());
    }
    latencies.sort_unstable();
    Load {
        took: started.elapsed(),
        latencies,
    }
}

fn report(name: &str, what: &str, load: &Load) {
    let count = load.latencies.len();
    let (p50, p99) = (load.latencies[count / 2], load.latencies[count * 99 / 100]);
    let rate = rate(count, load.took);
    println!("{name}: {what}: {rate:.0}/s at {CLIENTS} clients, p50 {p50:.1?}, p99 {p99:.1?}");
}

fn rate(count: usize, took: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap()) / took.as_secs_f64()
}

fn request(path: &str, token: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    let length = body.len();
    let lines = [
        format!("POST {path} HTTP/1.1"),
        "Host: baton".to_owned(),
        format!("Authorization: Bearer {token}"),
        format!("Content-Length: {length}"),
        String::new(),
        body,
    ];
    lines.join("\r\n").into_bytes()
}

/// One response: its status and body.
async fn read(connection: &mut TcpStream) -> (u16, String) {
    let mut received = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let end = received.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
            let mut lines = head.lines();
            let length = lines.find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |text| text.trim().parse().unwrap());
            if received.len() >= end + 4 + length {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                let body = String::from_utf8_lossy(&received[end + 4..]);
                return (status, body.into_owned());
            }
        }
        let count = connection.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the connection was closed");
        received.extend_from_slice(&buffer[..count]);
    }
}

async fn create(address: &str, body: &Value) -> Seat {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = request("/workspaces", ADMIN, body);
    connection.write_all(&request).await.unwrap();
    let (status, body) = read(&mut connection).await;
    assert_eq!(status, 201, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let field = |name: &str| body[name].as_str().unwrap().to_owned();
    (field("id"), field("auth_token"))
}

async fn completed(address: &str) -> usize {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /admin/delegations/stats HTTP/1.1\r\nHost: baton\r\nAuthorization: Bearer {ADMIN}\r\n\r\n"
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let (_, body) = read(&mut connection).await;
    let stats: Value = serde_json::from_str(&body).unwrap();
    usize::try_from(stats["completed"].as_u64().unwrap()).unwrap()
}

/// An agent that answers at once.
async fn agent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(connection));
        }
    });
    url
}

async fn answer(mut connection: TcpStream) {
    let mut received = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let count = connection.read(&mut buffer).await.unwrap_or(0);
        if count == 0 {
            return;
        }
        received.extend_from_slice(&buffer[..count]);
        let end = received.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end else { continue };
        let Ok(call) = serde_json::from_slice::<Value>(&received[end + 4..]) else {
            continue;
        };
        received.clear();
        let parts = json!([{"kind": "text", "text": "x".repeat(200)}]);
        let message = json!({"kind": "message", "role": "agent", "messageId": "m", "parts": parts});
        let body = json!({"jsonrpc": "2.0", "id": call["id"], "result": message}).to_string();
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        if connection
            .write_all((head + &body).as_bytes())
            .await
            .is_err()
        {
            return;
        }
    }
}

fn start(database: &str) -> (Child, String) {
    let mut server = Command::new(env!("CARGO_BIN_EXE_baton"))
        .env_clear()
        .env("PORT", "0")
        .env("DATABASE_URL", database)
        .env("ADMIN_TOKEN", ADMIN)
        .env("RATE_LIMIT", "0")
        .env("BATON_TARGET_ALLOW", "127.0.0.0/8")
        .env("DELEGATION_RESULT_INBOX_PUSH", "1")
        .env("BATON_LOG", "warn")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line = line.unwrap();
        line.strip_prefix("listening on http://")
            .map(ToOwned::to_owned)
    });
    std::thread::spawn(move || lines.for_each(drop));
    (server, address.unwrap())
}

/// The process's resident memory, in KiB.
fn resident(process: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap().trim().trim_end_matches(" kB").to_owned()
}
