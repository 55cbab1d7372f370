//! Tokens of a workspace (contract §11.1-§11.3).

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::activity::unexpected;
use super::answer::{self, time};
use super::error::ApiError;
use super::extract::{Member, NO_WORKSPACE, PathToken, Query};
use super::openapi::{Limited, Unauthorised};
use super::state::AppState;
use crate::auth::Secret;
use crate::clock;
use crate::domain::TokenId;
use crate::store::{TokenView, Write, Written};

/// How many live tokens a workspace may have.
const MAX_TOKENS: i64 = 50;

/// The live tokens, newest first; never a secret.
#[utoipa::path(get, path = "/workspaces/{id}/tokens", tag = "tokens", params(
    ("id" = String, Path, format = "uuid"), ("limit" = Option<i64>, Query), ("offset" = Option<i64>, Query),
), security(("bearer" = [])), responses(
    (status = 200, description = "The tokens", body = Value),
    (status = 404, description = "No such workspace", body = Value), Unauthorised, Limited,
))]
pub(crate) async fn list(
    member: Member,
    query: Query,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let (workspace, limit) = (member.workspace, listed(&query));
    let offset = query.get("offset").and_then(|text| text.parse().ok());
    let offset = offset.filter(|offset: &i64| *offset >= 0).unwrap_or(0);
    let read = state
        .store
        .read(move |reader| reader.tokens(workspace, limit, offset));
    let tokens: Vec<Value> = read.await?.iter().map(shown).collect();
    answer::ok(&json!({"count": tokens.len(), "tokens": tokens}))
}

/// 1 to 200, else 50.
fn listed(query: &Query) -> i64 {
    let asked = query.get("limit").and_then(|text| text.parse().ok());
    asked
        .filter(|limit| (1..=200).contains(limit))
        .unwrap_or(50)
}

fn shown(token: &TokenView) -> Value {
    json!({
        "id": token.id.to_string(), "prefix": token.prefix,
        "created_at": token.created_at.to_rfc3339(), "last_used_at": time(token.last_used_at),
    })
}

/// A new token, shown once.
#[utoipa::path(post, path = "/workspaces/{id}/tokens", tag = "tokens", params(("id" = String, Path, format = "uuid")),
    security(("bearer" = [])), responses(
    (status = 201, description = "The token", body = Value),
    (status = 404, description = "No such workspace", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn create(
    member: Member,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let secret = Secret::mint();
    let write = Write::MintToken {
        token: secret.for_workspace(member.workspace),
        limit: MAX_TOKENS,
    };
    match state.persistence.write(write).await? {
        Written::TooMany => Err(ApiError::TooMany {
            error: "maximum 50 active tokens per workspace",
            retry_after: Duration::from_mins(1),
        }),
        Written::Missing => Err(NO_WORKSPACE),
        written @ Written::Failed(_) => Err(unexpected(&written)),
        _ => answer::json(
            StatusCode::CREATED,
            &json!({
                "auth_token": secret.reveal(), "workspace_id": member.workspace.to_string(),
                "message": "Save this token now — it cannot be retrieved again.",
            }),
        ),
    }
}

/// Revokes a token.
#[utoipa::path(delete, path = "/workspaces/{id}/tokens/{token_id}", tag = "tokens",
    params(("id" = String, Path, format = "uuid"), ("token_id" = String, Path, format = "uuid")), security(("bearer" = [])), responses(
    (status = 200, description = "Revoked", body = Value),
    (status = 404, description = "No such token, or revoked before", body = Value),
    Unauthorised, Limited,
))]
pub(crate) async fn revoke(
    member: Member,
    path: PathToken,
    state: web::Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    const MISSING: ApiError = ApiError::Missing("token not found or already revoked");
    let write = Write::RevokeToken {
        workspace: member.workspace,
        token: TokenId::parse(&path.0).ok_or(MISSING)?,
        at: clock::now(),
    };
    match state.persistence.write(write).await? {
        Written::Missing => Err(MISSING),
        written @ Written::Failed(_) => Err(unexpected(&written)),
        _ => answer::ok(&json!({"status": "revoked"})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_senseless_limit_is_the_default() {
        for (query, limit) in [
            ("", 50),
            ("limit=0", 50),
            ("limit=201", 50),
            ("limit=200", 200),
            ("limit=x", 50),
        ] {
            assert_eq!(listed(&Query::parse(query)), limit);
        }
    }
}
