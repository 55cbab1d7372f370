//! Answers over HTTP with JSON: the result as it is, without an envelope; the connection says whose answer it is. And what
//! an agent says, over either binding, when it was asked for what it does not know.

use std::time::Duration;

use serde_json::value::RawValue;

use super::{
    is_foreign, is_queued, nothing_learnt, read_error, read_reply, result, rpc_code, rpc_error_text,
};
use crate::dispatch::wire::{each, is_object, members, pick, string};
use crate::domain::{AskOutcome, Outcome, RemoteTaskId, repair_json};

/// What an answer to a message comes to.
pub(in crate::dispatch) fn read_rest(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
) -> Outcome {
    let text = repair_json(body);
    let [error, queued, word, task, message] =
        pick(&text, ["error", "queued", "status", "task", "message"]).unwrap_or([None; 5]);
    let is_result = task.or(message).is_some() || word.is_some_and(is_object);
    match (status, error, serde_json::from_str::<&RawValue>(&text)) {
        (200..=299, None, Ok(result)) if is_result && !is_queued(queued, word) => {
            result::read_result(result)
        }
        (200..=299, Some(error), _) if is_object(error) => read_error(400, retry_after, body),
        // It is empty, broken off, no JSON, or an acknowledgement, which are the same with an envelope and without.
        _ => read_reply(status, retry_after, body, ""),
    }
}

/// What an answer to a question about `task` comes to.
pub(in crate::dispatch) fn read_rest_asked(
    status: u16,
    retry_after: Option<Duration>,
    body: &[u8],
    task: &RemoteTaskId,
) -> AskOutcome {
    let text = repair_json(body);
    let named = serde_json::from_str::<&RawValue>(&text).ok();
    let named = named.and_then(result::named_task);
    match (status, named) {
        (200..=299, Some((id, outcome))) if *id == *task.0 => AskOutcome::Told(outcome),
        (200..=299, Some((id, _))) => AskOutcome::Later {
            retry_after: None,
            detail: format!("the answer is about task {id}").into(),
        },
        (404, _) if reason(&text).as_deref() == Some("TASK_NOT_FOUND") => {
            let [error] = pick(&text, ["error"]).unwrap_or([None; 1]);
            let said = error.and_then(rpc_error_text).unwrap_or_default();
            AskOutcome::NoSuchTask {
                detail: super::non_empty(&said),
            }
        }
        (404 | 405 | 501, _) => AskOutcome::Unsupported {
            detail: format!("HTTP {status} in answer to a question after a task").into(),
        },
        _ => nothing_learnt(read_reply(status, retry_after, body, ""), retry_after),
    }
}

/// Whether an agent says that it does not know what it was asked for, and so was not given it: a method, a version, to tell
/// of its task, or an address; where the answer was to be a stream, also that. An error that answers another request, or
/// stands beside a result or an acknowledgement, says nothing of the kind.
pub(in crate::dispatch) fn declines(
    streams: bool,
    status: u16,
    body: &[u8],
    request_id: &str,
) -> bool {
    let text = repair_json(body);
    let wanted = [
        "id", "error", "queued", "status", "result", "task", "message",
    ];
    let [id, error, queued, word, result, task, message] = pick(&text, wanted).unwrap_or([None; 7]);
    let ours = id.and_then(string).as_deref() == Some(request_id);
    let answers = result.or(task).is_some() || message.is_some_and(is_object);
    if answers || is_foreign(id, ours) || is_queued(queued, word) {
        return false;
    }
    match (error.and_then(rpc_code), reason(&text).as_deref()) {
        (Some(-32601 | -32009 | -32003), _)
        | (_, Some("VERSION_NOT_SUPPORTED" | "PUSH_NOTIFICATION_NOT_SUPPORTED")) => true,
        (Some(-32004), _) | (_, Some("UNSUPPORTED_OPERATION")) => streams,
        (Some(..0), _) | (_, Some(_)) => false,
        // No word of the protocol: whoever answered knows nothing of it, at this address.
        _ => matches!(status, 404 | 405 | 415 | 501),
    }
}

