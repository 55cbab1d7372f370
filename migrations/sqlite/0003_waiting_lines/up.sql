-- Its twin is migrations/postgres/0003_waiting_lines.

-- Among those that wait for one target, the higher go first (contract §7, a2a_queue.priority).
ALTER TABLE delegations ADD COLUMN priority INTEGER NOT NULL DEFAULT 50;
-- Tries in a row that came to nothing.
ALTER TABLE delegations ADD COLUMN failures INTEGER;
ALTER TABLE delegations ADD COLUMN failing_since INTEGER;
-- The last that was said of the work.
ALTER TABLE delegations ADD COLUMN progress_message TEXT;
ALTER TABLE delegations ADD COLUMN progress_percent INTEGER;
-- The caller's answer to `question`, until the target has shown that it has it.
ALTER TABLE delegations ADD COLUMN input TEXT;

-- 0 is no cap of its own; until now the contract's default was stored as if somebody had set it.
UPDATE workspaces SET max_concurrent_tasks = 0 WHERE max_concurrent_tasks = 1;
