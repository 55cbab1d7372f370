//! To delegate, to record, to report (contract §4.1, §4.3, §4.4 as product.md amends them).

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::{Value, json};

use super::admission::admit;
use super::answer;
use super::body::{self, Fields};
use super::error::{ApiError, Fault};
use super::extract::{Member, PathDelegation};
use super::openapi::{DelegateBody, Limited, RecordBody, Refused, UpdateBody};
use super::order::{Order, foreign_parent, target};
use super::sockets::related;
use super::state::AppState;
use super::traceparent::traceparent;
use crate::clock;
use crate::delegation::Reported;
use crate::domain::{
    DelegationId, DelegationKey, Ending, NewDelegation, Origin, Priority, Redelivery, Report,
    State, Terms, Working, WorkspaceId,
};
use crate::store::Acceptance;

/// The longest delegation id that an agent may choose, in bytes: both databases can index it.
const MAX_ID_BYTES: usize = 1024;

const INVALID_BODY: &str = "invalid request body";

/// Hands a task to another workspace. The caller may hang up: the result waits in its inbox.
#[utoipa::path(post, path = "/workspaces/{id}/delegate", tag = "delegations",
    params(("id" = String, Path, format = "uuid"), ("traceparent" = Option<String>, Header, description = "W3C trace context, passed on")),
    request_body = DelegateBody, security(("bearer" = [])), responses(
    (status = 202, description = "Durably accepted", body = Value),
    (status = 200, description = "The idempotency key was used before for the same target and task", body = Value),
    (status = 409, description = "The idempotency key was used before for something else", body = Value),
    Refused, Limited,
))]
pub(crate) async fn delegate(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let order = Order::read(&body)?;
    let target_as_sent = order.target_as_sent.clone();
    let traceparent = traceparent(request.headers());
    let (id, acceptance) = hand_over(&state, member.workspace, order, traceparent).await?;
    accepted(&id, acceptance, &target_as_sent)
}

/// Begins what a caller asks for, if it may: under which id, and what became of it.
pub(crate) async fn hand_over(
    state: &AppState,
    caller: WorkspaceId,
    order: Order,
    traceparent: Option<Box<str>>,
) -> Result<(DelegationId, Acceptance), ApiError> {
    admit(state, caller, order.target).await?;
    let parent = match order.parent {
        None => None,
        Some(id) => Some(parent(state, caller, id).await?),
    };
    let now = clock::now();
    let id = DelegationId::mint();
    let terms = Terms {
        key: DelegationKey {
            caller,
            id: id.clone(),
        },
        target: Some(order.target),
        origin: Origin::Delegated,
        redelivery: order.redelivery,
        priority: order.priority,
        deadline: now.plus(order.deadline.unwrap_or(state.settings.deadline)),
        created_at: now,
        traceparent,
    };
    let delegation = NewDelegation {
        terms,
        idempotency: order.key,
        task: order.task,
        state: State::Pending,
        retry_of: None,
        parent,
        envelope: order.envelope,
    };
    let begun = state.delegations.begin(delegation, &order.target_as_sent);
    Ok((id, begun.await?))
}

/// The delegation that a workspace was given, by one that it may communicate with, and hands a part of on.
async fn parent(
    state: &AppState,
    workspace: WorkspaceId,
    id: DelegationId,
) -> Result<DelegationKey, ApiError> {
    let found = state.store.read(move |reader| reader.given(workspace, &id));
    let parent = found.await?.ok_or_else(foreign_parent)?;
    let is_kin = related(&state.store, workspace, parent.caller).await?;
    if is_kin {
        Ok(parent)
    } else {
        Err(foreign_parent())
    }
}

#[derive(Serialize)]
struct Begun<'a> {
    delegation_id: &'a DelegationId,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<DelegationId>,
    status: &'static str,
    target_id: &'a str,
}

/// Says that a delegation began, or why not.
pub(crate) fn accepted(
    id: &DelegationId,
    acceptance: Acceptance,
    target_as_sent: &str,
) -> Result<HttpResponse, ApiError> {
    match acceptance {
        Acceptance::Created { retry_of } => {
            let begun = Begun {
                delegation_id: id,
                retry_of,
                status: "delegated",
                target_id: target_as_sent,
            };
            answer::json(StatusCode::ACCEPTED, &begun)
        }
        Acceptance::Replayed { id, status } => answer::ok(&json!({
            "delegation_id": id.to_string(), "status": status.as_str(),
            "target_id": target_as_sent, "idempotent_hit": true,
        })),
        Acceptance::KeyMismatch => Err(ApiError::key_mismatch()),
        // Ids are minted from time and chance: the same one twice is the clock's or the dice's fault, not the caller's.
        Acceptance::IdTaken => Err(ApiError::datastore(Duration::from_secs(1))),
    }
}

/// Tells Baton of a delegation that the agent sent itself.
#[utoipa::path(post, path = "/workspaces/{id}/delegations/record", tag = "delegations",
    params(("id" = String, Path, format = "uuid")), request_body = RecordBody, security(("bearer" = [])), responses(
    (status = 202, description = "Recorded, now or before", body = Value),
    (status = 409, description = "The id is taken by another delegation of this caller", body = Value),
    Refused, Limited,
))]
pub(crate) async fn record(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let invalid = |fault: Fault| fault.under(INVALID_BODY);
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let fields = Fields::parse(&body).map_err(invalid)?;
    let target_as_sent = fields.required_text("target_id").map_err(invalid)?;
    let task: Arc<str> = fields.required_text("task").map_err(invalid)?.into();
    let id = fields.required_text("delegation_id").map_err(invalid)?;
    fits(&id).map_err(invalid)?;
    let target = target(&target_as_sent)?;
    admit(&state, member.workspace, target).await?;
    let now = clock::now();
    let key = DelegationKey {
        caller: member.workspace,
        id: DelegationId::from_text(&id),
    };
    let delegation = NewDelegation {
        terms: Terms {
            key: key.clone(),
            target: Some(target),
            origin: Origin::Recorded,
            redelivery: Redelivery::Never,
            priority: Priority::default(),
            deadline: now.plus(state.settings.deadline),
            created_at: now,
            traceparent: traceparent(request.headers()),
        },
        task: Arc::clone(&task),
        idempotency: None,
        state: State::Working(Working::dispatched(now)),
        retry_of: None,
        parent: None,
        envelope: None,
    };
    if let Acceptance::IdTaken = state.delegations.begin(delegation, &target_as_sent).await? {
        same_as_recorded(&state, key, target, task).await?;
    }
    answer::json(
        StatusCode::ACCEPTED,
        &json!({"delegation_id": id, "status": "recorded"}),
    )
}

