//! Workspaces: to list, to see, to change, to remove (contract §10.2-§10.5).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::activity::unexpected;
use super::answer::{self, inline, text, time};
use super::body::{self, Fields};
use super::credentials::Credentials;
use super::error::{ApiError, Door, Fault};
use super::extract::{Admin, NO_WORKSPACE, Party, PathWorkspace, Query, principal};
use super::openapi::{Limited, Refused, Unauthorised, WorkspacePatchBody};
use super::sockets::related;
use super::state::AppState;
use super::waiting;
use super::workspace_fields::{Named, check_specific, max_concurrent_tasks};
use crate::auth::Principal;
use crate::clock;
use crate::domain::{
    EventName, FeedEvent, Json, SealedCredential, Workspace, WorkspaceId, WorkspaceStatus,
};
use crate::store::{Error, Reader, WorkspacePatch, Write, Written};

const INVALID_ID: ApiError = ApiError::Invalid {
    error: std::borrow::Cow::Borrowed("invalid workspace ID"),
    fault: None,
};

/// The members that every view of a workspace has.
fn common(workspace: &Workspace) -> Value {
    json!({
        "id": workspace.id.to_string(), "name": workspace.name, "role": workspace.role,
        "tier": workspace.tier, "status": workspace.status.as_str(),
        "url": workspace.url.as_deref().unwrap_or_default(), "parent_id": text(workspace.parent),
        "active_tasks": workspace.active_tasks, "max_concurrent_tasks": workspace.max_concurrent_tasks.max(1),
        "last_error_rate": workspace.last_error_rate, "uptime_seconds": workspace.uptime_seconds,
        "runtime": workspace.runtime, "delivery_mode": workspace.delivery_mode.as_str(),
        "can_delegate": workspace.can_delegate, "agent_card": inline(workspace.agent_card.as_ref()),
        "credentials": workspace.credentials.as_ref().map(SealedCredential::scheme),
        "x": workspace.x, "y": workspace.y, "collapsed": workspace.collapsed,
        "last_heartbeat_at": time(workspace.last_heartbeat_at),
        "created_at": workspace.created_at.to_rfc3339(),
    })
}

fn with(mut view: Value, more: Value) -> Value {
    if let (Value::Object(members), Value::Object(more)) = (&mut view, more) {
        members.extend(more);
    }
    view
}

/// All workspaces that are not removed, oldest first.
#[utoipa::path(get, path = "/workspaces", tag = "workspaces", security(("bearer" = [])), responses(
    (status = 200, description = "The workspaces", body = Vec<Value>), Unauthorised, Limited,
))]
pub(crate) async fn list(
    _admin: Admin,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let workspaces = state.store.read(|reader| reader.workspaces()).await?;
    let shown = workspaces.iter().map(|workspace| {
        with(
            common(workspace),
            json!({
                "last_sample_error": workspace.last_sample_error.as_deref().unwrap_or_default(),
                "current_task": workspace.current_task.as_deref().unwrap_or_default(),
                "monthly_spend": workspace.monthly_spend, "workspace_dir": null, "budget_limit": null,
            }),
        )
    });
    answer::ok(&shown.collect::<Vec<_>>())
}

/// One workspace. Where its agent listens, and its card, are shown only to those who may communicate with it.
#[utoipa::path(get, path = "/workspaces/{id}", tag = "workspaces", params(
    ("id" = String, Path, format = "uuid"), ("include_removed" = Option<bool>, Query),
), responses(
    (status = 200, description = "The workspace", body = Value),
    (status = 400, description = "No UUID", body = Value),
    (status = 404, description = "No such workspace", body = Value),
    (status = 410, description = "Removed", body = Value), Unauthorised, Limited,
))]
pub(crate) async fn get(
    request: HttpRequest,
    path: PathWorkspace,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let speaker = match principal(&request, &state, Door::Workspace).await {
        Ok(principal) => Some(principal),
        Err(error) if is_anonymous(&error) => None,
        Err(error) => return Err(error),
    };
    let id = path.0.ok_or(INVALID_ID)?;
    let found = state.store.read(move |reader| reader.workspace(id)).await?;
    let workspace = found.ok_or(NO_WORKSPACE)?;
    if workspace.status == WorkspaceStatus::Removed && !query.is_true("include_removed") {
        return Err(removed(&workspace));
    }
    let intimate = match speaker {
        None => false,
        Some(Principal::Admin) => true,
        Some(Principal::Workspace(own)) => related(&state.store, own, id).await?,
    };
    let view = with(
        common(&workspace),
        json!({"last_outbound_at": time(workspace.last_outbound_at)}),
    );
    answer::ok(&if intimate {
        view
    } else {
        with(
            view,
            json!({"url": "", "agent_card": null, "credentials": null}),
        )
    })
}

