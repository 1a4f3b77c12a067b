-- The first schema, as that of SQLite after its version 2. Instants are
-- microseconds since 1970-01-01T00:00:00Z, but those of nodes, which are the
-- database's own.

CREATE TABLE consign_ledger (
    version  BIGINT NOT NULL
);
INSERT INTO consign_ledger VALUES (1);

-- Who writes, or did. A node that is not alive never is again.
CREATE TABLE nodes (
    id           BIGINT      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         TEXT        NOT NULL,                  -- its host and process
    state        TEXT        NOT NULL CHECK (state IN ('alive', 'left', 'dead')),
    lease_until  TIMESTAMPTZ NOT NULL,
    began_at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    ended_at     TIMESTAMPTZ CHECK ((ended_at IS NULL) = (state = 'alive'))
) WITH (fillfactor = 50);

CREATE TABLE shares (
    name    TEXT   NOT NULL PRIMARY KEY,
    cursor  BIGINT NOT NULL                             -- the last instant planned; never goes back
);

CREATE TABLE slots (
    id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    share           TEXT   NOT NULL,
    at              BIGINT NOT NULL,
    interval_start  BIGINT NOT NULL,
    interval_end    BIGINT NOT NULL,
    origin          TEXT   NOT NULL CHECK (origin IN ('schedule', 'catch-up', 'backfill', 'manual')),
    customers       TEXT   NOT NULL CHECK (customers::JSON IS NOT NULL),   -- names, as planned
    overlap         TEXT   NOT NULL CHECK (overlap IN ('skip', 'queue', 'cancel', 'allow')),
    deadline_at     BIGINT,                             -- what is not committed then has failed
    state           TEXT   NOT NULL CHECK (state IN ('pending', 'held', 'running', 'done', 'skipped')),
    reason          TEXT   CHECK ((reason IS NOT NULL) = (state = 'skipped')),
    planned_at      BIGINT NOT NULL,
    UNIQUE (share, at)
);
CREATE INDEX slots_pending ON slots (origin, at, id) WHERE state = 'pending';
CREATE INDEX slots_ended ON slots (at) WHERE state IN ('done', 'skipped');
CREATE INDEX slots_held ON slots (share) WHERE state = 'held';

CREATE TABLE runs (
    seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id           TEXT   NOT NULL UNIQUE,                -- UUID version 7
    slot         BIGINT NOT NULL REFERENCES slots (id),
    share        TEXT   NOT NULL,                       -- its slot's, for runs_open
    origin       TEXT   NOT NULL CHECK (origin IN ('schedule', 'catch-up', 'backfill', 'manual')),
    state        TEXT   NOT NULL CHECK (state IN ('running', 'succeeded', 'failed')),
    -- Who has it: the node of the session that inserts it, or took it over.
    node         BIGINT NOT NULL DEFAULT current_setting('consign.node')::BIGINT,
    started_at   BIGINT NOT NULL,
    finished_at  BIGINT CHECK ((finished_at IS NULL) = (state = 'running'))
);
CREATE INDEX runs_by_slot ON runs (slot);
CREATE INDEX runs_open ON runs (share) WHERE state = 'running';

CREATE TABLE deliveries (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run           BIGINT NOT NULL REFERENCES runs (seq),
    slot          BIGINT NOT NULL REFERENCES slots (id),            -- its run's, for one_per_slot
    customer      TEXT   NOT NULL,
    state         TEXT   NOT NULL
                  CHECK (state IN ('pending', 'working', 'sealed', 'waiting', 'committed', 'failed')),
    failure       TEXT   CHECK (failure IS NULL OR failure::JSON IS NOT NULL),
    manifest_key  TEXT   CHECK ((manifest_key IS NOT NULL) = (state = 'committed')),
    tries         BIGINT NOT NULL DEFAULT 0,                        -- that have failed
    due_at        BIGINT CHECK (due_at IS NULL OR state IN ('waiting', 'sealed')),   -- when it is tried again
    rows          BIGINT,
    bytes         BIGINT,
    cancel        TEXT   CHECK (cancel IS NULL OR cancel::JSON IS NOT NULL),          -- why it is to be ended, if it is
    UNIQUE (run, customer)
);
-- A customer's slot is delivered by one delivery; only a failed one makes room for another.
CREATE UNIQUE INDEX one_per_slot ON deliveries (slot, customer) WHERE state <> 'failed';
CREATE INDEX deliveries_by_slot ON deliveries (slot);

CREATE TABLE attempts (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery      BIGINT NOT NULL REFERENCES deliveries (id),
    number        BIGINT NOT NULL,                      -- from 1
    state         TEXT   NOT NULL CHECK (state IN ('working', 'sealed', 'committed', 'failed', 'interrupted')),
    failure       TEXT   CHECK (failure IS NULL OR failure::JSON IS NOT NULL),
    endpoint      TEXT,                                 -- of its S3; NULL for AWS's own
    bucket        TEXT   CHECK ((bucket IS NULL) = (manifest_key IS NULL)),
    owner         TEXT   CHECK ((owner IS NULL) = (bucket IS NULL)),
    manifest_key  TEXT,                                 -- NULL when it could not even begin
    draft         TEXT   CHECK (draft IS NULL OR draft::JSON IS NOT NULL),           -- the manifest, its objects still open
    started_at    BIGINT NOT NULL,
    ended_at      BIGINT CHECK ((ended_at IS NULL) = (state IN ('working', 'sealed'))),
    UNIQUE (delivery, number)
);
-- Two slots with one manifest key would overwrite each other's objects.
CREATE INDEX attempts_by_key ON attempts (manifest_key) WHERE state IN ('working', 'sealed', 'committed');

CREATE TABLE uploads (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    attempt     BIGINT NOT NULL REFERENCES attempts (id),
    key         TEXT   NOT NULL,
    upload_id   TEXT   NOT NULL,                        -- as S3 named it
    state       TEXT   NOT NULL CHECK (state IN ('created', 'completed', 'aborted', 'abandoned')),
    created_at  BIGINT NOT NULL,
    ended_at    BIGINT CHECK ((ended_at IS NULL) = (state = 'created')),
    UNIQUE (attempt, upload_id)
);
CREATE INDEX uploads_open ON uploads (attempt) WHERE state = 'created';

CREATE TABLE objects (
    attempt  BIGINT NOT NULL REFERENCES attempts (id),
    ordinal  BIGINT NOT NULL,                           -- from 0, in order of creation
    key      TEXT   NOT NULL,
    bytes    BIGINT NOT NULL,                           -- as stored
    rows     BIGINT NOT NULL,
    etag     TEXT,                                      -- once completed
    sealed   TEXT   NOT NULL CHECK (sealed::JSON IS NOT NULL),      -- all that is needed to complete it
    PRIMARY KEY (attempt, ordinal)
);

CREATE TABLE pauses (
    share  TEXT   NOT NULL,
    since  BIGINT NOT NULL,
    until  BIGINT,                                      -- NULL while it lasts
    PRIMARY KEY (share, since)
);
CREATE UNIQUE INDEX pauses_open ON pauses (share) WHERE until IS NULL;
