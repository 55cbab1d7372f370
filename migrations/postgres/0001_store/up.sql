-- Its twin is migrations/sqlite/0001_store: the same tables, columns, keys and checks.

CREATE TABLE workspaces (
    id                   uuid             PRIMARY KEY,
    name                 text             NOT NULL,
    role                 text,
    tier                 integer          NOT NULL,
    status               text             NOT NULL,
    agent_card           jsonb,
    url                  text,
    parent_id            uuid,
    runtime              text             NOT NULL,
    delivery_mode        text             NOT NULL CHECK (delivery_mode IN ('push', 'poll')),
    max_concurrent_tasks integer          NOT NULL,
    can_delegate         boolean          NOT NULL,
    last_heartbeat_at    timestamptz,
    last_error_rate      double precision NOT NULL,
    last_sample_error    text,
    active_tasks         integer          NOT NULL,
    uptime_seconds       integer          NOT NULL,
    current_task         text,
    monthly_spend        bigint           NOT NULL,
    x                    double precision NOT NULL,
    y                    double precision NOT NULL,
    collapsed            boolean          NOT NULL,
    last_outbound_at     timestamptz,
    created_at           timestamptz      NOT NULL,
    updated_at           timestamptz      NOT NULL
);
CREATE INDEX workspaces_parent ON workspaces (parent_id);

CREATE TABLE workspace_auth_tokens (
    id           uuid        PRIMARY KEY,
    workspace_id uuid        NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    token_hash   bytea       NOT NULL UNIQUE,
    prefix       text        NOT NULL,
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX workspace_auth_tokens_live ON workspace_auth_tokens (workspace_id) WHERE revoked_at IS NULL;

-- No foreign keys from here on: an ending is stored whatever became of its workspaces.
CREATE TABLE activity_logs (
    id              uuid        PRIMARY KEY,
    seq             bigint      NOT NULL,
    workspace_id    uuid        NOT NULL,
    activity_type   text        NOT NULL,
    source_id       uuid,
    target_id       uuid,
    method          text,
    summary         text,
    request_body    jsonb,
    response_body   jsonb,
    tool_trace      jsonb,
    duration_ms     integer,
    status          text        NOT NULL,
    error_detail    text,
    delegation_id   text        COLLATE "C",
    idempotency_key text,
    created_at      timestamptz NOT NULL
);
CREATE INDEX activity_logs_feed ON activity_logs (workspace_id, seq);
CREATE INDEX activity_logs_feed_by_type ON activity_logs (workspace_id, activity_type, seq);
-- Makes a second result row or a second reply impossible (product.md rule 2).
CREATE UNIQUE INDEX activity_logs_one_ending ON activity_logs (workspace_id, delegation_id, activity_type)
    WHERE method = 'delegate_result' AND delegation_id IS NOT NULL;
-- Rows by peer have no index of their own: two more entries for each row would cost every write, while a reader of
-- one peer walks one feed from its newest row and stops at its limit.

CREATE TABLE structure_events (
    id           uuid        PRIMARY KEY,
    seq          bigint      NOT NULL UNIQUE,
    event_type   text        NOT NULL,
    workspace_id uuid,
    agent_id     uuid,
    target_id    uuid,
    payload      jsonb,
    created_at   timestamptz NOT NULL
);
CREATE INDEX structure_events_feed ON structure_events (workspace_id, seq);

CREATE TABLE delegations (
    caller_id        uuid        NOT NULL,
    delegation_id    text        COLLATE "C" NOT NULL,
    callee_id        uuid,
    task             text        NOT NULL,
    task_preview     text        NOT NULL,
    origin           text        NOT NULL CHECK (origin IN ('delegated', 'recorded', 'adopted')),
    redelivery       text        NOT NULL CHECK (redelivery IN ('never', 'if_idempotent', 'always')),
    status           text        NOT NULL CHECK (status IN ('pending', 'dispatched', 'received', 'in_progress', 'queued',
                                     'input_required', 'stuck', 'completed', 'failed', 'cancelled')),
    attempt          integer     NOT NULL,
    waiting_for      text,
    next_attempt_at  timestamptz,
    task_id          text,
    phase            text        CHECK (phase IN ('dispatched', 'received', 'in_progress')),
    last_heartbeat   timestamptz,
    question         text,
    deadline         timestamptz NOT NULL,
    result_text      text,
    result_raw       bytea,
    error_class      text,
    error_detail     text,
    late_result      text,
    late_result_at   timestamptz,
    retry_of         text,
    idempotency_key  text,
    fingerprint      bytea,
    traceparent      text,
    history          jsonb       NOT NULL,
    reply            text        NOT NULL CHECK (reply IN ('none', 'owed', 'written')),
    revision         bigint      NOT NULL,
    incarnation      integer     NOT NULL,
    lease_owner      uuid,
    lease_expires_at timestamptz,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    ended_at         timestamptz,
    -- Ids that agents choose are only unique within their caller.
    PRIMARY KEY (caller_id, delegation_id)
);
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
    workspace_id   uuid        PRIMARY KEY,
    last_acked_seq bigint      NOT NULL,
    updated_at     timestamptz NOT NULL
);

-- One row. Its lock, held from the taking of positions to the commit, makes their order the order of commits.
CREATE TABLE feed_position (
    id   integer PRIMARY KEY CHECK (id = 1),
    last bigint  NOT NULL
);
INSERT INTO feed_position (id, last) VALUES (1, 0);
