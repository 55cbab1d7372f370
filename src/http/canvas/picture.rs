//! Where everything stands, at one look.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashSet;

use actix_web::{HttpResponse, web};
use serde::Serialize;

use crate::auth::Principal;
use crate::clock;
use crate::domain::{WaitingFor, WorkspaceId, WorkspaceStatus, preview};
use crate::http::answer::{self, text, time};
use crate::http::error::ApiError;
use crate::http::extract::{Anybody, Query};
use crate::http::openapi::{Limited, Unauthorised};
use crate::http::state::AppState;
use crate::store::{self, Faces, LiveMark, Reader};

/// No more workspaces than this are shown: the newest.
const WORKSPACES: i64 = 10_000;
/// No more live delegations than this are shown: the newest.
const LIVE: i64 = 20_000;
/// How much is shown of what one says it works on, in bytes.
const TASK_BYTES: usize = 500;

/// A workspace as the picture shows it.
#[derive(Serialize)]
struct Face<'a> {
    id: String,
    name: &'a str,
    role: Option<&'a str>,
    parent_id: Option<String>,
    status: &'static str,
    delivery_mode: &'static str,
    active_tasks: i32,
    max_concurrent_tasks: Option<i32>,
    current_task: Option<Cow<'a, str>>,
    last_heartbeat_at: Option<String>,
    created_at: String,
}

impl<'a> From<&'a store::Face> for Face<'a> {
    fn from(workspace: &'a store::Face) -> Self {
        let task = workspace.current_task.as_deref();
        let task = task.filter(|task| !task.is_empty());
        Self {
            id: workspace.id.to_string(),
            name: &workspace.name,
            role: workspace.role.as_deref(),
            parent_id: text(workspace.parent),
            status: workspace.status.as_str(),
            delivery_mode: workspace.delivery_mode.as_str(),
            active_tasks: workspace.active_tasks,
            // Zero is no cap of its own.
            max_concurrent_tasks: Some(workspace.max_concurrent_tasks).filter(|most| *most > 0),
            current_task: task.map(|task| preview(task, TASK_BYTES)),
            last_heartbeat_at: time(workspace.last_heartbeat_at),
            created_at: workspace.created_at.to_rfc3339(),
        }
    }
}

/// A live delegation as the picture shows it.
#[derive(Serialize)]
struct Mark {
    id: String,
    caller_id: String,
    target_id: Option<String>,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<&'static str>,
}

impl From<&LiveMark> for Mark {
    fn from(mark: &LiveMark) -> Self {
        Self {
            id: mark.key.id.to_string(),
            caller_id: mark.key.caller.to_string(),
            target_id: text(mark.target),
            status: mark.status.as_str(),
            waiting_for: mark.waiting_for.map(WaitingFor::as_str),
        }
    }
}

#[derive(Serialize)]
struct Picture<'a> {
    position: i64,
    now: String,
    workspaces: Vec<Face<'a>>,
    workspaces_total: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Vec<Mark>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live_total: Option<i64>,
}

/// Workspaces and live delegations, with the place of the event log from which on to follow what becomes of them: the
/// admin sees all, a workspace those that it may communicate with, and its own delegations.
#[utoipa::path(get, path = "/canvas", tag = "canvas", params(
    ("live" = Option<String>, Query, description = "`0`: without delegations"),
), security(("bearer" = [])), responses(
    (status = 200, description = "`position` for `after_seq` of a socket, `now`, `workspaces` (the newest 10,000, oldest first) and `workspaces_total`, `live` (the newest 20,000) and `live_total`", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn get(
    speaker: Anybody,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let own = match speaker.0 {
        Principal::Admin => None,
        Principal::Workspace(own) => Some(own),
    };
    let with_live = query.get("live") != Some("0");
    let read = state.store.read(move |reader| {
        // First: events after it may tell again what the rows show, but none of them is missed.
        let position = reader.last_position()?;
        let workspaces = visible(reader, own)?;
        let live = with_live
            .then(|| reader.live_marks(own, LIVE))
            .transpose()?;
        Ok((position, workspaces, live))
    });
    let (position, workspaces, live) = read.await?;
    let shown = workspaces.newest.iter().rev().map(Face::from);
    let marks = live.as_ref().map(|live| live.newest.iter().map(Mark::from));
    answer::ok(&Picture {
        position: position.0,
        now: clock::now().to_rfc3339(),
        workspaces: shown.collect(),
        workspaces_total: workspaces.total,
        live: marks.map(Iterator::collect),
        live_total: live.as_ref().map(|live| live.total),
    })
}

/// All workspaces, or those that this one may communicate with, and itself.
fn visible(reader: &mut dyn Reader, own: Option<WorkspaceId>) -> Result<Faces, store::Error> {
    let Some(own) = own else {
        return reader.faces(WORKSPACES);
    };
    let mut kin = Vec::new();
    for id in reader.ancestry(own)? {
        kin.extend(reader.workspace(id)?);
    }
    kin.extend(reader.peers(own)?);
    kin.extend(reader.descendants(own)?);
    let mut seen = HashSet::new();
    kin.retain(|one| one.status != WorkspaceStatus::Removed && seen.insert(one.id));
    kin.sort_by_key(|one| Reverse((one.created_at, one.id)));
    let total = i64::try_from(kin.len()).unwrap_or(i64::MAX);
    kin.truncate(usize::try_from(WORKSPACES).unwrap_or(usize::MAX));
    Ok(Faces {
        newest: kin.into_iter().map(store::Face::from).collect(),
        total,
    })
}
