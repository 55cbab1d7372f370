//! Delegations as both parties see them (contract §4.2, §16.2; product.md "Routes that Baton adds").

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::answer::{self, text, time};
use super::error::ApiError;
use super::extract::{Member, PathDelegation, Query};
use super::openapi::{Limited, Unauthorised};
use super::state::AppState;
use crate::domain::{
    DelegationId, Ended, Ending, Phase, Position, Progress, Question, State, Status, Timestamp,
    Trouble, WorkspaceId, preview,
};
use crate::store::{self, DelegationFilter, DelegationLine, DelegationView, HistoryEntry, Reader};

/// One line of a list.
#[derive(Serialize)]
struct Line<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    delegation_id: String,
    direction: &'static str,
    source_id: String,
    target_id: String,
    summary: String,
    task_preview: &'a str,
    status: &'static str,
    attempts: u32,
    deadline: String,
    created_at: String,
    updated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heartbeat: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_preview: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<&'a str>,
}

/// What `workspace` is in a delegation of `caller`.
fn direction(workspace: WorkspaceId, caller: WorkspaceId) -> &'static str {
    if workspace == caller {
        "sent"
    } else {
        "received"
    }
}

fn summary(line: &DelegationLine) -> String {
    match line.status {
        Status::Completed => {
            let result = line.result_preview.as_deref().unwrap_or_default();
            format!("Delegation completed ({})", preview(result, 80))
        }
        Status::Failed => "Delegation failed".to_owned(),
        Status::Cancelled => "Delegation cancelled".to_owned(),
        Status::Pending
        | Status::Dispatched
        | Status::Received
        | Status::InProgress
        | Status::Queued
        | Status::InputRequired
        | Status::Stuck => {
            format!("Delegating to {}", text(line.target).unwrap_or_default())
        }
    }
}

impl<'a> Line<'a> {
    fn of(
        line: &'a DelegationLine,
        workspace: WorkspaceId,
        previews: &'a (String, Option<String>),
    ) -> Self {
        let id = line.key.id.to_string();
        Self {
            id: id.clone(),
            kind: "delegation",
            delegation_id: id,
            direction: direction(workspace, line.key.caller),
            source_id: line.key.caller.to_string(),
            target_id: text(line.target).unwrap_or_default(),
            summary: summary(line),
            task_preview: &previews.0,
            status: line.status.as_str(),
            attempts: line.attempt.0,
            deadline: line.deadline.to_rfc3339(),
            created_at: line.created_at.to_rfc3339(),
            updated_at: line.updated_at.to_rfc3339(),
            last_heartbeat: time(line.last_heartbeat),
            response_preview: previews.1.as_deref(),
            error: line
                .error_detail
                .as_deref()
                .filter(|error| !error.is_empty()),
            error_class: line.error_class.as_deref(),
        }
    }
}

/// The statuses that a list is asked for: words, separated by commas.
fn statuses(query: &Query) -> Result<Vec<Status>, ApiError> {
    let Some(words) = query.get("status") else {
        return Ok(Vec::new());
    };
    let read = |word: &str| Status::parse(word.trim());
    let read: Option<Vec<Status>> = words.split(',').map(read).collect();
    read.ok_or_else(|| {
        let allowed: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
        ApiError::with(
            StatusCode::BAD_REQUEST,
            "unknown status filter",
            json!({"field": "status", "allowed": allowed, "requested_status": words}),
        )
    })
}

/// The place that a cursor names: foreign, unknown and malformed ones alike name none.
fn cursor(
    reader: &mut dyn Reader,
    workspace: WorkspaceId,
    id: &DelegationId,
) -> Result<Option<Position>, store::Error> {
    let Some(key) = reader.find_key(workspace, id)? else {
        return Ok(None);
    };
    reader.number(&key)
}

