-- The commit that a pull request's head was merged into, so that the merge can be made once more.
ALTER TABLE runs ADD COLUMN base_sha TEXT;
