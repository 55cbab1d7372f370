//! One call to a target: one request, under separate limits (lesson T01), never followed elsewhere, and never sent twice.
//!
//! HTTP/1.1 is spoken here, without a general client, for two reasons. Whether a request left is known to the byte: what
//! did not leave is `NotDelivered` and may be tried again; from the first byte on the agent may have it (product.md
//! rule 6). And thousands of calls wait for hours: one that waits holds a socket and next to nothing else, where a
//! general client holds two buffers of 8 KiB (hyper 1) that cannot be made smaller. Heads are parsed by `httparse`.
//!
//! - `dial` makes a new connection, `pool` keeps those that may be used again;
//! - `connection` moves bytes and knows whether any left;
//! - `answer` reads heads and bodies from whatever pieces come;
//! - `exchange` does one request and its answer with these, `body` takes the answer in under limits;
//! - `listening` hears out an answer that is a stream of events;
//! - `cards` knows how each agent wants to be spoken to.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Either, ready};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use super::card::{Delivery, Manner};
use super::credential::Credential;
use super::detail::clean;
use super::guard::TargetGuard;
use super::push::PushConfig;
use super::reply::{
    News, Telling, declines, nothing_learnt, read_asked, read_reply, read_rest, read_rest_asked,
};
use super::request::{Message, Operation, write};
use crate::domain::{
    AskOutcome, Binding, DelegationId, ErrorClass, Outcome, RemoteTaskId, WorkPhase,
};
use crate::faults::Faults;

mod answer;
mod body;
mod cards;
mod connection;
mod dial;
mod exchange;
mod listening;
mod notice;
mod origin;
mod pool;
mod stop;

use body::Received;
use cards::Cards;
use dial::Tls;
use exchange::{Asking, Reply, masked};
pub use notice::Notice;
use pool::Pool;

/// Replies from this size on are read on a thread that may block.
const LARGE_REPLY_BYTES: usize = 256 * 1024;
/// How many such are read at once: commits need the same threads.
const LARGE_AT_ONCE: usize = 2;

/// The limits of a call. Its total is the delegation's own ([`Call::deadline_in`]).
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Which addresses may be called.
    pub guard: TargetGuard,
    /// How long name lookup, connect and TLS handshake may take together.
    pub connect_timeout: Duration,
    /// How long the agent may be silent between the request and its first byte; none: until the total.
    pub first_byte_timeout: Option<Duration>,
    /// How long it may be silent in the middle of its answer.
    pub idle_timeout: Duration,
    /// The largest answer that is read.
    pub max_reply_bytes: usize,
    /// For tests.
    pub faults: Arc<Faults>,
}

/// Headers that are sent beside Baton's own, by name and value.
type Headers = [(Box<str>, Box<str>)];

/// What to send, and where.
#[derive(Clone, Debug)]
pub struct Call {
    /// The target's address, as registered.
    pub url: Arc<str>,
    /// How the target is spoken to.
    pub manner: Arc<Manner>,
    /// What the target wants to see of who calls it.
    pub credential: Option<Arc<Credential>>,
    /// The delegation's id, the same on every attempt.
    pub message_id: DelegationId,
    /// What to say.
    pub message: Message,
    /// Where the target may tell of the task, if it says that it does.
    pub push: Option<Box<PushConfig>>,
    /// The W3C trace context that came with the delegation.
    pub traceparent: Option<Box<str>>,
    /// How long the whole call may take.
    pub deadline_in: Duration,
}

/// Which of a target's tasks to speak of, and where.
#[derive(Clone, Debug)]
pub struct AskCall {
    /// The target's address, as registered.
    pub url: Arc<str>,
    /// How the target is spoken to.
    pub manner: Arc<Manner>,
    /// What the target wants to see of who calls it.
    pub credential: Option<Arc<Credential>>,
    /// The target's name for the task.
    pub task: RemoteTaskId,
    /// The W3C trace context that came with the delegation.
    pub traceparent: Option<Box<str>>,
    /// How long the whole exchange may take.
    pub deadline_in: Duration,
}

/// What came of a question about a task.
pub type AskedReply = Called<AskOutcome>;

/// What came of a call.
#[derive(Clone, PartialEq, Debug)]
pub struct Called<O = Outcome> {
    /// What it came to. `target_deduplicates` is left `false`: only the caller knows the target's card.
    pub outcome: O,
    /// The bytes that the agent answered, whole or as far as they came; none if none came, or more than allowed.
    pub raw: Option<Bytes>,
}

impl<O> Called<O> {
    fn without_reply(outcome: O) -> Self {
        Self { outcome, raw: None }
    }
}

/// The system's certificate authorities, read once for all clients.
static SYSTEM_TLS: LazyLock<Tls> = LazyLock::new(|| {
    // An error means that one is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
    let tls = dial::system_tls().inspect_err(|error| {
        tracing::warn!(%error, "no certificate authority is trusted, so https targets cannot be called");
    });
    tls.ok()
});

/// Calls agents. Cheap to clone.
#[derive(Clone)]
pub struct A2aClient {
    config: Arc<ClientConfig>,
    tls: Tls,
    pool: Pool,
    cards: Cards,
    /// Turns for reading large replies.
    reading: Arc<Semaphore>,
}

