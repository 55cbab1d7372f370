//! `/workspaces/{id}/a2a`: each workspace as an A2A agent (docs/A2A.md). A message sent there is a delegation to that workspace,
//! admitted and carried out like any other; its task is what the delegation's row and events say.
//!
//! `rpc` and `rest` are the bindings; `operations` does what both ask for; `forms` translates between 1.0 and 0.3; `old_way`
//! is for clients of the original's proxy, which this path was.

mod call;
pub(crate) mod card;
mod forms;
mod message;
mod old_way;
mod operations;
mod problem;
pub(super) mod push;
mod rest;
mod rpc;
mod stream;
mod task;

use actix_web::{HttpRequest, HttpResponse, web};

use super::body;
use super::error::ApiError;
use super::middleware::enter;
use super::openapi::{Limited, Refused};
use call::Call;

/// A message of an A2A client, as JSON-RPC, of version 1.0 or 0.3.
#[utoipa::path(post, path = "/workspaces/{id}/a2a", tag = "a2a", params(
    ("id" = String, Path, format = "uuid"),
    ("A2A-Version" = Option<String>, Header, description = "1.0, or 0.3 when absent"),
    ("X-Workspace-ID" = Option<String>, Header, description = "For whom the admin speaks"),
    ("Idempotency-Key" = Option<String>, Header, description = "The same message is not handed over twice under one key"),
), request_body = serde_json::Value, security(("bearer" = [])), responses(
    (status = 200, description = "The answer, as JSON, or as a stream of events; errors of the protocol too", body = serde_json::Value),
    (status = 202, description = "To clients of the original's proxy: it waits for a target that is busy", body = serde_json::Value),
    (status = 502, description = "To the same: the agent could not be reached, or answered badly", body = serde_json::Value),
    Refused, Limited,
))]
pub(crate) async fn post(
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let (call, body) = taken_in(&request, payload).await?;
    match old_way::Envelope::of(&request, &body)? {
        Some(envelope) => {
            drop(body);
            old_way::answer(&call, envelope).await
        }
        None => rpc::answer(&request, call, body).await,
    }
}

/// Any operation of the HTTP+JSON binding.
pub(crate) async fn operation(
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let (call, body) = taken_in(&request, payload).await?;
    rest::answer(&request, call, body).await
}

/// Who speaks, and what they sent. It is given back its turn once it has handed over what it sent: what follows may wait for
/// hours.
async fn taken_in(
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<(Call, bytes::Bytes), ApiError> {
    let call = match Call::of(request).await {
        Ok(call) => call,
        Err(refusal) => {
            body::pass_over(request, payload).await;
            return Err(refusal);
        }
    };
    let max_bytes = call.state.settings.max_body_bytes;
    call.entered
        .set(Some(enter(request, &call.state, call.member.principal)?));
    let body = body::read(request, payload, max_bytes).await?;
    Ok((call, body))
}
