//! Why no answer came, and what that means.

use std::error::Error;
use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;

use super::{blocked_address, not_delivered, unknown};
use crate::domain::{ErrorClass, Outcome};

/// Why there is no answer.
pub(super) enum Stop {
    /// The address may not be called.
    Blocked(String),
    Error(String),
    Limit(&'static str, Duration),
    Deadline,
}

impl Stop {
    pub(super) fn broken(error: &dyn Error) -> Self {
        Self::Error(chain(error))
    }

    pub(super) fn outcome(self, left: bool) -> Outcome {
        let why = match self {
            Self::Blocked(why) => return blocked_address(&why),
            Self::Error(why) => why,
            Self::Limit(what, limit) => format!("{what} within {limit:?}"),
            Self::Deadline => "no answer before the deadline".to_owned(),
        };
        if left {
            unknown(
                ErrorClass::OutcomeUnknown,
                &format!("the request was sent and no answer came: {why}"),
            )
        } else {
            not_delivered(&why)
        }
    }
}

pub(super) async fn first_byte(limit: Option<Duration>) -> Stop {
    match limit {
        Some(limit) => {
            sleep(limit).await;
            Stop::Limit("no first byte", limit)
        }
        None => pending().await,
    }
}

/// An error with what it says of its causes.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // An outer error often repeats the inner one.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
