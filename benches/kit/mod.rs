//! What the load program has of its own: the real binary, requests by hand, an agent that answers at once.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const ADMIN: &str = "benchmark";

/// A workspace's id and token.
pub(crate) type Seat = (String, String);

pub(crate) fn execute(url: &str, statement: &str) {
    use diesel::{Connection as _, RunQueryDsl as _};
    let mut connection = diesel::PgConnection::establish(url).unwrap();
    diesel::sql_query(statement)
        .execute(&mut connection)
        .unwrap();
}

pub(crate) fn request(path: &str, token: &str, body: &Value) -> Vec<u8> {
    call("POST", path, token, &body.to_string())
}

pub(crate) fn get(path: &str, token: &str) -> Vec<u8> {
    call("GET", path, token, "")
}

fn call(method: &str, path: &str, token: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let lines = [
        format!("{method} {path} HTTP/1.1"),
        "Host: baton".to_owned(),
        format!("Authorization: Bearer {token}"),
        format!("Content-Length: {length}"),
        String::new(),
        body.to_owned(),
    ];
    lines.join("\r\n").into_bytes()
}

/// One response: its status and body.
pub(crate) async fn read(connection: &mut TcpStream) -> (u16, String) {
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

pub(crate) async fn create(address: &str, body: &Value) -> Seat {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = request("/workspaces", ADMIN, body);
    connection.write_all(&request).await.unwrap();
    let (status, body) = read(&mut connection).await;
    assert_eq!(status, 201, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let field = |name: &str| body[name].as_str().unwrap().to_owned();
    (field("id"), field("auth_token"))
}

/// An agent that answers at once.
pub(crate) async fn agent() -> String {
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
        if received.starts_with(b"GET ") {
            // It has no card.
            received.clear();
            let none = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            if connection.write_all(none).await.is_err() {
                return;
            }
            continue;
        }
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

pub(crate) fn start(database: &str) -> (Child, String) {
    start_with(database, &[])
}

/// [`start`] with more settings.
pub(crate) fn start_with(database: &str, settings: &[(&str, &str)]) -> (Child, String) {
    // Another build can be measured with the same program.
    let built = env!("CARGO_BIN_EXE_baton");
    let binary = std::env::var("BATON_BENCH_BINARY").unwrap_or_else(|_| built.to_owned());
    let mut server = Command::new(binary)
        .env_clear()
        .env("PORT", "0")
        .env("DATABASE_URL", database)
        .env("ADMIN_TOKEN", ADMIN)
        .env("RATE_LIMIT", "0")
        .env("BATON_TARGET_ALLOW", "127.0.0.0/8")
        .env("DELEGATION_RESULT_INBOX_PUSH", "1")
        .env("BATON_LOG", "warn")
        .envs(settings.iter().copied())
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