/// A workspace as it sees itself.
pub(crate) async fn shown_to_itself(state: &AppState, id: WorkspaceId) -> Result<Value, ApiError> {
    let found = state.store.read(move |reader| reader.workspace(id)).await?;
    Ok(common(&found.ok_or(NO_WORKSPACE)?))
}

/// Nobody said who they are; a credential that is wrong is not the same.
fn is_anonymous(error: &ApiError) -> bool {
    matches!(
        error,
        ApiError::Unauthorized("missing workspace auth token")
    )
}

/// It existed, and its agent should stop knocking.
pub(crate) fn removed(workspace: &Workspace) -> ApiError {
    ApiError::with(
        StatusCode::GONE,
        "workspace removed",
        json!({
            "id": workspace.id.to_string(), "removed_at": workspace.updated_at.to_rfc3339(),
            "hint": "Regenerate workspace + token from the canvas → Tokens tab",
        }),
    )
}

/// Changes a workspace. What decides about others (`parent_id`, `can_delegate`, `max_concurrent_tasks`) is the admin's.
#[utoipa::path(patch, path = "/workspaces/{id}", tag = "workspaces", params(("id" = String, Path, format = "uuid")),
    request_body = WorkspacePatchBody, security(("bearer" = [])), responses(
    (status = 200, description = "Changed", body = Value), Refused, Limited,
))]
pub(crate) async fn patch(
    request: HttpRequest,
    payload: web::Payload,
    party: Party,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let id = party.workspace.ok_or(INVALID_ID)?;
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let invalid = |fault: Fault| fault.under("invalid request body");
    let fields = Fields::parse(&body).map_err(invalid)?;
    let mut patch = changes(&fields).map_err(invalid)?;
    let credentials = Credentials::read(&fields).map_err(invalid)?;
    patch.credentials = credentials.sealed(&state.secrets, id)?;
    check_specific(&Named {
        name: patch.name.as_deref(),
        role: patch.role.as_ref().and_then(Option::as_deref),
        model: None,
        runtime: patch.runtime.as_deref(),
    })?;
    let weighty = patch.parent.is_some()
        || patch.can_delegate.is_some()
        || patch.max_concurrent_tasks.is_some();
    if weighty && party.principal != Principal::Admin {
        return Err(ApiError::Forbidden {
            error: "admin auth required",
            reason: Some(
                "parent_id, can_delegate and max_concurrent_tasks may be changed by the admin only",
            ),
        });
    }
    if let Some(Some(parent)) = patch.parent {
        let fits = state
            .store
            .read(move |reader| may_hang_below(reader, id, parent));
        fits.await?
            .map_err(|reason| Fault::new("parent_id", reason).under("invalid request body"))?;
    }
    let write = Write::PatchWorkspace {
        id,
        patch: Box::new(patch),
        events: Vec::new(),
        at: clock::now(),
    };
    match state.persistence.write(write).await? {
        Written::Missing => Err(NO_WORKSPACE),
        written @ Written::Failed(_) => Err(unexpected(&written)),
        _ => {
            state.delegations.target_stirred(id);
            answer::ok(&json!({"status": "updated"}))
        }
    }
}

fn changes(fields: &Fields) -> Result<WorkspacePatch, Fault> {
    let place = fields.number("x")?.zip(fields.number("y")?);
    let parent = match fields.raw("parent_id") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(_) => Some(parent(fields)?),
    };
    let role = match fields.raw("role") {
        None => None,
        Some(_) => Some(fields.text("role")?),
    };
    Ok(WorkspacePatch {
        name: fields.text("name")?,
        role,
        tier: fields.small_integer("tier")?,
        parent,
        runtime: fields.text("runtime")?,
        collapsed: fields.flag("collapsed")?,
        place,
        can_delegate: fields.flag("can_delegate")?,
        max_concurrent_tasks: max_concurrent_tasks(fields)?,
        ..WorkspacePatch::default()
    })
}

/// The `parent_id` of a body; an empty one is none.
pub(crate) fn parent(fields: &Fields) -> Result<Option<WorkspaceId>, Fault> {
    let parent = fields
        .text("parent_id")?
        .map(|text| WorkspaceId::parse(&text));
    match parent {
        None => Ok(None),
        Some(None) => Err(Fault::new("parent_id", "is not a UUID")),
        Some(found) => Ok(found),
    }
}

