//! To do again what ended (product.md, "Routes that Baton adds").

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::admission::admit;
use super::body::{self, Fields};
use super::delegations::accepted;
use super::error::{ApiError, Fault};
use super::extract::{Member, PathDelegation};
use super::openapi::{Limited, Refused, RetryBody};
use super::order::{deadline, idempotency};
use super::state::AppState;
use super::steering::{INVALID_BODY, find, must_be_callers};
use super::traceparent::traceparent;
use crate::clock;
use crate::domain::{
    DelegationId, DelegationKey, Envelope, Json, NewDelegation, Origin, State, Status, Terms,
    WorkspaceId,
};
use crate::store::Acceptance;

/// What may be different this time.
pub(crate) struct Again {
    key: Option<String>,
    deadline: Option<Duration>,
}

impl Again {
    /// Nothing, under this key.
    pub(crate) const fn under(key: String) -> Self {
        Self {
            key: Some(key),
            deadline: None,
        }
    }

    fn read(body: &[u8]) -> Result<Self, Fault> {
        let fields = Fields::parse_optional(body)?;
        Ok(Self {
            key: fields.text("idempotency_key")?,
            deadline: deadline(&fields)?,
        })
    }
}

/// Begins a new delegation of the same task to the same target, which names the ended one in `retry_of`.
#[utoipa::path(post, path = "/workspaces/{id}/delegations/{delegation_id}/retry", tag = "delegations",
    params(("id" = String, Path, format = "uuid"), ("delegation_id" = String, Path),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, passed on")),
    request_body = RetryBody, security(("bearer" = [])), responses(
    (status = 202, description = "Durably accepted, with an id of its own", body = Value),
    (status = 200, description = "The idempotency key was used before for the same target and task", body = Value),
    (status = 409, description = "It has not ended, its target is unknown, or the key was used for something else", body = Value),
    Refused, Limited,
))]
pub(crate) async fn retry(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    path: PathDelegation,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let again = Again::read(&body).map_err(|fault| fault.under(INVALID_BODY))?;
    let key = find(&state, &member, path.0).await?;
    must_be_callers(&member, &key)?;
    let traceparent = traceparent(request.headers());
    let Begun {
        id,
        target,
        acceptance,
    } = repeat(&state, key, again, traceparent).await?;
    accepted(&id, acceptance, &target.to_string())
}

/// What began.
pub(crate) struct Begun {
    id: DelegationId,
    target: WorkspaceId,
    pub(crate) acceptance: Acceptance,
}

/// Begins again what ended, if it may be.
pub(crate) async fn repeat(
    state: &AppState,
    key: DelegationKey,
    again: Again,
    traceparent: Option<Box<str>>,
) -> Result<Begun, ApiError> {
    let wanted = key.clone();
    let read = state.store.read(move |reader| {
        let found = reader.load(&wanted)?.zip(reader.task(&wanted)?);
        let parent = reader.parent(&wanted)?;
        Ok(found.zip(Some((reader.envelope(&wanted)?, parent))))
    });
    let ((ended, task), (envelope, parent)) = read
        .await?
        .ok_or(ApiError::Missing("delegation not found"))?;
    let target = may_be_repeated(&key, ended.life.status(), ended.terms.target)?;
    admit(state, key.caller, target).await?;
    let now = clock::now();
    let id = DelegationId::mint();
    let envelope = envelope.map(|envelope| renamed(envelope, &id));
    let delegation = NewDelegation {
        terms: Terms {
            key: DelegationKey {
                caller: key.caller,
                id: id.clone(),
            },
            origin: Origin::Delegated,
            deadline: now.plus(again.deadline.unwrap_or(state.settings.deadline)),
            created_at: now,
            traceparent,
            ..ended.terms
        },
        idempotency: again.key.map(|key| idempotency(&key, target, &task)),
        task,
        envelope,
        state: State::Pending,
        retry_of: Some(key.id),
        parent,
    };
    let target_text = target.to_string();
    let acceptance = state.delegations.begin(delegation, &target_text).await?;
    Ok(Begun {
        id,
        target,
        acceptance,
    })
}

/// The message under an id of its own: to a target that knows the first one, it would be a repetition.
fn renamed(envelope: Envelope, id: &DelegationId) -> Envelope {
    let message = serde_json::from_str(&envelope.message.0);
    let Ok(Value::Object(mut members)) = message else {
        return envelope;
    };
    members.insert("messageId".to_owned(), id.to_string().into());
    Envelope {
        message: Json::from(&Value::Object(members)),
        ..envelope
    }
}

/// The target of what is to be done again.
fn may_be_repeated(
    key: &DelegationKey,
    status: Status,
    target: Option<WorkspaceId>,
) -> Result<WorkspaceId, ApiError> {
    let refusal = |error, hint: &str| {
        let id = key.id.to_string();
        let extra = json!({"delegation_id": id, "status": status.as_str(), "hint": hint});
        ApiError::with(StatusCode::CONFLICT, error, extra)
    };
    if !status.is_terminal() {
        return Err(refusal(
            "delegation has not ended",
            "wait for its end, or cancel it with POST …/cancel",
        ));
    }
    target.ok_or_else(|| {
        refusal(
            "delegation has no known target",
            "only its result was ever reported; hand the task to a target with POST …/delegate",
        )
    })
}
