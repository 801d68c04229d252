-- What the programs of a step have used of the machine: JSON, as docs/formats.md has it.
ALTER TABLE steps ADD COLUMN usage TEXT;
