DROP INDEX delegations_live;
CREATE INDEX delegations_live ON delegations (caller_id, delegation_id) WHERE ended_at IS NULL;
ALTER TABLE delegations ADD COLUMN lease_expires_at timestamptz;
DROP TABLE nodes;
