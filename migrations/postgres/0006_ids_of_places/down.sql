-- Cursors that name a row by its place are unknown afterwards, which their holders are told.
CREATE TABLE activity_logs_by_id (
    id                uuid PRIMARY KEY,
    seq               bigint NOT NULL,
    workspace_id      uuid NOT NULL,
    activity_type     text NOT NULL,
    source_id         uuid,
    target_id         uuid,
    method            text,
    summary           text,
    request_body      text,
    response_body     text,
    tool_trace        text,
    duration_ms       integer,
    status            text NOT NULL,
    error_detail      text,
    delegation_id     text COLLATE "C",
    idempotency_key   text,
    created_at        timestamptz NOT NULL,
    delegation_number bigint
);
INSERT INTO activity_logs_by_id (
    id,
    seq, created_at, delegation_number, duration_ms, workspace_id, source_id, target_id, activity_type, status,
    method, summary, delegation_id, error_detail, request_body, response_body, tool_trace, idempotency_key)
SELECT
    coalesce(id, gen_random_uuid()),
    seq, created_at, delegation_number, duration_ms, workspace_id, source_id, target_id, activity_type, status,
    method, summary, delegation_id, error_detail, request_body, response_body, tool_trace, idempotency_key
FROM activity_logs ORDER BY seq;
DROP TABLE activity_logs;
ALTER TABLE activity_logs_by_id RENAME TO activity_logs;
CREATE INDEX activity_logs_feed_by_type ON activity_logs (workspace_id, activity_type, seq);
CREATE UNIQUE INDEX activity_logs_one_ending ON activity_logs (delegation_number, activity_type)
    WHERE method = 'delegate_result' AND delegation_number IS NOT NULL;
CREATE TABLE structure_events_with_id (
    seq               bigint PRIMARY KEY,
    id                uuid NOT NULL,
    event_type        text NOT NULL,
    workspace_id      uuid,
    agent_id          uuid,
    target_id         uuid,
    payload           text,
    created_at        timestamptz NOT NULL
);
INSERT INTO structure_events_with_id (seq, id, event_type, workspace_id, agent_id, target_id, payload, created_at)
    SELECT seq, gen_random_uuid(),
        event_type, workspace_id, agent_id, target_id, payload, created_at FROM structure_events;
DROP TABLE structure_events;
ALTER TABLE structure_events_with_id RENAME TO structure_events;
CREATE INDEX structure_events_feed ON structure_events (workspace_id, seq);
