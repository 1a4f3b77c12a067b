-- Who has said by hand what became of a delivery in doubt, when, and why.

ALTER TABLE deliveries ADD COLUMN settled TEXT
    CHECK (settled IS NULL OR (state IN ('committed', 'failed') AND settled::JSON IS NOT NULL));
