-- Its twin is migrations/sqlite/0004_lean_indexes: the same tables, columns, keys and indexes.

-- What stands in a large index under a random or a long key costs a page of its own for each write.
CREATE TABLE delegations_numbered (
    -- Its own place of the feed counter, taken when it was accepted: the order of acceptance, and its short name.
    number           bigint PRIMARY KEY,
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
    -- `live`, or how it ended. Changes once, unlike `status`, so that indexes of it do.
    standing         text    NOT NULL CHECK (standing IN ('live', 'completed', 'failed', 'cancelled'))
) WITH (fillfactor = 80);
-- Those of before stand before all that come.
INSERT INTO delegations_numbered (
    number, standing,
    caller_id, delegation_id, callee_id, task, task_preview, origin, redelivery, status, attempt, waiting_for,
    next_attempt_at, task_id, phase, last_heartbeat, question, deadline, result_text, result_raw, error_class,
    error_detail, late_result, late_result_at, retry_of, idempotency_key, fingerprint, traceparent, history, reply,
    revision, incarnation, lease_owner, created_at, updated_at, ended_at, priority, failures, failing_since,
    progress_message, progress_percent, input)
SELECT
    row_number() OVER (ORDER BY created_at, delegation_id, caller_id) - 1 - (SELECT count(*) FROM delegations),
    CASE WHEN ended_at IS NULL THEN 'live' ELSE status END,
    caller_id, delegation_id, callee_id, task, task_preview, origin, redelivery, status, attempt, waiting_for,
    next_attempt_at, task_id, phase, last_heartbeat, question, deadline, result_text, result_raw, error_class,
    error_detail, late_result, late_result_at, retry_of, idempotency_key, fingerprint, traceparent, history, reply,
    revision, incarnation, lease_owner, created_at, updated_at, ended_at, priority, failures, failing_since,
    progress_message, progress_percent, input
FROM delegations;
DROP TABLE delegations;
ALTER TABLE delegations_numbered RENAME TO delegations;
-- Ids that agents choose are only unique within their caller; the id comes first, for whoever knows no caller.
CREATE UNIQUE INDEX delegations_id ON delegations (delegation_id, caller_id);
-- A failed delegation gives its key back; a second index finds it, so that the next one can name it in retry_of.
CREATE UNIQUE INDEX delegations_key ON delegations (caller_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND standing <> 'failed';
CREATE INDEX delegations_failed_key ON delegations (caller_id, idempotency_key, number)
    WHERE idempotency_key IS NOT NULL AND standing = 'failed';
CREATE INDEX delegations_sent ON delegations (caller_id, standing, number);
CREATE INDEX delegations_taken ON delegations (callee_id, standing, number);
CREATE INDEX delegations_all ON delegations (standing, number);
CREATE INDEX delegations_live ON delegations (lease_owner, number) WHERE standing = 'live';
CREATE INDEX delegations_owed ON delegations (number) WHERE reply = 'owed';

-- Ended delegations are counted when they end.
ALTER TABLE feed_position ADD COLUMN completed bigint NOT NULL DEFAULT 0;
ALTER TABLE feed_position ADD COLUMN failed bigint NOT NULL DEFAULT 0;
ALTER TABLE feed_position ADD COLUMN cancelled bigint NOT NULL DEFAULT 0;
-- Those who are to be told of what is committed: they have not left.
ALTER TABLE feed_position ADD COLUMN nodes integer NOT NULL DEFAULT 0;
UPDATE feed_position SET
    completed = (SELECT count(*) FROM delegations WHERE standing = 'completed'),
    failed = (SELECT count(*) FROM delegations WHERE standing = 'failed'),
    cancelled = (SELECT count(*) FROM delegations WHERE standing = 'cancelled'),
    nodes = (SELECT count(*) FROM nodes WHERE expires_at > started_at);

-- One index of the feed: who reads rows of every type looks once for each.
DROP INDEX activity_logs_feed;
DROP INDEX activity_logs_one_ending;
ALTER TABLE activity_logs ADD COLUMN delegation_number bigint;
UPDATE activity_logs SET delegation_number = (SELECT d.number FROM delegations d
        WHERE d.delegation_id = activity_logs.delegation_id AND d.caller_id = activity_logs.workspace_id)
    WHERE method = 'delegate_result' AND delegation_id IS NOT NULL;
-- Makes a second result row or a second reply impossible (product.md rule 2).
CREATE UNIQUE INDEX activity_logs_one_ending ON activity_logs (delegation_number, activity_type)
    WHERE method = 'delegate_result' AND delegation_number IS NOT NULL;

CREATE TABLE structure_events_by_seq (
    seq          bigint      PRIMARY KEY,
    id           uuid        NOT NULL,
    event_type   text        NOT NULL,
    workspace_id uuid,
    agent_id     uuid,
    target_id    uuid,
    payload      jsonb,
    created_at   timestamptz NOT NULL
);
INSERT INTO structure_events_by_seq (id, seq, event_type, workspace_id, agent_id, target_id, payload, created_at)
    SELECT id, seq, event_type, workspace_id, agent_id, target_id, payload, created_at FROM structure_events;
DROP TABLE structure_events;
ALTER TABLE structure_events_by_seq RENAME TO structure_events;
CREATE INDEX structure_events_feed ON structure_events (workspace_id, seq);
