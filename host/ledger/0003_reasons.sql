-- Why a delivery was left out without being tried; and indexes of what is asked
-- for often and is rare in a long history.

ALTER TABLE deliveries ADD COLUMN reason TEXT CHECK (reason IS NULL OR state = 'failed');
UPDATE deliveries SET reason = substr(failure ->> '$.message', instr(failure ->> '$.message', ' was left out: ') + 15)
    WHERE state = 'failed' AND failure ->> '$.message' LIKE 'slot % was left out: %';
CREATE INDEX deliveries_left_out ON deliveries (slot) WHERE reason IS NOT NULL;

CREATE INDEX runs_by_share ON runs (share, seq);
CREATE INDEX runs_failed ON runs (seq) WHERE state = 'failed';
CREATE INDEX slots_skipped ON slots (at) WHERE state = 'skipped';
