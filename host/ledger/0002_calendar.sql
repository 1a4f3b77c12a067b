-- Slots that wait for another one of their share, that are caught up or filled
-- in later; deliveries that are to be ended; shares that are paused.

CREATE TABLE slots_new (
    id              INTEGER PRIMARY KEY,
    share           TEXT    NOT NULL,
    at              INTEGER NOT NULL,
    interval_start  INTEGER NOT NULL,
    interval_end    INTEGER NOT NULL,
    origin          TEXT    NOT NULL CHECK (origin IN ('schedule', 'catch-up', 'backfill', 'manual')),
    customers       TEXT    NOT NULL CHECK (json_valid(customers)),   -- names, as planned
    overlap         TEXT    NOT NULL CHECK (overlap IN ('skip', 'queue', 'cancel', 'allow')),
    deadline_at     INTEGER,                                          -- what is not committed then has failed
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'held', 'running', 'done', 'skipped')),
    reason          TEXT    CHECK ((reason IS NOT NULL) = (state = 'skipped')),
    planned_at      INTEGER NOT NULL,
    UNIQUE (share, at)
) STRICT;
INSERT INTO slots_new
    SELECT id, share, at, interval_start, interval_end, origin, customers, 'allow', NULL, state, reason, planned_at
    FROM slots;
DROP TABLE slots;
ALTER TABLE slots_new RENAME TO slots;
CREATE INDEX slots_pending ON slots (origin, at) WHERE state = 'pending';
-- What is old enough to be forgotten.
CREATE INDEX slots_ended ON slots (at) WHERE state IN ('done', 'skipped');
CREATE INDEX slots_held ON slots (share) WHERE state = 'held';

CREATE TABLE runs_new (
    seq          INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,   -- UUID version 7
    slot         INTEGER NOT NULL REFERENCES slots (id),
    share        TEXT    NOT NULL,          -- its slot's, for runs_open
    origin       TEXT    NOT NULL CHECK (origin IN ('schedule', 'catch-up', 'backfill', 'manual')),
    state        TEXT    NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
    started_at   INTEGER NOT NULL,
    finished_at  INTEGER CHECK ((finished_at IS NULL) = (state = 'running'))
) STRICT;
INSERT INTO runs_new
    SELECT r.seq, r.id, r.slot, s.share, r.origin, r.state, r.started_at, r.finished_at
    FROM runs r JOIN slots s ON s.id = r.slot;
DROP TABLE runs;
ALTER TABLE runs_new RENAME TO runs;
CREATE INDEX runs_by_slot ON runs (slot);
-- What a share has at work.
CREATE INDEX runs_open ON runs (share) WHERE state = 'running';

-- Why it is to be ended, if it is: a failure as in `failure`.
ALTER TABLE deliveries ADD COLUMN cancel TEXT CHECK (cancel IS NULL OR json_valid(cancel));

CREATE TABLE pauses (
    share  TEXT    NOT NULL,
    since  INTEGER NOT NULL,
    until  INTEGER,                         -- NULL while it lasts
    PRIMARY KEY (share, since)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX pauses_open ON pauses (share) WHERE until IS NULL;
