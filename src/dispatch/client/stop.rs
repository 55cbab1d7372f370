//! Why no answer came, and what that means.

use std::error::Error as _;
use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;

use super::{blocked_address, not_delivered, unknown};
use crate::dispatch::guard::GuardError;
use crate::domain::{ErrorClass, Outcome};

/// Why there is no answer.
pub(super) enum Stop {
    Error(reqwest::Error),
    Limit(&'static str, Duration),
    Deadline,
}

impl Stop {
    pub(super) fn outcome(self, left: bool) -> Outcome {
        let why = match self {
            Self::Error(error) => match guard_error(&error) {
                Some(unresolvable @ GuardError::Unresolvable { .. }) => unresolvable.to_string(),
                Some(blocked) => return blocked_address(&blocked.to_string()),
                // A URL that the library cannot turn into a request line.
                None if error.is_builder() => return blocked_address(&chain(&error)),
                None => chain(&error),
            },
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

/// The guard's own error, if that is why the library failed.
fn guard_error(error: &reqwest::Error) -> Option<&GuardError> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

/// What the library says from its innermost cause's point of view; its outer layers only say that something failed.
pub(super) fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause_text);
        source = cause.source();
    }
    if text.is_empty() {
        error.to_string()
    } else {
        text
    }
}
