//! A real A2A agent on a port of its own, whose manners can be changed while a test runs.
//!
//! It speaks HTTP/1.1 by hand, because half of its behaviours are things that no HTTP library would do.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::PATIENCE;
use super::http::{self, Connection, Received};
use super::replies::{answer, busy, message, text_parts};

/// What the agent does with a message.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Answers with a message of one text part.
    Answer(String),
    /// Answers with `echo: ` and the text it was sent.
    Echo,
    /// Answers with a message of these parts.
    AnswerParts(Value),
    /// Answers with a message whose part says `type`, not `kind`.
    TypeParts(String),
    /// Answers with a completed task that carries the text in an artifact.
    ArtifactTask(String),
    /// Waits, then does the other.
    Delay(Duration, Box<Behaviour>),
    /// Answers with a JSON-RPC error.
    Error(i64, String),
    /// Answers with this HTTP status and body.
    Status(u16, String),
    /// Answers 503 with `Retry-After: 1`.
    Busy,
    /// Answers 202: it took the message into a queue of its own.
    Queued202,
    /// Answers 200 without a body.
    Empty,
    /// Hangs up without reading the request.
    CloseBeforeReading,
    /// Reads the request, then hangs up without a word.
    CloseAfterReading,
    /// Announces a whole answer, sends this many bytes of it, hangs up.
    CutBody(usize),
    /// Answers another request than the one it was sent.
    WrongId,
    /// Answers with a task that is not over (`submitted`, `working`, `input-required`, …).
    NonFinal(String),
    /// Answers 200 with these bytes, where `$ID` stands for the id of the request.
    Raw(Vec<u8>),
    /// Sends these bytes in place of an HTTP response, then hangs up.
    RawWire(Vec<u8>),
    /// Never answers.
    Hang,
    /// Works on one message at a time, this long, and turns the others away as [`Behaviour::Busy`] does.
    OneAtATime(Duration),
}

impl Behaviour {
    /// [`Behaviour::Delay`] without the boxing.
    pub(crate) fn after(delay: Duration, then: Self) -> Self {
        Self::Delay(delay, Box::new(then))
    }
}

/// A request that the agent received whole.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The HTTP method and path.
    pub(crate) line: String,
    /// Header names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// The bytes of the body.
    pub(crate) raw: Bytes,
    /// The body, `null` if it is not JSON.
    pub(crate) body: Value,
    /// The JSON-RPC method, empty if there is none.
    pub(crate) method: String,
    /// The `messageId`, empty if there is none.
    pub(crate) message_id: String,
}

impl Request {
    /// The first header of that name (in lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The text parts of the message, joined.
    pub(crate) fn text(&self) -> String {
        let parts = self.body["params"]["message"]["parts"].as_array();
        let texts = parts
            .into_iter()
            .flatten()
            .filter_map(|part| part["text"].as_str());
        texts.collect()
    }

    fn is_message(&self) -> bool {
        matches!(
            self.method.as_str(),
            "message/send" | "message/stream" | "SendMessage" | "SendStreamingMessage"
        )
    }

    fn received(received: Received) -> Self {
        let body: Value = serde_json::from_slice(&received.body).unwrap_or(Value::Null);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            method: text(&body["method"]),
            message_id: text(&body["params"]["message"]["messageId"]),
            line: received.line,
            headers: received.headers,
            raw: received.body,
            body,
        }
    }
}

/// A scripted agent. Dropping it closes its port and all its connections.
pub(crate) struct FakeAgent {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    script: Mutex<Script>,
    /// How many messages arrived.
    arrivals: watch::Sender<usize>,
    held: watch::Sender<bool>,
}

struct Script {
    messages: Behaviour,
    /// Each for one message, before `messages` applies again.
    next: VecDeque<Behaviour>,
    /// For one message, however often it comes.
    by_message: HashMap<String, Behaviour>,
    /// For JSON-RPC methods that are no messages.
    by_method: HashMap<String, Behaviour>,
    card: Option<Value>,
    requests: Vec<Request>,
    connections: usize,
    working: usize,
    peak: usize,
}

