//! How soon an ending is in the caller's inbox, how soon everything is supervised again after `kill -9`, and how soon
//! another node rescues what a dead one had: the real binary, on the machine's own cores. `cargo bench --bench survival`;
//! with `BATON_TEST_POSTGRES_URL`, on PostgreSQL too, where there are two nodes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a load tool that meets something unexpected has nothing better to do than to stop"
)]

use std::collections::{HashMap, HashSet};
use std::process::Child;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

mod kit;

use kit::{ADMIN, Seat, agent, create, execute, get, read, request, start};

/// Endings a second.
const RATE: u32 = 500;
const SECONDS: u32 = 8;
const READERS: usize = 16;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // `cargo bench --bench survival -- visible` looks at the endings only.
    let all = !std::env::args().any(|argument| argument == "visible");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bench.db");
    let sqlite = format!("sqlite://{}", path.display());
    runtime.block_on(visible("sqlite", &sqlite, false));
    let clone = |from: &str| clone_in_sqlite(&path, from);
    if all {
        runtime.block_on(recovered("sqlite", &sqlite, &clone));
    }
    if let Ok(admin) = std::env::var("BATON_TEST_POSTGRES_URL") {
        let name = format!("baton_survival_{}", std::process::id());
        let (base, _) = admin.rsplit_once('/').unwrap();
        execute(&admin, &format!("CREATE DATABASE {name}"));
        let url = format!("{base}/{name}");
        runtime.block_on(visible("postgres", &url, false));
        runtime.block_on(visible("postgres, read on the other node", &url, true));
        if all {
            runtime.block_on(rescued(&url));
            runtime.block_on(recovered("postgres", &url, &|from| {
                execute(&url, &clones(from, "gen_random_uuid()::text"));
                execute(&url, LIVE_CLONES);
            }));
        }
        execute(&admin, &format!("DROP DATABASE {name} WITH (FORCE)"));
    }
}

/// Sends one request and returns the answer.
async fn ask(address: &str, bytes: &[u8]) -> (u16, String) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.set_nodelay(true).unwrap();
    connection.write_all(bytes).await.unwrap();
    read(&mut connection).await
}

/// Whose replies are waited for, since when; and whose came before anybody waited.
#[derive(Default)]
struct Expected {
    since: HashMap<String, Instant>,
    early: HashSet<String>,
    /// When each was seen.
    seen_at: HashMap<String, Instant>,
}

impl Expected {
    fn expect(&mut self, id: String) {
        if !self.early.remove(&id) {
            self.since.insert(id, Instant::now());
        }
    }
}

type Sent = Arc<Mutex<Expected>>;

/// Follows an inbox, acknowledges, and notes for each delegation in `sent` how long ago that was.
async fn follow(address: String, (id, token): Seat, sent: Sent, seen: Arc<Mutex<Vec<Duration>>>) {
    let mut connection = TcpStream::connect(&address).await.unwrap();
    connection.set_nodelay(true).unwrap();
    loop {
        let wait = get(&format!("/workspaces/{id}/inbox?wait=30&limit=500"), &token);
        connection.write_all(&wait).await.unwrap();
        let (status, body) = read(&mut connection).await;
        let now = Instant::now();
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let rows = body["messages"].as_array().unwrap();
        for row in rows {
            let delegation = row["request_body"]["delegation_id"].as_str().unwrap_or("");
            let mut sent = sent.lock().unwrap();
            sent.seen_at.insert(delegation.to_owned(), now);
            match sent.since.remove(delegation) {
                Some(begun) => seen.lock().unwrap().push(now - begun),
                None => drop(sent.early.insert(delegation.to_owned())),
            }
        }
        if let Some(last) = rows.last() {
            let path = format!("/workspaces/{id}/activity/ack");
            let ack = request(&path, &token, &json!({"acked_seq": last["seq"]}));
            connection.write_all(&ack).await.unwrap();
            read(&mut connection).await;
        }
    }
}

fn report(what: &str, seen: &Mutex<Vec<Duration>>) {
    let mut seen = seen.lock().unwrap();
    seen.sort_unstable();
    let count = seen.len();
    let (p50, p99, max) = (seen[count / 2], seen[count * 99 / 100], seen[count - 1]);
    println!("{what}: {count}, p50 {p50:.1?}, p99 {p99:.1?}, max {max:.1?}");
}

