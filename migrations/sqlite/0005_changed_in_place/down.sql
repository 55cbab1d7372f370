DROP TABLE delegations_live;
DROP TABLE delegations_ended;
DROP TABLE delegations_owed;
DROP INDEX delegations_key;
DROP INDEX delegations_given_back_key;
DROP INDEX delegations_sent;
DROP INDEX delegations_taken;
UPDATE delegations SET idempotency_key = given_back_key WHERE given_back_key IS NOT NULL;
ALTER TABLE delegations DROP COLUMN given_back_key;
UPDATE delegations SET history = '[' || history || ']';
CREATE UNIQUE INDEX delegations_key ON delegations (caller_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL AND standing <> 'failed';
CREATE INDEX delegations_failed_key ON delegations (caller_id, idempotency_key, number)
    WHERE idempotency_key IS NOT NULL AND standing = 'failed';
CREATE INDEX delegations_sent ON delegations (caller_id, standing, number);
CREATE INDEX delegations_taken ON delegations (callee_id, standing, number);
CREATE INDEX delegations_all ON delegations (standing, number);
CREATE INDEX delegations_live ON delegations (lease_owner, number) WHERE standing = 'live';
CREATE INDEX delegations_owed ON delegations (number) WHERE reply = 'owed';
