-- Its twin is migrations/sqlite/0008_receivers: the same table, columns, keys and indexes.

-- What a target wants to see of its callers: the scheme's word, and the rest sealed.
ALTER TABLE workspaces ADD COLUMN credentials text;

-- Who is told by HTTP of what happens: of one delegation, or of all endings of a workspace's. Everything in the event log
-- up to `position` was told. `lease_owner` is the node that tells.
CREATE TABLE push_receivers (
    id              uuid        PRIMARY KEY,
    workspace_id    uuid        NOT NULL,
    delegation_id   text        COLLATE "C",
    config_id       text        COLLATE "C" NOT NULL,
    url             text        NOT NULL,
    scheme          text,
    old_form        boolean NOT NULL,
    sealed          bytea,
    state           text        COLLATE "C" NOT NULL,
    position        bigint      NOT NULL,
    failures        integer     NOT NULL,
    failing_since   timestamptz,
    next_attempt_at timestamptz,
    last_error      text,
    lease_owner     uuid        NOT NULL,
    created_at      timestamptz NOT NULL
);
CREATE INDEX push_receivers_of ON push_receivers (workspace_id, delegation_id);
CREATE INDEX push_receivers_standing ON push_receivers (state, lease_owner, id);
