-- When a repository at GitHub had its name, as ISO 8601: a webhook that comes late has the one before.
ALTER TABLE repositories ADD COLUMN named_at TEXT;
-- Of repositories at GitHub, too, it is known now where their branches are: until they are looked at, where they
-- were heard to be.
INSERT INTO refs (repository_id, name, sha)
SELECT e.repository_id, e.subject, e.sha FROM events e JOIN repositories r ON r.id = e.repository_id
WHERE r.kind = 'github' AND e.sha IS NOT NULL AND e.subject LIKE 'refs/heads/%'
AND e.number = (SELECT MAX(l.number) FROM events l WHERE l.repository_id = e.repository_id
AND l.subject = e.subject AND l.sha IS NOT NULL);
