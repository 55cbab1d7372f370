//! The `result` of a JSON-RPC answer: a message or a task, in A2A 0.2, 0.3 or 1.0 (a2a.md §1, lesson U04).

use serde_json::value::RawValue;

use super::{malformed, refused};
use crate::dispatch::wire::{each, is_object, members, string};
use crate::domain::{ErrorClass, Outcome, RemoteTaskId, WorkPhase};

/// What our own request's result comes to.
pub(super) fn read_result(result: &RawValue) -> Outcome {
    if let Some(task) = task_in(result) {
        return read_task(task);
    }
    let [kind, message] = members(result, ["kind", "message"]);
    let unnamed = kind.and_then(string).is_none();
    let wrapped = message.filter(|message| unnamed && is_object(message));
    read_message(wrapped.unwrap_or(result))
}

/// The task that a result is or wraps, and its id, which must be there: it is how an answer to a question about a task
/// proves what it speaks of.
pub(super) fn named_task(result: &RawValue) -> Option<(String, Outcome)> {
    let task = task_in(result)?;
    Some((task_id(task)?, read_task(task)))
}

fn task_in(result: &RawValue) -> Option<&RawValue> {
    let [kind, task, message, status] = members(result, ["kind", "task", "message", "status"]);
    let kind = kind.and_then(string);
    match (kind.as_deref(), task, message) {
        // 1.0 wraps instead of naming the kind.
        (None, Some(task), _) if is_object(task) => Some(task),
        (None, _, Some(message)) if is_object(message) => None,
        (Some("task"), ..) => Some(result),
        // Also the 0.3 status update, which is a task's status under another name.
        _ => status.is_some_and(is_object).then_some(result),
    }
}

pub(super) fn task_id(task: &RawValue) -> Option<String> {
    let [id, of_update] = members(task, ["id", "taskId"]);
    id.or(of_update).and_then(string)
}

fn read_message(message: &RawValue) -> Outcome {
    let [kind, role, parts, content] = members(message, ["kind", "role", "parts", "content"]);
    let named = kind.and_then(string).is_some_and(|kind| kind == "message");
    let role = role.and_then(string);
    let by_agent = matches!(role.as_deref(), Some("agent" | "ROLE_AGENT"));
    // 0.2 and simple agents leave out kind and role; but our own message thrown back is no answer.
    let says = parts.is_some() || content.is_some();
    let plausible = named || by_agent || (says && !is_by_user(message));
    if !plausible {
        return malformed(
            ErrorClass::MalformedResponse,
            "the result is neither a message nor a task",
        );
    }
    let lists: Vec<&RawValue> = parts.into_iter().collect();
    let text = joined_text(&lists)
        .or_else(|| content.and_then(string))
        .or_else(|| raw_parts(&lists));
    text.map_or_else(|| empty("a message without parts"), answered)
}

/// Whether it is a message to an agent, not by one.
pub(super) fn is_by_user(message: &RawValue) -> bool {
    let [role] = members(message, ["role"]);
    let role = role.and_then(string);
    matches!(role.as_deref(), Some("user" | "ROLE_USER"))
}

fn read_task(task: &RawValue) -> Outcome {
    let [status, artifacts] = members(task, ["status", "artifacts"]);
    if let Some(phase) = phase(status) {
        let task = task_id(task).map(|id| RemoteTaskId(id.into()));
        return Outcome::NonFinal { task, phase };
    }
    let (state, message) = standing(status);
    let refusal = |class, otherwise: &str| {
        let reason = words(message);
        refused(class, reason.as_deref().unwrap_or(otherwise))
    };
    match state.as_str() {
        "completed" => completed(artifacts, message),
        "rejected" => refusal(ErrorClass::Rejected, "the agent rejected the task"),
        "failed" => refusal(ErrorClass::Refused, "the agent ended its task as failed"),
        _ => refusal(
            ErrorClass::CancelledByTarget,
            "the agent cancelled its task",
        ),
    }
}

/// How far a task of this status is; none when it is over.
pub(super) fn phase(status: Option<&RawValue>) -> Option<WorkPhase> {
    let (state, message) = standing(status);
    let asks = |otherwise: &str| {
        let question = words(message);
        let text = question.as_deref().unwrap_or(otherwise).into();
        Some(WorkPhase::InputRequired { text })
    };
    match state.as_str() {
        "completed" | "failed" | "rejected" | "canceled" | "cancelled" => None,
        "submitted" | "unspecified" => Some(WorkPhase::Submitted),
        "input-required" => asks("the agent asks for input, and does not say which"),
        "auth-required" => asks("the agent asks for authentication"),
        // A state that is not known is not over (a2a.md §5).
        _ => Some(WorkPhase::Working),
    }
}

