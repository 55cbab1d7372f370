-- Its twin is migrations/postgres/0001_store: the same tables, columns, keys and checks.

CREATE TABLE workspaces (
    id                   TEXT    PRIMARY KEY,
    name                 TEXT    NOT NULL,
    role                 TEXT,
    tier                 INTEGER NOT NULL,
    status               TEXT    NOT NULL,
    agent_card           TEXT,
    url                  TEXT,
    parent_id            TEXT,
    runtime              TEXT    NOT NULL,
    delivery_mode        TEXT    NOT NULL CHECK (delivery_mode IN ('push', 'poll')),
    max_concurrent_tasks INTEGER NOT NULL,
    can_delegate         INTEGER NOT NULL,
    last_heartbeat_at    INTEGER,
    last_error_rate      REAL    NOT NULL,
    last_sample_error    TEXT,
    active_tasks         INTEGER NOT NULL,
    uptime_seconds       INTEGER NOT NULL,
    current_task         TEXT,
    monthly_spend        INTEGER NOT NULL,
    x                    REAL    NOT NULL,
    y                    REAL    NOT NULL,
    collapsed            INTEGER NOT NULL,
    last_outbound_at     INTEGER,
    created_at           INTEGER NOT NULL,
    updated_at           INTEGER NOT NULL
) STRICT;
CREATE INDEX workspaces_parent ON workspaces (parent_id);

CREATE TABLE workspace_auth_tokens (
    id           TEXT    PRIMARY KEY,
    workspace_id TEXT    NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    token_hash   BLOB    NOT NULL UNIQUE,
    prefix       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;
CREATE INDEX workspace_auth_tokens_live ON workspace_auth_tokens (workspace_id) WHERE revoked_at IS NULL;

-- No foreign keys from here on: an ending is stored whatever became of its workspaces.
CREATE TABLE activity_logs (
    id              TEXT    PRIMARY KEY,
    seq             INTEGER NOT NULL,
    workspace_id    TEXT    NOT NULL,
    activity_type   TEXT    NOT NULL,
    source_id       TEXT,
    target_id       TEXT,
    method          TEXT,
    summary         TEXT,
    request_body    TEXT,
    response_body   TEXT,
    tool_trace      TEXT,
    duration_ms     INTEGER,
    status          TEXT    NOT NULL,
    error_detail    TEXT,
    delegation_id   TEXT,
    idempotency_key TEXT,
    created_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX activity_logs_feed ON activity_logs (workspace_id, seq);
CREATE INDEX activity_logs_feed_by_type ON activity_logs (workspace_id, activity_type, seq);
-- Makes a second result row or a second reply impossible (product.md rule 2).
CREATE UNIQUE INDEX activity_logs_one_ending ON activity_logs (workspace_id, delegation_id, activity_type)
    WHERE method = 'delegate_result' AND delegation_id IS NOT NULL;
-- Rows by peer have no index of their own: two more entries for each row would cost every write, while a reader of
-- one peer walks one feed from its newest row and stops at its limit.

CREATE TABLE structure_events (
    id           TEXT    PRIMARY KEY,
    seq          INTEGER NOT NULL UNIQUE,
    event_type   TEXT    NOT NULL,
    workspace_id TEXT,
    agent_id     TEXT,
    target_id    TEXT,
    payload      TEXT,
    created_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX structure_events_feed ON structure_events (workspace_id, seq);

CREATE TABLE delegations (
    caller_id        TEXT    NOT NULL,
    delegation_id    TEXT    NOT NULL,
    callee_id        TEXT,
    task             TEXT    NOT NULL,
    task_preview     TEXT    NOT NULL,
    origin           TEXT    NOT NULL CHECK (origin IN ('delegated', 'recorded', 'adopted')),
    redelivery       TEXT    NOT NULL CHECK (redelivery IN ('never', 'if_idempotent', 'always')),
    status           TEXT    NOT NULL CHECK (status IN ('pending', 'dispatched', 'received', 'in_progress', 'queued',
                                     'input_required', 'stuck', 'completed', 'failed', 'cancelled')),
    attempt          INTEGER NOT NULL,
    waiting_for      TEXT,
    next_attempt_at  INTEGER,
    task_id          TEXT,
    phase            TEXT    CHECK (phase IN ('dispatched', 'received', 'in_progress')),
    last_heartbeat   INTEGER,
    question         TEXT,
    deadline         INTEGER NOT NULL,
    result_text      TEXT,
    result_raw       BLOB,
    error_class      TEXT,
    error_detail     TEXT,
    late_result      TEXT,
    late_result_at   INTEGER,
    retry_of         TEXT,
    idempotency_key  TEXT,
    fingerprint      BLOB,
    traceparent      TEXT,
    history          TEXT    NOT NULL,
    reply            TEXT    NOT NULL CHECK (reply IN ('none', 'owed', 'written')),
    revision         INTEGER NOT NULL,
    incarnation      INTEGER NOT NULL,
    lease_owner      TEXT,
    lease_expires_at INTEGER,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    ended_at         INTEGER,
    -- Ids that agents choose are only unique within their caller.
    PRIMARY KEY (caller_id, delegation_id)
) STRICT;
-- A failed delegation gives its key back; a second index finds it, so that the next one can name it in retry_of.
CREATE UNIQUE INDEX delegations_key ON delegations (caller_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND status <> 'failed';
CREATE INDEX delegations_failed_key ON delegations (caller_id, idempotency_key, created_at)
    WHERE idempotency_key IS NOT NULL AND status = 'failed';
CREATE INDEX delegations_sent ON delegations (caller_id, created_at, delegation_id);
CREATE INDEX delegations_taken ON delegations (callee_id, created_at, delegation_id);
CREATE INDEX delegations_live ON delegations (caller_id, delegation_id) WHERE ended_at IS NULL;
CREATE INDEX delegations_owed ON delegations (ended_at) WHERE reply = 'owed';

CREATE TABLE inbox_delivery_state (
    workspace_id   TEXT    PRIMARY KEY,
    last_acked_seq INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
) STRICT;

-- One row. Its lock, held from the taking of positions to the commit, makes their order the order of commits.
CREATE TABLE feed_position (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL
) STRICT;
INSERT INTO feed_position (id, last) VALUES (1, 0);
