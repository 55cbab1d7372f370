//! One request and the answer to it, whatever they say.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, ready};
use tokio::time::{Sleep, sleep, timeout};

use super::answer::{self, Head};
use super::body::{self, Received};
use super::connection::Connection;
use super::dial::dial;
use super::origin::{Origin, request};
use super::stop::{Stop, first_byte};
use super::{A2aClient, Headers, blocked_address, not_delivered};
use crate::dispatch::credential::Credential;
use crate::dispatch::request::Written;
use crate::dispatch::wire::child_traceparent;
use crate::domain::{Outcome, Protocol};
use crate::faults::Point;

/// What to ask, and of whom.
pub(super) struct Asking<'a> {
    pub(super) written: Result<Written<'a>, serde_json::Error>,
    pub(super) version: Protocol,
    /// Whether the answer may be a stream.
    pub(super) streams: bool,
    pub(super) headers: &'a Headers,
    /// Sent with it, and masked in the answer.
    pub(super) credential: Option<&'a Arc<Credential>>,
    pub(super) traceparent: Option<&'a str>,
    /// How long the whole exchange may take.
    pub(super) deadline_in: Duration,
}

/// An HTTP answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) received: Received,
    /// What is to be masked in it.
    pub(super) credential: Option<Arc<Credential>>,
}

/// What an agent said, without the secret that the request carried, should it say that again.
pub(super) fn masked(body: Bytes, credential: Option<&Arc<Credential>>) -> Bytes {
    match credential {
        Some(credential) => credential.mask(body),
        None => body,
    }
}

/// An answer of which only the head is there.
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) head: Head,
}

/// A request as it is sent.
pub(super) struct Outgoing {
    origin: Origin,
    request: Vec<u8>,
    /// Whether it asks the agent to do something.
    posts: bool,
}

