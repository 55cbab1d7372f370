//! One POST and the answer to it, whatever they say.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Sleep, sleep, timeout};

use super::answer::{self, Head};
use super::body::{self, Received};
use super::connection::Connection;
use super::dial::dial;
use super::origin::{Origin, request};
use super::stop::{Stop, first_byte};
use super::{A2aClient, AskCall, blocked_address, not_delivered};
use crate::dispatch::wire::child_traceparent;
use crate::domain::Outcome;
use crate::faults::Point;

/// What to post, and where.
pub(super) struct Posting<'a> {
    pub(super) url: &'a str,
    pub(super) body: Result<Vec<u8>, serde_json::Error>,
    pub(super) traceparent: Option<&'a str>,
    /// How long the whole exchange may take.
    pub(super) deadline_in: Duration,
}

impl<'a> Posting<'a> {
    pub(super) fn about(call: &'a AskCall, body: Result<Vec<u8>, serde_json::Error>) -> Self {
        Self {
            url: &call.url,
            body,
            traceparent: call.traceparent.as_deref(),
            deadline_in: call.deadline_in,
        }
    }
}

/// An HTTP answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) received: Received,
}

/// A request as it is sent.
struct Outgoing {
    origin: Origin,
    request: Vec<u8>,
}

impl A2aClient {
    /// Posts once and takes in the answer, within `deadline_in`. An error is why there is no answer.
    pub(super) async fn post(&self, posting: Posting<'_>) -> Result<Reply, Outcome> {
        let total = sleep(posting.deadline_in);
        let Outgoing { origin, request } = self.outgoing(posting)?;
        tokio::pin!(total);
        let mut left = false;
        // In a box of its own: it is over when the wait begins.
        let delivered = Box::pin(self.deliver(&origin, request, &mut left));
        let delivered = tokio::select! {
            biased;
            delivered = delivered => delivered,
            () = &mut total => Err(Stop::Deadline),
        };
        let (mut connection, kept) = delivered.map_err(|stop| stop.outcome(left))?;
        self.config.faults.pass(Point::AfterSend);
        let head = self.head(&mut connection, total.as_mut()).await;
        let head = head.map_err(|stop| {
            if kept && matches!(stop, Stop::Error(_)) {
                self.pool.broke(&origin);
            }
            stop.outcome(left)
        })?;
        let (limit, idle) = (self.config.max_reply_bytes, self.config.idle_timeout);
        let received = body::receive(&mut connection, head.framing, limit, idle, total).await;
        let whole = matches!(received, Received::Whole(_));
        if whole && head.stays && connection.asked && connection.received.is_empty() {
            self.pool.park(origin, connection);
        }
        Ok(Reply {
            status: head.status,
            retry_after: head.retry_after,
            received,
        })
    }

    fn outgoing(&self, posting: Posting<'_>) -> Result<Outgoing, Outcome> {
        // A resolver is not asked for an address literal, so that is checked here.
        let url = self.config.guard.check_url(posting.url);
        let url = url.map_err(|blocked| blocked_address(&blocked.to_string()))?;
        let body = posting
            .body
            .map_err(|error| not_delivered(&format!("the request cannot be written: {error}")))?;
        let origin = Origin::of(&url).ok_or_else(|| blocked_address("url has no host"))?;
        let context = posting.traceparent;
        let context = context.and_then(|text| child_traceparent(text, rand::random()));
        let request = request(&url, context.as_deref(), &body);
        Ok(Outgoing { origin, request })
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
