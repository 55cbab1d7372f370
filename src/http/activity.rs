//! The feed: to read it, to add to it (contract §8.1, §8.2).

use std::borrow::Cow;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::activity_query::{ActivityQuery, Cursor};
use super::answer::{self, inline, text};
use super::body::{self, Fields};
use super::error::{ApiError, Fault};
use super::extract::{Member, NO_WORKSPACE, Query};
use super::fetched;
use super::openapi::{ActivityBody, Limited, Refused, Unauthorised};
use super::state::AppState;
use crate::clock;
use crate::domain::{ActivityId, ActivityType, EventName, FeedRow, Json, Position, WorkspaceId};
use crate::events::Message;
use crate::store::{ActivityView, Write, Written};

const INVALID_BODY: &str = "invalid request body";

/// A feed row as it is shown.
#[derive(Serialize)]
pub(crate) struct Row<'a> {
    id: String,
    seq: i64,
    workspace_id: String,
    activity_type: &'a str,
    source_id: Option<String>,
    target_id: Option<String>,
    method: Option<&'a str>,
    summary: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_trace: Option<&'a RawValue>,
    duration_ms: Option<i32>,
    status: &'a str,
    error_detail: Option<&'a str>,
    created_at: String,
}

impl<'a> From<&'a ActivityView> for Row<'a> {
    fn from(row: &'a ActivityView) -> Self {
        Self {
            id: row.id.to_string(),
            seq: row.position.0,
            workspace_id: row.workspace.to_string(),
            activity_type: &row.activity_type,
            source_id: text(row.source),
            target_id: text(row.target),
            method: row.method.as_deref(),
            summary: row.summary.as_deref(),
            request_body: inline(row.request_body.as_ref()),
            response_body: inline(row.response_body.as_ref()),
            tool_trace: inline(row.tool_trace.as_ref()),
            duration_ms: row.duration_ms,
            status: &row.status,
            error_detail: row.error_detail.as_deref(),
            created_at: row.created_at.to_rfc3339(),
        }
    }
}

/// The feed: newest first, or from a cursor on oldest first.
#[utoipa::path(get, path = "/workspaces/{id}/activity", tag = "feed", params(
    ("id" = String, Path, format = "uuid"),
    ("type" = Option<String>, Query), ("source" = Option<String>, Query, description = "`canvas` or `agent`"),
    ("peer_id" = Option<String>, Query), ("limit" = Option<i64>, Query, description = "At most 500; 100 when absent or senseless"),
    ("since_secs" = Option<i64>, Query), ("since_id" = Option<String>, Query, description = "Only rows after this one"),
    ("before_ts" = Option<String>, Query), ("after_seq" = Option<i64>, Query), ("before_seq" = Option<i64>, Query),
    ("peek" = Option<bool>, Query, description = "`true`: only a look; what is shown does not count as fetched"),
), security(("bearer" = [])), responses(
    (status = 200, description = "The rows", body = Vec<Value>),
    (status = 400, description = "A parameter that cannot be read", body = Value),
    (status = 404, description = "No such workspace", body = Value),
    (status = 410, description = "The cursor is not a row of this feed", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn list(
    member: Member,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let takes = !query.is_true("peek");
    let query = ActivityQuery::read(&query, member.workspace, clock::now())?;
    let position = match query.since_id {
        None => None,
        Some(cursor) => Some(resolve(&state, member.workspace, cursor).await?),
    };
    let filter = query.into_filter(position)?;
    let rows = state.store.activity(filter).await?;
    if takes {
        fetched::tell(&state, &member, &rows);
    }
    answer::ok(&rows.iter().map(Row::from).collect::<Vec<_>>())
}

/// Foreign, unknown and malformed cursors look alike (lesson A05).
async fn resolve(
    state: &AppState,
    workspace: WorkspaceId,
    cursor: Cursor,
) -> Result<Position, ApiError> {
    let found = match cursor {
        Cursor(None) => None,
        Cursor(Some(id)) => state.store.activity_position(workspace, id).await?,
    };
    found.ok_or_else(|| {
        ApiError::with(
            StatusCode::GONE,
            "since_id cursor not found (row may have been pruned or belongs to a different workspace); omit since_id to reset",
            json!({"field": "since_id", "hint": "GET …/inbox returns the oldest unacknowledged messages without a cursor"}),
        )
    })
}

/// Adds a row to the feed.
#[utoipa::path(post, path = "/workspaces/{id}/activity", tag = "feed", params(("id" = String, Path, format = "uuid")),
    request_body = ActivityBody, security(("bearer" = [])), responses(
    (status = 200, description = "Committed", body = Value), Refused, Limited,
))]
pub(crate) async fn log(
    request: HttpRequest,
    payload: web::Payload,
    member: Member,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let row = row(&body, member.workspace)?;
    let shown = shown(&row);
    append(&state, row).await?;
    state.events.publish(Message::Event {
        place: None,
        name: EventName::ActivityLogged,
        workspace: member.workspace,
        payload: shown,
        at: clock::now(),
    });
    answer::ok(&json!({"status": "logged"}))
}