/// What a status says in words, if anything.
pub(super) fn said(status: &RawValue) -> Option<String> {
    words(standing(Some(status)).1)
}

/// The state of a status, and its message.
fn standing(status: Option<&RawValue>) -> (String, Option<&RawValue>) {
    let [state, message] = status.map_or([None; 2], |status| members(status, ["state", "message"]));
    // An absent state is how 1.0 writes `TASK_STATE_UNSPECIFIED`.
    let state = state.map_or_else(|| "unspecified".to_owned(), normal_state);
    (state, message)
}

/// The words of a message, unless it is blank.
pub(super) fn words(message: Option<&RawValue>) -> Option<String> {
    let text = message.and_then(message_text);
    text.filter(|text| !text.trim().is_empty())
}

/// Whether a status completes its task, and does not say with what.
pub(super) fn completes_with_nothing(status: Option<&RawValue>) -> bool {
    let (state, message) = standing(status);
    state == "completed" && matches!(completed(None, message), Outcome::Malformed { .. })
}

fn completed(artifacts: Option<&RawValue>, message: Option<&RawValue>) -> Outcome {
    let mut lists = Vec::new();
    let mut any_artifact = false;
    if let Some(artifacts) = artifacts {
        each(artifacts, |artifact| {
            any_artifact = true;
            let [parts] = members(artifact, ["parts"]);
            lists.extend(parts);
        });
    }
    let [parts] = message.map_or([None], |message| members(message, ["parts"]));
    lists.extend(parts);
    let text = joined_text(&lists)
        .or_else(|| message.and_then(plain_text))
        .or_else(|| raw_parts(&lists))
        .or_else(|| {
            artifacts
                .filter(|_| any_artifact)
                .map(|all| all.get().to_owned())
        });
    text.map_or_else(
        || empty("a completed task without artifacts or message"),
        answered,
    )
}

/// `TASK_STATE_INPUT_REQUIRED` (1.0), `input-required` (0.3) and `input_required` are the same.
fn normal_state(state: &RawValue) -> String {
    let word = string(state).unwrap_or_default().to_ascii_lowercase();
    word.strip_prefix("task_state_")
        .unwrap_or(&word)
        .replace('_', "-")
}

/// The words of a message.
fn message_text(message: &RawValue) -> Option<String> {
    let [parts] = members(message, ["parts"]);
    let lists: Vec<&RawValue> = parts.into_iter().collect();
    joined_text(&lists)
        .or_else(|| plain_text(message))
        .or_else(|| raw_parts(&lists))
}

/// A message that is a string, or that has its text in `content` (0.2).
fn plain_text(message: &RawValue) -> Option<String> {
    let [content] = members(message, ["content"]);
    string(content.unwrap_or(message))
}

/// All text parts of all `lists`, joined by line feeds; `None` if there is none.
fn joined_text(lists: &[&RawValue]) -> Option<String> {
    let mut joined: Option<String> = None;
    for list in lists {
        each(list, |part| {
            let Some(text) = part_text(part) else { return };
            match &mut joined {
                None => joined = Some(text),
                Some(joined) => {
                    joined.push('\n');
                    joined.push_str(&text);
                }
            }
        });
    }
    joined
}

fn part_text(part: &RawValue) -> Option<String> {
    let [kind, old_kind, text] = members(part, ["kind", "type", "text"]);
    let kind = kind.or(old_kind).and_then(string);
    let textual = kind.is_none_or(|kind| kind == "text");
    text.filter(|_| textual).and_then(string)
}

/// All parts of all `lists` as one JSON array, each as it was sent; `None` if there is none.
fn raw_parts(lists: &[&RawValue]) -> Option<String> {
    let mut array = String::new();
    for list in lists {
        each(list, |part| {
            array.push(if array.is_empty() { '[' } else { ',' });
            array.push_str(part.get());
        });
    }
    (!array.is_empty()).then(|| {
        array.push(']');
        array
    })
}

fn answered(text: String) -> Outcome {
    Outcome::Answered { text: text.into() }
}

fn empty(what: &str) -> Outcome {
    malformed(
        ErrorClass::EmptyResponse,
        &format!("empty response: {what}"),
    )
}
