-- Its twin is migrations/sqlite/0006_ids_of_places: the same tables, columns and indexes. There, where it costs nothing,
-- the place is the key; here no index but that of the ids holds two rows apart, as the lock on the counter does.

-- Whoever runs an earlier version would write ids where none are, and read none: it loses what it has in charge.
INSERT INTO nodes (id, holder, expires_at, started_at) VALUES
    ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 'epoch', 'epoch')
    ON CONFLICT DO NOTHING;
UPDATE nodes SET holder = '00000000-0000-0000-0000-000000000000';

-- The id of what Baton itself writes follows from its place and its time. Only what may be written twice for want of an
-- answer has one of its own, by which that is seen, and so have rows of before.
CREATE TABLE activity_logs_by_seq (
    seq               bigint NOT NULL,
    created_at        timestamptz NOT NULL,
    delegation_number bigint,
    duration_ms       integer,
    id                uuid,
    workspace_id      uuid NOT NULL,
    source_id         uuid,
    target_id         uuid,
    activity_type     text COLLATE "C" NOT NULL,
    status            text NOT NULL,
    method            text,
    summary           text,
    delegation_id     text COLLATE "C",
    error_detail      text,
    request_body      text,
    response_body     text,
    tool_trace        text,
    idempotency_key   text
);
INSERT INTO activity_logs_by_seq (
    id,
    seq, created_at, delegation_number, duration_ms, workspace_id, source_id, target_id, activity_type, status,
    method, summary, delegation_id, error_detail, request_body, response_body, tool_trace, idempotency_key)
SELECT
    id,
    seq, created_at, delegation_number, duration_ms, workspace_id, source_id, target_id, activity_type, status,
    method, summary, delegation_id, error_detail, request_body, response_body, tool_trace, idempotency_key
FROM activity_logs ORDER BY seq;
DROP TABLE activity_logs;
ALTER TABLE activity_logs_by_seq RENAME TO activity_logs;
-- Without a key, whoever replicates it needs the whole row to tell which one goes.
ALTER TABLE activity_logs REPLICA IDENTITY FULL;
CREATE UNIQUE INDEX activity_logs_id ON activity_logs (id) WHERE id IS NOT NULL;
CREATE INDEX activity_logs_feed_by_type ON activity_logs (workspace_id, activity_type, seq);
-- Makes a second result row or a second reply impossible (product.md rule 2).
CREATE UNIQUE INDEX activity_logs_one_ending ON activity_logs (delegation_number, activity_type)
    WHERE method = 'delegate_result' AND delegation_number IS NOT NULL;
ALTER TABLE structure_events DROP COLUMN id;
