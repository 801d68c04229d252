-- What people have done: who, what, to what. It is added to, and never changed.
CREATE TABLE audit (
    number BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    who TEXT NOT NULL,
    -- Such as `run.cancel`.
    action TEXT NOT NULL,
    -- Such as `run 7`.
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);