impl A2aClient {
    /// Asks once and takes in the answer, within `deadline_in`. An error is why there is no answer. Thousands wait in it at
    /// once: what is lent to it takes no room of its own.
    pub(super) fn post(
        &self,
        asking: Asking<'_>,
    ) -> impl Future<Output = Result<Reply, Outcome>> + Send + use<'_> {
        let deadline_in = asking.deadline_in;
        let credential = asking.credential.cloned();
        let mut outgoing = match self.outgoing(asking) {
            Ok(outgoing) => outgoing,
            Err(outcome) => return Either::Left(ready(Err(outcome))),
        };
        Either::Right(async move {
            let total = sleep(deadline_in);
            tokio::pin!(total);
            let mut opened = self.open(&mut outgoing, total.as_mut()).await?;
            let limit = self.config.max_reply_bytes;
            let received = self.take_in(&mut opened, limit, total).await;
            let reply = self.over(outgoing, opened, received);
            Ok(Reply {
                credential,
                ..reply
            })
        })
    }

    /// Asks once and waits for the beginning of the answer, until `total`. An error is why there is none.
    pub(super) async fn open(
        &self,
        outgoing: &mut Outgoing,
        mut total: Pin<&mut Sleep>,
    ) -> Result<Opened, Outcome> {
        let mut left = false;
        let request = std::mem::take(&mut outgoing.request);
        // In a box of its own: it is over when the wait begins.
        let delivered = Box::pin(self.deliver(&outgoing.origin, request, &mut left));
        let delivered = tokio::select! {
            biased;
            delivered = delivered => delivered,
            () = &mut total => Err(Stop::Deadline),
        };
        let (mut connection, kept) = delivered.map_err(|stop| stop.outcome(left))?;
        if outgoing.posts {
            self.config.faults.pass(Point::AfterSend);
        }
        let head = self.head(&mut connection, total).await;
        let head = head.map_err(|stop| {
            if kept && matches!(stop, Stop::Error(_)) {
                self.pool.broke(&outgoing.origin);
            }
            stop.outcome(left)
        })?;
        Ok(Opened { connection, head })
    }

    /// Takes in the rest of an answer, up to `limit` bytes.
    pub(super) fn take_in<'a>(
        &'a self,
        opened: &'a mut Opened,
        limit: usize,
        total: Pin<&'a mut Sleep>,
    ) -> impl Future<Output = Received> + Send + use<'a> {
        let Opened { connection, head } = opened;
        let idle = self.config.idle_timeout;
        body::receive(connection, head.framing, limit, idle, total)
    }

    /// The answer was taken in: the connection may be of use again.
    pub(super) fn over(&self, outgoing: Outgoing, opened: Opened, received: Received) -> Reply {
        let Opened { connection, head } = opened;
        let whole = matches!(received, Received::Whole(_));
        if whole && head.stays && connection.asked && connection.received.is_empty() {
            self.pool.park(outgoing.origin, connection);
        }
        Reply {
            status: head.status,
            retry_after: head.retry_after,
            received,
            credential: None,
        }
    }

    pub(super) fn outgoing(&self, asking: Asking<'_>) -> Result<Outgoing, Outcome> {
        let written = asking
            .written
            .map_err(|error| not_delivered(&format!("the request cannot be written: {error}")))?;
        // A resolver is not asked for an address literal, so that is checked here.
        let url = self.config.guard.check_url(&written.url);
        let url = url.map_err(|blocked| blocked_address(&blocked.to_string()))?;
        let origin = Origin::of(&url).ok_or_else(|| blocked_address("url has no host"))?;
        let context = asking.traceparent;
        let context = context.and_then(|text| child_traceparent(text, rand::random()));
        let version = (asking.version == Protocol::V10).then_some(("a2a-version", "1.0"));
        let accept = if asking.streams {
            "application/json, text/event-stream"
        } else {
            "application/json"
        };
        let credential = asking.credential.map(|credential| credential.header());
        let credential = credential.as_ref().map(|(name, value)| (*name, &**value));
        let given = asking.headers.iter();
        let headers = given
            .map(|(name, value)| (&**name, &**value))
            .chain(credential)
            .chain(version)
            .chain(context.as_deref().map(|context| ("traceparent", context)));
        let request = request(&url, accept, headers, written.body.as_deref());
        Ok(Outgoing {
            origin,
            request,
            posts: written.body.is_some(),
        })
    }

    /// Sends the request, on a kept connection if there is one, else on a new one; says which. What could not leave on
    /// a kept one, not a byte of it, goes out on a new one.
    async fn deliver(
        &self,
        origin: &Origin,
        request: Vec<u8>,
        left: &mut bool,
    ) -> Result<(Connection, bool), Stop> {
        if let Some(mut connection) = self.pool.take(origin) {
            match connection.write(&request, left).await {
                Ok(()) => {
                    metrics::counter!("baton_connections_total", "kind" => "kept").increment(1);
                    return Ok((connection, true));
                }
                Err(error) if *left => return Err(Stop::broken(&error)),
                Err(_unsent) => self.pool.broke(origin),
            }
        }
        let limit = self.config.connect_timeout;
        let dialled = timeout(limit, dial(&self.config.guard, &self.tls, origin)).await;
        let mut connection = dialled.map_err(|_late| Stop::Limit("no connection", limit))??;
        metrics::counter!("baton_connections_total", "kind" => "new").increment(1);
        let written = connection.write(&request, left).await;
        written.map_err(|error| Stop::broken(&error))?;
        Ok((connection, false))
    }

    /// Waits for the answer's status and headers.
    async fn head(
        &self,
        connection: &mut Connection,
        total: Pin<&mut Sleep>,
    ) -> Result<Head, Stop> {
        let head = async {
            loop {
                if let Some(head) = answer::head(&mut connection.received).map_err(Stop::Error)? {
                    return Ok(head);
                }
                match connection.read().await {
                    Ok(0) => return Err(Stop::Error("the connection was closed".to_owned())),
                    Ok(_) => {}
                    Err(error) => return Err(Stop::broken(&error)),
                }
            }
        };
        tokio::select! {
            biased;
            head = head => head,
            stop = first_byte(self.config.first_byte_timeout) => Err(stop),
            () = total => Err(Stop::Deadline),
        }
    }
}
