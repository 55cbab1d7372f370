//! To delegate, to record, to report (contract §4.1, §4.3, §4.4 as product.md amends them).

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::admission::admit;
use super::answer;
use super::body::{self, Fields};
use super::error::{ApiError, Fault};
use super::extract::{Member, PathDelegation};
use super::openapi::{DelegateBody, Limited, RecordBody, Refused, UpdateBody};
use super::state::AppState;
use super::traceparent::traceparent;
use crate::clock;
use crate::config::MAX_DEADLINE_S;
use crate::delegation::Reported;
use crate::domain::{
    DelegationId, DelegationKey, Ending, Idempotency, NewDelegation, Origin, Phase, Redelivery,
    Report, State, Terms, Working, WorkspaceId,
};
use crate::store::Acceptance;

/// The longest delegation id that an agent may choose, in bytes: both databases can index it.
const MAX_ID_BYTES: usize = 1024;
/// The longest idempotency key that is stored as it is.
const MAX_KEY_BYTES: usize = 1024;

const INVALID_DELEGATION: &str = "invalid delegation request";
const INVALID_BODY: &str = "invalid request body";

/// What the caller asks for.
struct Order {
    target: WorkspaceId,
    target_as_sent: String,
    task: Arc<str>,
    key: Option<String>,
    deadline: Option<Duration>,
    redelivery: Redelivery,
}

impl Order {
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        let invalid = |fault: Fault| fault.under(INVALID_DELEGATION);
        let fields = Fields::parse(body).map_err(invalid)?;
        let target_as_sent = fields.required_text("target_id").map_err(invalid)?;
        let task = fields.required_text("task").map_err(invalid)?;
        let key = fields.text("idempotency_key").map_err(invalid)?;
        let deadline = deadline(&fields).map_err(invalid)?;
        let redelivery = redelivery(&fields).map_err(invalid)?;
        Ok(Self {
            target: target(&target_as_sent)?,
            target_as_sent,
            task: task.into(),
            key,
            deadline,
            redelivery,
        })
    }

    fn idempotency(&self) -> Option<Idempotency> {
        self.key.as_deref().map(|key| Idempotency {
            key: stored_key(key),
            fingerprint: fingerprint(self.target, &self.task),
        })
    }
}

fn target(as_sent: &str) -> Result<WorkspaceId, ApiError> {
    WorkspaceId::parse(as_sent).ok_or_else(|| {
        Fault::new("target_id", "is not a UUID").under("target_id must be a valid UUID")
    })
}

fn deadline(fields: &Fields) -> Result<Option<Duration>, Fault> {
    let Some(seconds) = fields.integer("deadline_seconds")? else {
        return Ok(None);
    };
    match u64::try_from(seconds) {
        Ok(seconds @ 1..=MAX_DEADLINE_S) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(Fault::new(
            "deadline_seconds",
            format!("must be a whole number from 1 to {MAX_DEADLINE_S}"),
        )),
    }
}

fn redelivery(fields: &Fields) -> Result<Redelivery, Fault> {
    let Some(word) = fields.text("redelivery")? else {
        return Ok(Redelivery::default());
    };
    Redelivery::parse(&word).ok_or(Fault::new(
        "redelivery",
        "must be 'never', 'if_idempotent' or 'always'",
    ))
}

/// What a key was used for: the target and the task, nothing else (product.md).
fn fingerprint(target: WorkspaceId, task: &str) -> [u8; 32] {
    Sha256::new()
        .chain_update(target.0.as_bytes())
        .chain_update(task.as_bytes())
        .finalize()
        .into()
}

/// A key may be of any length (contract §4.1), an index entry may not: a very long one is stored by its hash.
fn stored_key(key: &str) -> Box<str> {
    if key.len() <= MAX_KEY_BYTES {
        return key.into();
    }
    let hash: [u8; 32] = Sha256::digest(key.as_bytes()).into();
    format!("sha256:{}", URL_SAFE_NO_PAD.encode(hash)).into()
}

