-- Its twin is migrations/sqlite/0002_nodes: the same table, columns, keys and indexes.

-- A row for each process. `holder` is whose its delegations are: its own, until another took over from it.
CREATE TABLE nodes (
    id         uuid        PRIMARY KEY,
    holder     uuid        NOT NULL,
    expires_at timestamptz NOT NULL,
    started_at timestamptz NOT NULL
);
CREATE INDEX nodes_holder ON nodes (holder);

-- What was live before there were nodes belongs to one that has left.
INSERT INTO nodes (id, holder, expires_at, started_at) VALUES
    ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 'epoch', 'epoch');
UPDATE delegations SET lease_owner = '00000000-0000-0000-0000-000000000000' WHERE ended_at IS NULL;
ALTER TABLE delegations DROP COLUMN lease_expires_at;
DROP INDEX delegations_live;
CREATE INDEX delegations_live ON delegations (lease_owner, caller_id, delegation_id) WHERE ended_at IS NULL;
