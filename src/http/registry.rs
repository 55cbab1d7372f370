//! Agents make themselves known, and find each other (contract §9.1, §9.3-§9.5).

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::activity::unexpected;
use super::answer::{self, inline, text};
use super::body::{self, Fields};
use super::credentials::Credentials;
use super::error::{ApiError, Door, Fault};
use super::extract::{Anybody, Member, NO_WORKSPACE, PathWorkspace, Query};
use super::openapi::{CardBody, CheckBody, Limited, Refused, RegisterBody, Unauthorised};
use super::sockets::related;
use super::state::AppState;
use super::workspace_creation::bad_mode;
use super::workspaces::{event, removed};
use crate::auth::{Principal, Secret};
use crate::clock;
use crate::domain::{DeliveryMode, EventName, Json, Workspace, WorkspaceId, WorkspaceStatus};
use crate::store::{Registration, WorkspacePatch, Write, Written};

pub(crate) const INVALID_BODY: &str = "invalid request body";

/// The id of whom a body speaks, if the speaker may act for it.
pub(crate) fn subject(
    fields: &Fields,
    name: &'static str,
    speaker: Principal,
) -> Result<WorkspaceId, ApiError> {
    let text = fields
        .required_text(name)
        .map_err(|fault| fault.under(INVALID_BODY))?;
    match (WorkspaceId::parse(&text), speaker) {
        (Some(id), _) if speaker.may_act_for(id) => Ok(id),
        (_, Principal::Workspace(_)) => Err(Door::Workspace.invalid()),
        (_, Principal::Admin) => Err(Fault::new(name, "is not a UUID").under(INVALID_BODY)),
    }
}

/// The card in a body: any JSON, `null` too, but it must be there.
fn card(fields: &Fields) -> Result<Json, ApiError> {
    fields
        .raw("agent_card")
        .map(Json::from)
        .ok_or_else(|| Fault::new("agent_card", "is required").under(INVALID_BODY))
}

/// An agent says where it listens. A row that nobody created needs the admin token, and becomes a root.
#[utoipa::path(post, path = "/registry/register", tag = "registry", request_body = RegisterBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "Registered; with a token if it had none", body = Value),
    (status = 410, description = "Removed", body = Value), Refused, Limited,
))]
pub(crate) async fn register(
    request: HttpRequest,
    payload: web::Payload,
    speaker: Anybody,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let fields = Fields::parse(&body).map_err(|fault| fault.under(INVALID_BODY))?;
    let id = subject(&fields, "id", speaker.0)?;
    let agent_card = card(&fields)?;
    let url = fields
        .text("url")
        .map_err(|fault| fault.under(INVALID_BODY))?;
    let mode = fields
        .text("delivery_mode")
        .map_err(|fault| fault.under(INVALID_BODY))?
        .map(|word| DeliveryMode::parse(&word).ok_or_else(bad_mode))
        .transpose()?;
    let credentials = Credentials::read(&fields).map_err(|fault| fault.under(INVALID_BODY))?;
    let known = state.store.read(move |reader| reader.workspace(id)).await?;
    if let Some(gone) = known
        .as_ref()
        .filter(|known| known.status == WorkspaceStatus::Removed)
    {
        return Err(removed(gone));
    }
    let stored = known.as_ref().map(|known| known.delivery_mode);
    let delivery_mode = mode.or(stored).unwrap_or(DeliveryMode::Push);
    let url = checked(&state, url, delivery_mode).await?;
    let shown = json!({
        "url": url.as_deref().unwrap_or_default(), "agent_card": inline(Some(&agent_card)),
        "delivery_mode": delivery_mode.as_str(),
    });
    let secret = Secret::mint();
    let write = Write::Register(Box::new(Registration {
        id,
        url,
        agent_card,
        credentials: credentials.sealed(&state.secrets, id)?,
        delivery_mode,
        token: secret.for_workspace(id),
        events: vec![event(id, EventName::WorkspaceOnline, &shown)],
        at: clock::now(),
    }));
    let mut answer = json!({"status": "registered", "delivery_mode": delivery_mode.as_str()});
    match state.persistence.write(write).await? {
        Written::Registered { token_stored } => {
            state.delegations.target_stirred(id);
            if let (Value::Object(members), true) = (&mut answer, token_stored) {
                members.insert("auth_token".to_owned(), secret.reveal().into());
            }
            answer::ok(&answer)
        }
        // It was removed since it was looked up.
        Written::Missing => Err(ApiError::with(
            StatusCode::GONE,
            "workspace removed",
            json!({"id": id.to_string()}),
        )),
        other => Err(unexpected(&other)),
    }
}

/// The address, if it may be called; a push-mode agent must have one.
async fn checked(
    state: &AppState,
    url: Option<String>,
    mode: DeliveryMode,
) -> Result<Option<String>, ApiError> {
    let Some(url) = url else {
        return match mode {
            DeliveryMode::Poll => Ok(None),
            DeliveryMode::Push => Err(Fault::new("url", "is absent or empty")
                .under("url is required for push-mode workspaces")),
        };
    };
    match state.guard.check(&url).await {
        Ok(_safe) => Ok(Some(url)),
        Err(error) => {
            let reason = error.to_string();
            Err(Fault::new("url", reason.clone()).under(reason))
        }
    }
}

