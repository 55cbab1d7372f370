//! Somebody who is told by HTTP: a real receiver on a port of its own, that answers as it is told to.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::eventually;
use super::http::{self, Connection};

/// What it was told.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) raw: Bytes,
    pub(crate) body: Value,
    /// What it answered.
    pub(crate) status: u16,
}

impl Told {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn delegation(&self) -> &str {
        self.body["delegation_id"].as_str().unwrap_or_default()
    }
}

/// A receiver. Dropping it closes its port.
pub(crate) struct Hook {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

struct Shared {
    script: Mutex<Script>,
    held: watch::Sender<bool>,
}

#[derive(Default)]
struct Script {
    /// Each for one request, before `usual` applies.
    next: VecDeque<u16>,
    usual: u16,
    delay: Duration,
    began: usize,
    told: Vec<Told>,
}

impl Hook {
    /// Starts on a free port and takes everything.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let script = Script {
            usual: 200,
            ..Script::default()
        };
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            held: watch::Sender::new(false),
        });
        Self {
            address: listener.local_addr().expect("an address"),
            listening: tokio::spawn(accept(listener, Arc::clone(&shared))),
            shared,
        }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers so, once each, before it answers as usual.
    pub(crate) fn first(&self, statuses: impl IntoIterator<Item = u16>) {
        self.script().next.extend(statuses);
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, status: u16) {
        self.script().usual = status;
    }

    /// From now on it takes its time.
    pub(crate) fn takes(&self, delay: Duration) {
        self.script().delay = delay;
    }

    /// Answers nobody until it is released.
    pub(crate) fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// How many requests came, answered or not.
    pub(crate) fn began(&self) -> usize {
        self.script().began
    }

    /// Everything that it answered, in order.
    pub(crate) fn told(&self) -> Vec<Told> {
        self.script().told.clone()
    }

    /// What it took, each once, in the order in which it first did.
    pub(crate) fn taken(&self) -> Vec<Told> {
        let mut taken: Vec<Told> = Vec::new();
        for told in self.told() {
            let known = |other: &Told| other.header("webhook-id") == told.header("webhook-id");
            if told.status == 200 && !taken.iter().any(known) {
                taken.push(told);
            }
        }
        taken
    }

    /// Waits until it took so many, and says which delegations they tell of.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} are told"), async || {
            let taken = self.taken();
            let ids = taken.iter().map(|told| told.delegation().to_owned());
            (taken.len() >= count).then(|| ids.collect())
        })
        .await
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.shared.script)
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _peer)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let mut connection = Connection::new(stream);
    while let Some(received) = connection.receive().await? {
        let delay = {
            let mut script = lock(&shared.script);
            script.began += 1;
            script.delay
        };
        tokio::time::sleep(delay).await;
        let mut held = shared.held.subscribe();
        drop(held.wait_for(|held| !held).await);
        let status = {
            let mut script = lock(&shared.script);
            let status = script.next.pop_front().unwrap_or(script.usual);
            script.told.push(Told {
                headers: received.headers,
                body: serde_json::from_slice(&received.body).unwrap_or(Value::Null),
                raw: received.body,
                status,
            });
            status
        };
        let elsewhere = [("Location", "/elsewhere")];
        connection
            .send(&http::response(status, &elsewhere, b"{}"))
            .await?;
    }
    Ok(())
}
