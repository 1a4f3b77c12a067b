-- The first schema. Instants are microseconds since 1970-01-01T00:00:00Z.
-- States and what may follow what: state.rs.

CREATE TABLE shares (
    name    TEXT    NOT NULL PRIMARY KEY,
    cursor  INTEGER NOT NULL                -- the last instant planned; never goes back
) STRICT, WITHOUT ROWID;

CREATE TABLE slots (
    id              INTEGER PRIMARY KEY,
    share           TEXT    NOT NULL,
    at              INTEGER NOT NULL,
    interval_start  INTEGER NOT NULL,
    interval_end    INTEGER NOT NULL,
    origin          TEXT    NOT NULL CHECK (origin IN ('schedule', 'manual')),
    customers       TEXT    NOT NULL CHECK (json_valid(customers)),   -- names, as planned
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'running', 'done', 'skipped')),
    reason          TEXT    CHECK ((reason IS NOT NULL) = (state = 'skipped')),
    planned_at      INTEGER NOT NULL,
    UNIQUE (share, at)
) STRICT;
CREATE INDEX slots_pending ON slots (at) WHERE state = 'pending';
-- What is old enough to be forgotten.
CREATE INDEX slots_ended ON slots (at) WHERE state IN ('done', 'skipped');

CREATE TABLE runs (
    seq          INTEGER PRIMARY KEY,
    id           TEXT    NOT NULL UNIQUE,   -- UUID version 7
    slot         INTEGER NOT NULL REFERENCES slots (id),
    origin       TEXT    NOT NULL CHECK (origin IN ('schedule', 'manual')),
    state        TEXT    NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
    started_at   INTEGER NOT NULL,
    finished_at  INTEGER CHECK ((finished_at IS NULL) = (state = 'running'))
) STRICT;
CREATE INDEX runs_by_slot ON runs (slot);
CREATE INDEX runs_open ON runs (seq) WHERE state = 'running';

CREATE TABLE deliveries (
    id             INTEGER PRIMARY KEY,
    run            INTEGER NOT NULL REFERENCES runs (seq),
    slot           INTEGER NOT NULL REFERENCES slots (id),            -- its run's, for one_per_slot
    customer       TEXT    NOT NULL,
    state          TEXT    NOT NULL
                   CHECK (state IN ('pending', 'working', 'sealed', 'waiting', 'committed', 'failed')),
    failure        TEXT    CHECK (failure IS NULL OR json_valid(failure)),
    manifest_key   TEXT    CHECK ((manifest_key IS NOT NULL) = (state = 'committed')),
    tries          INTEGER NOT NULL DEFAULT 0,                        -- that have failed
    due_at         INTEGER CHECK (due_at IS NULL OR state IN ('waiting', 'sealed')),   -- when it is tried again
    rows           INTEGER,
    bytes          INTEGER,
    UNIQUE (run, customer)
) STRICT;
-- A customer's slot is delivered by one delivery; only a failed one makes room for another.
CREATE UNIQUE INDEX one_per_slot ON deliveries (slot, customer) WHERE state <> 'failed';
CREATE INDEX deliveries_by_slot ON deliveries (slot);

CREATE TABLE attempts (
    id          INTEGER PRIMARY KEY,
    delivery    INTEGER NOT NULL REFERENCES deliveries (id),
    number      INTEGER NOT NULL,           -- from 1
    state       TEXT    NOT NULL CHECK (state IN ('working', 'sealed', 'committed', 'failed', 'interrupted')),
    failure     TEXT    CHECK (failure IS NULL OR json_valid(failure)),
    endpoint     TEXT,                      -- of its S3; NULL for AWS's own
    bucket       TEXT   CHECK ((bucket IS NULL) = (manifest_key IS NULL)),
    owner        TEXT   CHECK ((owner IS NULL) = (bucket IS NULL)),
    manifest_key TEXT,                      -- NULL when it could not even begin
    draft       TEXT    CHECK (draft IS NULL OR json_valid(draft)),   -- the manifest, its objects still open
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER CHECK ((ended_at IS NULL) = (state IN ('working', 'sealed'))),
    UNIQUE (delivery, number)
) STRICT;
-- Two slots with one manifest key would overwrite each other's objects.
CREATE INDEX attempts_by_key ON attempts (manifest_key) WHERE state IN ('working', 'sealed', 'committed');

CREATE TABLE uploads (
    id          INTEGER PRIMARY KEY,
    attempt     INTEGER NOT NULL REFERENCES attempts (id),
    key         TEXT    NOT NULL,
    upload_id   TEXT    NOT NULL,           -- as S3 named it
    state       TEXT    NOT NULL CHECK (state IN ('created', 'completed', 'aborted', 'abandoned')),
    created_at  INTEGER NOT NULL,
    ended_at    INTEGER CHECK ((ended_at IS NULL) = (state = 'created')),
    UNIQUE (attempt, upload_id)
) STRICT;
CREATE INDEX uploads_open ON uploads (attempt) WHERE state = 'created';

CREATE TABLE objects (
    attempt   INTEGER NOT NULL REFERENCES attempts (id),
    ordinal   INTEGER NOT NULL,             -- from 0, in order of creation
    key       TEXT    NOT NULL,
    bytes     INTEGER NOT NULL,             -- as stored
    rows      INTEGER NOT NULL,
    etag      TEXT,                         -- once completed
    sealed    TEXT    NOT NULL CHECK (json_valid(sealed)),            -- all that is needed to complete it
    PRIMARY KEY (attempt, ordinal)
) STRICT, WITHOUT ROWID;
