//! What the original says to its database for one request, statement by statement, each a commit of its own.
//!
//! Counted in its source and confirmed by PostgreSQL's statistics: an ending costs 7 statements of which 5 write, a
//! record 5 of which 3 write, a delegation with its answer 18 of which 11 write.

use anyhow::Context as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::database::Database;

/// Whose the token is: two reads and a write for every request, polls too.
pub(super) fn authenticate(database: &Database, token: &str) -> anyhow::Result<Option<String>> {
    let hash = Sha256::digest(token.as_bytes());
    database.token(
        "SELECT id::text AS one, name AS two, prefix AS three FROM org_api_tokens \
         WHERE token_hash = $1 AND revoked_at IS NULL",
        &hash,
    )?;
    let found = database.token(
        "SELECT t.id::text AS one, t.workspace_id::text AS two, t.prefix AS three FROM workspace_auth_tokens t \
         JOIN workspaces w ON w.id = t.workspace_id \
         WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND w.status <> 'removed'",
        &hash,
    )?;
    let Some(found) = found else { return Ok(None) };
    let id = found.one.context("a token has an id")?;
    database.change(
        "UPDATE workspace_auth_tokens SET last_used_at = now() WHERE id = $1::uuid",
        &[&id],
    )?;
    Ok(found.two)
}

/// A workspace and its token.
pub(super) fn create(database: &Database, body: &Value) -> anyhow::Result<Value> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    let id = uuid::Uuid::new_v4().to_string();
    let token = uuid::Uuid::new_v4().simple().to_string();
    database.change(
        "INSERT INTO workspaces (id, name, url) VALUES ($1::uuid, $2, nullif($3, ''))",
        &[&id, text("name"), text("url")],
    )?;
    if !text("parent_id").is_empty() {
        database.change(
            "UPDATE workspaces SET parent_id = $1::uuid WHERE id = $2::uuid",
            &[text("parent_id"), &id],
        )?;
    }
    database.store_token(&id, &Sha256::digest(token.as_bytes()))?;
    Ok(json!({"id": id, "auth_token": token}))
}

/// Where a workspace listens.
pub(super) fn url(database: &Database, id: &str) -> anyhow::Result<String> {
    let found = database.read(
        "SELECT url AS one, name AS two, status AS three FROM workspaces WHERE id = $1::uuid",
        &[id],
    )?;
    let url = found.into_iter().find_map(|found| found.one);
    url.context("the target has no address")
}

/// Who delegates what to whom.
pub(super) struct Order {
    pub(super) caller: String,
    pub(super) target: String,
    pub(super) id: String,
    pub(super) task: String,
}

impl Order {
    /// The row that says that there is such a delegation.
    pub(super) fn begin(&self, database: &Database, status: &str) -> anyhow::Result<()> {
        let Self {
            caller,
            target,
            id,
            task,
        } = self;
        database.change(
            "INSERT INTO activity_logs (workspace_id, activity_type, method, source_id, target_id, summary, request_body, status) \
             VALUES ($1::uuid, 'delegation', 'delegate', $2::uuid, $3::uuid, $4, $5::jsonb, $6)",
            &[
                caller,
                caller,
                target,
                &format!("Delegating to {target}"),
                &json!({"task": task, "delegation_id": id}).to_string(),
                status,
            ],
        )
    }

    /// What the proxy asks before it calls, and may not.
    pub(super) fn may_call(&self, database: &Database) -> anyhow::Result<()> {
        for (what, workspace) in [
            ("parent_id::text", &self.caller),
            ("parent_id::text", &self.target),
            ("budget_limit::text", &self.target),
            ("delivery_mode", &self.target),
        ] {
            let sql = format!(
                "SELECT id::text AS one, {what} AS two, status AS three FROM workspaces WHERE id = $1::uuid"
            );
            let found = database.read(&sql, &[workspace])?;
            anyhow::ensure!(!found.is_empty(), "no such workspace");
        }
        Ok(())
    }

