-- Which component formatted what, and which of them end by their own fault.

ALTER TABLE attempts ADD COLUMN digest TEXT;    -- of the component; NULL for files, and what could not begin

CREATE TABLE faults (
    digest          TEXT   NOT NULL PRIMARY KEY,    -- of the component
    plugin          TEXT   NOT NULL,                -- what it was called last
    deliveries      BIGINT NOT NULL,                -- that ended so, in a row
    failure         TEXT   NOT NULL CHECK (failure::JSON IS NOT NULL),     -- of the last one
    failed_at       BIGINT NOT NULL,
    quarantined_at  BIGINT                          -- NULL while attempts may begin
);