impl FakeAgent {
    /// Starts on a free port of 127.0.0.1 and behaves like this until told otherwise.
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let agent = Self {
            address: listener.local_addr().expect("an address"),
            shared: Arc::new(Shared {
                script: Mutex::new(Script {
                    messages: behaviour,
                    next: VecDeque::new(),
                    by_message: HashMap::new(),
                    by_method: HashMap::new(),
                    card: None,
                    requests: Vec::new(),
                    connections: 0,
                    working: 0,
                    peak: 0,
                }),
                arrivals: watch::Sender::new(0),
                held: watch::Sender::new(false),
            }),
            listening: Mutex::new(None),
        };
        agent.listen(listener);
        agent
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// From now on it behaves like this.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.script().messages = behaviour;
    }

    /// Does each of these once, in order, before it behaves as usual again.
    pub(crate) fn first(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.script().next.extend(behaviours);
    }

    /// Behaves like this towards one message.
    pub(crate) fn behave_for_message(&self, message_id: &str, behaviour: Behaviour) {
        self.script()
            .by_message
            .insert(message_id.to_owned(), behaviour);
    }

    /// Behaves like this towards another JSON-RPC method (`tasks/get`, …), which is refused as unknown otherwise.
    pub(crate) fn behave_for_method(&self, method: &str, behaviour: Behaviour) {
        self.script().by_method.insert(method.to_owned(), behaviour);
    }

    /// Serves this agent card; without one, 404.
    pub(crate) fn show_card(&self, card: Value) {
        self.script().card = Some(card);
    }

    /// Keeps all messages waiting from now on, after they were counted.
    pub(crate) fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// Lets the held messages go on to the behaviour of that moment.
    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Closes the port and all connections: from now on they are refused.
    pub(crate) fn stop(&self) {
        if let Some(task) = lock(&self.listening).take() {
            task.abort();
        }
    }

    /// Opens the same port again.
    pub(crate) async fn resume(&self) {
        let listener = super::eventually("the agent's port is free again", async || {
            let socket = TcpSocket::new_v4().ok()?;
            socket.set_reuseaddr(true).ok()?;
            socket.bind(self.address).ok()?;
            socket.listen(1024).ok()
        })
        .await;
        self.listen(listener);
    }

    /// How often a message arrived.
    pub(crate) fn seen(&self, message_id: &str) -> usize {
        let script = self.script();
        let mine = script
            .requests
            .iter()
            .filter(|request| request.is_message() && request.message_id == message_id);
        mine.count()
    }

    /// Everything that arrived, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.script().requests.clone()
    }

    /// The messages among [`FakeAgent::requests`].
    pub(crate) fn messages(&self) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(Request::is_message);
        requests
    }

    /// How many connections were opened to it.
    pub(crate) fn connections(&self) -> usize {
        self.script().connections
    }

    /// How many messages it worked on at once, at most.
    pub(crate) fn peak(&self) -> usize {
        self.script().peak
    }

    /// Waits until `count` messages arrived in all.
    pub(crate) async fn wait_for(&self, count: usize) {
        let mut arrivals = self.shared.arrivals.subscribe();
        let waited =
            tokio::time::timeout(PATIENCE, arrivals.wait_for(|arrived| *arrived >= count)).await;
        match waited {
            Ok(arrived) => drop(arrived.expect("the agent lives")),
            Err(elapsed) => panic!(
                "{} of {count} messages arrived, {elapsed} after {PATIENCE:?}: {:#?}",
                self.messages().len(),
                self.requests()
            ),
        }
    }

    fn listen(&self, listener: TcpListener) {
        let task = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
        *lock(&self.listening) = Some(task);
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.shared.script)
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A test that panics while it holds the lock must not hide its own message behind a poisoned one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _peer)) = listener.accept().await {
        lock(&shared.script).connections += 1;
        connections.spawn(serve(stream, Arc::clone(&shared)));
    }
}

