-- What the steps of an attempt tell about the code: errors, warnings and notices.
CREATE TABLE annotations (
    -- In the order in which they came.
    id TEXT PRIMARY KEY,
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt BIGINT NOT NULL,
    step BIGINT NOT NULL,
    -- JSON, as docs/formats.md has it.
    annotation TEXT NOT NULL
);
CREATE INDEX annotations_of ON annotations (job_id, attempt);
