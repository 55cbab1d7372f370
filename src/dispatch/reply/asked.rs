//! From an HTTP answer to `tasks/get` to an [`AskOutcome`]. What does not prove that it speaks of the task that was asked
//! about says nothing of it: neither that it ended, nor that it is lost (product.md rule 5).

use std::time::Duration;

use super::{is_foreign, non_empty, read_reply, result, rpc_code, rpc_error_text};
use crate::dispatch::wire::{pick, string};
use crate::domain::{AskOutcome, ErrorClass, Outcome, RemoteTaskId, repair_json};

/// What an HTTP answer to the question `request_id` about `task` comes to. `retry_after` is the header's, see
/// [`parse_retry_after`](super::parse_retry_after).
#[must_use]
pub fn read_asked(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    request_id: &str,
    task: &RemoteTaskId,
) -> AskOutcome {
    let text = repair_json(body);
    let [id, result, error] = pick(&text, ["id", "result", "error"]).unwrap_or([None; 3]);
    let ours = id.and_then(string).as_deref() == Some(request_id);
    let success = (200..=299).contains(&status);
    if let (true, true, Some(result), None) = (success, ours, result, error) {
        return match result::named_task(result) {
            Some((id, outcome)) if *id == *task.0 => AskOutcome::Told(outcome),
            Some((id, _)) => later(None, &format!("the answer is about task {id}")),
            None => later(None, "the answer is about no task"),
        };
    }
    let code = error
        .filter(|_| !is_foreign(id, ours))
        .and_then(|error| Some((error, rpc_code(error)?)));
    let said = |error| non_empty(&rpc_error_text(error).unwrap_or_default());
    match (code, status) {
        (Some((error, -32001)), _) => {
            let detail = said(error);
            return AskOutcome::NoSuchTask { detail };
        }
        (Some((error, -32601 | -32004)), _) => {
            let detail = said(error);
            return AskOutcome::Unsupported { detail };
        }
        // A server that does not speak JSON-RPC at all here.
        (None, 404 | 405 | 501) => {
            let detail = format!("HTTP {status} in answer to tasks/get").into();
            return AskOutcome::Unsupported { detail };
        }
        _ => {}
    }
    let outcome = read_reply(status, retry_after, body, request_id);
    nothing_learnt(outcome, retry_after)
}

/// What a question comes to whose answer is not about the task: none came, or an unusable one. `retry_after` is the
/// header's.
pub(in crate::dispatch) fn nothing_learnt(
    outcome: Outcome,
    retry_after: Option<Duration>,
) -> AskOutcome {
    match outcome {
        // There is an answer about the task, and it stays too large however often it is asked for.
        Outcome::Malformed {
            class: ErrorClass::ReplyTooLarge,
            ..
        } => AskOutcome::Told(outcome),
        Outcome::Refused { detail, .. }
        | Outcome::Malformed { detail, .. }
        | Outcome::NotDelivered { detail }
        | Outcome::DeliveredUnknown { detail, .. } => AskOutcome::Later {
            retry_after,
            detail,
        },
        Outcome::Busy { retry_after } => later(retry_after, "the agent is busy"),
        Outcome::TargetQueued => later(retry_after, "the agent queued the question"),
        Outcome::Answered { .. } | Outcome::NonFinal { .. } => {
            later(retry_after, "the answer is about no task")
        }
    }
}

fn later(retry_after: Option<Duration>, detail: &str) -> AskOutcome {
    let detail = non_empty(detail);
    AskOutcome::Later {
        retry_after,
        detail,
    }
}

#[cfg(test)]
mod tests;
