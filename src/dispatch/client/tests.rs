//! Against real sockets: each agent is a script on a port of its own, and counts the requests that reached it whole.

use std::future::{Future, pending};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::*;
use crate::domain::DelegationId;

mod delivery;
mod kept;
mod limits;
mod replies;
mod secure;
mod streams;
mod tasks;

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

fn config() -> ClientConfig {
    ClientConfig {
        guard: TargetGuard::new(vec!["127.0.0.0/8".parse().unwrap()]),
        connect_timeout: LONG,
        first_byte_timeout: None,
        idle_timeout: LONG,
        max_reply_bytes: 1 << 20,
        faults: Arc::default(),
    }
}

fn call(url: &str) -> Call {
    Call {
        url: url.into(),
        manner: Arc::default(),
        message_id: DelegationId::from_text("d-1"),
        message: Message::Task("do it".into()),
        push: None,
        credential: None,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        deadline_in: LONG,
    }
}

impl A2aClient {
    /// Sends, and listens to nothing before the end.
    async fn sent(&self, call: Call) -> Called {
        self.send(call, async |_| {}).await
    }
}

/// An agent that plays `script` on each connection, and how many whole requests it saw.
struct Agent {
    url: String,
    seen: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Agent {
    async fn start<F, S>(script: S) -> Self
    where
        S: Fn(Peer) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/a2a", listener.local_addr().unwrap());
        let (seen, connections) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let agent = Self {
            url,
            seen: Arc::clone(&seen),
            connections: Arc::clone(&connections),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(Peer {
                    stream,
                    seen: Arc::clone(&seen),
                }));
            }
        });
        agent
    }

    /// Calls it once, and checks that as many requests arrived as `seen` says.
    async fn called(&self, config: ClientConfig, call: Call, seen: usize) -> Called {
        let called = A2aClient::new(config).sent(call).await;
        assert_eq!(self.seen.load(Ordering::SeqCst), seen, "{called:?}");
        called
    }

    async fn outcome(&self, seen: usize) -> Outcome {
        self.called(config(), call(&self.url), seen).await.outcome
    }
}

struct Peer {
    stream: TcpStream,
    seen: Arc<AtomicUsize>,
}

impl Peer {
    /// Reads one whole request: its head and its body.
    async fn request(&mut self) -> (String, serde_json::Value) {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head = head.to_ascii_lowercase();
                let length = head.split_once("content-length: ").unwrap().1;
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if body.len() >= length {
                    self.seen.fetch_add(1, Ordering::SeqCst);
                    return (head, serde_json::from_str(body).unwrap());
                }
            }
            assert_ne!(
                self.stream.read_buf(&mut bytes).await.unwrap(),
                0,
                "half a request"
            );
        }
    }

    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn respond(&mut self, status: &str, body: &str) {
        let length = body.len();
        self.write(&format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    }

    /// Ends the connection with a reset instead of an end.
    fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }
}

fn answer(id: &serde_json::Value, text: &str) -> String {
    serde_json::json!({"jsonrpc": "2.0", "id": id, "result":
        {"kind": "message", "role": "agent", "parts": [{"kind": "text", "text": text}]}})
    .to_string()
}

fn is_unknown(outcome: &Outcome, expected: ErrorClass) -> bool {
    matches!(outcome, Outcome::DeliveredUnknown { class, target_deduplicates: false, .. } if *class == expected)
}
