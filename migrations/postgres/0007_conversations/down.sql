DROP INDEX structure_events_course;
ALTER TABLE structure_events DROP COLUMN delegation_id;
DROP INDEX delegations_context;
ALTER TABLE delegations DROP COLUMN input_message;
ALTER TABLE delegations DROP COLUMN context_id;
ALTER TABLE delegations DROP COLUMN message;
