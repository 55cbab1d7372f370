//! The real binary under closed-loop load from this process, on the machine's own cores: `record`, `update`, and
//! delegate to reply, flag on. `cargo bench --bench throughput`; with `BATON_TEST_POSTGRES_URL`, on PostgreSQL too.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a load tool that meets something unexpected has nothing better to do than to stop"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

mod kit;

use kit::{ADMIN, Seat, agent, create, execute, get, read, request, resident, start};

const CLIENTS: usize = 64;

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

async fn completed(address: &str) -> usize {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = get("/admin/delegations/stats", ADMIN);
    connection.write_all(&request).await.unwrap();
    let (_, body) = read(&mut connection).await;
    let stats: Value = serde_json::from_str(&body).unwrap();
    usize::try_from(stats["completed"].as_u64().unwrap()).unwrap()
}
