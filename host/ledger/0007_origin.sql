-- Where the ledger is from.

CREATE TABLE consign_ledger (
    made_at      INTEGER,                   -- NULL: an earlier version has not written it down
    restored_at  INTEGER                    -- from a backup, the last time; NULL: never
) STRICT;
INSERT INTO consign_ledger VALUES (NULL, NULL);

-- Who has said by hand what became of a delivery in doubt, when, and why.

ALTER TABLE deliveries ADD COLUMN settled TEXT
    CHECK (settled IS NULL OR (state IN ('committed', 'failed') AND json_valid(settled)));
