CREATE TABLE structure_events_by_id (
    id           TEXT        PRIMARY KEY,
    seq          INTEGER     NOT NULL UNIQUE,
    event_type   TEXT        NOT NULL,
    workspace_id TEXT,
    agent_id     TEXT,
    target_id    TEXT,
    payload      TEXT,
    created_at   INTEGER     NOT NULL
) STRICT;
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
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    ended_at         INTEGER,
    priority         INTEGER NOT NULL DEFAULT 50,
    failures         INTEGER,
    failing_since    INTEGER,
    progress_message TEXT,
    progress_percent INTEGER,
    input            TEXT,
    PRIMARY KEY (caller_id, delegation_id)
) STRICT;
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
