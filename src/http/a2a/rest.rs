//! The HTTP+JSON binding of A2A 1.0 (A2A §11).

use actix_web::http::header::{ACCEPT, CONTENT_TYPE};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::call::Call;
use super::operations::{Done, Operation, run};
use super::problem::{Kind, Problem, Trouble};
use super::push::{self, Push};
use super::rpc::{last_event_id, must_be_json, version};
use super::stream::{self, Frame};
use crate::domain::repair_json;
use crate::http::error::ApiError;
use crate::http::extract::Vigil;

/// What a path asks for, with the ids in it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Asked {
    Task(Operation, Option<String>),
    Push(Push, String, Option<String>),
}

/// What a method and the path behind `…/a2a/` ask for.
fn asked(method: &Method, path: &str) -> Option<Asked> {
    let parts: Vec<String> = path
        .trim_end_matches('/')
        .split('/')
        .map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned())
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (get, post) = (method == Method::GET, method == Method::POST);
    let task = |operation, id: &str| Some(Asked::Task(operation, Some(id.to_owned())));
    let push = |operation, id: &str, config: Option<&str>| {
        Some(Asked::Push(
            operation,
            id.to_owned(),
            config.map(ToOwned::to_owned),
        ))
    };
    match *parts.as_slice() {
        ["message:send"] if post => Some(Asked::Task(Operation::Send, None)),
        ["message:stream"] if post => Some(Asked::Task(Operation::SendStreaming, None)),
        ["extendedAgentCard"] if get => Some(Asked::Task(Operation::ExtendedCard, None)),
        ["tasks"] if get => Some(Asked::Task(Operation::List, None)),
        ["tasks", id] => match id.rsplit_once(':') {
            Some((id, "cancel")) if post => task(Operation::Cancel, id),
            Some((id, "subscribe")) if get || post => task(Operation::Subscribe, id),
            _ if get => task(Operation::Get, id),
            _ => None,
        },
        ["tasks", id, "pushNotificationConfigs"] if post => push(Push::Create, id, None),
        ["tasks", id, "pushNotificationConfigs"] if get => push(Push::List, id, None),
        ["tasks", id, "pushNotificationConfigs", config] if get => {
            push(Push::Get, id, Some(config))
        }
        ["tasks", id, "pushNotificationConfigs", config] if *method == Method::DELETE => {
            push(Push::Delete, id, Some(config))
        }
        _ => None,
    }
}

/// Does what a request asks for.
pub(super) async fn answer(
    http: &HttpRequest,
    call: Call,
    body: Bytes,
) -> Result<HttpResponse, ApiError> {
    match respond(http, call, body).await {
        Ok(response) => Ok(response),
        Err(Trouble::Problem(problem)) => {
            let (status, body) = problem.http();
            Ok(json(http, status, &body))
        }
        Err(Trouble::Api(error)) => Err(error),
    }
}

async fn respond(http: &HttpRequest, call: Call, body: Bytes) -> Result<HttpResponse, Trouble> {
    version(http)?;
    let path = http.match_info().get("operation").unwrap_or_default();
    let Some(asked) = asked(http.method(), path) else {
        let message = format!("no such operation: {} {path}", http.method());
        return Err(Problem::new(Kind::MethodNotFound, message).into());
    };
    let params = params(http, &body)?;
    drop(body);
    let vigil = Vigil::over(http, call.member.principal, &call.state);
    let done = match asked {
        Asked::Task(operation, id) => {
            let params = with(params, &[("id", id)]);
            run(call, operation, params, false, last_event_id(http)).await?
        }
        Asked::Push(operation, task, config) => {
            let params = with(params, &[("taskId", Some(task)), ("id", config)]);
            Done::Other(push::run(&call, operation, &params, false).await?)
        }
    };
    Ok(match done {
        Done::Stream(following) => {
            stream::answer(*following, vigil, |frame: &Frame| frame.response.clone())
        }
        Done::Response(value) | Done::Task(value) | Done::Other(value) | Done::Card(value) => {
            json(http, StatusCode::OK, &value)
        }
    })
}

/// The members of the body, or of the query when there is none.
fn params(http: &HttpRequest, body: &[u8]) -> Result<Map<String, Value>, Problem> {
    if body.trim_ascii().is_empty() {
        let query = url::form_urlencoded::parse(http.query_string().as_bytes());
        return Ok(query
            .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
            .collect());
    }
    must_be_json(http)?;
    match serde_json::from_str(&repair_json(body)) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Problem::new(
            Kind::InvalidRequest,
            "the body must be a JSON object",
        )),
        Err(error) => Err(Problem::new(Kind::Parse, format!("parse error: {error}"))),
    }
}

/// What the path says counts.
fn with(mut params: Map<String, Value>, said: &[(&str, Option<String>)]) -> Value {
    for (name, value) in said {
        if let Some(value) = value {
            params.insert((*name).to_owned(), value.clone().into());
        }
    }
    Value::Object(params)
}

fn json(http: &HttpRequest, status: StatusCode, body: &Value) -> HttpResponse {
    let accepted = http
        .headers()
        .get_all(ACCEPT)
        .filter_map(|value| value.to_str().ok());
    let own = "application/a2a+json";
    let own = accepted
        .into_iter()
        .any(|value| value.contains(own))
        .then_some(own);
    HttpResponse::build(status)
        .insert_header((CONTENT_TYPE, own.unwrap_or("application/json")))
        .body(body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_what_is_asked_for() {
        let task =
            |operation, id: Option<&str>| Some(Asked::Task(operation, id.map(ToOwned::to_owned)));
        for (method, path, expected) in [
            (Method::POST, "message:send", task(Operation::Send, None)),
            (Method::GET, "tasks", task(Operation::List, None)),
            (Method::GET, "tasks/a", task(Operation::Get, Some("a"))),
            (Method::GET, "tasks/a:b", task(Operation::Get, Some("a:b"))),
            (
                Method::GET,
                "tasks/a%2Fb",
                task(Operation::Get, Some("a/b")),
            ),
            (
                Method::POST,
                "tasks/a:b:cancel",
                task(Operation::Cancel, Some("a:b")),
            ),
            (
                Method::GET,
                "tasks/a:subscribe",
                task(Operation::Subscribe, Some("a")),
            ),
            (
                Method::POST,
                "tasks/a:subscribe",
                task(Operation::Subscribe, Some("a")),
            ),
            (Method::POST, "tasks/a", None),
            (Method::GET, "message:send", None),
            (
                Method::DELETE,
                "tasks/a/pushNotificationConfigs/c",
                Some(Asked::Push(
                    Push::Delete,
                    "a".to_owned(),
                    Some("c".to_owned()),
                )),
            ),
            (Method::GET, "v1/card", None),
        ] {
            assert_eq!(asked(&method, path), expected, "{method} {path}");
        }
    }
}