/// Serves requests until either side hangs up. An error is the caller's hanging up, which is its right.
async fn serve(stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    let mut connection = Connection::new(stream);
    loop {
        connection.readable().await?;
        if shared.hangs_up_at_once() {
            return Ok(());
        }
        let Some(received) = connection.receive().await? else {
            return Ok(());
        };
        let request = Request::received(received);
        let behaviour = shared.arrived(&request).await;
        if !respond(&mut connection, &shared, &request, behaviour).await? {
            return Ok(());
        }
    }
}

impl Shared {
    /// Spends a [`Behaviour::CloseBeforeReading`].
    fn hangs_up_at_once(&self) -> bool {
        let mut script = lock(&self.script);
        if matches!(script.next.front(), Some(Behaviour::CloseBeforeReading)) {
            script.next.pop_front();
            return true;
        }
        script.next.is_empty() && matches!(script.messages, Behaviour::CloseBeforeReading)
    }

    /// Counts the request, waits while the agent is held, and says what to do.
    async fn arrived(&self, request: &Request) -> Behaviour {
        lock(&self.script).requests.push(request.clone());
        if !request.is_message() {
            return self.aside(request);
        }
        self.arrivals.send_modify(|count| *count += 1);
        let mut held = self.held.subscribe();
        drop(held.wait_for(|held| !held).await);
        let mut script = lock(&self.script);
        if let Some(behaviour) = script.by_message.get(&request.message_id) {
            return behaviour.clone();
        }
        let next = script.next.pop_front();
        next.unwrap_or_else(|| script.messages.clone())
    }

    /// What to do with a request that is no message.
    fn aside(&self, request: &Request) -> Behaviour {
        let script = lock(&self.script);
        if request.method.is_empty() {
            return match &script.card {
                Some(card) => Behaviour::Raw(card.to_string().into_bytes()),
                None => Behaviour::Status(404, "404 page not found".to_owned()),
            };
        }
        let scripted = script.by_method.get(&request.method).cloned();
        scripted.unwrap_or_else(|| Behaviour::Error(-32601, "Method not found".to_owned()))
    }
}

/// Counts a message as being worked on while it lives.
struct Work<'a>(&'a Shared);

impl<'a> Work<'a> {
    /// `None` when there are `limit` already.
    fn begin(shared: &'a Shared, limit: usize) -> Option<Self> {
        let mut script = lock(&shared.script);
        if script.working >= limit {
            return None;
        }
        script.working += 1;
        script.peak = script.peak.max(script.working);
        drop(script);
        Some(Self(shared))
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        lock(&self.0.script).working -= 1;
    }
}

/// Carries out a behaviour; whether the connection may serve another request.
async fn respond(
    connection: &mut Connection,
    shared: &Shared,
    request: &Request,
    mut behaviour: Behaviour,
) -> io::Result<bool> {
    let limit = match behaviour {
        Behaviour::OneAtATime(_) => 1,
        _ => usize::MAX,
    };
    let Some(_work) = Work::begin(shared, limit) else {
        connection.send(&busy()).await?;
        return Ok(true);
    };
    while let Behaviour::Delay(delay, then) = behaviour {
        tokio::time::sleep(delay).await;
        behaviour = *then;
    }
    if let Behaviour::OneAtATime(delay) = behaviour {
        tokio::time::sleep(delay).await;
        behaviour = Behaviour::Echo;
    }
    match behaviour {
        Behaviour::Hang => std::future::pending().await,
        Behaviour::CloseBeforeReading | Behaviour::CloseAfterReading => Ok(false),
        Behaviour::CutBody(length) => {
            let whole = http::response(200, &[], message(request, &text_parts("cut")).as_bytes());
            connection.send(&http::cut(&whole, length)).await?;
            Ok(false)
        }
        Behaviour::RawWire(bytes) => {
            connection.send(&bytes).await?;
            Ok(false)
        }
        other => {
            connection.send(&answer(request, other)).await?;
            Ok(true)
        }
    }
}