/// Recording the same again is no mistake; recording something else under a used id is.
async fn same_as_recorded(
    state: &AppState,
    key: DelegationKey,
    target: WorkspaceId,
    task: Arc<str>,
) -> Result<(), ApiError> {
    let id = key.id.to_string();
    let same = state.store.read(move |reader| {
        let recorded = reader.load(&key)?.is_some_and(|loaded| {
            loaded.terms.target == Some(target) && loaded.terms.origin == Origin::Recorded
        });
        Ok(recorded && reader.task(&key)? == Some(task))
    });
    if same.await? {
        return Ok(());
    }
    Err(ApiError::with(
        StatusCode::CONFLICT,
        "delegation_id is already in use for another delegation",
        json!({"delegation_id": id, "field": "delegation_id", "hint": "use a new delegation_id"}),
    ))
}

fn fits(id: &str) -> Result<(), Fault> {
    if id.len() <= MAX_ID_BYTES {
        return Ok(());
    }
    Err(Fault::new(
        "delegation_id",
        format!("must have at most {MAX_ID_BYTES} bytes"),
    ))
}

/// Reports how a delegation ended. Either party may; the first ending wins.
#[utoipa::path(post, path = "/workspaces/{id}/delegations/{delegation_id}/update", tag = "delegations",
    params(("id" = String, Path, format = "uuid"), ("delegation_id" = String, Path)), request_body = UpdateBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "Recorded now, or the same ending was recorded before", body = Value),
    (status = 409, description = "Another ending was recorded before; this is what is recorded", body = Value),
    Refused, Limited,
))]
pub(crate) async fn update(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    path: PathDelegation,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let (status, report) = report(&body)?;
    let PathDelegation(id) = path;
    let text = id.to_string();
    fits(&text).map_err(|fault| fault.under(INVALID_BODY))?;
    member.must_exist(&state).await?;
    let reported = state
        .delegations
        .report(member.workspace, id, report)
        .await?;
    match reported {
        Reported::Ended => answer::ok(&Ended {
            delegation_id: &text,
            status,
        }),
        Reported::Repeat(ending) => answer::ok(&recorded(&ending, &text)),
        Reported::Contradiction(ending) => Err(already_ended(&ending, &text)),
    }
}

#[derive(Serialize)]
struct Ended<'a> {
    delegation_id: &'a str,
    status: &'static str,
}

/// What is asked for comes too late; this is what is recorded.
pub(crate) fn already_ended(ending: &Ending, id: &str) -> ApiError {
    ApiError::with(
        StatusCode::CONFLICT,
        "delegation already ended",
        recorded(ending, id),
    )
}

fn report(body: &[u8]) -> Result<(&'static str, Report), ApiError> {
    let invalid = |fault: Fault| fault.under(INVALID_BODY);
    let fields = Fields::parse(body).map_err(invalid)?;
    let status = fields.required_text("status").map_err(invalid)?;
    let detail = fields.text("error").map_err(invalid)?.unwrap_or_default();
    let text = fields.text("response_preview").map_err(invalid)?;
    match status.as_str() {
        "completed" => Ok((
            "completed",
            Report::Completed {
                text: text.unwrap_or_default().into(),
            },
        )),
        "failed" => Ok((
            "failed",
            Report::Failed {
                detail: detail.into(),
            },
        )),
        _ => Err(Fault::new("status", "is neither 'completed' nor 'failed'")
            .under("status must be 'completed' or 'failed'")),
    }
}

/// The ending as it is recorded.
pub(crate) fn recorded(ending: &Ending, id: &str) -> Value {
    match ending {
        Ending::Completed { text } => {
            json!({"status": "completed", "delegation_id": id, "result": &**text})
        }
        Ending::Failed { class, detail } => json!({
            "status": "failed", "delegation_id": id,
            "error_class": class.as_str(), "error_detail": &**detail,
        }),
        Ending::Cancelled { reason } => {
            json!({"status": "cancelled", "delegation_id": id, "reason": &**reason})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_completed_or_failed() {
        assert!(matches!(
            report(br#"{"status":"completed","response_preview":"42","error":"x"}"#),
            Ok(("completed", Report::Completed { text })) if &*text == "42"
        ));
        assert!(matches!(
            report(br#"{"Status":"failed","error":"no"}"#),
            Ok(("failed", Report::Failed { detail })) if &*detail == "no"
        ));
        for body in [
            &br#"{"status":"queued"}"#[..],
            b"{}",
            b"",
            br#"{"status":1}"#,
        ] {
            assert!(report(body).is_err());
        }
    }

    #[test]
    fn an_id_can_be_indexed() {
        assert!(fits(&"d".repeat(MAX_ID_BYTES)).is_ok());
        assert!(fits(&"d".repeat(MAX_ID_BYTES + 1)).is_err());
    }
}
