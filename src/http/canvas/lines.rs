//! Lists of delegations, newest first, with all that says why each stands where it does.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::json;

use super::wanted::{Asked, Cursor, keys};
use crate::auth::Principal;
use crate::domain::{DelegationKey, Status, WaitingFor, WorkspaceId, preview};
use crate::http::answer::{self, text, time};
use crate::http::body::{self, Fields};
use crate::http::error::{ApiError, Fault};
use crate::http::extract::{Anybody, Query};
use crate::http::openapi::{Limited, LinesBody, Refused, Unauthorised};
use crate::http::state::AppState;
use crate::store;

/// How much of a task is shown, in bytes.
pub(super) const TASK_BYTES: usize = 200;
/// How much of a result, an error or a question is shown, in bytes.
const SAID_BYTES: usize = 500;
/// Lines of one page.
const PAGE: usize = 50;
/// The most lines of one page, and of one look at some that are named.
const PAGE_MAX: usize = 200;

#[derive(Serialize)]
struct Named {
    caller_id: String,
    delegation_id: String,
}

impl From<&DelegationKey> for Named {
    fn from(key: &DelegationKey) -> Self {
        Self {
            caller_id: key.caller.to_string(),
            delegation_id: key.id.to_string(),
        }
    }
}

/// How far the work is.
#[derive(Serialize)]
struct Progress {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
    at: Option<String>,
}

/// One line.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    key: Named,
    target_id: Option<String>,
    status: &'static str,
    attempts: u32,
    deadline: String,
    created_at: String,
    updated_at: String,
    task_preview: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_preview: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<Named>,
}

fn short(text: Option<&str>) -> Option<String> {
    text.map(|text| preview(text, SAID_BYTES).into_owned())
}

impl Line {
    /// Of which delegation it is a part, is its caller's business.
    fn of(full: &store::Line, principal: Principal) -> Self {
        let line = &full.line;
        let progress = full.progress.as_ref().map(|progress| Progress {
            message: short(progress.message.as_deref()),
            percent: progress.percent,
            at: time(line.last_heartbeat),
        });
        let parent = full.parent.as_ref();
        let parent = parent.filter(|_| principal.may_act_for(line.key.caller));
        Self {
            key: Named::from(&line.key),
            target_id: text(line.target),
            status: line.status.as_str(),
            attempts: line.attempt.0,
            deadline: line.deadline.to_rfc3339(),
            created_at: line.created_at.to_rfc3339(),
            updated_at: line.updated_at.to_rfc3339(),
            task_preview: preview(&line.task_preview, TASK_BYTES).into_owned(),
            waiting_for: full.waiting_for.map(WaitingFor::as_str),
            next_attempt_at: time(full.next_attempt_at),
            failures: full.failures,
            ended_at: time(full.ended_at),
            result_preview: short(
                line.result_preview
                    .as_deref()
                    .filter(|_| line.status == Status::Completed),
            ),
            error: short(line.error_detail.as_deref()),
            error_class: line.error_class.clone(),
            question: short(full.question.as_deref()),
            progress,
            retry_of: text(full.retry_of.as_ref()),
            parent: parent.map(Named::from),
        }
    }
}

/// Whether this principal may see a delegation of these parties.
pub(super) fn is_visible(
    principal: Principal,
    key: &DelegationKey,
    target: Option<WorkspaceId>,
) -> bool {
    principal.may_act_for(key.caller) || target.is_some_and(|target| principal.may_act_for(target))
}

/// Delegations, newest first, page by page: the admin sees all, a workspace what it sent and received.
#[utoipa::path(get, path = "/canvas/delegations", tag = "canvas", params(
    ("status" = Option<String>, Query, description = "Statuses, `in_flight` or `ended`, separated by commas"),
    ("workspace_id" = Option<String>, Query, format = "uuid", description = "Only those that it sent or received; for a workspace only itself"),
    ("q" = Option<String>, Query, description = "Only those of which the id, the beginning of the task or of the result, or the error holds this text, in any case. At most 200 characters"),
    ("before" = Option<String>, Query, description = "The `next` of the page before"),
    ("limit" = Option<i64>, Query, description = "1 to 200; 50 when absent"),
), security(("bearer" = [])), responses(
    (status = 200, description = "`delegations`; `next`, which is null at the end; and how many were `searched`: at most 5,000, so that a page need not be full", body = Value),
    (status = 400, description = "A parameter that cannot be read", body = Value),
    (status = 403, description = "The delegations of another workspace", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn list(
    speaker: Anybody,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let Anybody(principal) = speaker;
    let asked = Asked::of(|name| Ok(query.get(name).map(ToOwned::to_owned)))?;
    let filter = asked.filter(principal, limit(&query)?)?;
    let page = state
        .store
        .read(move |reader| reader.lines(&filter))
        .await?;
    let lines = page.lines.iter().map(|line| Line::of(line, principal));
    answer::ok(&json!({
        "delegations": lines.collect::<Vec<_>>(), "searched": page.searched,
        "next": page.next.map(|before| Cursor::next(before).to_string()),
    }))
}

fn limit(query: &Query) -> Result<usize, ApiError> {
    match query.get("limit").map(str::parse) {
        None => Ok(PAGE),
        Some(Ok(limit @ 1..=PAGE_MAX)) => Ok(limit),
        Some(_) => {
            let reason = format!("must be a whole number from 1 to {PAGE_MAX}");
            Err(Fault::new("limit", reason).under("invalid filter"))
        }
    }
}

/// The lines of delegations that are named; those that do not exist, or are not to be seen, are left out.
#[utoipa::path(post, path = "/canvas/delegations/lines", tag = "canvas", request_body = LinesBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "`delegations`, newest first", body = Value), Refused, Limited,
))]
pub(crate) async fn some(
    request: HttpRequest,
    payload: web::Payload,
    speaker: Anybody,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let Anybody(principal) = speaker;
    let required = |fault: Fault| fault.under("invalid request body");
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let fields = Fields::parse(&body).map_err(required)?;
    let ids = keys(&fields, PAGE_MAX)?;
    let ids = ids.ok_or_else(|| required(Fault::new("ids", "is required")))?;
    let found = state
        .store
        .read(move |reader| reader.lines_of(&ids))
        .await?;
    let seen = found
        .iter()
        .filter(|one| is_visible(principal, &one.line.key, one.line.target));
    let lines: Vec<Line> = seen.map(|line| Line::of(line, principal)).collect();
    answer::ok(&json!({"delegations": lines}))
}
