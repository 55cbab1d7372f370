//! The card of a workspace: how any agent may speak to it through Baton (A2A §8).

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HttpDate, IF_NONE_MATCH, LAST_MODIFIED,
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::call::{Call, base};
use super::problem::Trouble;
use crate::domain::{Workspace, WorkspaceId};
use crate::http::admission::admit;
use crate::http::error::ApiError;
use crate::http::extract::{NO_WORKSPACE, PathWorkspace};
use crate::http::openapi::Limited;
use crate::http::state::AppState;

/// What an agent takes that does not say so.
const MODES: [&str; 8] = [
    "text/*",
    "application/json",
    "application/pdf",
    "application/octet-stream",
    "image/*",
    "audio/*",
    "video/*",
    "model/*",
];
/// How long a card may be taken as known, in seconds.
const MAX_AGE: &str = "public, max-age=60";

/// The card of a workspace, in the form of A2A 1.0.
#[utoipa::path(get, path = "/workspaces/{id}/a2a/.well-known/agent-card.json", tag = "a2a",
    params(("id" = String, Path, format = "uuid")), responses(
    (status = 200, description = "The card", body = Value),
    (status = 404, description = "No such workspace", body = Value), Limited,
))]
pub(crate) async fn get(
    request: HttpRequest,
    path: PathWorkspace,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let workspace = present(&state, path.0).await?;
    let card = card(&workspace, &base(&request, &state), false);
    Ok(answer(&request, &workspace, &card))
}

/// The same for clients of A2A 0.3, which know no other form.
#[utoipa::path(get, path = "/workspaces/{id}/a2a/v0.3/.well-known/agent-card.json", tag = "a2a",
    params(("id" = String, Path, format = "uuid")), responses(
    (status = 200, description = "The card", body = Value),
    (status = 404, description = "No such workspace", body = Value), Limited,
))]
pub(crate) async fn get_old(
    request: HttpRequest,
    path: PathWorkspace,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let workspace = present(&state, path.0).await?;
    let card = old(&card(&workspace, &base(&request, &state), false));
    Ok(answer(&request, &workspace, &card))
}

async fn present(state: &AppState, id: Option<WorkspaceId>) -> Result<Workspace, ApiError> {
    let id = id.ok_or(NO_WORKSPACE)?;
    let found = state.store.read(move |reader| reader.workspace(id)).await?;
    let seat = state.store.seat(id).await?;
    let present = seat.is_some_and(|seat| seat.is_present());
    found.filter(|_| present).ok_or(NO_WORKSPACE)
}

/// For whoever may speak to the workspace: with what its agent says of itself.
pub(super) async fn extended(call: &Call) -> Result<Value, Trouble> {
    if call.member.workspace != call.target {
        admit(&call.state, call.member.workspace, call.target).await?;
    }
    let workspace = present(&call.state, Some(call.target)).await?;
    Ok(card(&workspace, &call.base, true))
}

/// The media types that a workspace's agent says it takes; any when it says nothing.
pub(super) async fn input_modes(call: &Call) -> Result<Vec<String>, Trouble> {
    let id = call.target;
    let read = call.state.store.read(move |reader| reader.workspace(id));
    let own = read.await?.map(|workspace| own_card(&workspace));
    Ok(said_modes(&own.unwrap_or_default(), "defaultInputModes"))
}

fn own_card(workspace: &Workspace) -> Value {
    let card = workspace.agent_card.as_ref();
    card.and_then(|card| serde_json::from_str(&card.0).ok())
        .unwrap_or_default()
}

/// What a card says it takes or gives.
fn said_modes(card: &Value, name: &str) -> Vec<String> {
    let said = card.get(name).and_then(Value::as_array);
    let said = said.into_iter().flatten().filter_map(Value::as_str);
    said.map(ToOwned::to_owned).collect()
}

/// The same; nearly everything if it does not say.
fn modes(card: &Value, name: &str) -> Vec<String> {
    let said = said_modes(card, name);
    if said.is_empty() {
        MODES.map(ToOwned::to_owned).to_vec()
    } else {
        said
    }
}

