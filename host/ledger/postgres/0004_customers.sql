-- Customers as they were last looked at: whether their roles and buckets take deliveries.

CREATE TABLE customers (
    name            TEXT   NOT NULL PRIMARY KEY,
    looked_at       BIGINT NOT NULL,                -- when it was last found to be ready, or not to be
    unready_since   BIGINT,                         -- NULL: deliveries may begin
    failure         TEXT CHECK (failure IS NULL OR failure::JSON IS NOT NULL),  -- what was found last
    looks           BIGINT NOT NULL,                -- in vain, since then
    next_at         BIGINT NOT NULL                 -- before that nobody looks again by itself
);

-- Who has got something was ready for it.
INSERT INTO customers (name, looked_at, looks, next_at)
    SELECT customer, max(ended_at), 0, 0 FROM
        (SELECT d.customer, coalesce(r.finished_at, r.started_at) AS ended_at
         FROM runs r JOIN deliveries d ON d.run = r.seq WHERE d.state = 'committed') AS committed
    GROUP BY customer;
