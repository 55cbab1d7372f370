-- Its twin is migrations/postgres/0006_ids_of_places: the same tables, columns, keys and indexes.

-- Whoever runs an earlier version would write ids where none are, and read none: it loses what it has in charge.
INSERT INTO nodes (id, holder, expires_at, started_at) VALUES
    ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 0, 0)
    ON CONFLICT DO NOTHING;
UPDATE nodes SET holder = '00000000-0000-0000-0000-000000000000';

-- The id of what Baton itself writes follows from its place and its time. Only what may be written twice for want of an
-- answer has one of its own, by which that is seen, and so have rows of before.
CREATE TABLE activity_logs_by_seq (
    seq               INTEGER PRIMARY KEY,
    created_at        INTEGER NOT NULL,
    delegation_number INTEGER,
    duration_ms       INTEGER,
    id                TEXT,
    workspace_id      TEXT NOT NULL,
    source_id         TEXT,
    target_id         TEXT,
    activity_type     TEXT NOT NULL,
    status            TEXT NOT NULL,
    method            TEXT,
    summary           TEXT,
    delegation_id     TEXT,
    error_detail      TEXT,
    request_body      TEXT,
    response_body     TEXT,
    tool_trace        TEXT,
    idempotency_key   TEXT
) STRICT;
INSERT INTO activity_logs_by_seq (
    id,
    seq, created_at, delegation_number, duration_ms, workspace_id, source_id, target_id, activity_type, status,
    method, summary, delegation_id, error_detail, request_body, response_body, tool_trace, idempotency_key)
SELECT
    id,
    seq, created_at, delegation_number, duration_ms, workspace_id, source_id, target_id, activity_type, status,
    method, summary, delegation_id, error_detail, request_body, response_body, tool_trace, idempotency_key
FROM activity_logs;
DROP TABLE activity_logs;
ALTER TABLE activity_logs_by_seq RENAME TO activity_logs;
CREATE UNIQUE INDEX activity_logs_id ON activity_logs (id) WHERE id IS NOT NULL;
CREATE INDEX activity_logs_feed_by_type ON activity_logs (workspace_id, activity_type, seq);
-- Makes a second result row or a second reply impossible (product.md rule 2).
CREATE UNIQUE INDEX activity_logs_one_ending ON activity_logs (delegation_number, activity_type)
    WHERE method = 'delegate_result' AND delegation_number IS NOT NULL;
ALTER TABLE structure_events DROP COLUMN id;