/// What a workspace sent and received, newest first, one entry for each delegation.
#[utoipa::path(get, path = "/workspaces/{id}/delegations", tag = "delegations", params(
    ("id" = String, Path, format = "uuid"),
    ("limit" = Option<i64>, Query, description = "At most 500; 50 when absent or senseless"),
    ("before" = Option<String>, Query, description = "Only those accepted before this delegation"),
    ("status" = Option<String>, Query, description = "Only these, separated by commas"),
), security(("bearer" = [])), responses(
    (status = 200, description = "The list", body = Vec<Value>),
    (status = 400, description = "An unknown status", body = Value),
    (status = 404, description = "No such workspace", body = Value),
    (status = 410, description = "The cursor is not one of this workspace's delegations", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn list(
    member: Member,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let statuses = statuses(&query)?;
    let limit = query.limit(50, 500);
    let before = query.get("before").map(DelegationId::from_text);
    let workspace = member.workspace;
    let lines = state.store.read(move |reader| {
        let before = match &before {
            None => None,
            Some(id) => match cursor(reader, workspace, id)? {
                None => return Ok(None),
                found => found,
            },
        };
        let filter = DelegationFilter {
            party: Some(workspace),
            statuses,
            before,
            older_than: None,
            limit,
        };
        reader.delegations(&filter).map(Some)
    });
    let Some(lines) = lines.await? else {
        return Err(ApiError::with(
            StatusCode::GONE,
            "before cursor not found (delegation may have been pruned or belongs to a different workspace); omit before to reset",
            json!({"field": "before"}),
        ));
    };
    let previews: Vec<_> = lines.iter().map(previews).collect();
    let shown = lines.iter().zip(&previews);
    let shown: Vec<_> = shown
        .map(|(line, previews)| Line::of(line, workspace, previews))
        .collect();
    answer::ok(&shown)
}

fn previews(line: &DelegationLine) -> (String, Option<String>) {
    let result = line.result_preview.as_deref();
    (
        preview(&line.task_preview, 200).into_owned(),
        result
            .filter(|result| !result.is_empty())
            .map(|result| preview(result, 300).into_owned()),
    )
}

/// The whole of a delegation, for its caller and its target.
#[utoipa::path(get, path = "/workspaces/{id}/delegations/{delegation_id}", tag = "delegations", params(
    ("id" = String, Path, format = "uuid"), ("delegation_id" = String, Path),
    ("include" = Option<String>, Query, description = "`task` for the whole task, `raw` for the target's reply byte for byte in base64; separated by commas"),
), security(("bearer" = [])), responses(
    (status = 200, description = "The delegation", body = Value),
    (status = 404, description = "No such delegation, or none of this workspace's", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn get(
    member: Member,
    path: PathDelegation,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let includes = |word: &str| {
        let words = query.get("include").unwrap_or_default();
        words.split(',').any(|one| one.trim() == word)
    };
    let (with_task, with_raw) = (includes("task"), includes("raw"));
    let view = whole_of(&state, member.workspace, path.0, with_task, with_raw);
    answer::ok(&view.await?)
}

/// The whole of a delegation that a workspace is a party of.
pub(crate) async fn whole_of(
    state: &AppState,
    workspace: WorkspaceId,
    id: DelegationId,
    with_task: bool,
    with_raw: bool,
) -> Result<Value, ApiError> {
    let found = state.store.read(move |reader| {
        let Some(key) = reader.find_key(workspace, &id)? else {
            return Ok(None);
        };
        let Some(view) = reader.view(&key)? else {
            return Ok(None);
        };
        let task = if with_task { reader.task(&key)? } else { None };
        Ok(Some((view, task)))
    });
    let (view, task) = found
        .await?
        .ok_or(ApiError::Missing("delegation not found"))?;
    Ok(body(&view, workspace, task.as_deref(), with_raw).into())
}

/// The whole of a delegation as one of its parties sees it.
pub(crate) fn body(
    view: &DelegationView,
    workspace: WorkspaceId,
    task: Option<&str>,
    with_raw: bool,
) -> Map<String, Value> {
    let mut members = Map::new();
    if let Value::Object(known) = whole(view, workspace) {
        members.extend(known.into_iter().filter(|(_, value)| !value.is_null()));
    }
    if let Some(task) = task {
        members.insert("task".to_owned(), task.into());
    }
    if let Some(raw) = view.raw_reply.as_deref().filter(|_| with_raw) {
        members.insert("raw_result".to_owned(), STANDARD.encode(raw).into());
    }
    // In whose course it was handed on, is its caller's business.
    if let Some(parent) = view
        .parent
        .as_ref()
        .filter(|_| workspace == view.loaded.terms.key.caller)
    {
        members.insert(
            "parent_caller_id".to_owned(),
            parent.caller.to_string().into(),
        );
        members.insert(
            "parent_delegation_id".to_owned(),
            parent.id.to_string().into(),
        );
    }
    members
}

/// Everything that is known; what is not is `null` here and left out of the answer.
fn whole(view: &DelegationView, workspace: WorkspaceId) -> Value {
    let (terms, life) = (&view.loaded.terms, &view.loaded.life);
    let now = Now::of(&life.state);
    json!({
        "delegation_id": terms.key.id.to_string(),
        "source_id": terms.key.caller.to_string(),
        "target_id": text(terms.target),
        "direction": direction(workspace, terms.key.caller),
        "status": life.status().as_str(),
        "origin": terms.origin.as_str(),
        "redelivery": terms.redelivery.as_str(),
        "priority": terms.priority.0,
        "task_preview": view.task_preview,
        "attempts": life.attempt.0,
        "deadline": terms.deadline.to_rfc3339(),
        "created_at": terms.created_at.to_rfc3339(),
        "updated_at": view.updated_at.to_rfc3339(),
        "retry_of": text(view.retry_of.as_ref()),
        "revision": view.loaded.revision.0,
        "waiting_for": now.waiting_for,
        "next_attempt_at": time(now.next_attempt_at),
        "failures": now.trouble.map(|trouble| trouble.failures),
        "failing_since": time(now.trouble.map(|trouble| trouble.since)),
        "last_heartbeat": time(now.last_heartbeat),
        "progress": now.progress(),
        "task_id": now.task_id,
        "question": now.question.map(|question| &*question.text),
        "ended_at": time(now.ended.map(|ended| ended.at)),
        "result": now.result(),
        "error": now.error().map(|(_, detail)| detail),
        "error_class": now.error().map(|(class, _)| class),
        "late_result": now.late_result(),
        "history": view.history.iter().map(step).collect::<Vec<_>>(),
        "raw_result_bytes": view.raw_reply.as_ref().map(Vec::len),
    })
}

fn step(entry: &HistoryEntry) -> Value {
    let at = Timestamp(entry.at).to_rfc3339();
    match &entry.detail {
        None => json!({"at": at, "status": entry.status, "attempt": entry.attempt}),
        Some(detail) => {
            json!({"at": at, "status": entry.status, "attempt": entry.attempt, "detail": detail})
        }
    }
}

/// What is true of a delegation in the state that it is in.
#[derive(Default)]
struct Now<'a> {
    waiting_for: Option<&'static str>,
    next_attempt_at: Option<Timestamp>,
    trouble: Option<Trouble>,
    last_heartbeat: Option<Timestamp>,
    progress: Option<&'a Progress>,
    task_id: Option<&'a str>,
    question: Option<&'a Question>,
    ended: Option<&'a Ended>,
}

impl<'a> Now<'a> {
    fn of(state: &'a State) -> Self {
        match state {
            State::Pending => Self::default(),
            State::Working(working) | State::Stuck(working) => Self {
                trouble: match working.phase {
                    Phase::Dispatched { trouble } => trouble,
                    Phase::Received { .. } | Phase::InProgress { .. } => None,
                },
                last_heartbeat: Some(working.heard_at),
                progress: working.progress.as_ref(),
                task_id: working.phase.task().map(|task| &*task.0),
                ..Self::default()
            },
            State::Queued(wait) => Self {
                waiting_for: Some(wait.waiting_for.as_str()),
                next_attempt_at: Some(wait.until),
                trouble: wait.trouble,
                ..Self::default()
            },
            State::InputRequired(question) => Self {
                task_id: question.task.as_ref().map(|task| &*task.0),
                question: Some(question),
                ..Self::default()
            },
            State::Ended(ended) => Self {
                ended: Some(ended),
                ..Self::default()
            },
        }
    }

    fn progress(&self) -> Option<Value> {
        let Progress { message, percent } = self.progress?;
        Some(json!({"message": message.as_deref(), "percent": percent}))
    }

    fn result(&self) -> Option<&str> {
        match &self.ended?.ending {
            Ending::Completed { text } => Some(text),
            Ending::Failed { .. } | Ending::Cancelled { .. } => None,
        }
    }

    fn error(&self) -> Option<(Option<&'static str>, &str)> {
        match &self.ended?.ending {
            Ending::Completed { .. } => None,
            Ending::Failed { class, detail } => Some((Some(class.as_str()), detail)),
            Ending::Cancelled { reason } => Some((None, reason)),
        }
    }

    fn late_result(&self) -> Option<Value> {
        let late = self.ended?.late.as_ref()?;
        Some(json!({"text": &*late.text, "at": late.at.to_rfc3339()}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_filter_is_a_list_of_known_words() {
        let read = |query: &str| statuses(&Query::parse(query));
        assert!(read("").unwrap().is_empty());
        assert_eq!(
            read("status=failed,%20stuck").unwrap(),
            [Status::Failed, Status::Stuck]
        );
        assert!(read("status=failed,lost").is_err());
    }
}
