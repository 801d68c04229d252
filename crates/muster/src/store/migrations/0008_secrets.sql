-- What people keep for jobs. One that is for all repositories is of none.
CREATE TABLE secrets (
    -- The id of its repository, or `*`.
    scope TEXT NOT NULL,
    repository_id TEXT REFERENCES repositories (id) ON DELETE CASCADE,
    -- The environment whose jobs alone get it, in small letters; empty for any job.
    environment TEXT NOT NULL,
    -- How far a run must be trusted at least.
    trust TEXT NOT NULL,
    name TEXT NOT NULL,
    -- secret: sealed with a key that is not in the database; variable: as it is.
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    -- What its value takes in JSON, in bytes.
    bytes BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (scope, kind, environment, trust, name)
);

-- The variables that a run had when it was planned, as JSON.
ALTER TABLE runs ADD COLUMN vars TEXT NOT NULL DEFAULT '{}';
-- The patterns of branches and tags that are protected, one a line; without any its default branch is.
ALTER TABLE repositories ADD COLUMN protection TEXT;
