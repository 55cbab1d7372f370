//! From a connection to a response: what the script says to a request, and doing it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;

use super::behaviour::{Behaviour, Request};
use super::work::{Ledger, unknown_method};
use crate::support::http::{self, Connection};
use crate::support::replies::{answer, busy, message, text_parts};

pub(super) struct Shared {
    pub(super) script: Mutex<Script>,
    /// How many messages arrived.
    pub(super) arrivals: watch::Sender<usize>,
    pub(super) held: watch::Sender<bool>,
}

pub(super) struct Script {
    pub(super) messages: Behaviour,
    /// Each for one message, before `messages` applies again.
    pub(super) next: VecDeque<Behaviour>,
    /// For one message, however often it comes.
    pub(super) by_message: HashMap<String, Behaviour>,
    /// For JSON-RPC methods that are no messages.
    pub(super) by_method: HashMap<String, Behaviour>,
    pub(super) card: Option<Value>,
    pub(super) retry_after: Option<u64>,
    pub(super) tasks: Ledger,
    /// What each message came to, of an agent that drops a repeated one.
    pub(super) kept: Option<HashMap<String, Arc<OnceCell<Behaviour>>>>,
    pub(super) requests: Vec<Request>,
    pub(super) accepted: Vec<String>,
    pub(super) connections: usize,
    pub(super) working: usize,
    pub(super) peak: usize,
}

/// A test that panics while it holds the lock must not hide its own message behind a poisoned one.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
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
        // Whoever looks for its card is no caller.
        if !connection.is_get().await? && shared.hangs_up_at_once() {
            return Ok(());
        }
        let Some(received) = connection.receive().await? else {
            return Ok(());
        };
        let request = Request::received(received);
        shared.record(&request);
        if !respond(&mut connection, &shared, &request).await? {
            return Ok(());
        }
    }
}

impl Shared {
    pub(super) fn new(messages: Behaviour) -> Self {
        let script = Script {
            messages,
            next: VecDeque::new(),
            by_message: HashMap::new(),
            by_method: HashMap::new(),
            card: None,
            retry_after: Some(1),
            tasks: Ledger::default(),
            kept: None,
            requests: Vec::new(),
            accepted: Vec::new(),
            connections: 0,
            working: 0,
            peak: 0,
        };
        Self {
            script: Mutex::new(script),
            arrivals: watch::Sender::new(0),
            held: watch::Sender::new(false),
        }
    }

    /// Spends a [`Behaviour::CloseBeforeReading`].
    fn hangs_up_at_once(&self) -> bool {
        let mut script = lock(&self.script);
        if matches!(script.next.front(), Some(Behaviour::CloseBeforeReading)) {
            script.next.pop_front();
            return true;
        }
        script.next.is_empty() && matches!(script.messages, Behaviour::CloseBeforeReading)
    }

    fn record(&self, request: &Request) {
        lock(&self.script).requests.push(request.clone());
        if request.is_message() {
            self.arrivals.send_modify(|count| *count += 1);
        }
    }

    /// Acts on a message, or remembers what it came to.
    async fn act<'a>(&'a self, request: &Request, working: &mut Option<Working<'a>>) -> Behaviour {
        let kept = lock(&self.script).kept.as_mut().map(|kept| {
            let of_message = kept.entry(request.message_id.clone());
            Arc::clone(of_message.or_default())
        });
        let Some(kept) = kept else {
            let done = self.perform(request, working).await;
            return done.unwrap_or_else(|turned_away| turned_away);
        };
        let mut first = false;
        let done = kept.get_or_try_init(|| {
            first = true;
            self.perform(request, working)
        });
        match done.await {
            Ok(done) if first => done.clone(),
            Ok(done) => done.repeated(),
            Err(turned_away) => turned_away,
        }
    }

    /// Waits while the agent is held, works, and says how to answer; an error if it is too busy.
    async fn perform<'a>(
        &'a self,
        request: &Request,
        working: &mut Option<Working<'a>>,
    ) -> Result<Behaviour, Behaviour> {
        let mut held = self.held.subscribe();
        drop(held.wait_for(|held| !held).await);
        let behaviour = self.choose(request);
        if matches!(behaviour, Behaviour::Busy) {
            return Err(Behaviour::Busy);
        }
        let limit = match behaviour {
            Behaviour::OneAtATime(_) => 1,
            _ => usize::MAX,
        };
        *working = Some(Working::begin(self, limit).ok_or(Behaviour::Busy)?);
        lock(&self.script).accepted.push(request.message_id.clone());
        match wait(behaviour).await {
            Behaviour::Work(work) => Ok(lock(&self.script).tasks.begin(request, work)),
            other => Ok(other),
        }
    }

    fn choose(&self, request: &Request) -> Behaviour {
        let mut script = lock(&self.script);
        if let Some(behaviour) = script.by_message.get(&request.message_id) {
            return behaviour.clone();
        }
        if let Some(behaviour) = script.next.pop_front() {
            return behaviour;
        }
        let goes_on = !request.task_id.is_empty();
        let task = goes_on.then(|| script.tasks.go_on(request)).flatten();
        task.unwrap_or_else(|| script.messages.clone())
    }

    /// What to do with a request that is no message.
    fn aside(&self, request: &Request) -> Behaviour {
        let mut script = lock(&self.script);
        if request.method.is_empty() {
            return match &script.card {
                Some(card) => Behaviour::Raw(card.to_string().into_bytes()),
                None => Behaviour::Status(404, "404 page not found".to_owned()),
            };
        }
        match (script.by_method.get(&request.method), &*request.method) {
            (Some(scripted), _) => scripted.clone(),
            (None, "tasks/get") => script.tasks.look(&request.task_id),
            (None, "tasks/cancel") => script.tasks.cancel(&request.task_id),
            (None, _) => unknown_method(),
        }
    }
}

/// Counts a message as being worked on while it lives.
struct Working<'a>(&'a Shared);

impl<'a> Working<'a> {
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

impl Drop for Working<'_> {
    fn drop(&mut self) {
        lock(&self.0.script).working -= 1;
    }
}

/// Takes the time that a behaviour takes.
async fn wait(mut behaviour: Behaviour) -> Behaviour {
    while let Behaviour::Delay(delay, then) = behaviour {
        tokio::time::sleep(delay).await;
        behaviour = *then;
    }
    if let Behaviour::OneAtATime(delay) = behaviour {
        tokio::time::sleep(delay).await;
        behaviour = Behaviour::Echo;
    }
    behaviour
}

/// Responds to a request; whether the connection may serve another.
async fn respond(
    connection: &mut Connection,
    shared: &Shared,
    request: &Request,
) -> io::Result<bool> {
    // Until the response is written.
    let mut working = None;
    let behaviour = if request.is_message() {
        shared.act(request, &mut working).await
    } else {
        wait(shared.aside(request)).await
    };
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
        Behaviour::Busy => {
            let retry_after = lock(&shared.script).retry_after;
            connection.send(&busy(retry_after)).await?;
            Ok(true)
        }
        other => {
            connection.send(&answer(request, other)).await?;
            Ok(true)
        }
    }
}
