-- The verdict that the default branch was last told to have.
ALTER TABLE repositories ADD COLUMN verdict TEXT;
-- Webhooks that are forgotten are looked for here.
CREATE INDEX events_of_delivery ON events (delivery_id);

-- Verdicts on default branches that changed, each to be told once on every channel.
CREATE TABLE notices (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    repository_id TEXT NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    sha TEXT NOT NULL,
    branch TEXT NOT NULL,
    verdict TEXT NOT NULL,
    -- The verdict before; none for the first.
    was TEXT,
    description TEXT NOT NULL,
    at BIGINT NOT NULL,
    -- The channels that have it already, each between commas.
    told TEXT NOT NULL,
    -- Set when all of them have it, or it is given up.
    done_at BIGINT,
    failures BIGINT NOT NULL,
    next_try_at BIGINT NOT NULL,
    problem TEXT
);
CREATE INDEX notices_open ON notices (next_try_at) WHERE done_at IS NULL;
