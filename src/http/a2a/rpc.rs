//! The JSON-RPC binding, in A2A 1.0 and 0.3 (A2A §9; a2a.md §1): the name of a method says which it is.

use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde_json::{Value, json};

use super::call::Call;
use super::card;
use super::forms;
use super::message::object;
use super::operations::{Done, Operation, run};
use super::problem::{Kind, Problem, Trouble};
use super::push::{self, Push};
use super::stream::{self, Frame};
use crate::domain::{Position, repair_json};
use crate::http::answer;
use crate::http::error::ApiError;
use crate::http::extract::{Query, Vigil};

/// The header in which a client says which version it speaks; 0.3 does not say (A2A §3.6).
pub(super) const VERSION_HEADER: &str = "a2a-version";

/// In which form a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    New,
    Old,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Method {
    Task(Operation),
    Push(Push),
}

/// What a method is called in 1.0 and in 0.3.
const METHODS: [(&str, &str, Method); 11] = [
    ("SendMessage", "message/send", Method::Task(Operation::Send)),
    (
        "SendStreamingMessage",
        "message/stream",
        Method::Task(Operation::SendStreaming),
    ),
    ("GetTask", "tasks/get", Method::Task(Operation::Get)),
    ("ListTasks", "tasks/list", Method::Task(Operation::List)),
    (
        "CancelTask",
        "tasks/cancel",
        Method::Task(Operation::Cancel),
    ),
    (
        "SubscribeToTask",
        "tasks/resubscribe",
        Method::Task(Operation::Subscribe),
    ),
    (
        "GetExtendedAgentCard",
        "agent/getAuthenticatedExtendedCard",
        Method::Task(Operation::ExtendedCard),
    ),
    (
        "CreateTaskPushNotificationConfig",
        "tasks/pushNotificationConfig/set",
        Method::Push(Push::Create),
    ),
    (
        "GetTaskPushNotificationConfig",
        "tasks/pushNotificationConfig/get",
        Method::Push(Push::Get),
    ),
    (
        "ListTaskPushNotificationConfigs",
        "tasks/pushNotificationConfig/list",
        Method::Push(Push::List),
    ),
    (
        "DeleteTaskPushNotificationConfig",
        "tasks/pushNotificationConfig/delete",
        Method::Push(Push::Delete),
    ),
];

fn method(name: &str) -> Option<(Method, Form)> {
    METHODS.iter().find_map(|(new, old, method)| match name {
        _ if name == *new => Some((*method, Form::New)),
        _ if name == *old => Some((*method, Form::Old)),
        _ => None,
    })
}

/// What a client sent.
pub(super) struct Request {
    id: Value,
    method: String,
    params: Value,
}

/// Reads a request; an error comes with the id that it is answered under.
pub(super) fn read(body: &[u8]) -> Result<Request, (Value, Problem)> {
    let problem = |id: &Value, kind, message: &str| (id.clone(), Problem::new(kind, message));
    let whole: Value = serde_json::from_str(&repair_json(body))
        .map_err(|error| problem(&Value::Null, Kind::Parse, &format!("parse error: {error}")))?;
    let invalid = |id: &Value, message: &str| problem(id, Kind::InvalidRequest, message);
    if !whole.is_object() {
        return Err(invalid(
            &Value::Null,
            "a request is one JSON object; batches are not taken",
        ));
    }
    let id = whole.get("id").cloned().unwrap_or_default();
    if !(id.is_string() || id.is_i64() || id.is_u64() || id.is_null()) {
        return Err(invalid(
            &Value::Null,
            "id must be a string or a whole number",
        ));
    }
    if whole.get("jsonrpc") != Some(&json!("2.0")) {
        return Err(invalid(&id, "jsonrpc must be \"2.0\""));
    }
    let Some(method) = whole.get("method").and_then(Value::as_str) else {
        return Err(invalid(&id, "method is required and must be a string"));
    };
    match object(whole.get("params")) {
        Ok(params) => Ok(Request {
            id,
            method: method.to_owned(),
            params,
        }),
        Err(problem) => Err((id, problem)),
    }
}

/// Does what a request asks for.
pub(super) async fn answer(
    http: &HttpRequest,
    call: Call,
    body: Bytes,
) -> Result<HttpResponse, ApiError> {
    let request = must_be_json(http).map_err(|problem| (Value::Null, problem));
    let request = request.and_then(|()| read(&body));
    // What waits may wait for hours.
    drop(body);
    let request = match request {
        Ok(request) => request,
        Err((id, problem)) => return refused(&id, &problem),
    };
    let id = request.id.clone();
    let in_a_stream = matches!(
        request.method.as_str(),
        "message/stream" | "tasks/resubscribe"
    );
    match respond(http, call, request).await {
        Ok(response) => Ok(response),
        // Clients of 0.3 expect a stream to say this, too.
        Err(Trouble::Problem(problem)) if in_a_stream => {
            let error = json!({"jsonrpc": "2.0", "id": id, "error": problem.rpc()});
            let event = format!("data: {error}\n\n");
            let mut response = HttpResponse::Ok();
            Ok(response.content_type("text/event-stream").body(event))
        }
        Err(Trouble::Problem(problem)) => refused(&id, &problem),
        Err(Trouble::Api(error)) => Err(error),
    }
}

