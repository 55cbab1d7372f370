//! A POST whose answer is nothing but its status: what is told to who asked to be told.

use std::time::Duration;

use bytes::Bytes;

use super::A2aClient;
use super::exchange::Asking;
use crate::dispatch::request::Written;
use crate::domain::{Outcome, Protocol};

/// What to tell, and whom.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Where it listens.
    pub url: Box<str>,
    /// Headers beside the usual ones. Their values are not for logs.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// JSON.
    pub body: Bytes,
    /// How long the whole exchange may take.
    pub deadline_in: Duration,
}

impl A2aClient {
    /// Posts it once. The status of the answer, however much of it came; or why there was none.
    pub async fn notify(&self, notice: &Notice) -> Result<u16, String> {
        let asking = Asking {
            written: Ok(Written {
                url: (&*notice.url).into(),
                body: Some(notice.body.to_vec()),
            }),
            version: Protocol::default(),
            streams: false,
            headers: &notice.headers,
            credential: None,
            traceparent: None,
            deadline_in: notice.deadline_in,
        };
        match self.post(asking).await {
            Ok(reply) => Ok(reply.status),
            Err(
                Outcome::NotDelivered { detail }
                | Outcome::DeliveredUnknown { detail, .. }
                | Outcome::Malformed { detail, .. }
                | Outcome::Refused { detail, .. },
            ) => Err(detail.to_string()),
            Err(_other) => Err("no answer".to_owned()),
        }
    }
}