fn card(workspace: &Workspace, base: &str, extended: bool) -> Value {
    let own = own_card(workspace);
    let url = format!("{base}/workspaces/{}/a2a", workspace.id);
    let interface = |binding: &str, version: &str| json!({"url": url, "protocolBinding": binding, "protocolVersion": version});
    let described = own.get("description").and_then(Value::as_str);
    let described = described.or(workspace.role.as_deref()).filter(|_| extended);
    json!({
        "name": workspace.name,
        "description": described.unwrap_or("A workspace of Baton: tasks are handed over durably."),
        "version": env!("CARGO_PKG_VERSION"),
        "supportedInterfaces": [
            interface("JSONRPC", "1.0"), interface("HTTP+JSON", "1.0"), interface("JSONRPC", "0.3"),
        ],
        "capabilities": {"streaming": true, "pushNotifications": true, "extendedAgentCard": true},
        "securitySchemes": {"bearer": {"httpAuthSecurityScheme": {"scheme": "Bearer"}}},
        "securityRequirements": [{"schemes": {"bearer": {"list": []}}}],
        "defaultInputModes": modes(&own, "defaultInputModes"),
        "defaultOutputModes": modes(&own, "defaultOutputModes"),
        "skills": skills(&own, extended),
    })
}

/// Handing tasks over; for whoever may, what the agent says it can, too.
fn skills(own: &Value, extended: bool) -> Vec<Value> {
    let mut skills = vec![json!({
        "id": "delegate", "name": "Delegate",
        "description": "Takes a task, hands it to the agent of this workspace, and brings the result back.",
        "tags": ["delegation"],
    })];
    let said = own
        .get("skills")
        .and_then(Value::as_array)
        .filter(|_| extended);
    skills.extend(said.into_iter().flatten().filter_map(skill));
    skills
}

/// A skill that has all that one must have.
fn skill(said: &Value) -> Option<Value> {
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let tags = said.get("tags").and_then(Value::as_array);
    let tags: Vec<&str> = tags
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    Some(json!({
        "id": text("id")?, "name": text("name").or(text("id"))?,
        "description": text("description").unwrap_or_default(), "tags": tags,
    }))
}

/// A card in the form of A2A 0.3.
pub(super) fn old(card: &Value) -> Value {
    let member = |name: &str| card.get(name).cloned().unwrap_or_default();
    let interfaces = member("supportedInterfaces");
    let url = interfaces
        .get(0)
        .and_then(|first| first.get("url")?.as_str());
    let url = format!("{}/v0.3", url.unwrap_or_default());
    let can = |name: &str| member("capabilities").get(name).cloned();
    json!({
        "protocolVersion": "0.3.0", "name": member("name"), "description": member("description"),
        "version": member("version"), "url": url, "preferredTransport": "JSONRPC",
        "additionalInterfaces": [{"url": url, "transport": "JSONRPC"}],
        "capabilities": {"streaming": can("streaming"), "pushNotifications": can("pushNotifications")},
        "defaultInputModes": member("defaultInputModes"), "defaultOutputModes": member("defaultOutputModes"),
        "skills": member("skills"), "supportsAuthenticatedExtendedCard": can("extendedAgentCard"),
        "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}, "security": [{"bearer": []}],
    })
}

/// A card may be kept, and asked for again only if it has changed.
fn answer(request: &HttpRequest, workspace: &Workspace, card: &Value) -> HttpResponse {
    let text = card.to_string();
    let digest = Sha256::digest(text.as_bytes());
    let tag = digest
        .iter()
        .take(16)
        .fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"));
    let tag = format!("\"{tag}\"");
    let known = request.headers().get_all(IF_NONE_MATCH);
    let unchanged = known
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains(&tag));
    let status = if unchanged {
        StatusCode::NOT_MODIFIED
    } else {
        StatusCode::OK
    };
    let changed = std::time::UNIX_EPOCH + workspace.updated_at.since(crate::domain::Timestamp(0));
    let mut response = HttpResponse::build(status);
    response
        .insert_header((CACHE_CONTROL, MAX_AGE))
        .insert_header((ETAG, tag))
        .insert_header((LAST_MODIFIED, HttpDate::from(changed)));
    if unchanged {
        return response.finish();
    }
    response
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(text)
}
