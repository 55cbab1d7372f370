//! Who a token speaks for, and the token that a one-time code stands for.

use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::answer;
use super::body::{self, Fields};
use super::error::ApiError;
use super::extract::Anybody;
use super::openapi::{CodeBody, Limited, Unauthorised};
use super::state::AppState;
use crate::auth::Principal;
use crate::clock;

/// The longest body with a code in it, in bytes.
const CODE_BYTES: usize = 4096;

/// Who speaks, and from which place on `/ws?after_seq=` tells what this answer does not know.
#[utoipa::path(get, path = "/session", tag = "session", security(("bearer" = [])), responses(
    (status = 200, description = "`principal`, `admin` or `workspace`, with `workspace_id` and `name` of the latter; `version`, `node`, `inbox_push`, `now`, and `position`, the newest committed place",
     body = serde_json::Value),
    Unauthorised, Limited,
))]
pub(crate) async fn get(
    speaker: Anybody,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let own = match speaker.0 {
        Principal::Admin => None,
        Principal::Workspace(id) => Some(id),
    };
    let read = state.store.read(move |reader| {
        let position = reader.last_position()?;
        let own = own.map(|id| reader.workspace(id)).transpose()?;
        Ok((position, own.flatten()))
    });
    let (position, workspace) = read.await?;
    let mut shown = json!({
        "principal": if own.is_some() { "workspace" } else { "admin" },
        "version": env!("CARGO_PKG_VERSION"), "node": state.persistence.node().to_string(),
        "inbox_push": state.settings.inbox_push, "now": clock::now().to_rfc3339(), "position": position.0,
    });
    if let (Some(id), Some(members)) = (own, shown.as_object_mut()) {
        members.insert("workspace_id".to_owned(), id.to_string().into());
        members.insert("name".to_owned(), workspace.map(|own| own.name).into());
    }
    answer::ok(&shown)
}

/// Signs in with a one-time code: the token that it stands for, once.
#[utoipa::path(post, path = "/session", tag = "session", request_body = CodeBody, responses(
    (status = 200, description = "`token`", body = serde_json::Value),
    (status = 400, description = "The body is no JSON object with a `code`", body = serde_json::Value),
    (status = 413, description = "The body is longer than `max_bytes`", body = serde_json::Value),
    Unauthorised, Limited,
))]
pub(crate) async fn begin(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, CODE_BYTES).await?;
    let code = Fields::parse(&body).and_then(|fields| fields.required_text("code"));
    let code = code.map_err(|fault| fault.under("invalid request body"))?;
    match state.codes.redeem(code.as_bytes(), Instant::now()) {
        Some(token) => {
            let mut response = answer::ok(&json!({"token": &*token}))?;
            let no_store = HeaderValue::from_static("no-store");
            response.headers_mut().insert(CACHE_CONTROL, no_store);
            Ok(response)
        }
        None => Err(ApiError::with(
            StatusCode::UNAUTHORIZED,
            "this code was used before, is too old, or was never given",
            json!({"hint": "sign in with a token"}),
        )),
    }
}
