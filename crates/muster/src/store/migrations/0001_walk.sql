-- Times are milliseconds since 1970, flags 0 or 1, JSON is text.
-- What people see in addresses and workflows see as `github.run_id` is the `number`, unique on this server.

CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE repositories (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    location TEXT NOT NULL,
    default_branch TEXT NOT NULL,
    added_at BIGINT NOT NULL,
    -- Set once the refs of the repository have been seen for the first time.
    seen_at BIGINT,
    -- Why the last look at it failed.
    problem TEXT
);

CREATE TABLE refs (
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    sha TEXT NOT NULL,
    PRIMARY KEY (repository_id, name)
);

CREATE TABLE events (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    received_at BIGINT NOT NULL,
    change TEXT NOT NULL,
    -- The commit that it brought; none for a deletion.
    sha TEXT,
    -- pending, accepted, ignored, dead
    outcome TEXT NOT NULL,
    reason_code TEXT,
    reason_text TEXT,
    decided_at BIGINT
);
CREATE INDEX events_of_commit ON events (repository_id, sha);
CREATE INDEX events_pending ON events (number) WHERE outcome = 'pending';

CREATE TABLE workflows (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    runs BIGINT NOT NULL,
    UNIQUE (repository_id, path)
);

-- What became of each workflow file of an event: it ran, or why not.
CREATE TABLE verdicts_on_files (
    event_id TEXT NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    path TEXT NOT NULL,
    -- ran, skipped, refused
    outcome TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (event_id, path)
);

CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    workflow_id TEXT NOT NULL REFERENCES workflows (id),
    event_id TEXT NOT NULL REFERENCES events (id),
    -- The workflow's own count of its runs.
    run_number BIGINT NOT NULL,
    -- Which try of the whole run is current.
    attempt BIGINT NOT NULL,
    path TEXT NOT NULL,
    workflow_name TEXT NOT NULL,
    title TEXT NOT NULL,
    -- The text of the workflow file, which a re-run uses again.
    source TEXT NOT NULL,
    github TEXT NOT NULL,
    event_name TEXT NOT NULL,
    ref TEXT NOT NULL,
    sha TEXT NOT NULL,
    -- Events in `on` that start nothing here.
    unserved TEXT NOT NULL,
    -- The group's name in lower case, and whether the run waits for its turn in it.
    concurrency_group TEXT,
    held BIGINT NOT NULL,
    cancel_code TEXT,
    cancel_text TEXT,
    conclusion TEXT,
    created_at BIGINT NOT NULL,
    concluded_at BIGINT
);
CREATE INDEX runs_active ON runs (number) WHERE conclusion IS NULL;
CREATE INDEX runs_of_event ON runs (event_id);
CREATE INDEX runs_of_commit ON runs (repository_id, sha);

CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    run_id TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    run_attempt BIGINT NOT NULL,
    -- The place in the plan, from 0.
    place BIGINT NOT NULL,
    name TEXT NOT NULL,
    -- The engine's job, all of it.
    job TEXT NOT NULL,
    -- The status alone, to look jobs up by.
    status TEXT NOT NULL,
    -- In a re-run, a job that is not run again: the job whose attempts, steps and logs are its own.
    carried_from TEXT,
    queued_at BIGINT,
    started_at BIGINT,
    finished_at BIGINT,
    UNIQUE (run_id, run_attempt, place)
);

CREATE TABLE attempts (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt BIGINT NOT NULL,
    -- running, finished, lost
    status TEXT NOT NULL,
    -- How much of the spool has been taken over.
    taken BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    finished_at BIGINT,
    PRIMARY KEY (job_id, attempt)
);
CREATE INDEX attempts_running ON attempts (job_id) WHERE status = 'running';

CREATE TABLE steps (
    job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    attempt BIGINT NOT NULL,
    step BIGINT NOT NULL,
    name TEXT NOT NULL,
    outcome TEXT,
    conclusion TEXT,
    started_at BIGINT,
    finished_at BIGINT,
    summary TEXT,
    PRIMARY KEY (job_id, attempt, step)
);

-- What the forge must see: one row for each context of a commit, and what it has been sent.
CREATE TABLE reports (
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    sha TEXT NOT NULL,
    context TEXT NOT NULL,
    state TEXT NOT NULL,
    description TEXT NOT NULL,
    -- The address of what it is about, without the server's own.
    path TEXT NOT NULL,
    -- Counts up with each change; equal to `sent` once the forge shows it.
    version BIGINT NOT NULL,
    sent BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    sent_at BIGINT,
    failures BIGINT NOT NULL,
    next_try_at BIGINT NOT NULL,
    problem TEXT,
    PRIMARY KEY (repository_id, sha, context)
);
CREATE INDEX reports_unsent ON reports (next_try_at) WHERE sent < version;
