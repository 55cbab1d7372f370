//! What the admin sees (contract §13, §16.3; product.md "Routes that Baton adds").

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};

use super::answer::{self, text, time};
use super::error::{ApiError, Fault};
use super::extract::{Admin, Query};
use super::openapi::{Limited, Unauthorised};
use super::state::AppState;
use crate::clock;
use crate::domain::{Position, Status, Violation, audit, preview};
use crate::store::{DelegationFilter, DelegationLine};

/// How many delegations are audited with one read.
const AUDIT_PAGE: i64 = 500;
/// How many such reads answer one call.
const AUDIT_PAGES: usize = 200;
/// How many broken promises are told at once.
const MAX_VIOLATIONS: usize = 1000;

/// Delegations of all workspaces, newest first.
#[utoipa::path(get, path = "/admin/delegations", tag = "admin", params(
    ("status" = Option<String>, Query, description = "`in_flight` (default), or one of the statuses"),
    ("limit" = Option<i64>, Query, description = "1 to 1000; 100 when absent"),
), security(("bearer" = [])), responses(
    (status = 200, description = "The delegations", body = Value),
    (status = 400, description = "An unknown status, or a limit out of range", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn delegations(
    _admin: Admin,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let word = query.get("status").unwrap_or("in_flight");
    let statuses = wanted(word)?;
    let limit = limit(&query)?;
    let filter = DelegationFilter {
        party: None,
        statuses,
        before: None,
        older_than: None,
        limit,
    };
    let lines = state
        .store
        .read(move |reader| reader.delegations(&filter))
        .await?;
    let shown: Vec<Value> = lines.iter().map(line).collect();
    answer::ok(&json!({
        "count": shown.len(), "delegations": shown, "status": word, "limit": limit,
    }))
}

fn wanted(word: &str) -> Result<Vec<Status>, ApiError> {
    let live = || {
        Status::ALL
            .iter()
            .copied()
            .filter(|status| !status.is_terminal())
    };
    if word == "in_flight" {
        return Ok(live().collect());
    }
    Status::parse(word)
        .map(|status| vec![status])
        .ok_or_else(|| {
            let mut allowed: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
            allowed.push("in_flight");
            allowed.sort_unstable();
            ApiError::with(
                StatusCode::BAD_REQUEST,
                "unknown status filter",
                json!({"allowed": allowed, "requested_status": word}),
            )
        })
}

fn limit(query: &Query) -> Result<i64, ApiError> {
    let Some(text) = query.get("limit") else {
        return Ok(100);
    };
    match text.parse::<i64>() {
        Ok(limit @ 1..=1000) => Ok(limit),
        _ => Err(ApiError::with(
            StatusCode::BAD_REQUEST,
            "limit must be 1..1000",
            json!({"requested": text}),
        )),
    }
}

fn line(line: &DelegationLine) -> Value {
    let result = line.result_preview.as_deref();
    let mut shown = json!({
        "delegation_id": line.key.id.to_string(), "caller_id": line.key.caller.to_string(),
        "callee_id": text(line.target), "task_preview": line.task_preview,
        "status": line.status.as_str(), "last_heartbeat": time(line.last_heartbeat),
        "deadline": line.deadline.to_rfc3339(), "result_preview": result.map(|text| preview(text, 4096)),
        "error_detail": line.error_detail, "error_class": line.error_class,
        "attempts": line.attempt.0, "retry_count": line.attempt.0.saturating_sub(1),
        "created_at": line.created_at.to_rfc3339(), "updated_at": line.updated_at.to_rfc3339(),
    });
    if let Some(members) = shown.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    shown
}

/// How many delegations there are of each status.
#[utoipa::path(get, path = "/admin/delegations/stats", tag = "admin", security(("bearer" = [])), responses(
    (status = 200, description = "Every status with its count", body = Value), Unauthorised, Limited,
))]
pub(crate) async fn stats(
    _admin: Admin,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let counts = state.store.read(|reader| reader.counts()).await?;
    let of = |status: Status| {
        let found = counts.iter().find(|(counted, _)| *counted == status);
        found.map_or(0, |(_, count)| *count)
    };
    let statuses = Status::ALL.iter();
    let shown: Map<String, Value> = statuses
        .map(|status| (status.as_str().to_owned(), of(*status).into()))
        .collect();
    answer::ok(&shown)
}

/// The rules, checked on stored delegations, at most 100,000 with one call.
#[utoipa::path(get, path = "/admin/invariants", tag = "admin", params(
    ("after" = Option<i64>, Query, description = "The `next` of the call before"),
), security(("bearer" = [])), responses(
    (status = 200, description = "`violations`; none is what is promised. `next`, unless null: more remain to be checked after it", body = Value),
    (status = 400, description = "`after` is no number", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn invariants(
    _admin: Admin,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let limits = state.settings.audit_limits(clock::now());
    let mut after = after(&query)?.map(Position);
    let (mut checked, mut violations) = (0_usize, Vec::new());
    for _ in 0..AUDIT_PAGES {
        let read = state
            .store
            .read_patiently(move |reader| reader.audit(after, AUDIT_PAGE, limits));
        let page = read.await?;
        checked = checked.saturating_add(page.rows.len());
        violations.extend(page.rows.iter().flat_map(audit));
        after = page.last;
        if after.is_none() || violations.len() >= MAX_VIOLATIONS {
            break;
        }
    }
    let shown: Vec<Value> = violations
        .iter()
        .take(MAX_VIOLATIONS)
        .map(violation)
        .collect();
    let next = after.map(|number| number.0);
    answer::ok(&json!({"violations": shown, "checked": checked, "next": next}))
}

/// The number that an answer is to begin after.
pub(super) fn after(query: &Query) -> Result<Option<i64>, ApiError> {
    let Some(text) = query.get("after") else {
        return Ok(None);
    };
    let number = text.parse().map_err(|_not_a_number| {
        Fault::new("after", "is not a number").under("after must be a whole number")
    })?;
    Ok(Some(number))
}

fn violation(violation: &Violation) -> Value {
    json!({
        "caller_id": violation.key.caller.to_string(), "delegation_id": violation.key.id.to_string(),
        "rule": violation.rule, "found": violation.found,
    })
}

/// When each background loop last ran.
#[utoipa::path(get, path = "/admin/liveness", tag = "admin", security(("bearer" = [])), responses(
    (status = 200, description = "`subsystems`", body = Value), Unauthorised, Limited,
))]
pub(crate) async fn liveness(
    _admin: Admin,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    answer::ok(&pulse(&state))
}

pub(super) fn pulse(state: &AppState) -> Value {
    let now = clock::now();
    let ticks = state.liveness.ticks().into_iter();
    let subsystems: Map<String, Value> = ticks
        .map(|(name, at)| {
            let seconds = now.since(at).as_secs();
            (
                name.to_owned(),
                json!({"last_tick_at": at.to_rfc3339(), "seconds_ago": seconds}),
            )
        })
        .collect();
    json!({"subsystems": subsystems})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_flight_is_everything_that_has_not_ended() {
        assert_eq!(wanted("in_flight").unwrap().len(), 7);
        assert_eq!(wanted("cancelled").unwrap(), [Status::Cancelled]);
        assert!(wanted("lost").is_err());
    }

    #[test]
    fn a_limit_out_of_range_is_refused() {
        assert_eq!(limit(&Query::parse("")).unwrap(), 100);
        assert_eq!(limit(&Query::parse("limit=1000")).unwrap(), 1000);
        for bad in ["0", "1001", "-1", "x"] {
            assert!(limit(&Query::parse(&format!("limit={bad}"))).is_err());
        }
    }
}
