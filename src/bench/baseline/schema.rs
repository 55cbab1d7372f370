//! The original's tables, as far as the yardstick writes them (contract §3), with all of their indexes.

/// Written for PostgreSQL; [`super::database`] translates the little that SQLite says otherwise.
pub(super) const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS workspaces (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    status text DEFAULT 'online',
    agent_card jsonb,
    url text,
    parent_id uuid REFERENCES workspaces (id),
    budget_limit bigint,
    monthly_spend bigint NOT NULL DEFAULT 0,
    delivery_mode text NOT NULL DEFAULT 'push' CHECK (delivery_mode IN ('push', 'poll')),
    last_outbound_at timestamptz,
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);
CREATE INDEX IF NOT EXISTS workspaces_parent ON workspaces (parent_id);
CREATE INDEX IF NOT EXISTS workspaces_status ON workspaces (status);
CREATE TABLE IF NOT EXISTS workspace_auth_tokens (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    token_hash bytea NOT NULL UNIQUE,
    prefix text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX IF NOT EXISTS workspace_auth_tokens_live ON workspace_auth_tokens (workspace_id) WHERE revoked_at IS NULL;
CREATE TABLE IF NOT EXISTS org_api_tokens (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    token_hash bytea NOT NULL UNIQUE,
    prefix text NOT NULL,
    name text,
    created_by text,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at timestamptz,
    org_id uuid REFERENCES workspaces (id) ON DELETE SET NULL
);
CREATE TABLE IF NOT EXISTS activity_logs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    activity_type text NOT NULL,
    source_id uuid,
    target_id uuid,
    method text,
    summary text,
    request_body jsonb,
    response_body jsonb,
    duration_ms integer,
    status text DEFAULT 'ok',
    error_detail text,
    created_at timestamptz DEFAULT now(),
    idempotency_key text,
    tool_trace jsonb
);
CREATE INDEX IF NOT EXISTS activity_logs_by_type ON activity_logs (workspace_id, activity_type, created_at DESC);
CREATE INDEX IF NOT EXISTS activity_logs_created ON activity_logs (created_at);
CREATE UNIQUE INDEX IF NOT EXISTS activity_logs_idempotency_uniq ON activity_logs (workspace_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS activity_logs_source ON activity_logs (workspace_id, source_id) WHERE source_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS activity_logs_target ON activity_logs (workspace_id, target_id) WHERE target_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS activity_logs_trace ON activity_logs USING gin (tool_trace) WHERE tool_trace IS NOT NULL;
CREATE TABLE IF NOT EXISTS structure_events (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    event_type text NOT NULL,
    workspace_id uuid,
    agent_id uuid,
    target_id uuid,
    payload jsonb,
    created_at timestamptz DEFAULT now()
);
CREATE INDEX IF NOT EXISTS structure_events_workspace ON structure_events (workspace_id);
CREATE INDEX IF NOT EXISTS structure_events_created ON structure_events (created_at);
";
