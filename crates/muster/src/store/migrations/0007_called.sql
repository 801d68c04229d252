-- The workflows that a run calls, as JSON: names and texts. A run that is done again uses what it used.
ALTER TABLE runs ADD COLUMN called TEXT NOT NULL DEFAULT '[]';
