DROP INDEX delegations_repeats;
ALTER TABLE delegations ALTER COLUMN retry_of TYPE text COLLATE "default";
DROP INDEX delegations_children;
ALTER TABLE delegations DROP COLUMN parent_delegation_id;
ALTER TABLE delegations DROP COLUMN parent_caller_id;
