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
    -- git: watched by its refs; github: heard of by webhooks.
    kind TEXT NOT NULL,
    location TEXT NOT NULL,
    -- The repository's own number at its code host.
    forge_id BIGINT,
    -- 0 while another CI publishes the names of the jobs in .github/workflows.
    adopted BIGINT NOT NULL,
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

-- Webhooks as they came. The body is text, or base64 where it is not.
CREATE TABLE deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    hook TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    event TEXT NOT NULL,
    content_type TEXT NOT NULL,
    body TEXT NOT NULL,
    body_is_base64 BIGINT NOT NULL,
    body_sha256 TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    -- How often it was delivered.
    times BIGINT NOT NULL,
    -- pending, accepted, ignored, dead
    outcome TEXT NOT NULL,
    reason_code TEXT,
    reason_text TEXT,
    UNIQUE (hook, delivery_id)
);
CREATE INDEX deliveries_pending ON deliveries (number) WHERE outcome = 'pending';
CREATE INDEX deliveries_by_body ON deliveries (body_sha256);

-- Pull requests as they were last heard of; what is older changes nothing.
CREATE TABLE pull_requests (
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    head TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    open BIGINT NOT NULL,
    PRIMARY KEY (repository_id, number)
);

-- Commits of strangers that somebody approved, each by its full name.
CREATE TABLE approvals (
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    sha TEXT NOT NULL,
    approved_at BIGINT NOT NULL,
    PRIMARY KEY (repository_id, sha)
);

CREATE TABLE events (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    received_at BIGINT NOT NULL,
    change TEXT NOT NULL,
    -- The ref that it is about: of the events of one commit and ref, the last one counts.
    subject TEXT NOT NULL,
    -- The commit that it brought; none for a deletion.
    sha TEXT,
    -- The pull request that it is about.
    pull_request BIGINT,
    -- The webhook that told of it.
    delivery_id TEXT REFERENCES deliveries (id),
    failures BIGINT NOT NULL,
    next_try_at BIGINT NOT NULL,
    -- pending, waiting, accepted, ignored, dead
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
    -- The commit that statuses are for, and the one that is checked out: of a pull request muster's
    -- own merge.
    sha TEXT NOT NULL,
    tested_sha TEXT NOT NULL,
    pull_request BIGINT,
    trust TEXT NOT NULL,
    shadow BIGINT NOT NULL,
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
