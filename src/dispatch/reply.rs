//! From an HTTP answer to an [`Outcome`]: pure, total, and the only place that decides what counts as an answer
//! (product.md rule 5; lessons L06, L07, L08, D01, D03, Q03, Q07).
//!
//! How text is taken from a result: every text part (`kind` or `type` is `text`, or neither is there and `text` is a
//! string, as in A2A 1.0), in order, of the message, or of the task's artifacts and then of its `status.message`. Parts
//! are joined by one line feed; a single part is passed on byte for byte; NUL becomes U+FFFD. If there are parts but no
//! text among them, the text is the JSON array of the parts as they were sent, so that nothing is lost. If there are
//! artifacts but no parts at all, it is the JSON of the artifacts. Only a result without any of these is empty.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use http::StatusCode;
use serde_json::value::RawValue;

use super::detail::clean;
use super::wire::{pick, string};
use crate::domain::{ErrorClass, Outcome, repair_json};

mod asked;
mod rest;
mod result;
mod stream;

pub(super) use asked::nothing_learnt;
pub use asked::read_asked;
pub(super) use rest::{declines, read_rest, read_rest_asked};
pub use stream::News;
pub(super) use stream::{Telling, Told};

/// What an HTTP answer to the request `request_id` comes to. `retry_after` is the header's, see [`parse_retry_after`].
#[must_use]
pub fn read_reply(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    request_id: &str,
) -> Outcome {
    match status {
        200..=299 => read_success(status, body, request_id),
        // Following it would take the request past the guard (lesson A03) and could run it twice.
        300..=399 => refused(
            ErrorClass::Refused,
            &format!("HTTP {status}: redirects are not followed"),
        ),
        400.. => read_error(status, retry_after, body),
        _ => malformed(
            ErrorClass::MalformedResponse,
            &format!("HTTP {status} is no answer"),
        ),
    }
}

/// The text of the answer in a reply that was kept, in an envelope or without; none if it is no answer.
#[must_use]
pub fn answer_in(kept: &[u8]) -> Option<Arc<str>> {
    let text = repair_json(kept);
    let whole: &RawValue = serde_json::from_str(&text).ok()?;
    let [result] = pick(&text, ["result"]).ok()?;
    match result::read_result(result.unwrap_or(whole)) {
        Outcome::Answered { text } => Some(text),
        _ => None,
    }
}

/// Reads `Retry-After`: seconds, or an HTTP date, which is measured against the answer's own `Date`, so that neither
/// clock has to be right. `None` for anything else.
#[must_use]
pub fn parse_retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = DateTime::parse_from_rfc2822(value).ok()?;
    let now = DateTime::parse_from_rfc2822(date?.trim()).ok()?;
    // A date that has passed means "now".
    Some((then - now).to_std().unwrap_or_default())
}

