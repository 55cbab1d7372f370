ALTER TABLE delegations DROP COLUMN input;
ALTER TABLE delegations DROP COLUMN progress_percent;
ALTER TABLE delegations DROP COLUMN progress_message;
ALTER TABLE delegations DROP COLUMN failing_since;
ALTER TABLE delegations DROP COLUMN failures;
ALTER TABLE delegations DROP COLUMN priority;
UPDATE workspaces SET max_concurrent_tasks = 1 WHERE max_concurrent_tasks = 0;
