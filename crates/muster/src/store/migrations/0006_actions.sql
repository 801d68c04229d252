-- The commits of the actions that a run uses: what comes later in it, and in a re-run, uses the same.
CREATE TABLE actions (
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    -- Repository and ref: `owner/name@ref`.
    uses TEXT NOT NULL,
    sha TEXT NOT NULL,
    PRIMARY KEY (run_id, uses)
);

-- What a job deploys to, and where that can be seen.
ALTER TABLE jobs ADD COLUMN environment TEXT;
ALTER TABLE jobs ADD COLUMN environment_url TEXT;
