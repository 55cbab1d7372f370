//! Where agents tell that something happened to their tasks.

use actix_web::{HttpRequest, HttpResponse, web};

use super::body::pass_over;
use super::error::ApiError;
use super::extract::{PathCaller, PathDelegation};
use super::openapi::Limited;
use super::state::AppState;
use crate::domain::DelegationKey;

/// An agent tells that something happened to a task of its own. Nothing of what it says is believed: it is asked, at once.
#[utoipa::path(post, path = "/a2a/notifications/{caller}/{delegation_id}", tag = "a2a", params(
    ("caller" = String, Path, format = "uuid"), ("delegation_id" = String, Path),
    ("X-A2A-Notification-Token" = Option<String>, Header, description = "The token that came with the task; or `A2A-Notification-Token`"),
), responses(
    (status = 204, description = "It is asked"),
    (status = 404, description = "No such delegation, or the token is not its own", body = serde_json::Value), Limited,
))]
pub(crate) async fn notified(
    request: HttpRequest,
    payload: web::Payload,
    caller: PathCaller,
    delegation: PathDelegation,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    const MISSING: ApiError = ApiError::Missing("delegation not found");
    let headers = request.headers();
    let token = headers
        .get("x-a2a-notification-token")
        .or_else(|| headers.get("a2a-notification-token"));
    let key = DelegationKey {
        caller: caller.0.ok_or(MISSING)?,
        id: delegation.0,
    };
    let admitted = token.is_some_and(|token| state.push.admits(&key, token.as_bytes()));
    pass_over(&request, payload).await;
    if !admitted {
        return Err(MISSING);
    }
    state.delegations.hint(&key);
    Ok(HttpResponse::NoContent().finish())
}
