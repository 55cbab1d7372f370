//! An agent whose every word the test writes itself: its card, and what it does with each request.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::agent::Request;
use super::http::{self, Connection};

/// A scripted agent. It lives as long as the test.
pub(crate) struct ScriptedAgent {
    base: String,
    shared: Arc<Shared>,
}

/// What the test and the agent share.
struct Shared {
    /// Each card by its path.
    cards: Mutex<Vec<(String, Value)>>,
    requests: Mutex<Vec<Request>>,
    /// How often the script may go on.
    gate: Semaphore,
}

/// The agent's side of one request.
pub(crate) struct Talk {
    pub(crate) request: Request,
    connection: Connection,
    shared: Arc<Shared>,
}

impl ScriptedAgent {
    /// Does this with each request that is not for its card.
    pub(crate) async fn start<F>(script: impl Fn(Talk) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            cards: Mutex::default(),
            requests: Mutex::default(),
            gate: Semaphore::new(0),
        });
        let agent = Self {
            base: format!("http://{address}"),
            shared: Arc::clone(&shared),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, script) = (Arc::clone(&shared), script.clone());
                tokio::spawn(async move {
                    // The caller may hang up whenever it likes.
                    drop(serve(stream, shared, script).await);
                });
            }
        });
        agent
    }

    /// A place of it.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Shows this card at this path.
    pub(crate) fn show(&self, path: &str, card: Value) {
        lock(&self.shared.cards).push((path.to_owned(), card));
    }

    /// Lets the script go on where it waits, once.
    pub(crate) fn let_go_on(&self) {
        self.shared.gate.add_permits(1);
    }

    /// Everything that was asked of it but its cards, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// The methods, or the places where there are none, of what was asked of it.
    pub(crate) fn asked(&self) -> Vec<String> {
        let requests = self.requests().into_iter();
        let asked = requests.map(|request| match &*request.method {
            "" => request.line,
            method => method.to_owned(),
        });
        asked.collect()
    }
}

async fn serve<F>(
    stream: TcpStream,
    shared: Arc<Shared>,
    script: impl Fn(Talk) -> F,
) -> io::Result<()>
where
    F: Future<Output = io::Result<()>>,
{
    let mut connection = Connection::new(stream);
    let Some(received) = connection.receive().await? else {
        return Ok(());
    };
    let request = Request::received(received);
    let path = request.line.strip_prefix("GET ");
    // What it is asked for besides has no such names.
    if let Some(path) = path.filter(|path| path.contains(".json")) {
        let cards = lock(&shared.cards).clone();
        let card = cards.into_iter().find(|(place, _)| place == path);
        let answer = match card {
            Some((_, card)) => http::response(200, &[], card.to_string().as_bytes()),
            None => http::response(404, &[], b"404 page not found"),
        };
        return connection.send(&answer).await;
    }
    lock(&shared.requests).push(request.clone());
    script(Talk {
        request,
        connection,
        shared,
    })
    .await
}

impl Talk {
    /// Waits until the test lets it go on.
    pub(crate) async fn wait(&self) {
        let permit = self.shared.gate.acquire().await.expect("an open gate");
        permit.forget();
    }

    /// Answers whole.
    pub(crate) async fn answer(&mut self, status: u16, body: &Value) -> io::Result<()> {
        let answer = http::response(status, &[], body.to_string().as_bytes());
        self.connection.send(&answer).await
    }

    /// Answers whole, with a JSON-RPC result.
    pub(crate) async fn result(&mut self, result: &Value) -> io::Result<()> {
        let body = json!({"jsonrpc": "2.0", "id": self.request.body["id"], "result": result});
        self.answer(200, &body).await
    }

    /// Answers whole, with a JSON-RPC error.
    pub(crate) async fn error(&mut self, code: i64) -> io::Result<()> {
        let error = json!({"code": code, "message": "no"});
        let body = json!({"jsonrpc": "2.0", "id": self.request.body["id"], "error": error});
        self.answer(200, &body).await
    }

    /// Begins a stream of events.
    pub(crate) async fn begin(&mut self) -> io::Result<()> {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
                    Transfer-Encoding: chunked\r\n\r\n";
        self.connection.send(head.as_bytes()).await
    }

    /// Sends a piece of the stream, as it is.
    pub(crate) async fn piece(&mut self, text: &str) -> io::Result<()> {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.connection.send(chunk.as_bytes()).await
    }

    /// Sends an event: a JSON-RPC result.
    pub(crate) async fn event(&mut self, result: &Value) -> io::Result<()> {
        let data = json!({"jsonrpc": "2.0", "id": self.request.body["id"], "result": result});
        self.piece(&format!("data: {data}\n\n")).await
    }

    /// Ends the stream as one should.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        self.connection.send(b"0\r\n\r\n").await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