    /// What the proxy writes down of a call.
    pub(super) fn called(
        &self,
        database: &Database,
        body: &str,
        reply: &str,
    ) -> anyhow::Result<()> {
        let found = database.read(
            "SELECT id::text AS one, name AS two, status AS three FROM workspaces WHERE id = $1::uuid",
            &[&self.target],
        )?;
        let name = found.into_iter().find_map(|found| found.two);
        database.change(
            "INSERT INTO activity_logs \
             (workspace_id, activity_type, source_id, target_id, method, summary, request_body, response_body, duration_ms, status) \
             VALUES ($1::uuid, 'a2a_receive', $2::uuid, $3::uuid, 'message/send', $4, $5::jsonb, $6::jsonb, 1, 'ok')",
            &[
                &self.target,
                &self.caller,
                &self.target,
                &format!("message/send \u{2192} {}", name.unwrap_or_default()),
                body,
                reply,
            ],
        )?;
        database.change(
            "UPDATE workspaces SET last_outbound_at = now() WHERE id = $1::uuid",
            &[&self.caller],
        )
    }
}

/// Moves a delegation. Nothing leads to its row but a walk through the caller's log.
pub(super) fn mark(
    database: &Database,
    caller: &str,
    id: &str,
    status: &str,
) -> anyhow::Result<()> {
    database.change(
        "UPDATE activity_logs SET status = $1, error_detail = CASE WHEN $2 = '' THEN error_detail ELSE $3 END \
         WHERE workspace_id = $4::uuid AND method = 'delegate' AND request_body->>'delegation_id' = $5",
        &[status, "", "", caller, id],
    )
}

/// Records an event, and returns it as its listeners get it.
pub(super) fn event(
    database: &Database,
    caller: &str,
    name: &str,
    payload: &Value,
) -> anyhow::Result<String> {
    database.change(
        "INSERT INTO structure_events (event_type, workspace_id, payload) VALUES ($1, $2::uuid, $3::jsonb)",
        &[name, caller, &payload.to_string()],
    )?;
    Ok(format!(
        "data: {{\"type\":\"{name}\",\"timestamp\":0,\"data\":{payload}}}\n\n"
    ))
}

/// The result row.
pub(super) fn result(
    database: &Database,
    caller: &str,
    id: &str,
    text: &str,
) -> anyhow::Result<()> {
    let start: String = text.chars().take(80).collect();
    database.change(
        "INSERT INTO activity_logs (workspace_id, activity_type, method, source_id, summary, response_body, status) \
         VALUES ($1::uuid, 'delegation', 'delegate_result', $2::uuid, $3, $4::jsonb, 'completed')",
        &[
            caller,
            caller,
            &format!("Delegation completed ({start})"),
            &json!({"text": text, "delegation_id": id}).to_string(),
        ],
    )
}

/// The reply in the inbox.
pub(super) fn reply(database: &Database, caller: &str, id: &str, text: &str) -> anyhow::Result<()> {
    database.change(
        "INSERT INTO activity_logs \
         (workspace_id, activity_type, method, source_id, summary, request_body, response_body, status) \
         VALUES ($1::uuid, 'a2a_receive', 'delegate_result', $2::uuid, 'Delegation result delivered', $3::jsonb, $4::jsonb, 'ok')",
        &[
            caller,
            caller,
            &json!({"delegation_id": id}).to_string(),
            &json!({"text": text, "delegation_id": id}).to_string(),
        ],
    )
}

/// The newest messages, or those after one of them.
pub(super) fn messages(
    database: &Database,
    caller: &str,
    since: Option<&str>,
) -> anyhow::Result<Vec<Value>> {
    let columns =
        "id::text AS one, cast(request_body AS text) AS two, cast(response_body AS text) AS three";
    let found = match since {
        None => database.read(
            &format!(
                "SELECT {columns} FROM activity_logs WHERE workspace_id = $1::uuid AND activity_type = 'a2a_receive' \
                 ORDER BY created_at DESC LIMIT 100"
            ),
            &[caller],
        )?,
        Some(since) => {
            let place = database.read(
                "SELECT cast(created_at AS text) AS one, '' AS two, '' AS three FROM activity_logs \
                 WHERE id = $1::uuid AND workspace_id = $2::uuid",
                &[since, caller],
            )?;
            let place = place.into_iter().find_map(|found| found.one);
            let place = place.context("no such cursor")?;
            database.read(
                &format!(
                    "SELECT {columns} FROM activity_logs WHERE workspace_id = $1::uuid AND activity_type = 'a2a_receive' \
                     AND created_at > $2::timestamptz ORDER BY created_at ASC LIMIT 100"
                ),
                &[caller, &place],
            )?
        }
    };
    let rows = found.into_iter().map(
        |found| json!({"id": found.one, "request_body": found.two, "response_body": found.three}),
    );
    Ok(rows.collect())
}
