//! One delegation, with all that belongs to it.

use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};

use super::deliveries::{Told, deliveries};
use super::lines::{TASK_BYTES, is_visible};
use crate::auth::Principal;
use crate::domain::{
    DelegationKey, Kinship, Workspace, WorkspaceId, WorkspaceStatus, kinship, preview,
};
use crate::http::answer::{self, text};
use crate::http::delegation_views::body;
use crate::http::error::ApiError;
use crate::http::extract::{Anybody, PathCaller, PathDelegation, Query};
use crate::http::openapi::{Limited, Unauthorised};
use crate::http::state::AppState;
use crate::store::{self, DelegationView, Family, Reader, Relative};

/// How many children are shown, and how many that repeat it.
const RELATIVES: usize = 100;

const MISSING: ApiError = ApiError::Missing("delegation not found");

/// What is read of one.
struct Read {
    view: DelegationView,
    task: Option<std::sync::Arc<str>>,
    caller: Option<Workspace>,
    target: Option<Workspace>,
    /// Whether whoever looks may communicate with the target.
    near: bool,
    family: Family,
    told: Told,
}

fn read(
    reader: &mut dyn Reader,
    key: &DelegationKey,
    principal: Principal,
) -> Result<Option<Read>, store::Error> {
    let Some(view) = reader.view(key)? else {
        return Ok(None);
    };
    let target = view.loaded.terms.target;
    let target = target.map_or(Ok(None), |target| reader.workspace(target))?;
    let one_more = i64::try_from(RELATIVES).unwrap_or(0).saturating_add(1);
    Ok(Some(Read {
        task: reader.task(key)?,
        caller: reader.workspace(key.caller)?,
        near: is_near(reader, principal, target.as_ref())?,
        target,
        family: reader.family(key, one_more)?,
        told: Told::read(reader, key)?,
        view,
    }))
}

fn is_near(
    reader: &mut dyn Reader,
    principal: Principal,
    target: Option<&Workspace>,
) -> Result<bool, store::Error> {
    let Principal::Workspace(own) = principal else {
        return Ok(true);
    };
    let Some(target) = target.filter(|target| target.status != WorkspaceStatus::Removed) else {
        return Ok(false);
    };
    let (own, target) = (reader.ancestry(own)?, reader.ancestry(target.id)?);
    Ok(matches!(
        kinship(&own, &target),
        Kinship::Same | Kinship::Related
    ))
}

/// The whole of a delegation, for its caller, its target and the admin: what the plain route tells, with its family, and
/// what was delivered to whom.
#[utoipa::path(get, path = "/canvas/delegations/{caller}/{delegation_id}", tag = "canvas", params(
    ("caller" = String, Path, format = "uuid"), ("delegation_id" = String, Path),
    ("include" = Option<String>, Query, description = "`raw` for the target's reply byte for byte in base64"),
), security(("bearer" = [])), responses(
    (status = 200, description = "The delegation", body = Value),
    (status = 404, description = "No such delegation, or none of this workspace's", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn get(
    speaker: Anybody,
    caller: PathCaller,
    id: PathDelegation,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let Anybody(principal) = speaker;
    let (caller, id) = (caller.0.ok_or(MISSING)?, id.0);
    let key = DelegationKey { caller, id };
    let wanted = key.clone();
    let found = state
        .store
        .read(move |reader| read(reader, &wanted, principal))
        .await?;
    let target = |found: &Read| found.view.loaded.terms.target;
    let found = found.filter(|found| is_visible(principal, &key, target(found)));
    let found = found.ok_or(MISSING)?;
    let includes = query.get("include").unwrap_or_default();
    let with_raw = includes.split(',').any(|word| word.trim() == "raw");
    answer::ok(&shown(
        &found,
        principal,
        with_raw,
        state.settings.inbox_push,
    ))
}

/// For whose eyes it is shown: the admin sees what the caller sees.
fn eyes(principal: Principal, key: &DelegationKey) -> WorkspaceId {
    match principal {
        Principal::Admin => key.caller,
        Principal::Workspace(own) => own,
    }
}

fn shown(found: &Read, principal: Principal, with_raw: bool, push: bool) -> Map<String, Value> {
    let key = &found.view.loaded.terms.key;
    let own = eyes(principal, key);
    let mut members = body(&found.view, own, found.task.as_deref(), with_raw);
    let name = |workspace: &Option<Workspace>| workspace.as_ref().map(|one| one.name.clone());
    let mut tell = |name: &str, value: Value| {
        if !value.is_null() {
            members.insert(name.to_owned(), value);
        }
    };
    tell("caller_id", key.caller.to_string().into());
    tell("caller_name", name(&found.caller).into());
    tell("target_name", name(&found.target).into());
    let family = &found.family;
    let seen = |one: &&Relative| is_visible(principal, &one.key, one.target);
    let one = |one: &Option<Relative>| one.as_ref().filter(seen).map(relative);
    let some = |all: &[Relative]| {
        all.iter()
            .take(RELATIVES)
            .filter(seen)
            .map(relative)
            .collect::<Vec<_>>()
    };
    tell("parent", one(&family.parent).into());
    // The target handed them on; to whom is nobody else's business.
    let target = found.view.loaded.terms.target;
    if target.map_or(principal == Principal::Admin, |target| {
        principal.may_act_for(target)
    }) {
        tell("children", some(&family.children).into());
        tell("children_more", (family.children.len() > RELATIVES).into());
    }
    tell("retried_from", one(&family.retried_from).into());
    tell("retried_as", some(&family.retried_as).into());
    let all = deliveries(
        &found.view,
        found.caller.as_ref(),
        found.target.as_ref(),
        found.near,
        &found.told,
        push,
    );
    // What its caller is told, and where, is its caller's business.
    let all = all
        .into_iter()
        .filter(|one| own == key.caller || one.is_to_target());
    tell("deliveries", all.map(Value::from).collect());
    members
}

fn relative(one: &Relative) -> Value {
    json!({
        "caller_id": one.key.caller.to_string(), "delegation_id": one.key.id.to_string(),
        "target_id": text(one.target), "status": one.status.as_str(),
        "task_preview": preview(&one.task_preview, TASK_BYTES), "created_at": one.created_at.to_rfc3339(),
    })
}
