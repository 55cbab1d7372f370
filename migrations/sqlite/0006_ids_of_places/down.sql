-- Cursors that name a row by its place are unknown afterwards, which their holders are told.
-- A place, and as much of chance again, make an id that nobody else has.
CREATE TABLE activity_logs_by_id (
    id                TEXT PRIMARY KEY,
    seq               INTEGER NOT NULL,
    workspace_id      TEXT NOT NULL,
    activity_type     TEXT NOT NULL,
    source_id         TEXT,
    target_id         TEXT,
    method            TEXT,
    summary           TEXT,
    request_body      TEXT,
    response_body     TEXT,
    tool_trace        TEXT,
    duration_ms       INTEGER,
    status            TEXT NOT NULL,
    error_detail      TEXT,
    delegation_id     TEXT,
    idempotency_key   TEXT,
    created_at        INTEGER NOT NULL,
    delegation_number INTEGER
) STRICT;
INSERT INTO activity_logs_by_id (
    id,
    seq, created_at, delegation_number, duration_ms, workspace_id, source_id, target_id, activity_type, status,
    method, summary, delegation_id, error_detail, request_body, response_body, tool_trace, idempotency_key)
SELECT
    coalesce(id, printf('%08x-%04x-4000-8000-', seq >> 16, seq & 65535) || lower(hex(randomblob(6)))),
    seq, created_at, delegation_number, duration_ms, workspace_id, source_id, target_id, activity_type, status,
    method, summary, delegation_id, error_detail, request_body, response_body, tool_trace, idempotency_key
FROM activity_logs ORDER BY seq;
DROP TABLE activity_logs;
ALTER TABLE activity_logs_by_id RENAME TO activity_logs;
CREATE INDEX activity_logs_feed_by_type ON activity_logs (workspace_id, activity_type, seq);
CREATE UNIQUE INDEX activity_logs_one_ending ON activity_logs (delegation_number, activity_type)
    WHERE method = 'delegate_result' AND delegation_number IS NOT NULL;
CREATE TABLE structure_events_with_id (
    seq               INTEGER PRIMARY KEY,
    id                TEXT NOT NULL,
    event_type        TEXT NOT NULL,
    workspace_id      TEXT,
    agent_id          TEXT,
    target_id         TEXT,
    payload           TEXT,
    created_at        INTEGER NOT NULL
) STRICT;
INSERT INTO structure_events_with_id (seq, id, event_type, workspace_id, agent_id, target_id, payload, created_at)
    SELECT seq, printf('%08x-%04x-4000-8000-', seq >> 16, seq & 65535) || lower(hex(randomblob(6))),
        event_type, workspace_id, agent_id, target_id, payload, created_at FROM structure_events;
DROP TABLE structure_events;
ALTER TABLE structure_events_with_id RENAME TO structure_events;
CREATE INDEX structure_events_feed ON structure_events (workspace_id, seq);
