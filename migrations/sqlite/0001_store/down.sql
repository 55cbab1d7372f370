DROP TABLE feed_position;
DROP TABLE inbox_delivery_state;
DROP TABLE delegations;
DROP TABLE structure_events;
DROP TABLE activity_logs;
DROP TABLE workspace_auth_tokens;
DROP TABLE workspaces;