fn read_error(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Outcome {
    let text = repair_json(body);
    let [error, busy, body_retry_after] =
        pick(&text, ["error", "busy", "retry_after"]).unwrap_or([None; 3]);
    let says_busy = busy.is_some_and(|busy| busy.get() == "true");
    if status == 429 || (status == 503 && says_busy) {
        let retry_after = retry_after.or_else(|| body_retry_after.and_then(seconds));
        return Outcome::Busy { retry_after };
    }
    let said = error
        .and_then(|error| string(error).or_else(|| rpc_error_text(error)))
        .filter(|said| !said.trim().is_empty());
    let reason = StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let detail = match said.as_deref().or(reason) {
        Some(words) => format!("HTTP {status}: {words}"),
        None => format!("HTTP {status}"),
    };
    // A gateway's own words: it got no answer, or none in time, and nobody can say what became of the request (rule 6).
    if matches!(status, 502 | 504) {
        return Outcome::DeliveredUnknown {
            class: ErrorClass::OutcomeUnknown,
            detail: clean(&detail),
            target_deduplicates: false,
        };
    }
    refused(ErrorClass::Refused, &detail)
}

fn read_success(status: u16, body: &[u8], request_id: &str) -> Outcome {
    let text = repair_json(body);
    if text.trim().is_empty() {
        return malformed(
            ErrorClass::EmptyResponse,
            &format!("empty response: HTTP {status} without a body"),
        );
    }
    let members = pick(&text, ["id", "result", "error", "queued", "status"]);
    let [id, result, error, queued, word] = match members {
        Ok(members) => members,
        // Half a JSON text, from a server that marks the end of a body by closing: it worked, and the rest is lost.
        Err(error) if error.is_eof() => {
            return Outcome::DeliveredUnknown {
                class: ErrorClass::Truncated,
                detail: clean(&format!("the response broke off: {error}")),
                target_deduplicates: false,
            };
        }
        Err(error) => {
            return malformed(
                ErrorClass::MalformedResponse,
                &format!("the response is not JSON-RPC: {error}"),
            );
        }
    };
    let answered_id = id.and_then(string);
    let ours = answered_id.as_deref() == Some(request_id);
    match (result, error) {
        (Some(result), None) if ours => result::read_result(result),
        (Some(_), None) => malformed(
            ErrorClass::ForeignResponse,
            &format!("the response is for request {}", shown(id)),
        ),
        // Before the error: a queue's acknowledgement came with an error object beside it (lesson Q03).
        (_, _) if is_queued(queued, word) => Outcome::TargetQueued,
        (_, Some(_)) if is_foreign(id, ours) => malformed(
            ErrorClass::ForeignResponse,
            &format!("the error is for request {}", shown(id)),
        ),
        (_, Some(error)) => {
            let said = string(error).or_else(|| rpc_error_text(error));
            let said = said.filter(|said| !said.trim().is_empty());
            let said = said
                .as_deref()
                .unwrap_or("JSON-RPC error without a message");
            refused(ErrorClass::Refused, said)
        }
        (None, None) => malformed(
            ErrorClass::MalformedResponse,
            "the response has neither result nor error",
        ),
    }
}

/// Whether an error answers another request. JSON-RPC answers a request that it could not read with the id `null`, so
/// only a definite other id is foreign.
const fn is_foreign(id: Option<&RawValue>, ours: bool) -> bool {
    id.is_some() && !ours
}

/// The two dialects of "I took it into a queue" (lesson D03).
fn is_queued(queued: Option<&RawValue>, word: Option<&RawValue>) -> bool {
    queued.is_some_and(|queued| queued.get() == "true")
        || word.and_then(string).is_some_and(|word| word == "queued")
}

/// Code and message of a JSON-RPC error object.
fn rpc_error_text(error: &RawValue) -> Option<String> {
    let code = rpc_code(error);
    let [message] = pick(error.get(), ["message"]).ok()?;
    let message = message
        .and_then(string)
        .filter(|message| !message.trim().is_empty());
    match (code, message) {
        (Some(code), Some(message)) => Some(format!("JSON-RPC error {code}: {message}")),
        (Some(code), None) => Some(format!("JSON-RPC error {code}")),
        (None, Some(message)) => Some(format!("JSON-RPC error: {message}")),
        (None, None) => None,
    }
}

/// The code of a JSON-RPC error object.
fn rpc_code(error: &RawValue) -> Option<i64> {
    let [code] = pick(error.get(), ["code"]).ok()?;
    serde_json::from_str(code?.get()).ok()
}

/// Seconds in a body: a number, or digits in a string.
fn seconds(value: &RawValue) -> Option<Duration> {
    let text = string(value);
    let number: f64 = text.as_deref().unwrap_or(value.get()).trim().parse().ok()?;
    Duration::try_from_secs_f64(number).ok()
}

/// A foreign id for people, however long it is.
fn shown(id: Option<&RawValue>) -> &str {
    let id = id.map_or("null", RawValue::get);
    id.get(..id.floor_char_boundary(80)).unwrap_or_default()
}

fn refused(class: ErrorClass, detail: &str) -> Outcome {
    let detail = non_empty(detail);
    Outcome::Refused { class, detail }
}

fn malformed(class: ErrorClass, detail: &str) -> Outcome {
    let detail = non_empty(detail);
    Outcome::Malformed { class, detail }
}

/// A detail may consist of nothing that can be shown, and must still not be empty (lesson O02).
fn non_empty(detail: &str) -> Arc<str> {
    let cleaned = clean(detail);
    if cleaned.is_empty() {
        "no readable reason was given".into()
    } else {
        cleaned
    }
}

#[cfg(test)]
mod tests;
