-- Its twin is migrations/sqlite/0009_families: the same columns and indexes.

-- The delegation in whose course this one was handed on: its caller, and its id. Most have none, and cost nothing more.
ALTER TABLE delegations ADD COLUMN parent_caller_id uuid;
ALTER TABLE delegations ADD COLUMN parent_delegation_id text COLLATE "C";
CREATE INDEX delegations_children ON delegations (parent_caller_id, parent_delegation_id, number)
    WHERE parent_caller_id IS NOT NULL;

-- What was begun again is found by the one that it repeats, whose id is compared byte by byte: an index in another order is no use.
ALTER TABLE delegations ALTER COLUMN retry_of TYPE text COLLATE "C";
CREATE INDEX delegations_repeats ON delegations (caller_id, retry_of, number) WHERE retry_of IS NOT NULL;