async fn respond(
    http: &HttpRequest,
    call: Call,
    request: Request,
) -> Result<HttpResponse, Trouble> {
    version(http)?;
    let Request {
        id,
        method: name,
        params,
    } = request;
    let Some((method, form)) = method(&name) else {
        let message = format!("method not found: {name}");
        return Err(Problem::new(Kind::MethodNotFound, message).into());
    };
    let params = match form {
        Form::New => forms::named(&params),
        Form::Old => forms::params(&name, &params),
    };
    let vigil = Vigil::over(http, call.member.principal, &call.state);
    let done = match method {
        Method::Task(operation) => {
            run(
                call,
                operation,
                params,
                form == Form::Old,
                last_event_id(http),
            )
            .await?
        }
        Method::Push(operation) => {
            Done::Other(push::run(&call, operation, &params, form == Form::Old).await?)
        }
    };
    let result = match (done, form) {
        (Done::Stream(following), _) => {
            let written = move |frame: &Frame| {
                let result = match form {
                    Form::New => frame.response.clone(),
                    Form::Old => forms::old_response(&frame.response, frame.is_last),
                };
                json!({"jsonrpc": "2.0", "id": id, "result": result})
            };
            return Ok(stream::answer(*following, vigil, written));
        }
        (Done::Response(value), Form::Old) => forms::old_response(&value, true),
        (Done::Task(value), Form::Old) => forms::old_task(&value),
        (Done::Card(value), Form::Old) => card::old(&value),
        (Done::Response(value) | Done::Task(value) | Done::Other(value) | Done::Card(value), _) => {
            value
        }
    };
    Ok(answer::ok(
        &json!({"jsonrpc": "2.0", "id": id, "result": result}),
    )?)
}

/// Errors of the protocol ride on 200.
pub(super) fn refused(id: &Value, problem: &Problem) -> Result<HttpResponse, ApiError> {
    answer::ok(&json!({"jsonrpc": "2.0", "id": id, "error": problem.rpc()}))
}

/// A body is JSON, and says so if it says anything.
pub(super) fn must_be_json(http: &HttpRequest) -> Result<(), Problem> {
    let said = http.headers().get("content-type");
    let said = said
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let kind = said
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if matches!(
        kind.as_str(),
        "" | "application/json" | "application/a2a+json"
    ) {
        return Ok(());
    }
    let message = format!("Content-Type {kind} is not taken; send application/json");
    Err(Problem::new(Kind::ContentTypeNotSupported, message))
}

/// Refuses a version that is not spoken (A2A §3.6.2).
pub(super) fn version(http: &HttpRequest) -> Result<(), Problem> {
    let query = Query::parse(http.query_string());
    let said = http.headers().get(VERSION_HEADER);
    let said = said.map(|value| value.to_str().unwrap_or("?").trim());
    let said = said.or(query.get("A2A-Version"));
    let major = said.map(|said| said.split('.').take(2).collect::<Vec<_>>());
    match major.as_deref() {
        None | Some(["" | "1"] | ["0", "3"] | ["1", _]) => Ok(()),
        Some(_) => {
            let said = said.unwrap_or_default();
            let message = format!("A2A-Version {said} is not spoken; 1.0 and 0.3 are");
            Err(Problem::new(Kind::VersionNotSupported, message))
        }
    }
}

/// Where a client that subscribes again was; an extra beyond the protocol.
pub(super) fn last_event_id(http: &HttpRequest) -> Option<Position> {
    let said = http.headers().get("last-event-id")?.to_str().ok()?;
    said.trim()
        .parse()
        .ok()
        .filter(|place| *place >= 0)
        .map(Position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_request_is_refused_under_its_id() {
        let refusal = |body: &str| {
            let (id, problem) = read(body.as_bytes()).map(|_| ()).unwrap_err();
            (id, problem.rpc()["code"].as_i64().unwrap())
        };
        assert_eq!(refusal("{"), (json!(null), -32700));
        assert_eq!(refusal("[]"), (json!(null), -32600));
        assert_eq!(refusal(r#"{"id":1}"#), (json!(1), -32600));
        assert_eq!(
            refusal(r#"{"jsonrpc":"2.0","id":{}}"#),
            (json!(null), -32600)
        );
        assert_eq!(
            refusal(r#"{"jsonrpc":"2.0","id":"a"}"#),
            (json!("a"), -32600)
        );
        let odd = r#"{"jsonrpc":"2.0","id":1,"method":"GetTask","params":[]}"#;
        assert_eq!(refusal(odd), (json!(1), -32602));
        assert!(read(br#"{"jsonrpc":"2.0","id":1,"method":"GetTask"}"#).is_ok());
    }

    #[test]
    fn the_name_of_a_method_says_the_version() {
        assert_eq!(
            method("GetTask"),
            Some((Method::Task(Operation::Get), Form::New))
        );
        assert_eq!(
            method("tasks/get"),
            Some((Method::Task(Operation::Get), Form::Old))
        );
        assert_eq!(method("gettask"), None);
    }

    #[test]
    fn a_version_that_is_not_spoken_is_refused() {
        let spoken = |said: &str| {
            let request = actix_web::test::TestRequest::default()
                .insert_header((VERSION_HEADER, said.to_owned()));
            version(&request.to_http_request()).is_ok()
        };
        for said in ["", "1.0", "1.1", "0.3", "0.3.0"] {
            assert!(spoken(said), "{said}");
        }
        for said in ["0.5", "2.0", "99.0", "x"] {
            assert!(!spoken(said), "{said}");
        }
    }
}
