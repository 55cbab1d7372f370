CREATE TABLE structure_events_by_id (
    id           uuid        PRIMARY KEY,
    seq          bigint      NOT NULL UNIQUE,
    event_type   text        NOT NULL,
    workspace_id uuid,
    agent_id     uuid,
    target_id    uuid,
    payload      jsonb,
    created_at   timestamptz NOT NULL
);
INSERT INTO structure_events_by_id (id, seq, event_type, workspace_id, agent_id, target_id, payload, created_at)
    SELECT id, seq, event_type, workspace_id, agent_id, target_id, payload, created_at FROM structure_events;
DROP TABLE structure_events;
ALTER TABLE structure_events_by_id RENAME TO structure_events;
CREATE INDEX structure_events_feed ON structure_events (workspace_id, seq);

DROP INDEX activity_logs_one_ending;
ALTER TABLE activity_logs DROP COLUMN delegation_number;
CREATE UNIQUE INDEX activity_logs_one_ending ON activity_logs (workspace_id, delegation_id, activity_type)
    WHERE method = 'delegate_result' AND delegation_id IS NOT NULL;
CREATE INDEX activity_logs_feed ON activity_logs (workspace_id, seq);

ALTER TABLE feed_position DROP COLUMN cancelled;
ALTER TABLE feed_position DROP COLUMN failed;
ALTER TABLE feed_position DROP COLUMN completed;

CREATE TABLE delegations_by_key (
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
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    ended_at         timestamptz,
    priority         integer NOT NULL DEFAULT 50,
    failures         integer,
    failing_since    timestamptz,
    progress_message text,
    progress_percent integer,
    input            text,
    PRIMARY KEY (caller_id, delegation_id)
);
INSERT INTO delegations_by_key (
    caller_id, delegation_id, callee_id, task, task_preview, origin, redelivery, status, attempt, waiting_for,
    next_attempt_at, task_id, phase, last_heartbeat, question, deadline, result_text, result_raw, error_class,
    error_detail, late_result, late_result_at, retry_of, idempotency_key, fingerprint, traceparent, history, reply,
    revision, incarnation, lease_owner, created_at, updated_at, ended_at, priority, failures, failing_since,
    progress_message, progress_percent, input)
SELECT
    caller_id, delegation_id, callee_id, task, task_preview, origin, redelivery, status, attempt, waiting_for,
    next_attempt_at, task_id, phase, last_heartbeat, question, deadline, result_text, result_raw, error_class,
    error_detail, late_result, late_result_at, retry_of, idempotency_key, fingerprint, traceparent, history, reply,
    revision, incarnation, lease_owner, created_at, updated_at, ended_at, priority, failures, failing_since,
    progress_message, progress_percent, input
FROM delegations;
DROP TABLE delegations;
ALTER TABLE delegations_by_key RENAME TO delegations;
CREATE UNIQUE INDEX delegations_key ON delegations (caller_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND status <> 'failed';
CREATE INDEX delegations_failed_key ON delegations (caller_id, idempotency_key, created_at)
    WHERE idempotency_key IS NOT NULL AND status = 'failed';
CREATE INDEX delegations_sent ON delegations (caller_id, created_at, delegation_id);
CREATE INDEX delegations_taken ON delegations (callee_id, created_at, delegation_id);
CREATE INDEX delegations_live ON delegations (lease_owner, caller_id, delegation_id) WHERE ended_at IS NULL;
CREATE INDEX delegations_owed ON delegations (ended_at) WHERE reply = 'owed';
