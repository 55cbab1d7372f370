-- Its twin is migrations/sqlite/0005_changed_in_place: the same tables, columns, keys and indexes.

-- Whoever runs an earlier version would write what lists do not find: it loses what it has in charge, and ends itself.
INSERT INTO nodes (id, holder, expires_at, started_at) VALUES
    ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 'epoch', 'epoch')
    ON CONFLICT DO NOTHING;
UPDATE nodes SET holder = '00000000-0000-0000-0000-000000000000';

-- PostgreSQL changes a row in place (HOT) only if no index knows of what changes, nor its condition, and its page has
-- room for both versions. So the indexes of a delegation hold what never changes; what it is found by because it lives,
-- because of how it ended, or because its reply is owed, are rows of their own.
DROP INDEX delegations_key;
DROP INDEX delegations_failed_key;
DROP INDEX delegations_sent;
DROP INDEX delegations_taken;
DROP INDEX delegations_all;
DROP INDEX delegations_live;
DROP INDEX delegations_owed;
ALTER TABLE delegations SET (fillfactor = 40);
-- PostgreSQL parses the checks of a table anew for each statement that writes to it; the types of the program are what
-- these words are held to, and what is read is checked again.
ALTER TABLE delegations DROP CONSTRAINT delegations_numbered_origin_check;
ALTER TABLE delegations DROP CONSTRAINT delegations_numbered_phase_check;
ALTER TABLE delegations DROP CONSTRAINT delegations_numbered_redelivery_check;
ALTER TABLE delegations DROP CONSTRAINT delegations_numbered_reply_check;
ALTER TABLE delegations DROP CONSTRAINT delegations_numbered_standing_check;
ALTER TABLE delegations DROP CONSTRAINT delegations_numbered_status_check;

-- The key that it had until it failed.
ALTER TABLE delegations ADD COLUMN given_back_key text;
UPDATE delegations SET given_back_key = idempotency_key, idempotency_key = NULL
    WHERE standing = 'failed' AND idempotency_key IS NOT NULL;

-- Nothing in the database looks into JSON, and to parse it costs more than to write it.
ALTER TABLE delegations ALTER COLUMN history TYPE text;
ALTER TABLE activity_logs ALTER COLUMN request_body TYPE text, ALTER COLUMN response_body TYPE text, ALTER COLUMN tool_trace TYPE text;
ALTER TABLE structure_events ALTER COLUMN payload TYPE text;
ALTER TABLE workspaces ALTER COLUMN agent_card TYPE text;

-- The elements of an array without its brackets, so that an entry can be put behind them.
UPDATE delegations SET history = substr(history, 2, length(history) - 2);

CREATE UNIQUE INDEX delegations_key ON delegations (caller_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX delegations_given_back_key ON delegations (caller_id, given_back_key, number)
    WHERE given_back_key IS NOT NULL;
CREATE INDEX delegations_sent ON delegations (caller_id, number);
CREATE INDEX delegations_taken ON delegations (callee_id, number);

-- Never longer than all that lives: whoever looks for some of them reads it in the order of its numbers.
CREATE TABLE delegations_live (
    number      bigint PRIMARY KEY,
    lease_owner uuid   NOT NULL,
    caller_id   uuid   NOT NULL,
    callee_id   uuid
);
INSERT INTO delegations_live (number, lease_owner, caller_id, callee_id)
    SELECT number, coalesce(lease_owner, '00000000-0000-0000-0000-000000000000'), caller_id, callee_id FROM delegations
    WHERE standing = 'live';

CREATE TABLE delegations_ended (
    number    bigint NOT NULL,
    standing  text   NOT NULL,
    caller_id uuid   NOT NULL,
    callee_id uuid,
    PRIMARY KEY (standing, number)
);
CREATE INDEX delegations_ended_sent ON delegations_ended (caller_id, standing, number);
CREATE INDEX delegations_ended_taken ON delegations_ended (callee_id, standing, number);
INSERT INTO delegations_ended (number, standing, caller_id, callee_id)
    SELECT number, standing, caller_id, callee_id FROM delegations WHERE standing <> 'live';

CREATE TABLE delegations_owed (
    number bigint PRIMARY KEY
);
INSERT INTO delegations_owed (number) SELECT number FROM delegations WHERE reply = 'owed';
