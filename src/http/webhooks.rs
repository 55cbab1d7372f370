//! Webhooks: who is told by HTTP of a workspace's replies; and for the admin, everybody who is told anything.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::answer::{self, time};
use super::body::{self, Fields};
use super::error::{ApiError, Fault};
use super::extract::{Admin, Member, NO_WORKSPACE, PathReceiver, PathWebhook, Query};
use super::openapi::{Limited, Refused, Unauthorised, WebhookBody};
use super::state::AppState;
use crate::domain::{Receiver, ReceiverId, ReceiverState};
use crate::outbox::{self, NewReceiver, mint_signing_secret};

const INVALID_BODY: &str = "invalid request body";

fn shown(receiver: &Receiver) -> Value {
    let course = &receiver.course;
    json!({
        "id": receiver.config, "url": receiver.url, "state": course.state.as_str(),
        "position": course.position.0, "failures": course.failures,
        "failing_since": time(course.failing_since), "next_attempt_at": time(course.next_attempt_at),
        "last_error": course.last_error, "created_at": receiver.created_at.to_rfc3339(),
    })
}

/// Tells this address of each ending from now on. What is told is signed, with a secret that is shown once.
#[utoipa::path(post, path = "/workspaces/{id}/webhooks", tag = "webhooks", params(("id" = String, Path, format = "uuid")),
    request_body = WebhookBody, security(("bearer" = [])), responses(
    (status = 201, description = "The webhook, with its `secret`", body = Value), Refused, Limited,
))]
pub(crate) async fn create(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let invalid = |fault: Fault| fault.under(INVALID_BODY);
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let fields = Fields::parse(&body).map_err(invalid)?;
    let url = fields.required_text("url").map_err(invalid)?;
    let secret = fields.text("secret").map_err(invalid)?;
    let secret = secret.unwrap_or_else(mint_signing_secret);
    let new = NewReceiver {
        url,
        signing_secret: Some(secret.clone()),
        ..NewReceiver::default()
    };
    let receiver = state.outbox.create(member.workspace, None, new).await?;
    let mut answer = shown(&receiver);
    if let Value::Object(members) = &mut answer {
        members.insert("secret".to_owned(), secret.into());
    }
    answer::json(StatusCode::CREATED, &answer)
}

/// A workspace's webhooks, oldest first. Their secrets are not shown.
#[utoipa::path(get, path = "/workspaces/{id}/webhooks", tag = "webhooks", params(("id" = String, Path, format = "uuid")),
    security(("bearer" = [])), responses(
    (status = 200, description = "`webhooks`", body = Value),
    (status = 404, description = "No such workspace", body = Value), Unauthorised, Limited,
))]
pub(crate) async fn list(
    member: Member,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    member.must_exist(&state).await?;
    let receivers = state.outbox.list(member.workspace, None).await?;
    let webhooks: Vec<Value> = receivers.iter().map(shown).collect();
    answer::ok(&json!({"webhooks": webhooks}))
}

/// Tells a webhook no more.
#[utoipa::path(delete, path = "/workspaces/{id}/webhooks/{webhook_id}", tag = "webhooks",
    params(("id" = String, Path, format = "uuid"), ("webhook_id" = String, Path)), security(("bearer" = [])), responses(
    (status = 200, description = "Deleted", body = Value),
    (status = 404, description = "No such webhook", body = Value), Unauthorised, Limited,
))]
pub(crate) async fn delete(
    member: Member,
    path: PathWebhook,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let deleted = state.outbox.delete(member.workspace, None, &path.0);
    if deleted.await? {
        answer::ok(&json!({"status": "deleted"}))
    } else {
        Err(ApiError::Missing("webhook not found"))
    }
}

/// Receivers of events of all workspaces, newest first: webhooks, and what A2A clients asked for.
#[utoipa::path(get, path = "/admin/receivers", tag = "admin", params(
    ("state" = Option<String>, Query, description = "`live`, `dead` or `done`; all when absent"),
    ("limit" = Option<i64>, Query, description = "At most 1000; 100 when absent or senseless"),
), security(("bearer" = [])), responses(
    (status = 200, description = "`receivers`", body = Value),
    (status = 400, description = "An unknown state", body = Value), Unauthorised, Limited,
))]
pub(crate) async fn receivers(
    _admin: Admin,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let wanted = match query.get("state") {
        None => None,
        Some(word) => Some(ReceiverState::parse(word).ok_or_else(|| {
            let words: Vec<&str> = ReceiverState::ALL.iter().map(|one| one.as_str()).collect();
            let extra = json!({"allowed": words, "requested_state": word});
            ApiError::with(StatusCode::BAD_REQUEST, "unknown state filter", extra)
        })?),
    };
    let all = state.outbox.all(wanted, query.limit(100, 1000)).await?;
    let receivers = all.iter().map(|receiver| {
        let mut view = shown(receiver);
        if let Value::Object(members) = &mut view {
            let delegation = receiver.delegation.as_ref().map(ToString::to_string);
            members.insert("config_id".to_owned(), (*receiver.config).into());
            members.insert("id".to_owned(), receiver.id.to_string().into());
            members.insert(
                "workspace_id".to_owned(),
                receiver.workspace.to_string().into(),
            );
            members.insert("delegation_id".to_owned(), delegation.into());
        }
        view
    });
    answer::ok(&json!({"receivers": receivers.collect::<Vec<_>>()}))
}

/// Tells a dead receiver on, from where it stopped.
#[utoipa::path(post, path = "/admin/receivers/{receiver_id}/replay", tag = "admin", params(
    ("receiver_id" = String, Path, format = "uuid"),
), security(("bearer" = [])), responses(
    (status = 200, description = "It is told on", body = Value),
    (status = 404, description = "No such receiver, or it is not dead", body = Value), Unauthorised, Limited,
))]
pub(crate) async fn replay(
    _admin: Admin,
    path: PathReceiver,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    const MISSING: ApiError = ApiError::Missing("no such receiver is dead");
    let id = ReceiverId::parse(&path.0).ok_or(MISSING)?;
    if state.outbox.replay(id).await? {
        answer::ok(&json!({"status": "live"}))
    } else {
        Err(MISSING)
    }
}

impl From<outbox::Error> for ApiError {
    fn from(error: outbox::Error) -> Self {
        match error {
            outbox::Error::Url(why) => Fault::new("url", why.to_string()).under(why.to_string()),
            outbox::Error::Unfit(field) => {
                let why = "must be visible ASCII characters, and not too many";
                Fault::new(field, why).under(INVALID_BODY)
            }
            outbox::Error::TooMany => Self::TooMany {
                error: "maximum 8 receivers",
                retry_after: Duration::from_mins(1),
            },
            outbox::Error::NoWorkspace => NO_WORKSPACE,
            outbox::Error::Secret(error) => error.into(),
            outbox::Error::Read(error) => error.into(),
            outbox::Error::Write(error) => error.into(),
        }
    }
}
