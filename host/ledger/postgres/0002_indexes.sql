-- What is asked for often and is rare in a long history: a share's runs, what
-- failed, what was skipped.

CREATE INDEX runs_by_share ON runs (share, seq);
CREATE INDEX runs_failed ON runs (seq) WHERE state = 'failed';
CREATE INDEX slots_skipped ON slots (at, id) WHERE state = 'skipped';
