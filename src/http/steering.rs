//! What the parties say of a delegation under way, other than its ending (product.md, "Routes that Baton adds").

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::answer;
use super::body::{self, Fields};
use super::delegations::{already_ended, recorded};
use super::error::{ApiError, Fault};
use super::extract::{Member, PathDelegation};
use super::openapi::{CancelBody, InputBody, Limited, ProgressBody, Refused};
use super::state::AppState;
use crate::auth::Principal;
use crate::delegation::Applied;
use crate::domain::{DelegationId, DelegationKey, Event, Progress, Said, Status, preview};

pub(crate) const INVALID_BODY: &str = "invalid request body";

/// How much of a progress message is kept, in bytes.
const MESSAGE_BYTES: usize = 4096;

/// The delegation that a workspace knows by this id. Unknown and foreign ones look alike.
pub(crate) async fn find(
    state: &AppState,
    member: &Member,
    id: DelegationId,
) -> Result<DelegationKey, ApiError> {
    let party = member.workspace;
    let found = state.store.read(move |reader| reader.find_key(party, &id));
    found.await?.ok_or(UNKNOWN)
}

const UNKNOWN: ApiError = ApiError::Missing("delegation not found");

/// Refuses the target; the admin acts for the caller.
pub(crate) fn must_be_callers(member: &Member, key: &DelegationKey) -> Result<(), ApiError> {
    if member.workspace == key.caller || member.principal == Principal::Admin {
        return Ok(());
    }
    Err(ApiError::Forbidden {
        error: "only the caller may do this",
        reason: Some(
            "this workspace is the delegation's target; it may report with POST …/update or POST …/heartbeat",
        ),
    })
}

fn standing(key: &DelegationKey, status: Status) -> Value {
    json!({"delegation_id": key.id.to_string(), "status": status.as_str()})
}

/// A party says that work goes on, and how far it is.
#[utoipa::path(post, path = "/workspaces/{id}/delegations/{delegation_id}/heartbeat", tag = "delegations",
    params(("id" = String, Path, format = "uuid"), ("delegation_id" = String, Path)), request_body = ProgressBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "Where the delegation stands now", body = Value),
    (status = 409, description = "It has ended; this is what is recorded", body = Value),
    Refused, Limited,
))]
pub(crate) async fn heartbeat(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    path: PathDelegation,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let progress = progress(&body).map_err(|fault| fault.under(INVALID_BODY))?;
    let key = find(&state, &member, path.0).await?;
    let event = Event::Heard {
        by_target: member.workspace != key.caller,
        progress,
    };
    match state.delegations.apply(key.clone(), event).await? {
        Applied::Moved(status) | Applied::NoUse(status) => answer::ok(&standing(&key, status)),
        Applied::Repeat(ending) | Applied::Ended(ending) => {
            Err(already_ended(&ending, &key.id.to_string()))
        }
        Applied::Unknown => Err(UNKNOWN),
    }
}

fn progress(body: &[u8]) -> Result<Progress, Fault> {
    let fields = Fields::parse_optional(body)?;
    let message = fields.text("message")?;
    let percent = match fields.integer("percent")?.map(u8::try_from) {
        None => None,
        Some(Ok(percent @ 0..=100)) => Some(percent),
        Some(_) => {
            return Err(Fault::new(
                "percent",
                "must be a whole number from 0 to 100",
            ));
        }
    };
    Ok(Progress {
        message: message.map(|message| preview(&message, MESSAGE_BYTES).into()),
        percent,
    })
}

/// The caller withdraws a delegation. The target is told, if it gave its work a name.
#[utoipa::path(post, path = "/workspaces/{id}/delegations/{delegation_id}/cancel", tag = "delegations",
    params(("id" = String, Path, format = "uuid"), ("delegation_id" = String, Path)), request_body = CancelBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "Cancelled, now or before", body = Value),
    (status = 409, description = "It has ended otherwise; this is what is recorded", body = Value),
    Refused, Limited,
))]
pub(crate) async fn cancel(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    path: PathDelegation,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let reason = Fields::parse_optional(&body).and_then(|fields| fields.text("reason"));
    let reason = reason.map_err(|fault| fault.under(INVALID_BODY))?;
    let reason = reason.unwrap_or_default();
    answer::ok(&withdraw(&state, &member, path.0, reason).await?)
}

