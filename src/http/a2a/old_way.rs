//! For clients of the original's proxy (contract §6): a message as they send it, an answer as they know it. What they hand over is a
//! delegation like any other, so that nothing is lost where the original gave up: what must wait is 202, and its result
//! comes to the caller's inbox.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use super::call::Call;
use super::forms;
use super::message::Message;
use super::operations::hand;
use super::problem::Trouble;
use super::rpc::VERSION_HEADER;
use super::task::{Extent, Seen};
use crate::domain::{DeliveryMode, Ending, ErrorClass, METHOD_SEND, State, repair_json};
use crate::http::answer;
use crate::http::error::ApiError;
use crate::http::extract::NO_WORKSPACE;

/// The longest that a client waits which does not say how long.
const PATIENCE: Duration = Duration::from_hours(24);

/// A message in the old way.
pub(super) struct Envelope {
    id: Value,
    message: Value,
    patience: Duration,
}

impl Envelope {
    /// Reads one; none when the request is A2A. The original's clients name their workspace in a header, or send no
    /// JSON-RPC at all.
    pub(super) fn of(request: &HttpRequest, body: &[u8]) -> Result<Option<Self>, ApiError> {
        let header = |name| request.headers().get(name)?.to_str().ok();
        let names_itself = header("x-workspace-id").is_some_and(|text| !text.is_empty());
        if header(VERSION_HEADER).is_some() {
            return Ok(None);
        }
        let Ok(Value::Object(envelope)) = serde_json::from_str(&repair_json(body)) else {
            return if names_itself {
                Err(ApiError::invalid("invalid JSON"))
            } else {
                Ok(None)
            };
        };
        let bare = !envelope.contains_key("jsonrpc") && !envelope.contains_key("id");
        let method = envelope.get("method").and_then(Value::as_str);
        if !(names_itself || bare) || method.is_some_and(|method| method != METHOD_SEND) {
            return Ok(None);
        }
        let Some(message) = envelope
            .get("params")
            .and_then(|params| params.get("message"))
        else {
            return Ok(None);
        };
        let minted = || Value::from(uuid::Uuid::new_v4().to_string());
        let seconds = header("x-timeout").and_then(|text| text.parse().ok());
        Ok(Some(Self {
            id: envelope.get("id").cloned().unwrap_or_else(minted),
            message: normal(message, minted)?,
            patience: seconds
                .filter(|seconds| *seconds > 0)
                .map_or(PATIENCE, |seconds| {
                    Duration::from_secs(seconds).min(PATIENCE)
                }),
        }))
    }
}

/// A message in the form of 0.3, whatever it came as (contract §6.3).
fn normal(message: &Value, minted: impl Fn() -> Value) -> Result<Value, ApiError> {
    let mut members = message.as_object().cloned().unwrap_or_else(Map::new);
    members.entry("messageId").or_insert_with(minted);
    members.entry("role").or_insert_with(|| json!("user"));
    if members.contains_key("parts") {
        return Ok(members.into());
    }
    let parts = match members.remove("content") {
        Some(Value::String(text)) => json!([{"kind": "text", "text": text}]),
        Some(Value::Array(parts)) => parts.into(),
        Some(_) => {
            return Err(ApiError::with(
                StatusCode::BAD_REQUEST,
                "invalid params.message.content type",
                json!({"hint": "content must be a string (v0.2 compat) or omitted in favour of parts (v0.3)"}),
            ));
        }
        None => {
            return Err(ApiError::with(
                StatusCode::BAD_REQUEST,
                "params.message must contain either 'parts' (v0.3) or 'content' (v0.2 compat)",
                json!({"hint": "v0.3 example: {\"parts\":[{\"kind\":\"text\",\"text\":\"...\"}]}"}),
            ));
        }
    };
    members.insert("parts".to_owned(), parts);
    Ok(members.into())
}

/// Hands the message over and waits for what the original would have answered.
pub(super) async fn answer(call: &Call, envelope: Envelope) -> Result<HttpResponse, ApiError> {
    let answered = respond(call, envelope).await;
    answered.or_else(|trouble| match trouble {
        Trouble::Api(error) => Err(error),
        Trouble::Problem(problem) => {
            let (status, body) = problem.http();
            let error = body.pointer("/error/message").cloned().unwrap_or_default();
            answer::json(status, &json!({"error": error}))
        }
    })
}

async fn respond(call: &Call, envelope: Envelope) -> Result<HttpResponse, Trouble> {
    let seat = call
        .state
        .store
        .seat(call.target)
        .await?
        .ok_or(NO_WORKSPACE)?;
    let polls = seat.delivery_mode == DeliveryMode::Poll;
    if !polls && seat.url.is_none() {
        let extra = json!({"status": seat.status.as_str()});
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Err(ApiError::with(status, "workspace has no URL", extra).into());
    }
    let message = Message::read(&json!({"message": forms::message(&envelope.message)}))?;
    let mut tail = call.tail(None).await?;
    let id = hand(call, message, None).await?;
    if polls {
        let body = json!({"status": "queued", "delivery_mode": "poll", "method": METHOD_SEND});
        return Ok(answer::ok(&body)?);
    }
    let end = Instant::now() + envelope.patience;
    loop {
        let seen = call.seen(&id).await?;
        match &seen.view.loaded.life.state {
            State::Ended(ended) => return Ok(ended_as(&envelope.id, &seen, &ended.ending)?),
            State::InputRequired(_) => return Ok(asks(&envelope.id, &seen)?),
            State::Queued(_) => return Ok(queued(call, &id)?),
            State::Pending | State::Working(_) | State::Stuck(_) => {}
        }
        tokio::select! {
            goes_on = call.news(&id, &mut tail) => if !goes_on? {
                return Ok(queued(call, &id)?);
            },
            () = sleep_until(end) => return Ok(queued(call, &id)?),
        }
    }
}

