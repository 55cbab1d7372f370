//! What waits for a target, as an operator sees and clears it (contract §7.5), and what becomes of it when the target is
//! removed.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::answer::{self, time};
use super::error::{ApiError, Fault};
use super::extract::{Admin, PathWorkspace, Query};
use super::openapi::{Limited, Unauthorised};
use super::state::AppState;
use crate::clock;
use crate::delegation::Applied;
use crate::domain::{
    Breaker, Event, Hindrance, LineView, Status, Timestamp, Unready, WaitingFor, WorkspaceId,
};
use crate::store::{DelegationFilter, DelegationLine};

/// How many delegations are found with one read.
const PAGE: i64 = 500;
/// How many are told at once, so that their endings share commits.
const TOLD_AT_ONCE: usize = 64;

/// The lines before targets on this node.
#[utoipa::path(get, path = "/admin/breakers", tag = "admin", security(("bearer" = [])), responses(
    (status = 200, description = "Each target that somebody waits for or works with", body = Vec<Value>),
    Unauthorised, Limited,
))]
pub(crate) async fn breakers(
    _admin: Admin,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let mut lines = state.delegations.lines();
    lines.sort_by_key(|(target, _)| *target);
    let shown: Vec<Value> = lines.iter().map(|(id, view)| line(*id, view)).collect();
    answer::ok(&shown)
}

/// A line as operators see it.
pub(super) fn line(target: WorkspaceId, view: &LineView) -> Value {
    json!({
        "workspace_id": target.to_string(),
        "breaker": match view.breaker {
            Breaker::Closed => "closed",
            Breaker::Open => "open",
            Breaker::HalfOpen => "half_open",
        },
        "failures": view.failures, "failing_since": time(view.failing_since),
        "next_attempt_at": time(view.next_attempt_at), "waiting_for": view.hindrance.map(waiting_for),
        "waiting": view.waiting, "working": view.working, "limit": view.limit,
    })
}

const fn waiting_for(hindrance: Hindrance) -> &'static str {
    match hindrance {
        Hindrance::Busy => WaitingFor::Busy.as_str(),
        Hindrance::Unreachable => WaitingFor::Unreachable.as_str(),
        Hindrance::NoAddress => WaitingFor::Address.as_str(),
        Hindrance::Offline => WaitingFor::Offline.as_str(),
    }
}

/// Forgets what went wrong with a target, so that it is tried at once.
#[utoipa::path(post, path = "/admin/breakers/{id}/reset", tag = "admin",
    params(("id" = String, Path, format = "uuid")), security(("bearer" = [])), responses(
    (status = 200, description = "Reset", body = Value),
    (status = 404, description = "Nobody waits for this workspace here", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn reset(
    _admin: Admin,
    path: PathWorkspace,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    if path
        .0
        .is_some_and(|target| state.delegations.reset_line(target))
    {
        return answer::ok(&json!({"status": "reset"}));
    }
    Err(ApiError::Missing("no line for this workspace on this node"))
}

/// Ends what has waited for too long.
#[utoipa::path(post, path = "/admin/a2a-queue/drop-stale", tag = "admin", params(
    ("max_age_minutes" = Option<i64>, Query, description = "Only what was accepted longer ago; 60 when absent"),
    ("workspace_id" = Option<String>, Query, description = "Only what waits for this target"),
), security(("bearer" = [])), responses(
    (status = 200, description = "`dropped`: how many it ended", body = Value),
    (status = 400, description = "A parameter that cannot be read", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn drop_stale(
    _admin: Admin,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let minutes = minutes(&query)?;
    let target = match query.get("workspace_id").map(WorkspaceId::parse) {
        None => None,
        Some(Some(target)) => Some(target),
        Some(None) => {
            return Err(
                Fault::new("workspace_id", "is not a UUID").under("workspace_id must be a UUID")
            );
        }
    };
    let now = clock::now();
    let age = Duration::from_secs(minutes.saturating_mul(60));
    let filter = DelegationFilter {
        party: target,
        statuses: vec![Status::Queued],
        before: None,
        older_than: Some(now.minus(age)),
        limit: PAGE,
    };
    let concerned = |line: &DelegationLine| target.is_none() || line.target == target;
    let dropped = tell_all(&state, filter, concerned, |line| dropped(line, now)).await?;
    answer::ok(&json!({"dropped": dropped}))
}

fn dropped(line: &DelegationLine, now: Timestamp) -> Event {
    let minutes = now.since(line.created_at).as_secs() / 60;
    Event::Dropped {
        detail: format!("dropped by an operator after {minutes} minutes in line").into(),
    }
}

fn minutes(query: &Query) -> Result<u64, ApiError> {
    let Some(text) = query.get("max_age_minutes") else {
        return Ok(60);
    };
    match text.parse() {
        Ok(minutes @ 1..) => Ok(minutes),
        _ => Err(
            Fault::new("max_age_minutes", "is not a whole number of at least 1")
                .under("max_age_minutes must be a positive integer"),
        ),
    }
}

/// Those who wait for these targets wait no longer: they are ended, and those on their way there look again.
pub(crate) fn end_for_removed(state: &web::Data<AppState>, removed: Vec<WorkspaceId>) {
    for target in &removed {
        state.delegations.target_stirred(*target);
    }
    let state = state.clone();
    actix_web::rt::spawn(async move {
        for target in removed {
            let filter = DelegationFilter {
                party: Some(target),
                statuses: vec![Status::Pending, Status::Queued],
                before: None,
                older_than: None,
                limit: PAGE,
            };
            let concerned = |line: &DelegationLine| line.target == Some(target);
            let gone = |_: &DelegationLine| Event::TargetUnready(Unready::Removed);
            if let Err(error) = tell_all(&state, filter, concerned, gone).await {
                tracing::warn!(workspace.id = %target, %error, "not all that waits for a removed workspace could be ended");
            }
        }
    });
}

/// Tells the same to all that `filter` finds and that are `concerned`, page by page; how many that ended.
async fn tell_all(
    state: &AppState,
    mut filter: DelegationFilter,
    concerned: impl Fn(&DelegationLine) -> bool,
    event: impl Fn(&DelegationLine) -> Event,
) -> Result<usize, ApiError> {
    let mut ended = 0_usize;
    loop {
        let wanted = filter.clone();
        let page = state.store.read(move |reader| reader.delegations(&wanted));
        let page = page.await?;
        let told = page.iter().filter(|line| concerned(line));
        let told = told.map(|line| state.delegations.apply(line.key.clone(), event(line)));
        let mut told = futures_util::stream::iter(told).buffer_unordered(TOLD_AT_ONCE);
        while let Some(applied) = told.next().await {
            let over = matches!(applied?, Applied::Moved(status) if status.is_terminal());
            ended = ended.saturating_add(usize::from(over));
        }
        drop(told);
        match page.last() {
            None => return Ok(ended),
            Some(line) => filter.before = Some(line.number),
        }
    }
}