impl std::fmt::Debug for A2aClient {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_tuple("A2aClient")
            .field(&self.config)
            .finish()
    }
}

impl A2aClient {
    /// A client that trusts the system's certificate authorities, or none where there are none: plain HTTP works there
    /// too.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self {
            config: Arc::new(config),
            tls: SYSTEM_TLS.clone(),
            pool: Pool::default(),
            cards: Cards::default(),
            reading: Arc::new(Semaphore::new(LARGE_AT_ONCE)),
        }
    }

    /// Sends the message and waits for what comes of it; what the agent tells before that, `hear` is told, one thing after
    /// the other. It ends within `deadline_in`, and always in an outcome. An agent that does not know what its card
    /// promises was not given the message, and is asked in another manner.
    pub fn send(&self, call: Call, hear: impl AsyncFnMut(News)) -> impl Future<Output = Called> {
        if call.manner.is_plain() {
            Either::Left(self.send_plainly(&call))
        } else {
            Either::Right(Box::pin(self.send_by_card(call, hear)))
        }
    }

    /// The wait is long, and thousands wait: what was said is not needed for it.
    fn send_plainly<'a>(&'a self, call: &Call) -> impl Future<Output = Called> + Send + use<'a> {
        let request_id = Uuid::new_v4();
        let binding = call.manner.binding;
        let delegation = call.message_id.to_string();
        let operation = Operation::Send {
            delegation: &delegation,
            message: &call.message,
            push: None,
        };
        let posted = self.post(Asking {
            written: write(&call.manner, &call.url, &request_id.to_string(), operation),
            version: call.manner.version,
            streams: false,
            headers: &[],
            credential: call.credential.as_ref(),
            traceparent: call.traceparent.as_deref(),
            deadline_in: call.deadline_in,
        });
        let guessed = call.manner.guessed;
        posted.then(move |posted| match posted {
            Ok(reply) if guessed && reply.declines(false, &request_id.to_string()) => {
                let why = "its card cannot be had, and it does not know a message without";
                Either::Right(ready(Called::without_reply(not_delivered(why))))
            }
            Ok(reply) => Either::Left(self.read_message(reply, binding, request_id.to_string())),
            Err(outcome) => Either::Right(ready(Called::without_reply(outcome))),
        })
    }

    /// Sends the message in the manner of the agent's card, and in a lesser one where the agent does not know that.
    async fn send_by_card(&self, call: Call, mut hear: impl AsyncFnMut(News)) -> Called {
        let until = Instant::now() + call.deadline_in;
        let mut manner = Arc::clone(&call.manner);
        loop {
            let (called, declined) = self.send_once(&call, &manner, until, &mut hear).await;
            match manner.lesser() {
                Some(lesser) if declined => manner = Arc::new(lesser),
                _ => return called,
            }
        }
    }

    /// What came of it, and whether the agent did not know what it was asked for.
    async fn send_once(
        &self,
        call: &Call,
        manner: &Manner,
        until: Instant,
        hear: &mut impl AsyncFnMut(News),
    ) -> (Called, bool) {
        let request_id = Uuid::new_v4().to_string();
        let delegation = call.message_id.to_string();
        let operation = Operation::Send {
            delegation: &delegation,
            message: &call.message,
            push: call.push.as_deref(),
        };
        let streams = manner.delivery == Delivery::Streaming;
        let asking = Asking {
            written: write(manner, &call.url, &request_id, operation),
            version: manner.version,
            streams,
            headers: &[],
            credential: call.credential.as_ref(),
            traceparent: call.traceparent.as_deref(),
            deadline_in: until.saturating_duration_since(Instant::now()),
        };
        if streams {
            let telling = Telling::new(manner.binding, request_id, call.message.goes_on());
            return self.listen(asking, telling, hear).await;
        }
        match self.post(asking).await {
            Ok(reply) => {
                let declined = reply.declines(false, &request_id);
                let called = self.read_message(reply, manner.binding, request_id);
                let mut called = called.await;
                if manner.delivery == Delivery::NonBlocking && still_asks(&called, &call.message) {
                    called.outcome = Outcome::TargetQueued;
                }
                (called, declined)
            }
            Err(outcome) => (Called::without_reply(outcome), false),
        }
    }

    /// Asks the target once how a task of its own is (`tasks/get`). It ends within `deadline_in`.
    pub async fn ask(&self, call: AskCall) -> AskedReply {
        let asked = self.ask_once(&call, &call.manner).await;
        match asked.outcome {
            AskOutcome::Unsupported { .. } if !call.manner.is_plain() => {
                self.ask_once(&call, &Manner::default()).await
            }
            _ => asked,
        }
    }

    async fn ask_once(&self, call: &AskCall, manner: &Manner) -> AskedReply {
        let request_id = Uuid::new_v4().to_string();
        let (binding, task) = (manner.binding, call.task.clone());
        let asking = call.asking(manner, &request_id, Operation::Get(&call.task));
        match self.post(asking).await {
            Ok(reply) => {
                let read = move |status, retry_after, body: &[u8]| match binding {
                    Binding::JsonRpc => read_asked(status, retry_after, body, &request_id, &task),
                    Binding::Rest => read_rest_asked(status, retry_after, body, &task),
                };
                self.read(reply, read, |unread| nothing_learnt(unread, None))
                    .await
            }
            Err(outcome) => Called::without_reply(nothing_learnt(outcome, None)),
        }
    }

    /// Tells the target once that a task of its own is no longer wanted (`tasks/cancel`), and whether it answered at all.
    /// What it answers does not matter: the delegation has ended. It ends within `deadline_in`.
    pub async fn cancel(&self, call: AskCall) -> bool {
        let request_id = Uuid::new_v4().to_string();
        let asking = call.asking(&call.manner, &request_id, Operation::Cancel(&call.task));
        self.post(asking).await.is_ok()
    }

    /// Reads an answer to a message.
    fn read_message(
        &self,
        reply: Reply,
        binding: Binding,
        request_id: String,
    ) -> impl Future<Output = Called> + Send {
        let read = move |status, retry_after, body: &[u8]| match binding {
            Binding::JsonRpc => read_reply(status, retry_after, body, &request_id),
            Binding::Rest => read_rest(status, retry_after, body),
        };
        self.read(reply, read, |unread| unread)
    }

    /// Reads a reply with `read`; what cannot be read ends in an outcome of the client's own, as `unread` tells it.
    async fn read<O: Send + 'static>(
        &self,
        reply: Reply,
        read: impl FnOnce(u16, Option<Duration>, &[u8]) -> O + Send + 'static,
        unread: fn(Outcome) -> O,
    ) -> Called<O> {
        let Reply {
            status,
            retry_after,
            received,
            credential,
        } = reply;
        let success = (200..=299).contains(&status);
        let masked = move |body: Bytes| masked(body, credential.as_ref());
        let read = move |body: Bytes| (read(status, retry_after, &body), body);
        let (outcome, raw) = match received {
            Received::Whole(body) if body.len() < LARGE_REPLY_BYTES => read(masked(body)),
            Received::Whole(body) => {
                // It is never closed.
                let _turn = self.reading.acquire().await;
                let reading = tokio::task::spawn_blocking(move || read(masked(body)));
                reading.await.unwrap_or_else(|error| {
                    let why = format!("the reply was not read: {error}");
                    let outcome = unread(unknown(ErrorClass::OutcomeUnknown, &why));
                    (outcome, Bytes::new())
                })
            }
            // An error is an error, however much of its text arrived.
            Received::Cut(body, _) if !success => read(masked(body)),
            Received::TooLarge if !success => read(Bytes::new()),
            Received::Cut(body, why) => {
                let why = format!("the response broke off after {} bytes: {why}", body.len());
                let outcome = unread(unknown(ErrorClass::Truncated, &why));
                (outcome, masked(body))
            }
            Received::TooLarge => {
                let limit = self.config.max_reply_bytes;
                let detail = format!("the response is larger than {limit} bytes").into();
                let class = ErrorClass::ReplyTooLarge;
                let outcome = unread(Outcome::Malformed { class, detail });
                (outcome, Bytes::new())
            }
        };
        let raw = Some(raw).filter(|raw| !raw.is_empty());
        Called { outcome, raw }
    }
}

