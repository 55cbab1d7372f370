-- Its twin is migrations/sqlite/0007_conversations: the same columns and indexes.

-- Of a delegation that came as an A2A message: the message, to be passed on as it is, and the context that it belongs to.
ALTER TABLE delegations ADD COLUMN message text;
ALTER TABLE delegations ADD COLUMN context_id text COLLATE "C";
-- The same for the caller's answer to `question`, beside `input`.
ALTER TABLE delegations ADD COLUMN input_message text;
CREATE INDEX delegations_context ON delegations (caller_id, context_id, number) WHERE context_id IS NOT NULL;

-- What was said and made in the course of a delegation is found by it; of other events it is not stored.
ALTER TABLE structure_events ADD COLUMN delegation_id text COLLATE "C";
CREATE INDEX structure_events_course ON structure_events (workspace_id, delegation_id, seq)
    WHERE delegation_id IS NOT NULL;
