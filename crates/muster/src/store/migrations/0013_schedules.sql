-- Until when the schedules of a repository were looked at; NULL where it has none.
ALTER TABLE repositories ADD COLUMN scheduled_at BIGINT;
