-- Jobs come to concurrency groups, too. A group's name is in lower case; a later comer has a greater turn.
ALTER TABLE jobs ADD COLUMN concurrency_group TEXT;
ALTER TABLE jobs ADD COLUMN turn BIGINT NOT NULL DEFAULT 0;
-- Whether it waits for its turn there.
ALTER TABLE jobs ADD COLUMN held BIGINT NOT NULL DEFAULT 0;
-- Why it is to end for another of its group.
ALTER TABLE jobs ADD COLUMN cancel_code TEXT;
ALTER TABLE jobs ADD COLUMN cancel_text TEXT;
ALTER TABLE runs ADD COLUMN turn BIGINT NOT NULL DEFAULT 0;
-- How many may wait in its group: single or max.
ALTER TABLE runs ADD COLUMN queue TEXT NOT NULL DEFAULT 'single';
CREATE INDEX jobs_in_groups ON jobs (run_id) WHERE concurrency_group IS NOT NULL AND status <> 'finished';
