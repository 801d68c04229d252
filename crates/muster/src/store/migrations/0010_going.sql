-- Who comes to a group asks which runs of a repository go on: a handful, whatever it has had before.
CREATE INDEX runs_going ON runs (repository_id) WHERE conclusion IS NULL;