/// What an error says for machines (`ErrorInfo`).
fn reason(text: &str) -> Option<String> {
    let [error] = pick(text, ["error"]).ok()?;
    let [details, data] = members(error?, ["details", "data"]);
    let mut reason = None;
    each(details.or(data)?, |detail| {
        let [said] = members(detail, ["reason"]);
        reason = reason.take().or_else(|| said.and_then(string));
    });
    reason
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{ErrorClass, WorkPhase};

    fn read(status: u16, body: &Value) -> Outcome {
        read_rest(status, None, body.to_string().as_bytes())
    }

    fn asked(status: u16, body: &Value) -> AskOutcome {
        let task = RemoteTaskId("t".into());
        read_rest_asked(status, None, body.to_string().as_bytes(), &task)
    }

    fn error(code: i64, reason: &str) -> Value {
        json!({"error": {"code": code, "status": "S", "message": "no", "details": [{"@type": "x", "reason": reason}]}})
    }

    fn task(state: &str) -> Value {
        json!({"id": "t", "status": {"state": state}, "artifacts": [{"parts": [{"text": "done"}]}]})
    }

    #[test]
    fn a_bare_result_is_an_answer_and_nothing_else_is() {
        let text: Arc<str> = "done".into();
        let answered = Outcome::Answered { text };
        let said = json!({"role": "ROLE_AGENT", "parts": [{"text": "done"}]});
        for body in [
            json!({"task": task("TASK_STATE_COMPLETED")}),
            task("completed"),
            json!({"message": said}),
        ] {
            assert_eq!(read(200, &body), answered, "{body}");
        }
        let non_final = read(200, &json!({"task": task("TASK_STATE_WORKING")}));
        let phase = WorkPhase::Working;
        let id = Some(RemoteTaskId("t".into()));
        assert_eq!(non_final, Outcome::NonFinal { task: id, phase });
        assert_eq!(read(202, &json!({"queued": true})), Outcome::TargetQueued);
        for body in [json!({}), json!([]), json!("done"), json!({"status": "ok"})] {
            let outcome = read(200, &body);
            assert!(
                matches!(outcome, Outcome::Malformed { .. }),
                "{body}: {outcome:?}"
            );
        }
        assert!(matches!(
            read_rest(200, None, b""),
            Outcome::Malformed {
                class: ErrorClass::EmptyResponse,
                ..
            }
        ));
        let cut = read_rest(200, None, br#"{"task":{"id":"t""#);
        assert!(matches!(cut, Outcome::DeliveredUnknown { .. }), "{cut:?}");
        for (status, body) in [(400, error(400, "X")), (200, error(400, "X"))] {
            assert!(matches!(read(status, &body), Outcome::Refused { .. }));
        }
    }

    #[test]
    fn only_what_names_the_task_speaks_of_it() {
        let told = asked(200, &task("TASK_STATE_COMPLETED"));
        let text = "done".into();
        assert_eq!(told, AskOutcome::Told(Outcome::Answered { text }));
        let lost = asked(404, &error(404, "TASK_NOT_FOUND"));
        assert!(matches!(lost, AskOutcome::NoSuchTask { .. }), "{lost:?}");
        for (status, body) in [
            (404, json!("page")),
            (404, error(404, "OTHER")),
            (405, json!({})),
        ] {
            let outcome = asked(status, &body);
            assert!(
                matches!(outcome, AskOutcome::Unsupported { .. }),
                "{outcome:?}"
            );
        }
        let other = json!({"id": "u", "status": {"state": "TASK_STATE_COMPLETED"}});
        for (status, body) in [(200, other), (200, json!({})), (500, json!({}))] {
            let outcome = asked(status, &body);
            assert!(matches!(outcome, AskOutcome::Later { .. }), "{outcome:?}");
        }
    }

    #[test]
    fn only_who_knows_nothing_of_it_declines() {
        let rpc = |code: i64| json!({"id": "r-1", "error": {"code": code, "message": "m"}});
        let beside = |code: i64, member: &str, value: Value| {
            let mut body = rpc(code);
            body[member] = value;
            body
        };
        for (status, body, whole, stream) in [
            (200, rpc(-32601), true, true),
            (400, rpc(-32009), true, true),
            (200, rpc(-32004), false, true),
            (404, rpc(-32001), false, false),
            (200, rpc(-32603), false, false),
            (404, json!("404 page not found"), true, true),
            (405, json!({"detail": "Method Not Allowed"}), true, true),
            (415, json!({}), true, true),
            (500, json!({}), false, false),
            (400, error(400, "UNSUPPORTED_OPERATION"), false, true),
            (400, error(400, "VERSION_NOT_SUPPORTED"), true, true),
            (404, error(404, "TASK_NOT_FOUND"), false, false),
            (200, json!({"result": {}}), false, false),
            (404, json!({"queued": true}), false, false),
            (200, beside(-32601, "id", json!(null)), true, true),
            (200, beside(-32601, "id", json!("other")), false, false),
            (200, beside(-32601, "queued", json!(true)), false, false),
            (200, beside(-32601, "status", json!("queued")), false, false),
            (200, beside(-32601, "result", json!({})), false, false),
            (200, beside(-32601, "task", json!({})), false, false),
        ] {
            let text = body.to_string();
            assert_eq!(
                declines(false, status, text.as_bytes(), "r-1"),
                whole,
                "{status} {text}"
            );
            assert_eq!(
                declines(true, status, text.as_bytes(), "r-1"),
                stream,
                "{status} {text}"
            );
        }
    }
}