async fn family(address: &str, url: Option<&str>, callers: usize) -> (String, Vec<Seat>) {
    let root = create(address, &json!({"name": "root", "external": true})).await;
    let mut target = json!({"name": "agent", "external": true, "parent_id": root.0});
    if let Some(url) = url {
        target["url"] = url.into();
    }
    let target = create(address, &target).await.0;
    let mut seats = Vec::new();
    for number in 0..callers {
        let body = json!({"name": format!("c{number}"), "external": true, "parent_id": root.0});
        seats.push(create(address, &body).await);
    }
    (target, seats)
}

/// From the report of an ending to its reply in the hands of a waiting reader, at a fixed rate.
async fn visible(name: &str, database: &str, elsewhere: bool) {
    let (mut server, address) = start(database);
    let mut other = elsewhere.then(|| start(database));
    let reader_address = other
        .as_ref()
        .map_or(&address, |(_, address)| address)
        .clone();
    let (target, callers) = family(&address, None, READERS).await;
    let (sent, seen) = (Sent::default(), Arc::new(Mutex::new(Vec::new())));
    let readers: Vec<_> = callers
        .iter()
        .map(|seat| {
            let (sent, seen) = (Arc::clone(&sent), Arc::clone(&seen));
            tokio::spawn(follow(reader_address.clone(), seat.clone(), sent, seen))
        })
        .collect();
    let count = usize::try_from(RATE * SECONDS).unwrap();
    for number in 0..count {
        let (id, token) = &callers[number % READERS];
        let body =
            json!({"target_id": target, "task": "t", "delegation_id": format!("{name}{number}")});
        let path = format!("/workspaces/{id}/delegations/record");
        assert_eq!(ask(&address, &request(&path, token, &body)).await.0, 202);
    }
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    let mut reports = Vec::with_capacity(count);
    for number in 0..count {
        ticks.tick().await;
        let (id, token) = callers[number % READERS].clone();
        let (address, sent) = (address.clone(), Arc::clone(&sent));
        let delegation = format!("{name}{number}");
        reports.push(tokio::spawn(async move {
            let path = format!(
                "/workspaces/{id}/delegations/{}/update",
                delegation.replace(' ', "%20")
            );
            let body = json!({"status": "completed", "response_preview": "answer"});
            let report = request(&path, &token, &body);
            sent.lock().unwrap().expect(delegation.clone());
            assert_eq!(ask(&address, &report).await.0, 200);
            (delegation, Instant::now())
        }));
    }
    let mut ended = Vec::with_capacity(count);
    for report in reports {
        ended.push(report.await.unwrap());
    }
    let end = Instant::now();
    while seen.lock().unwrap().len() < count && end.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    report(&format!("{name}: report to inbox at {RATE}/s"), &seen);
    readers.iter().for_each(tokio::task::JoinHandle::abort);
    let seen_at = std::mem::take(&mut sent.lock().unwrap().seen_at);
    let after = ended
        .iter()
        .map(|(id, at)| seen_at[id].saturating_duration_since(*at));
    let after = Mutex::new(after.collect());
    report(
        &format!("{name}: acknowledged ending to inbox at {RATE}/s"),
        &after,
    );
    stop(&mut server);
    if let Some((other, _)) = &mut other {
        stop(other);
    }
}

fn stop(server: &mut Child) {
    server.kill().unwrap();
    server.wait().unwrap();
}

const COLUMNS: &str = "callee_id, task, task_preview, origin, redelivery, status, attempt, waiting_for, \
    next_attempt_at, deadline, history, reply, revision, incarnation, lease_owner, created_at, updated_at, priority, standing";

fn clones(from: &str, new_id: &str) -> String {
    format!(
        "INSERT INTO delegations (number, caller_id, delegation_id, {COLUMNS}) \
         SELECT -n, caller_id, {new_id}, {COLUMNS} FROM delegations, generate_series(1, 99999) AS s (n) \
         WHERE delegation_id = '{from}'"
    )
}