impl AskCall {
    fn asking<'a>(
        &'a self,
        manner: &'a Manner,
        request_id: &str,
        operation: Operation<'_>,
    ) -> Asking<'a> {
        Asking {
            written: write(manner, &self.url, request_id, operation),
            version: manner.version,
            streams: false,
            headers: &[],
            credential: self.credential.as_ref(),
            traceparent: self.traceparent.as_deref(),
            deadline_in: self.deadline_in,
        }
    }
}

impl Reply {
    /// Whether the agent did not know what it was asked for.
    fn declines(&self, streams: bool, request_id: &str) -> bool {
        match &self.received {
            Received::Whole(body) => {
                // Nobody says no at such length.
                body.len() < LARGE_REPLY_BYTES && declines(streams, self.status, body, request_id)
            }
            Received::Cut(..) | Received::TooLarge => false,
        }
    }
}

/// Whether an agent that does not wait answers an answer with the question: how its task stood before, or a new one, which
/// asking after the task will tell. That the answer arrived is all that is known.
fn still_asks(called: &Called, message: &Message) -> bool {
    let Outcome::NonFinal { task, phase } = &called.outcome else {
        return false;
    };
    matches!(phase, WorkPhase::InputRequired { .. })
        && task.is_some()
        && task.as_ref() == message.task()
}

fn blocked_address(why: &str) -> Outcome {
    Outcome::Malformed {
        class: ErrorClass::BlockedAddress,
        detail: clean(why),
    }
}

fn not_delivered(why: &str) -> Outcome {
    Outcome::NotDelivered { detail: clean(why) }
}

fn unknown(class: ErrorClass, why: &str) -> Outcome {
    Outcome::DeliveredUnknown {
        class,
        detail: clean(why),
        target_deduplicates: false,
    }
}

#[cfg(test)]
mod tests;