/// Cancels for the caller; says where the delegation stands.
pub(crate) async fn withdraw(
    state: &AppState,
    member: &Member,
    id: DelegationId,
    reason: String,
) -> Result<Value, ApiError> {
    let key = find(state, member, id).await?;
    must_be_callers(member, &key)?;
    let event = Event::Cancelled {
        reason: reason.into(),
    };
    match state.delegations.apply(key.clone(), event).await? {
        Applied::Moved(status) | Applied::NoUse(status) => Ok(standing(&key, status)),
        Applied::Repeat(ending) => Ok(recorded(&ending, &key.id.to_string())),
        Applied::Ended(ending) => Err(already_ended(&ending, &key.id.to_string())),
        Applied::Unknown => Err(UNKNOWN),
    }
}

/// The caller answers the target's question.
#[utoipa::path(post, path = "/workspaces/{id}/delegations/{delegation_id}/input", tag = "delegations",
    params(("id" = String, Path, format = "uuid"), ("delegation_id" = String, Path)), request_body = InputBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "Durable, and on its way to the target", body = Value),
    (status = 409, description = "Nothing is asked, or it has ended", body = Value),
    Refused, Limited,
))]
pub(crate) async fn input(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    path: PathDelegation,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let text = Fields::parse(&body).and_then(|fields| fields.required_text("text"));
    let text = text.map_err(|fault| fault.under(INVALID_BODY))?;
    answer::ok(&give_input(&state, &member, path.0, text).await?)
}

/// Answers for the caller; says where the delegation stands.
pub(crate) async fn give_input(
    state: &AppState,
    member: &Member,
    id: DelegationId,
    text: String,
) -> Result<Value, ApiError> {
    let key = find(state, member, id).await?;
    must_be_callers(member, &key)?;
    let answer = Said::words(text);
    let event = Event::InputGiven { answer };
    match state.delegations.apply(key.clone(), event).await? {
        Applied::Moved(status) => Ok(standing(&key, status)),
        Applied::NoUse(status) => Err(nothing_asked(&key, status)),
        Applied::Repeat(ending) | Applied::Ended(ending) => {
            Err(already_ended(&ending, &key.id.to_string()))
        }
        Applied::Unknown => Err(UNKNOWN),
    }
}

fn nothing_asked(key: &DelegationKey, status: Status) -> ApiError {
    ApiError::with(
        StatusCode::CONFLICT,
        "delegation asks for no input",
        json!({
            "delegation_id": key.id.to_string(), "status": status.as_str(),
            "hint": "an answer is taken while the status is input_required; GET …/delegations/:delegation_id shows the question",
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_and_its_faults_are_named() {
        let read = |body: &str| progress(body.as_bytes());
        assert_eq!(read(""), Ok(Progress::default()));
        let half = read(r#"{"message":"half","percent":50}"#).unwrap();
        assert_eq!(
            (half.message.as_deref(), half.percent),
            (Some("half"), Some(50))
        );
        let long = read(&json!({"message": "x".repeat(5000)}).to_string()).unwrap();
        let cut = format!("{}...", "x".repeat(MESSAGE_BYTES));
        assert_eq!(long.message.as_deref(), Some(&*cut));
        for (body, field) in [
            (r#"{"percent":101}"#, "percent"),
            (r#"{"percent":-1}"#, "percent"),
            (r#"{"percent":1.5}"#, "percent"),
            (r#"{"percent":300}"#, "percent"),
            (r#"{"message":7}"#, "message"),
            ("[]", "body"),
        ] {
            assert_eq!(read(body).unwrap_err().field, field, "{body}");
        }
    }
}