/// How deep an organisation may be: beyond it, nobody's root could be found.
pub(crate) const MAX_DEPTH: usize = 32;

/// Whether a workspace, with everything below it, may hang below `parent`.
fn may_hang_below(
    reader: &mut dyn Reader,
    id: WorkspaceId,
    parent: WorkspaceId,
) -> Result<Result<(), &'static str>, Error> {
    let line = reader.ancestry(parent)?;
    let alive = reader
        .workspace(parent)?
        .is_some_and(|parent| parent.status != WorkspaceStatus::Removed);
    if line.is_empty() || !alive {
        return Ok(Err("names no workspace"));
    }
    if line.contains(&id) {
        return Ok(Err("names the workspace itself or one below it"));
    }
    let below = reader.descendants(id)?;
    if line.len().saturating_add(height(id, &below)) > MAX_DEPTH {
        return Ok(Err("would make the organisation deeper than 32 levels"));
    }
    Ok(Ok(()))
}

/// How many levels a workspace has with its descendants, nearest first; 1 without any.
fn height(id: WorkspaceId, descendants: &[Workspace]) -> usize {
    let mut levels = std::collections::HashMap::from([(id, 1_usize)]);
    for workspace in descendants {
        let above = workspace.parent.and_then(|parent| levels.get(&parent));
        let level = above.map_or(2, |level| level.saturating_add(1));
        levels.insert(workspace.id, level);
    }
    levels.into_values().max().unwrap_or(1)
}

/// Removes a workspace and everything below it.
#[utoipa::path(delete, path = "/workspaces/{id}", tag = "workspaces", params(
    ("id" = String, Path, format = "uuid"), ("confirm" = Option<bool>, Query), ("purge" = Option<bool>, Query),
), security(("bearer" = [])), responses(
    (status = 200, description = "Removed, or unknown", body = Value),
    (status = 400, description = "No UUID", body = Value),
    (status = 409, description = "It has sub-workspaces and `confirm=true` is missing", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn remove(
    _admin: Admin,
    path: PathWorkspace,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let id = path.0.ok_or(INVALID_ID)?;
    let purge = query.is_true("purge");
    let read = state.store.read(move |reader| {
        let found = reader.workspace(id)?;
        Ok((found, reader.descendants(id)?))
    });
    let (found, below) = read.await?;
    if !below.is_empty() && !query.is_true("confirm") {
        return answer::json(StatusCode::CONFLICT, &confirmation(&below));
    }
    let gone = |count: usize| {
        let status = if purge { "purged" } else { "removed" };
        answer::ok(&json!({"status": status, "cascade_deleted": count}))
    };
    let pointless = found
        .as_ref()
        .is_none_or(|found| found.status == WorkspaceStatus::Removed && !purge);
    if pointless {
        return gone(0);
    }
    let mut ids: Vec<WorkspaceId> = below.iter().map(|workspace| workspace.id).collect();
    let mut events: Vec<FeedEvent> = ids
        .iter()
        .map(|id| event(*id, EventName::WorkspaceRemoved, &json!({})))
        .collect();
    let last = json!({"cascade_deleted": below.len()});
    events.push(event(id, EventName::WorkspaceRemoved, &last));
    ids.push(id);
    let write = Write::RemoveWorkspaces {
        ids: ids.clone(),
        purge,
        events,
        at: clock::now(),
    };
    let written = state.persistence.write(write).await?;
    if let Written::Failed(_) = written {
        return Err(unexpected(&written));
    }
    state.outbox.forget(&ids);
    waiting::end_for_removed(&state, ids);
    gone(below.len())
}

fn confirmation(below: &[Workspace]) -> Value {
    let children: Vec<Value> = below
        .iter()
        .map(|child| json!({"id": child.id.to_string(), "name": child.name}))
        .collect();
    json!({
        "status": "confirmation_required",
        "message": "This workspace has sub-workspaces. Delete with ?confirm=true to cascade delete.",
        "children_count": children.len(), "children": children,
    })
}

/// An event that is recorded for a workspace.
pub(crate) fn event(workspace: WorkspaceId, name: EventName, payload: &Value) -> FeedEvent {
    FeedEvent {
        name,
        workspace,
        payload: Json::from(payload),
        created_at: clock::now(),
        course_of: None,
    }
}