/// An agent shows a new card.
#[utoipa::path(post, path = "/registry/update-card", tag = "registry", request_body = CardBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "Shown", body = Value), Refused, Limited,
))]
pub(crate) async fn update_card(
    request: HttpRequest,
    payload: web::Payload,
    speaker: Anybody,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let fields = Fields::parse(&body).map_err(|fault| fault.under(INVALID_BODY))?;
    let id = subject(&fields, "workspace_id", speaker.0)?;
    let card = card(&fields)?;
    let shown = json!({"agent_card": inline(Some(&card))});
    let write = Write::PatchWorkspace {
        id,
        patch: Box::new(WorkspacePatch {
            agent_card: Some(card),
            ..WorkspacePatch::default()
        }),
        events: vec![event(id, EventName::AgentCardUpdated, &shown)],
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

/// Where another workspace's agent listens. Unknown and foreign ones look alike.
#[utoipa::path(get, path = "/registry/discover/{id}", tag = "registry", params(
    ("id" = String, Path, format = "uuid"),
    ("X-Workspace-ID" = Option<String>, Header, description = "If given, must be the credential's own workspace"),
), security(("bearer" = [])), responses(
    (status = 200, description = "`id`, `url`, `name`", body = Value),
    (status = 403, description = "Unknown, foreign, or not related", body = Value),
    (status = 404, description = "No such workspace (admin only)", body = Value),
    Unauthorised, Limited,
    (status = 503, description = "Its agent has no address now, or Baton cannot tell; see Retry-After", body = Value),
))]
pub(crate) async fn discover(
    request: HttpRequest,
    speaker: Anybody,
    path: PathWorkspace,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let stranger = || ApiError::Forbidden {
        error: "not authorized to discover this workspace",
        reason: None,
    };
    if !is_own(&request, speaker.0) {
        return Err(Door::Workspace.invalid());
    }
    let id = match (path.0, speaker.0) {
        (None, Principal::Admin) => return Err(NO_WORKSPACE),
        (None, Principal::Workspace(_)) => return Err(stranger()),
        (Some(id), Principal::Admin) => id,
        (Some(id), Principal::Workspace(own)) => {
            if !related(&state.store, own, id).await? {
                return Err(stranger());
            }
            id
        }
    };
    let found = state.store.read(move |reader| reader.workspace(id)).await?;
    let present = found.filter(|found| found.status != WorkspaceStatus::Removed);
    let workspace = present.ok_or(NO_WORKSPACE)?;
    match &workspace.url {
        Some(url) => answer::ok(&json!({"id": id.to_string(), "url": url, "name": workspace.name})),
        None => Err(ApiError::with(
            StatusCode::SERVICE_UNAVAILABLE,
            "workspace not available",
            json!({"status": workspace.status.as_str(), "delivery_mode": workspace.delivery_mode.as_str()}),
        )),
    }
}

/// `X-Workspace-ID` is no credential, but one that names somebody else is a mistake to be told.
fn is_own(request: &HttpRequest, speaker: Principal) -> bool {
    let Some(header) = request.headers().get("x-workspace-id") else {
        return true;
    };
    let named = header.to_str().ok().and_then(WorkspaceId::parse);
    match speaker {
        Principal::Admin => true,
        Principal::Workspace(own) => named == Some(own),
    }
}

/// Siblings, children and the parent.
#[utoipa::path(get, path = "/registry/{id}/peers", tag = "registry", params(
    ("id" = String, Path, format = "uuid"), ("q" = Option<String>, Query, description = "Part of the name or role"),
), security(("bearer" = [])), responses(
    (status = 200, description = "The peers", body = Vec<Value>),
    (status = 404, description = "No such workspace", body = Value), Unauthorised, Limited,
))]
pub(crate) async fn peers(
    member: Member,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    member.must_exist(&state).await?;
    let wanted = query.get("q").unwrap_or_default();
    answer::ok(&peers_of(&state, member.workspace, wanted).await?)
}

/// The peers whose name or role has this word in it.
pub(crate) async fn peers_of(
    state: &AppState,
    id: WorkspaceId,
    wanted: &str,
) -> Result<Vec<Value>, ApiError> {
    let peers = state.store.read(move |reader| reader.peers(id)).await?;
    let wanted = wanted.trim().to_lowercase();
    let matches = |peer: &&Workspace| {
        let role = peer.role.as_deref().unwrap_or_default();
        peer.name.to_lowercase().contains(&wanted) || role.to_lowercase().contains(&wanted)
    };
    Ok(peers.iter().filter(matches).map(peer).collect())
}

fn peer(peer: &Workspace) -> Value {
    json!({
        "id": peer.id.to_string(), "name": peer.name, "role": peer.role, "tier": peer.tier,
        "status": peer.status.as_str(), "agent_card": inline(peer.agent_card.as_ref()),
        "url": peer.url.as_deref().unwrap_or_default(), "parent_id": text(peer.parent),
        "active_tasks": peer.active_tasks,
    })
}

/// Whether two workspaces may communicate. An agent may ask about itself; the admin about all.
#[utoipa::path(post, path = "/registry/check-access", tag = "registry", request_body = CheckBody,
    security(("bearer" = [])), responses(
    (status = 200, description = "`allowed`", body = Value), Refused, Limited,
))]
pub(crate) async fn check_access(
    request: HttpRequest,
    payload: web::Payload,
    speaker: Anybody,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let invalid = |fault: Fault| fault.under(INVALID_BODY);
    let body = body::read(&request, payload, state.settings.max_body_bytes).await?;
    let fields = Fields::parse(&body).map_err(invalid)?;
    let target = fields.required_text("target_id").map_err(invalid)?;
    let caller = fields.required_text("caller_id").map_err(invalid)?;
    let (caller, target) = (WorkspaceId::parse(&caller), WorkspaceId::parse(&target));
    if let Principal::Workspace(own) = speaker.0
        && caller != Some(own)
    {
        return Err(Door::Workspace.invalid());
    }
    let allowed = match (caller, target) {
        (Some(caller), Some(target)) => related(&state.store, caller, target).await?,
        _ => false,
    };
    answer::ok(&json!({"allowed": allowed}))
}
