//! One request and the answer to it, whatever they say.

use std::pin::Pin;
use std::time::Duration;

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
    pub(super) credential: Option<&'a Credential>,
    pub(super) traceparent: Option<&'a str>,
    /// How long the whole exchange may take.
    pub(super) deadline_in: Duration,
}

/// An HTTP answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) received: Received,
}

impl Reply {
    /// Without the secret that the request carried, should the agent say it again.
    pub(super) fn masked(mut self, credential: Option<&Credential>) -> Self {
        if let Some(credential) = credential {
            self.received = self.received.map(|body| credential.mask(body));
        }
        self
    }
}

/// An answer of which only the head is there.
pub(super) struct Opened {
    origin: Origin,
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
    /// Asks once and takes in the answer, within `deadline_in`. An error is why there is no answer.
    pub(super) async fn post(&self, asking: Asking<'_>) -> Result<Reply, Outcome> {
        let total = sleep(asking.deadline_in);
        tokio::pin!(total);
        let credential = asking.credential;
        let outgoing = self.outgoing(asking)?;
        let opened = self.open(outgoing, total.as_mut()).await?;
        Ok(self.take_in(opened, total).await.masked(credential))
    }

    /// Asks once and waits for the beginning of the answer, until `total`. An error is why there is none.
    pub(super) async fn open(
        &self,
        outgoing: Outgoing,
        mut total: Pin<&mut Sleep>,
    ) -> Result<Opened, Outcome> {
        let Outgoing {
            origin,
            request,
            posts,
        } = outgoing;
        let mut left = false;
        // In a box of its own: it is over when the wait begins.
        let delivered = Box::pin(self.deliver(&origin, request, &mut left));
        let delivered = tokio::select! {
            biased;
            delivered = delivered => delivered,
            () = &mut total => Err(Stop::Deadline),
        };
        let (mut connection, kept) = delivered.map_err(|stop| stop.outcome(left))?;
        if posts {
            self.config.faults.pass(Point::AfterSend);
        }
        let head = self.head(&mut connection, total).await;
        let head = head.map_err(|stop| {
            if kept && matches!(stop, Stop::Error(_)) {
                self.pool.broke(&origin);
            }
            stop.outcome(left)
        })?;
        Ok(Opened {
            origin,
            connection,
            head,
        })
    }

    /// Takes in the rest of an answer.
    pub(super) async fn take_in(&self, opened: Opened, total: Pin<&mut Sleep>) -> Reply {
        let limit = self.config.max_reply_bytes;
        self.take_in_up_to(limit, opened, total).await
    }

    /// The same, of an answer that may have another size.
    pub(super) async fn take_in_up_to(
        &self,
        limit: usize,
        opened: Opened,
        total: Pin<&mut Sleep>,
    ) -> Reply {
        let Opened {
            origin,
            mut connection,
            head,
        } = opened;
        let idle = self.config.idle_timeout;
        let received = body::receive(&mut connection, head.framing, limit, idle, total).await;
        let whole = matches!(received, Received::Whole(_));
        if whole && head.stays && connection.asked && connection.received.is_empty() {
            self.pool.park(origin, connection);
        }
        Reply {
            status: head.status,
            retry_after: head.retry_after,
            received,
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
        let credential = asking.credential.map(Credential::header);
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