fn ended_as(id: &Value, seen: &Seen, ending: &Ending) -> Result<HttpResponse, ApiError> {
    let raw = seen.raw();
    let agents = |name: &str| raw.and_then(|raw| raw.get(name)).cloned();
    match ending {
        Ending::Completed { text } => {
            let own = || {
                json!({
                    "kind": "message", "role": "agent", "messageId": format!("{}:result", seen.id()),
                    "parts": [{"kind": "text", "text": &**text}],
                })
            };
            let result = agents("result").unwrap_or_else(own);
            answer::ok(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
        }
        Ending::Failed { class, detail } => match agents("error").filter(Value::is_object) {
            Some(error) if !detail.starts_with("HTTP ") => {
                answer::ok(&json!({"jsonrpc": "2.0", "id": id, "error": error}))
            }
            _ => failed(*class, detail),
        },
        Ending::Cancelled { .. } => answer::json(
            StatusCode::BAD_GATEWAY,
            &json!({"error": "the delegation was cancelled"}),
        ),
    }
}

/// The original's words for a failure (contract §6.5).
fn failed(class: ErrorClass, detail: &str) -> Result<HttpResponse, ApiError> {
    let said = detail.strip_prefix("HTTP ").and_then(|said| {
        let (status, words) = said.split_once(": ").unwrap_or((said, ""));
        let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
        (status.as_u16() >= 300).then_some((status, words))
    });
    let (status, body) = match (class, said) {
        (ErrorClass::Exhausted, _) => (
            StatusCode::BAD_GATEWAY,
            json!({"error": "failed to reach workspace agent"}),
        ),
        (ErrorClass::BlockedAddress, _) => (
            StatusCode::BAD_GATEWAY,
            json!({"error": "workspace URL is not publicly routable"}),
        ),
        (ErrorClass::Truncated, _) => (
            StatusCode::BAD_GATEWAY,
            json!({"error": "failed to read agent response", "delivery_confirmed": true}),
        ),
        (_, Some((status, words))) => (status, json!({"error": words})),
        (_, None) => (StatusCode::BAD_GATEWAY, json!({"error": detail})),
    };
    answer::json(status, &body)
}

/// The target asks: as the task that it is.
fn asks(id: &Value, seen: &Seen) -> Result<HttpResponse, ApiError> {
    let task = forms::old_task(&seen.task(Extent::whole(None)));
    answer::ok(&json!({"jsonrpc": "2.0", "id": id, "result": task}))
}

/// It waits; the queue's id is the delegation's.
fn queued(call: &Call, id: &str) -> Result<HttpResponse, ApiError> {
    let lines = call.state.delegations.lines();
    let line = lines.iter().find(|(target, _)| *target == call.target);
    let depth = line.map_or(1, |(_, view)| view.waiting.max(1));
    answer::json(
        StatusCode::ACCEPTED,
        &json!({
            "queued": true, "queue_id": id, "queue_depth": depth,
            "message": "workspace agent busy — request queued, will dispatch when capacity available",
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::ResponseError as _;
    use actix_web::test::TestRequest;

    fn read(header: Option<&str>, body: &Value) -> Result<Option<Value>, ApiError> {
        let mut request = TestRequest::default();
        if let Some(name) = header {
            request = request.insert_header(("x-workspace-id", name));
        }
        let body = body.to_string();
        let envelope = Envelope::of(&request.to_http_request(), body.as_bytes())?;
        Ok(envelope.map(|envelope| envelope.message))
    }

    #[test]
    fn old_envelopes_become_messages_and_a2a_is_left_alone() {
        let said =
            |message: Value| json!({"method": "message/send", "params": {"message": message}});
        let text = json!([{"kind": "text", "text": "hi"}]);
        let message = read(None, &said(json!({"messageId": "m", "content": "hi"})))
            .unwrap()
            .unwrap();
        assert_eq!(
            message,
            json!({"messageId": "m", "role": "user", "parts": text})
        );
        let minted = read(None, &said(json!({"content": text})))
            .unwrap()
            .unwrap();
        assert!(minted["messageId"].is_string());
        assert_eq!(minted["parts"], text);
        let rpc = json!({"jsonrpc": "2.0", "id": 1, "method": "message/send", "params": {"message": {"parts": text}}});
        assert_eq!(read(None, &rpc).unwrap(), None);
        assert!(read(Some("w"), &rpc).unwrap().is_some());
        let get = json!({"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"id": "t"}});
        assert_eq!(read(Some("w"), &get).unwrap(), None);
    }

    #[test]
    fn what_an_old_message_lacks_is_said_in_the_old_words() {
        let refusal = |message: Value| {
            let body = json!({"params": {"message": message}});
            let error = read(Some("w"), &body).unwrap_err();
            (error.status_code().as_u16(), error.to_string())
        };
        let (status, said) = refusal(json!({"content": 7}));
        assert_eq!(
            (status, &*said),
            (400, "invalid params.message.content type")
        );
        let (status, said) = refusal(json!({}));
        assert_eq!(status, 400);
        assert!(
            said.starts_with("params.message must contain either"),
            "{said}"
        );
    }
}
