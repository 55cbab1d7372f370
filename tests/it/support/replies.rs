//! What an agent says over JSON-RPC, in the shapes that agents use.

use serde_json::{Value, json};

use super::agent::{Behaviour, Request};
use super::http;

/// The response of the behaviours that respond at once and whole.
pub(crate) fn answer(request: &Request, behaviour: Behaviour) -> Vec<u8> {
    let ok = |body: String| http::response(200, &[], body.as_bytes());
    match behaviour {
        Behaviour::Answer(text) => ok(message(request, &text_parts(&text))),
        Behaviour::AnswerParts(parts) => ok(message(request, &parts)),
        Behaviour::TypeParts(text) => {
            ok(message(request, &json!([{"type": "text", "text": text}])))
        }
        Behaviour::ArtifactTask(text) => {
            let artifacts = json!([{"artifactId": "a1", "parts": text_parts(&text)}]);
            ok(task(
                request,
                &named(request),
                "completed",
                &artifacts,
                "Which one?",
            ))
        }
        Behaviour::NonFinal(state) => ok(task(
            request,
            &named(request),
            &state,
            &json!([]),
            "Which one?",
        )),
        Behaviour::Task { id, state, text } if state == "completed" => {
            let artifacts = json!([{"artifactId": "a1", "parts": text_parts(&text)}]);
            ok(task(request, &id, &state, &artifacts, ""))
        }
        Behaviour::Task { id, state, text } => ok(task(request, &id, &state, &json!([]), &text)),
        Behaviour::Error(code, message) => ok(json!({
            "jsonrpc": "2.0", "id": request.body["id"], "error": {"code": code, "message": message},
        })
        .to_string()),
        Behaviour::Status(status, body) => http::response(status, &[], body.as_bytes()),
        Behaviour::Queued202 => {
            let body = json!({"queued": true, "queue_id": uuid::Uuid::new_v4(), "queue_depth": 1});
            http::response(202, &[], body.to_string().as_bytes())
        }
        Behaviour::Empty => http::response(200, &[], b""),
        Behaviour::WrongId => {
            let result = json!({"kind": "message", "role": "agent", "messageId": "m", "parts": text_parts("foreign")});
            ok(json!({"jsonrpc": "2.0", "id": "of another request", "result": result}).to_string())
        }
        Behaviour::Raw(bytes) => http::response(200, &[], &with_id(request, bytes)),
        Behaviour::Echo
        | Behaviour::Delay(..)
        | Behaviour::Busy
        | Behaviour::OneAtATime(_)
        | Behaviour::Work(_)
        | Behaviour::Hang
        | Behaviour::CloseBeforeReading
        | Behaviour::CloseAfterReading
        | Behaviour::CutBody(_)
        | Behaviour::RawWire(_) => {
            let text = format!("echo: {}", request.text());
            ok(message(request, &text_parts(&text)))
        }
    }
}

/// The bytes with the request's id at the first `$ID`.
fn with_id(request: &Request, bytes: Vec<u8>) -> Vec<u8> {
    let Some(place) = bytes.windows(3).position(|window| window == b"$ID") else {
        return bytes;
    };
    let id = request.body["id"].as_str().unwrap_or_default();
    [&bytes[..place], id.as_bytes(), &bytes[place + 3..]].concat()
}

pub(crate) fn busy(retry_after: Option<u64>) -> Vec<u8> {
    let Some(seconds) = retry_after else {
        return http::response(503, &[], br#"{"error":"busy","busy":true}"#);
    };
    let body = json!({"error": "busy", "busy": true, "retry_after": seconds}).to_string();
    let header = ("Retry-After", &*seconds.to_string());
    http::response(503, &[header], body.as_bytes())
}

pub(crate) fn text_parts(text: &str) -> Value {
    json!([{"kind": "text", "text": text}])
}

/// A JSON-RPC response with a message, in the dialect of the request.
pub(crate) fn message(request: &Request, parts: &Value) -> String {
    let id = format!("re-{}", request.message_id);
    let result = if request.method == "SendMessage" {
        json!({"message": {"role": "ROLE_AGENT", "messageId": id, "parts": parts}})
    } else {
        json!({"kind": "message", "role": "agent", "messageId": id, "parts": parts})
    };
    json!({"jsonrpc": "2.0", "id": request.body["id"], "result": result}).to_string()
}

/// A JSON-RPC response with a task, whose status says something unless that is empty.
fn task(request: &Request, id: &str, state: &str, artifacts: &Value, said: &str) -> String {
    let mut status = json!({"state": state});
    if !said.is_empty() {
        status["message"] = json!({"kind": "message", "role": "agent", "messageId": "s", "parts": text_parts(said)});
    }
    let result = json!({
        "kind": "task", "id": id, "contextId": "context-1", "status": status, "artifacts": artifacts,
    });
    json!({"jsonrpc": "2.0", "id": request.body["id"], "result": result}).to_string()
}

/// The task that the request names, or else one named after its message.
fn named(request: &Request) -> String {
    if request.task_id.is_empty() {
        task_id(&request.message_id)
    } else {
        request.task_id.clone()
    }
}

/// The id of the task that an agent makes of a message.
pub(crate) fn task_id(message_id: &str) -> String {
    format!("task-{message_id}")
}
