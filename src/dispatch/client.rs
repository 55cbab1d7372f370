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

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, RETRY_AFTER};
use reqwest::{Body, Client, Request, Response};
use thiserror::Error;
use tokio::time::{Sleep, sleep};
use url::Url;
use uuid::Uuid;

use super::detail::clean;
use super::guard::TargetGuard;
use super::reply::{parse_retry_after, read_reply};
use super::wire::{child_traceparent, send_message};
use crate::domain::{DelegationId, ErrorClass, Outcome};

mod body;
mod departure;
mod stop;

use body::Received;
use departure::{Departure, departing};
use stop::{Stop, chain, first_byte};

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
    /// The whole task.
    pub task: Arc<str>,
    /// The W3C trace context that came with the delegation.
    pub traceparent: Option<Box<str>>,
    /// How long the whole call may take.
    pub deadline_in: Duration,
}

/// What came of a call.
#[derive(Clone, PartialEq, Debug)]
pub struct Called {
    /// What it came to. `target_deduplicates` is left `false`: only the caller knows the target's card.
    pub outcome: Outcome,
    /// The bytes that the agent answered, whole or as far as they came; none if none came, or more than allowed.
    pub raw: Option<Bytes>,
}

impl Called {
    const fn without_reply(outcome: Outcome) -> Self {
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

    /// Sends the request once and waits for what comes of it. It ends within `deadline_in`, and always in an outcome.
    pub async fn send(&self, call: Call) -> Called {
        // A resolver is not asked for an address literal, so that is checked here.
        let url = match self.config.guard.check_url(&call.url) {
            Ok(url) => url,
            Err(blocked) => return Called::without_reply(blocked_address(&blocked.to_string())),
        };
        let request_id = Uuid::new_v4().to_string();
        let (request, departure) = match self.request(&call, url, &request_id) {
            Ok(request) => request,
            Err(outcome) => return Called::without_reply(outcome),
        };
        let total = sleep(call.deadline_in);
        tokio::pin!(total);
        let mut response = match self.head(request, departure, total.as_mut()).await {
            Ok(response) => response,
            Err(outcome) => return Called::without_reply(outcome),
        };
        let limit = self.config.max_reply_bytes;
        let received = body::receive(&mut response, limit, self.config.idle_timeout, total).await;
        self.judge(&response, received, request_id).await
    }

    fn request(
        &self,
        call: &Call,
        url: Url,
        request_id: &str,
    ) -> Result<(Request, Departure), Outcome> {
        let message_id = call.message_id.to_string();
        let body = send_message(request_id, &message_id, &call.task)
            .map_err(|error| not_delivered(&format!("the request cannot be written: {error}")))?;
        let mut request = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            // LangGraph refuses a request without it (a2a.md §2).
            .header(ACCEPT, "application/json")
            // The connection serves one call; said, so that the agent does not wait for another.
            .header(CONNECTION, "close")
            // Known, so not chunked: not every agent's server reads that.
            .header(CONTENT_LENGTH, body.len());
        let context = call.traceparent.as_deref();
        if let Some(context) = context.and_then(|text| child_traceparent(text, rand::random())) {
            request = request.header("traceparent", context);
        }
        let (body, departure) = departing(body.into());
        let request = request.body(Body::wrap_stream(body)).build();
        let request = request.map_err(|error| blocked_address(&chain(&error)))?;
        Ok((request, departure))
    }

    /// Waits for the answer's status and headers.
    async fn head(
        &self,
        request: Request,
        mut departure: Departure,
        mut total: Pin<&mut Sleep>,
    ) -> Result<Response, Outcome> {
        let answer = self.http.execute(request);
        tokio::pin!(answer);
        let limit = self.config.connect_timeout;
        let early = tokio::select! {
            biased;
            answer = &mut answer => Some(answer.map_err(Stop::Error)),
            () = departure.wait() => None,
            () = sleep(limit) => Some(Err(Stop::Limit("no connection", limit))),
            () = &mut total => Some(Err(Stop::Deadline)),
        };
        let answer = if let Some(answer) = early {
            answer
        } else {
            tokio::select! {
                biased;
                answer = &mut answer => answer.map_err(Stop::Error),
                stop = first_byte(self.config.first_byte_timeout) => Err(stop),
                () = total => Err(Stop::Deadline),
            }
        };
        answer.map_err(|stop| stop.outcome(departure.left()))
    }

    async fn judge(&self, response: &Response, received: Received, request_id: String) -> Called {
        let status = response.status().as_u16();
        let header = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let retry_after =
            header(RETRY_AFTER).and_then(|value| parse_retry_after(value, header(DATE)));
        let success = response.status().is_success();
        match received {
            Received::Whole(body) => {
                let raw = body.clone();
                let read = move || read_reply(status, retry_after, &body, &request_id);
                let outcome = if raw.len() < LARGE_REPLY_BYTES {
                    read()
                } else {
                    tokio::task::spawn_blocking(read)
                        .await
                        .unwrap_or_else(|error| {
                            unknown(
                                ErrorClass::OutcomeUnknown,
                                &format!("the reply was not read: {error}"),
                            )
                        })
                };
                Called {
                    outcome,
                    raw: Some(raw).filter(|raw| !raw.is_empty()),
                }
            }
            // An error is an error, however much of its text arrived.
            Received::Cut(body, _) if !success => Called {
                outcome: read_reply(status, retry_after, &body, &request_id),
                raw: Some(body).filter(|raw| !raw.is_empty()),
            },
            Received::TooLarge if !success => {
                Called::without_reply(read_reply(status, retry_after, b"", &request_id))
            }
            Received::Cut(body, why) => Called {
                outcome: unknown(
                    ErrorClass::Truncated,
                    &format!("the response broke off after {} bytes: {why}", body.len()),
                ),
                raw: Some(body).filter(|raw| !raw.is_empty()),
            },
            Received::TooLarge => Called::without_reply(Outcome::Malformed {
                class: ErrorClass::ReplyTooLarge,
                detail: format!(
                    "the response is larger than {} bytes",
                    self.config.max_reply_bytes
                )
                .into(),
            }),
        }
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
