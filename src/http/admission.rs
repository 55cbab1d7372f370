//! The one point that every route passes which begins a delegation (lesson A01).

use serde_json::json;

use actix_web::http::StatusCode;

use super::error::ApiError;
use super::extract::NO_WORKSPACE;
use super::state::AppState;
use crate::domain::{Kinship, WorkspaceId, kinship};
use crate::store::{Error, Find, line};

/// Whether `caller` may delegate to `target`. Nothing is written.
pub(crate) async fn admit(
    state: &AppState,
    caller: WorkspaceId,
    target: WorkspaceId,
) -> Result<(), ApiError> {
    if caller == target {
        return Err(to_oneself());
    }
    state
        .store
        .look(move |find| verdict(find, caller, target))
        .await?
        .into()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Admitted,
    NoCaller,
    MayNotDelegate,
    NoTarget,
    NotRelated,
}

fn verdict(
    find: &mut Find<'_>,
    caller: WorkspaceId,
    target: WorkspaceId,
) -> Result<Verdict, Error> {
    let Some(delegator) = find(caller)?.filter(|caller| caller.is_present()) else {
        return Ok(Verdict::NoCaller);
    };
    if !delegator.can_delegate {
        return Ok(Verdict::MayNotDelegate);
    }
    if !find(target)?.is_some_and(|target| target.is_present()) {
        return Ok(Verdict::NoTarget);
    }
    let (own, other) = (line(find, caller)?, line(find, target)?);
    Ok(match kinship(&own, &other) {
        Kinship::Same | Kinship::Related => Verdict::Admitted,
        Kinship::Distant => Verdict::NotRelated,
        Kinship::Foreign => Verdict::NoTarget,
    })
}

impl From<Verdict> for Result<(), ApiError> {
    fn from(verdict: Verdict) -> Self {
        Err(match verdict {
            Verdict::Admitted => return Ok(()),
            Verdict::NoCaller => NO_WORKSPACE,
            Verdict::MayNotDelegate => ApiError::Forbidden {
                error: "tool call failed",
                reason: Some("this workspace may not delegate: can_delegate is false"),
            },
            Verdict::NoTarget => ApiError::Missing("target workspace not found"),
            Verdict::NotRelated => ApiError::Forbidden {
                error: "access denied: workspaces cannot communicate per hierarchy rules",
                reason: Some(
                    "only workspaces with the same parent, or of which one is above the other, may communicate",
                ),
            },
        })
    }
}

fn to_oneself() -> ApiError {
    ApiError::with(
        StatusCode::BAD_REQUEST,
        "self-delegation not permitted",
        json!({
            "reason": "the source workspace and target workspace are the same; you cannot delegate a task to yourself",
            "hint": "do the work yourself, or pick a different peer via list_peers — retrying with the same target_id will fail every time",
        }),
    )
}
