DROP INDEX push_receivers_standing;
DROP INDEX push_receivers_of;
DROP TABLE push_receivers;
ALTER TABLE workspaces DROP COLUMN credentials;