/// Commits a row; what follows may be shown.
pub(crate) async fn append(state: &AppState, row: FeedRow) -> Result<Position, ApiError> {
    match state.persistence.write(Write::Log(Box::new(row))).await? {
        Written::Logged(position) => Ok(position),
        Written::Missing => Err(NO_WORKSPACE),
        other => Err(unexpected(&other)),
    }
}

/// A write was refused alone, or came back as something that it cannot be.
pub(crate) fn unexpected(written: &Written) -> ApiError {
    tracing::error!(?written, "a write was refused");
    ApiError::datastore(Duration::from_secs(5))
}

fn row(body: &[u8], workspace: WorkspaceId) -> Result<FeedRow, ApiError> {
    let invalid = |fault: Fault| fault.under(INVALID_BODY);
    let fields = Fields::parse(body).map_err(invalid)?;
    let word = fields.required_text("activity_type").map_err(invalid)?;
    let text = |name| fields.text(name).map_err(invalid);
    let (method, summary, status) = (text("method")?, text("summary")?, text("status")?);
    let (error_detail, target, source) = (
        text("error_detail")?,
        text("target_id")?,
        text("source_id")?,
    );
    let duration_ms = fields.small_integer("duration_ms").map_err(invalid)?;
    let activity_type = activity_type(&word)?;
    if source.is_some_and(|source| WorkspaceId::parse(&source) != Some(workspace)) {
        return Err(ApiError::Forbidden {
            error: "source_id must match authenticated workspace",
            reason: None,
        });
    }
    let target = target.map(|target| {
        WorkspaceId::parse(&target)
            .ok_or_else(|| Fault::new("target_id", "is not a UUID").under(INVALID_BODY))
    });
    Ok(FeedRow {
        id: Some(ActivityId::mint()),
        workspace,
        activity_type,
        source: Some(workspace),
        target: target.transpose()?,
        method: method.map(Into::into),
        summary: summary.map(Into::into),
        request_body: fields
            .json("request_body")
            .or_else(|| fields.json("metadata")),
        response_body: fields.json("response_body"),
        duration_ms,
        status: status.map_or_else(|| "ok".into(), Into::into),
        error_detail: error_detail.map(Into::into),
        delegation: None,
        created_at: clock::now(),
    })
}

/// Delegations are written by Baton alone.
fn activity_type(word: &str) -> Result<ActivityType, ApiError> {
    let known = ActivityType::parse(word).filter(|word| *word != ActivityType::Delegation);
    known.ok_or_else(|| {
        Fault::new("activity_type", "is not one of them").under(Cow::Borrowed(
            "invalid activity_type, must be one of: a2a_send, a2a_receive, task_update, agent_log, skill_promotion, memory_write, error",
        ))
    })
}

/// The payload of `ACTIVITY_LOGGED`.
fn shown(row: &FeedRow) -> Json {
    let mut payload = json!({
        "activity_type": row.activity_type.as_str(), "method": row.method, "summary": row.summary,
        "status": row.status, "source_id": text(row.source), "target_id": text(row.target),
        "duration_ms": row.duration_ms,
    });
    if let Value::Object(members) = &mut payload {
        for (name, body) in [
            ("request_body", &row.request_body),
            ("response_body", &row.response_body),
        ] {
            let body = body
                .as_ref()
                .and_then(|json| serde_json::from_str(&json.0).ok());
            if let Some(body) = body {
                members.insert(name.to_owned(), body);
            }
        }
    }
    Json::from(&payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_the_contract_says() {
        let workspace = WorkspaceId::mint();
        let read = |body: Value| row(body.to_string().as_bytes(), workspace);
        let spelled = workspace.to_string().to_uppercase();
        let logged = read(json!({
            "activity_type": "agent_log", "source_id": spelled, "target_id": "", "summary": "s\u{0}",
            "request_body": null, "metadata": {"a": 1}, "response_body": [1],
        }))
        .unwrap();
        assert_eq!(logged.source, Some(workspace));
        assert_eq!((logged.target, &*logged.status), (None, "ok"));
        assert_eq!(logged.summary.as_deref(), Some("s\u{fffd}"));
        assert_eq!(logged.request_body, Some(Json("{\"a\":1}".into())));
        let payload: Value = serde_json::from_str(&shown(&logged).0).unwrap();
        assert_eq!(payload["response_body"], json!([1]));
        for (body, error) in [
            (json!({}), INVALID_BODY),
            (
                json!({"activity_type": "a2a_send", "duration_ms": "1"}),
                INVALID_BODY,
            ),
            (
                json!({"activity_type": "a2a_send", "duration_ms": i64::MAX}),
                INVALID_BODY,
            ),
            (
                json!({"activity_type": "a2a_send", "target_id": "x"}),
                INVALID_BODY,
            ),
            (
                json!({"activity_type": "a2a_send", "source_id": WorkspaceId::mint().to_string()}),
                "source_id must match authenticated workspace",
            ),
        ] {
            assert_eq!(read(body).unwrap_err().to_string(), error);
        }
        let forged = read(json!({"activity_type": "delegation"})).unwrap_err();
        assert!(forged.to_string().starts_with("invalid activity_type"));
    }
}