const LIVE_CLONES: &str = "INSERT INTO delegations_live (number, lease_owner, caller_id, callee_id) \
    SELECT number, lease_owner, caller_id, callee_id FROM delegations WHERE number < 0";

fn clone_in_sqlite(path: &std::path::Path, from: &str) {
    use diesel::{Connection as _, RunQueryDsl as _};
    let mut connection = diesel::SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    let series = "WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 99999)";
    let insert = clones(from, "lower(hex(randomblob(16)))")
        .replace("generate_series(1, 99999) AS s (n)", "s")
        .replacen("SELECT", &format!("{series} SELECT"), 1);
    diesel::sql_query(insert).execute(&mut connection).unwrap();
    diesel::sql_query(LIVE_CLONES)
        .execute(&mut connection)
        .unwrap();
}

/// 100,000 that wait for their target's address, from `kill -9` to health and to the last that is supervised.
async fn recovered(name: &str, database: &str, clone: &dyn Fn(&str)) {
    let (mut server, address) = start(database);
    let (target, callers) = family(&address, None, 1).await;
    let (id, token) = &callers[0];
    let body = json!({"target_id": target, "task": "t"});
    let path = format!("/workspaces/{id}/delegate");
    let (_, accepted) = ask(&address, &request(&path, token, &body)).await;
    let accepted: Value = serde_json::from_str(&accepted).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // The lease of the process that dies is as fresh as it can be.
    clone(accepted["delegation_id"].as_str().unwrap());
    stop(&mut server);
    let begun = Instant::now();
    let (mut server, address) = start(database);
    while ask(&address, &get("/health", ADMIN)).await.0 != 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let healthy = begun.elapsed();
    while live(&address).await < 100_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "{name}: 100,000 live after kill -9: healthy {healthy:.1?}, all supervised {:.1?}",
        begun.elapsed()
    );
    stop(&mut server);
}

async fn live(address: &str) -> u64 {
    let (_, text) = ask(address, &get("/metrics", ADMIN)).await;
    let lines = text
        .lines()
        .filter(|line| line.starts_with("baton_delegations_live{"));
    let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

/// Two nodes; one dies with work in flight. From its death to each of those replies, read on the other.
async fn rescued(database: &str) {
    let (mut dying, address) = start(database);
    let (mut other, other_address) = start(database);
    let url = agent().await;
    let (target, callers) = family(&address, Some(&url), READERS).await;
    let (sent, seen) = (Sent::default(), Arc::new(Mutex::new(Vec::new())));
    for seat in &callers {
        let (sent, seen) = (Arc::clone(&sent), Arc::clone(&seen));
        tokio::spawn(follow(other_address.clone(), seat.clone(), sent, seen));
    }
    // What has no answer yet when the node dies: the agent is asked for one at a time.
    let cap = json!({"max_concurrent_tasks": 1}).to_string();
    let head = format!(
        "PATCH /workspaces/{target} HTTP/1.1\r\nHost: baton\r\nAuthorization: Bearer {ADMIN}\r\nContent-Length: {}\r\n\r\n{cap}",
        cap.len()
    );
    assert_eq!(ask(&address, head.as_bytes()).await.0, 200);
    for number in 0..1_000 {
        let (id, token) = callers[number % READERS].clone();
        let body = json!({"target_id": target, "task": "t", "redelivery": "always"});
        let path = format!("/workspaces/{id}/delegate");
        let (status, accepted) = ask(&address, &request(&path, &token, &body)).await;
        assert_eq!(status, 202, "{accepted}");
        let accepted: Value = serde_json::from_str(&accepted).unwrap();
        let id = accepted["delegation_id"].as_str().unwrap().to_owned();
        sent.lock().unwrap().expect(id);
    }
    stop(&mut dying);
    let death = Instant::now();
    seen.lock().unwrap().clear();
    let count = {
        let mut left = sent.lock().unwrap();
        left.since.values_mut().for_each(|begun| *begun = death);
        left.since.len()
    };
    while seen.lock().unwrap().len() < count && death.elapsed() < Duration::from_mins(1) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    report(
        &format!("postgres: {count} in flight at a node's death, to their replies"),
        &seen,
    );
    stop(&mut other);
}
