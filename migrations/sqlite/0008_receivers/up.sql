-- Its twin is migrations/postgres/0008_receivers: the same table, columns, keys and indexes.

-- What a target wants to see of its callers: the scheme's word, and the rest sealed.
ALTER TABLE workspaces ADD COLUMN credentials TEXT;

-- Who is told by HTTP of what happens: of one delegation, or of all endings of a workspace's. Everything in the event log
-- up to `position` was told. `lease_owner` is the node that tells.
CREATE TABLE push_receivers (
    id              TEXT    PRIMARY KEY,
    workspace_id    TEXT    NOT NULL,
    delegation_id   TEXT,
    config_id       TEXT    NOT NULL,
    url             TEXT    NOT NULL,
    scheme          TEXT,
    old_form        INTEGER NOT NULL,
    sealed          BLOB,
    state           TEXT    NOT NULL,
    position        INTEGER NOT NULL,
    failures        INTEGER NOT NULL,
    failing_since   INTEGER,
    next_attempt_at INTEGER,
    last_error      TEXT,
    lease_owner     TEXT    NOT NULL,
    created_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX push_receivers_of ON push_receivers (workspace_id, delegation_id);
CREATE INDEX push_receivers_standing ON push_receivers (state, lease_owner, id);
