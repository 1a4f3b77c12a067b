-- Where the ledger is from.

ALTER TABLE consign_ledger ADD COLUMN made_at BIGINT;       -- NULL: an earlier version has not written it down
ALTER TABLE consign_ledger ADD COLUMN restored_at BIGINT;   -- from a backup, the last time; NULL: never
-- What the row is known by (`open.rs`). A row that came from a dump is another one, and so it is known to.
ALTER TABLE consign_ledger ADD COLUMN mark TEXT;

-- Who has said by hand what became of a delivery in doubt, when, and why.

ALTER TABLE deliveries ADD COLUMN settled TEXT
    CHECK (settled IS NULL OR (state IN ('committed', 'failed') AND settled::JSON IS NOT NULL));
