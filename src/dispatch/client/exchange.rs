//! One POST and the answer to it, whatever they say.

use std::pin::Pin;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, RETRY_AFTER};
use reqwest::{Body, Request, Response};
use tokio::time::{Sleep, sleep};
use url::Url;

use super::body::{self, Received};
use super::departure::{Departure, departing};
use super::stop::{Stop, chain, first_byte};
use super::{A2aClient, AskCall, blocked_address, not_delivered};
use crate::dispatch::reply::parse_retry_after;
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
    pub(super) head: ReplyHead,
    pub(super) received: Received,
}

/// What matters of an HTTP answer's head.
pub(super) struct ReplyHead {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
}

impl A2aClient {
    /// Posts once and takes in the answer, within `deadline_in`. An error is why there is no answer.
    pub(super) async fn post(&self, posting: Posting<'_>) -> Result<Reply, Outcome> {
        // A resolver is not asked for an address literal, so that is checked here.
        let url = self.config.guard.check_url(posting.url);
        let url = url.map_err(|blocked| blocked_address(&blocked.to_string()))?;
        let body = posting
            .body
            .map_err(|error| not_delivered(&format!("the request cannot be written: {error}")))?;
        let (request, departure) = self.request(url, body, posting.traceparent)?;
        let total = sleep(posting.deadline_in);
        tokio::pin!(total);
        let mut response = self.response(request, departure, total.as_mut()).await?;
        let limit = self.config.max_reply_bytes;
        let received = body::receive(&mut response, limit, self.config.idle_timeout, total).await;
        let head = ReplyHead::of(&response);
        Ok(Reply { head, received })
    }

    fn request(
        &self,
        url: Url,
        body: Vec<u8>,
        traceparent: Option<&str>,
    ) -> Result<(Request, Departure), Outcome> {
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
        if let Some(context) = traceparent.and_then(|text| child_traceparent(text, rand::random()))
        {
            request = request.header("traceparent", context);
        }
        let (body, departure) = departing(body.into());
        let request = request.body(Body::wrap_stream(body)).build();
        let request = request.map_err(|error| blocked_address(&chain(&error)))?;
        Ok((request, departure))
    }

    /// Waits for the answer's status and headers.
    async fn response(
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
            () = departure.wait() => {
                self.config.faults.pass(Point::AfterSend);
                None
            }
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
}

impl ReplyHead {
    fn of(response: &Response) -> Self {
        let header = |name| {
            let value = response.headers().get(name);
            value.and_then(|value| value.to_str().ok())
        };
        let retry_after = header(RETRY_AFTER);
        Self {
            status: response.status().as_u16(),
            retry_after: retry_after.and_then(|value| parse_retry_after(value, header(DATE))),
        }
    }
}