/// Hands a task to another workspace. The caller may hang up: the result waits in its inbox.
#[utoipa::path(post, path = "/workspaces/{id}/delegate", tag = "delegations",
    params(("id" = String, Path), ("traceparent" = Option<String>, Header, description = "W3C trace context, passed on")),
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
    admit(&state, member.workspace, order.target).await?;
    let now = clock::now();
    let terms = Terms {
        key: DelegationKey {
            caller: member.workspace,
            id: DelegationId::mint(),
        },
        target: Some(order.target),
        origin: Origin::Delegated,
        redelivery: order.redelivery,
        deadline: now.plus(order.deadline.unwrap_or(state.settings.deadline)),
        created_at: now,
        traceparent: traceparent(request.headers()),
    };
    let id = terms.key.id.clone();
    let delegation = NewDelegation {
        terms,
        idempotency: order.idempotency(),
        task: order.task,
        state: State::Pending,
    };
    let target_as_sent = order.target_as_sent;
    match state.delegations.begin(delegation, &target_as_sent).await? {
        Acceptance::Created { retry_of } => {
            let mut body = json!({"delegation_id": id.to_string(), "status": "delegated", "target_id": target_as_sent});
            if let (Some(earlier), Value::Object(members)) = (retry_of, &mut body) {
                members.insert("retry_of".to_owned(), earlier.to_string().into());
            }
            answer::json(StatusCode::ACCEPTED, &body)
        }
        Acceptance::Replayed { id, status } => answer::ok(&json!({
            "delegation_id": id.to_string(), "status": status.as_str(),
            "target_id": target_as_sent, "idempotent_hit": true,
        })),
        Acceptance::KeyMismatch => Err(ApiError::with(
            StatusCode::CONFLICT,
            "idempotency key was used for another target or task",
            json!({"field": "idempotency_key", "hint": "send the same target_id and task again, or use a new key"}),
        )),
        // Ids are minted from time and chance: the same one twice is the clock's or the dice's fault, not the caller's.
        Acceptance::IdTaken => Err(ApiError::datastore(Duration::from_secs(1))),
    }
}

/// Tells Baton of a delegation that the agent sent itself.
#[utoipa::path(post, path = "/workspaces/{id}/delegations/record", tag = "delegations",
    params(("id" = String, Path)), request_body = RecordBody, security(("bearer" = [])), responses(
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
            deadline: now.plus(state.settings.deadline),
            created_at: now,
            traceparent: traceparent(request.headers()),
        },
        task: Arc::clone(&task),
        idempotency: None,
        state: State::Working(Working {
            phase: Phase::Dispatched,
            heard_at: now,
        }),
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
    params(("id" = String, Path), ("delegation_id" = String, Path)), request_body = UpdateBody,
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
        Reported::Ended => answer::ok(&json!({"status": status, "delegation_id": text})),
        Reported::Repeat(ending) => answer::ok(&recorded(&ending, &text)),
        Reported::Contradiction(ending) => Err(ApiError::with(
            StatusCode::CONFLICT,
            "delegation already ended",
            recorded(&ending, &text),
        )),
    }
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
fn recorded(ending: &Ending, id: &str) -> Value {
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
    use actix_web::ResponseError as _;

    #[test]
    fn an_order_is_read_and_its_faults_are_named() {
        let id = WorkspaceId::mint();
        let braced = format!("{{{}}}", id.to_string().to_uppercase());
        let order = Order::read(
            json!({"target_id": braced, "task": "do", "deadline_seconds": 5, "redelivery": "always"})
                .to_string()
                .as_bytes(),
        )
        .unwrap();
        assert_eq!((order.target, order.target_as_sent), (id, braced));
        assert_eq!(order.deadline, Some(Duration::from_secs(5)));
        assert_eq!(order.redelivery, Redelivery::Always);
        for (body, error) in [
            (json!({"target_id": id.to_string()}), INVALID_DELEGATION),
            (json!({"target_id": "", "task": "x"}), INVALID_DELEGATION),
            (
                json!({"target_id": "x", "task": "x"}),
                "target_id must be a valid UUID",
            ),
            (
                json!({"target_id": id.to_string(), "task": "x", "deadline_seconds": 0}),
                INVALID_DELEGATION,
            ),
            (
                json!({"target_id": id.to_string(), "task": "x", "redelivery": "maybe"}),
                INVALID_DELEGATION,
            ),
        ] {
            let refusal = Order::read(body.to_string().as_bytes())
                .map(drop)
                .unwrap_err();
            assert_eq!(refusal.to_string(), error, "{body}");
            assert_eq!(refusal.status_code(), StatusCode::BAD_REQUEST);
        }
    }

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
    fn a_key_of_any_length_can_be_indexed() {
        assert_eq!(&*stored_key("short"), "short");
        let long = stored_key(&"k".repeat(MAX_KEY_BYTES + 1));
        assert!(long.len() < 100 && long != stored_key(&"k".repeat(MAX_KEY_BYTES + 2)));
        assert!(
            fits(&"d".repeat(MAX_ID_BYTES)).is_ok() && fits(&"d".repeat(MAX_ID_BYTES + 1)).is_err()
        );
    }

    #[test]
    fn a_fingerprint_is_of_target_and_task() {
        let [one, other] = [WorkspaceId::mint(), WorkspaceId::mint()];
        assert_eq!(fingerprint(one, "task"), fingerprint(one, "task"));
        assert_ne!(fingerprint(one, "task"), fingerprint(other, "task"));
        assert_ne!(fingerprint(one, "task"), fingerprint(one, "tusk"));
    }
}
