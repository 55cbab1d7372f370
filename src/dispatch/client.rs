//! One call to a target: one request, on a connection of its own, under separate limits (lesson T01), never followed
//! elsewhere, and never sent twice.
//!
//! Whether the request left is known, not guessed. The body is a stream that can be read once, and reading it is what
//! counts as leaving: before that, no agent can have the message, however the connection fails, and the outcome is
//! `NotDelivered`; from then on it may have it (product.md rule 6). A body that can be read once also cannot be sent
//! twice, whatever the HTTP library makes of a broken connection.
//!
//! What the libraries would do otherwise (reqwest 0.13, hyper-util 0.1, hyper 1): hyper-util sends a request again when
//! a reused connection turns out dead before it was taken from the queue, cannot be told not to through reqwest, and
//! does nothing of the kind on a fresh connection; reqwest itself tries again only what HTTP/2 disowned, and is told
//! `never`. But a kept connection that the agent closes at the moment of writing is an error after leaving, so that an
//! idle agent's ordinary keep-alive limit would end delegations as unknown. Hence no connection is kept: a call lasts
//! minutes, and a connect is nothing beside it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Client;
use thiserror::Error;
use uuid::Uuid;

use super::detail::clean;
use super::guard::TargetGuard;
use super::reply::{nothing_learnt, read_asked, read_reply};
use super::wire::{Words, cancel_task, get_task, send_message};
use crate::domain::{AskOutcome, DelegationId, ErrorClass, Outcome, RemoteTaskId};
use crate::faults::Faults;

mod body;
mod departure;
mod exchange;
mod stop;

use body::Received;
use exchange::{Posting, Reply, ReplyHead};
use stop::chain;

/// Replies from this size on are read on a thread that may block.
const LARGE_REPLY_BYTES: usize = 256 * 1024;

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

/// The HTTP client could not be made.
#[derive(Debug, Error)]
#[error("cannot set up the HTTP client: {0}")]
pub struct BuildError(#[from] reqwest::Error);

/// What to send, and where.
#[derive(Clone, Debug)]
pub struct Call {
    /// The target's address, as registered.
    pub url: Arc<str>,
    /// The delegation's id, the same on every attempt.
    pub message_id: DelegationId,
    /// What to say.
    pub message: Message,
    /// The W3C trace context that came with the delegation.
    pub traceparent: Option<Box<str>>,
    /// How long the whole call may take.
    pub deadline_in: Duration,
}

/// What a call says to the target.
#[derive(Clone, Debug)]
pub enum Message {
    /// The whole task. The delegation's id is its `messageId`.
    Task(Arc<str>),
    /// The answer to a question that the target asked about a task of its own.
    Input {
        /// Its own `messageId`, the same on every attempt.
        id: Arc<str>,
        /// The target's name for the task, if it gave one.
        task: Option<RemoteTaskId>,
        /// The answer.
        text: Arc<str>,
    },
}

/// Which of a target's tasks to speak of, and where.
#[derive(Clone, Debug)]
pub struct AskCall {
    /// The target's address, as registered.
    pub url: Arc<str>,
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

/// Calls agents. Cheap to clone.
#[derive(Clone, Debug)]
pub struct A2aClient {
    http: Client,
    config: Arc<ClientConfig>,
}

impl A2aClient {
    /// A client that reads no proxy from the environment and trusts the system's certificate authorities, or none
    /// where there are none: plain HTTP works there too.
    ///
    /// # Errors
    ///
    /// If the TLS set-up is refused.
    pub fn new(config: ClientConfig) -> Result<Self, BuildError> {
        // An error means that one is installed already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let builder = || {
            Client::builder()
                .user_agent(concat!("baton/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(config.guard.clone())
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .referer(false)
                .http1_only()
                .pool_max_idle_per_host(0)
                // A busy agent may leave a large task unread in its socket for longer than any number here; a host
                // that is gone is noticed by probes, after 15 s + 8 * 15 s.
                .tcp_user_timeout(None)
                .tcp_keepalive_retries(8)
        };
        // reqwest refuses to build where no CA store is installed.
        let http = builder().build().or_else(|error| {
            tracing::warn!(error = %chain(&error), "no certificate authority is trusted, so https targets cannot be called");
            builder().tls_certs_only([]).build()
        })?;
        let config = Arc::new(config);
        Ok(Self { http, config })
    }

    /// Sends the message once and waits for what comes of it. It ends within `deadline_in`, and always in an outcome.
    pub async fn send(&self, call: Call) -> Called {
        let request_id = Uuid::new_v4().to_string();
        let delegation_id = call.message_id.to_string();
        let (message_id, task_id, text) = match &call.message {
            Message::Task(text) => (&*delegation_id, None, text),
            Message::Input { id, task, text } => (&**id, task.as_ref().map(|task| &*task.0), text),
        };
        let words = Words {
            delegation_id: &delegation_id,
            message_id,
            task_id,
            text,
        };
        let posting = Posting {
            url: &call.url,
            body: send_message(&request_id, &words),
            traceparent: call.traceparent.as_deref(),
            deadline_in: call.deadline_in,
        };
        match self.post(posting).await {
            Ok(reply) => {
                let read = move |head: ReplyHead, body: &[u8]| {
                    read_reply(head.status, head.retry_after, body, &request_id)
                };
                self.read(reply, read, |unread| unread).await
            }
            Err(outcome) => Called::without_reply(outcome),
        }
    }

    /// Asks the target once how a task of its own is (`tasks/get`). It ends within `deadline_in`.
    pub async fn ask(&self, call: AskCall) -> AskedReply {
        let request_id = Uuid::new_v4().to_string();
        let body = get_task(&request_id, &call.task.0);
        match self.post(Posting::about(&call, body)).await {
            Ok(reply) => {
                let read = move |head: ReplyHead, body: &[u8]| {
                    read_asked(head.status, head.retry_after, body, &request_id, &call.task)
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
        let body = cancel_task(&Uuid::new_v4().to_string(), &call.task.0);
        self.post(Posting::about(&call, body)).await.is_ok()
    }

    /// Reads a reply with `read`; what cannot be read ends in an outcome of the client's own, as `unread` tells it.
    async fn read<O: Send + 'static>(
        &self,
        reply: Reply,
        read: impl FnOnce(ReplyHead, &[u8]) -> O + Send + 'static,
        unread: fn(Outcome) -> O,
    ) -> Called<O> {
        let Reply { head, received } = reply;
        let success = (200..=299).contains(&head.status);
        let (outcome, raw) = match received {
            Received::Whole(body) if body.len() < LARGE_REPLY_BYTES => (read(head, &body), body),
            Received::Whole(body) => {
                let raw = body.clone();
                let reading = tokio::task::spawn_blocking(move || read(head, &body));
                let outcome = reading.await.unwrap_or_else(|error| {
                    let why = format!("the reply was not read: {error}");
                    unread(unknown(ErrorClass::OutcomeUnknown, &why))
                });
                (outcome, raw)
            }
            // An error is an error, however much of its text arrived.
            Received::Cut(body, _) if !success => (read(head, &body), body),
            Received::TooLarge if !success => (read(head, b""), Bytes::new()),
            Received::Cut(body, why) => {
                let why = format!("the response broke off after {} bytes: {why}", body.len());
                (unread(unknown(ErrorClass::Truncated, &why)), body)
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
