DROP INDEX delegations_repeats;
DROP INDEX delegations_children;
ALTER TABLE delegations DROP COLUMN parent_delegation_id;
ALTER TABLE delegations DROP COLUMN parent_caller_id;
