SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE SCHEMA consign;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE consign.attempts (
    id bigint NOT NULL,
    delivery bigint NOT NULL,
    number bigint NOT NULL,
    state text NOT NULL,
    failure text,
    endpoint text,
    bucket text,
    owner text,
    manifest_key text,
    draft text,
    started_at bigint NOT NULL,
    ended_at bigint,
    digest text,
    CONSTRAINT attempts_check CHECK (((bucket IS NULL) = (manifest_key IS NULL))),
    CONSTRAINT attempts_check1 CHECK (((owner IS NULL) = (bucket IS NULL))),
    CONSTRAINT attempts_check2 CHECK (((ended_at IS NULL) = (state = ANY (ARRAY['working'::text, 'sealed'::text])))),
    CONSTRAINT attempts_draft_check CHECK (((draft IS NULL) OR ((draft)::json IS NOT NULL))),
    CONSTRAINT attempts_failure_check CHECK (((failure IS NULL) OR ((failure)::json IS NOT NULL))),
    CONSTRAINT attempts_state_check CHECK ((state = ANY (ARRAY['working'::text, 'sealed'::text, 'committed'::text, 'failed'::text, 'interrupted'::text])))
);
ALTER TABLE consign.attempts ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME consign.attempts_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE consign.consign_ledger (
    version bigint NOT NULL
);
CREATE TABLE consign.customers (
    name text NOT NULL,
    looked_at bigint NOT NULL,
    unready_since bigint,
    failure text,
    looks bigint NOT NULL,
    next_at bigint NOT NULL,
    profile text,
    CONSTRAINT customers_failure_check CHECK (((failure IS NULL) OR ((failure)::json IS NOT NULL)))
);
CREATE TABLE consign.deliveries (
    id bigint NOT NULL,
    run bigint NOT NULL,
    slot bigint NOT NULL,
    customer text NOT NULL,
    state text NOT NULL,
    failure text,
    manifest_key text,
    tries bigint DEFAULT 0 NOT NULL,
    due_at bigint,
    rows bigint,
    bytes bigint,
    cancel text,
    reason text,
    CONSTRAINT deliveries_cancel_check CHECK (((cancel IS NULL) OR ((cancel)::json IS NOT NULL))),
    CONSTRAINT deliveries_check CHECK (((manifest_key IS NOT NULL) = (state = 'committed'::text))),
    CONSTRAINT deliveries_check1 CHECK (((due_at IS NULL) OR (state = ANY (ARRAY['waiting'::text, 'sealed'::text])))),
    CONSTRAINT deliveries_check2 CHECK (((reason IS NULL) OR (state = 'failed'::text))),
    CONSTRAINT deliveries_failure_check CHECK (((failure IS NULL) OR ((failure)::json IS NOT NULL))),
    CONSTRAINT deliveries_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'working'::text, 'sealed'::text, 'waiting'::text, 'committed'::text, 'failed'::text])))
);
ALTER TABLE consign.deliveries ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME consign.deliveries_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE consign.faults (
    digest text NOT NULL,
    plugin text NOT NULL,
    deliveries bigint NOT NULL,
    failure text NOT NULL,
    failed_at bigint NOT NULL,
    quarantined_at bigint,
    CONSTRAINT faults_failure_check CHECK (((failure)::json IS NOT NULL))
);
CREATE TABLE consign.nodes (
    id bigint NOT NULL,
    name text NOT NULL,
    state text NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    began_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT nodes_check CHECK (((ended_at IS NULL) = (state = 'alive'::text))),
    CONSTRAINT nodes_state_check CHECK ((state = ANY (ARRAY['alive'::text, 'left'::text, 'dead'::text])))
)
WITH (fillfactor='50');
ALTER TABLE consign.nodes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME consign.nodes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE consign.objects (
    attempt bigint NOT NULL,
    ordinal bigint NOT NULL,
    key text NOT NULL,
    bytes bigint NOT NULL,
    rows bigint NOT NULL,
    etag text,
    sealed text NOT NULL,
    CONSTRAINT objects_sealed_check CHECK (((sealed)::json IS NOT NULL))
);
CREATE TABLE consign.pauses (
    share text NOT NULL,
    since bigint NOT NULL,
    until bigint
);
CREATE TABLE consign.runs (
    seq bigint NOT NULL,
    id text NOT NULL,
    slot bigint NOT NULL,
    share text NOT NULL,
    origin text NOT NULL,
    state text NOT NULL,
    node bigint DEFAULT (current_setting('consign.node'::text))::bigint NOT NULL,
    started_at bigint NOT NULL,
    finished_at bigint,
    CONSTRAINT runs_check CHECK (((finished_at IS NULL) = (state = 'running'::text))),
    CONSTRAINT runs_origin_check CHECK ((origin = ANY (ARRAY['schedule'::text, 'catch-up'::text, 'backfill'::text, 'manual'::text]))),
    CONSTRAINT runs_state_check CHECK ((state = ANY (ARRAY['running'::text, 'succeeded'::text, 'failed'::text])))
);
ALTER TABLE consign.runs ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME consign.runs_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE consign.shares (
    name text NOT NULL,
    cursor bigint NOT NULL
);
CREATE TABLE consign.slots (
    id bigint NOT NULL,
    share text NOT NULL,
    at bigint NOT NULL,
    interval_start bigint NOT NULL,
    interval_end bigint NOT NULL,
    origin text NOT NULL,
    customers text NOT NULL,
    overlap text NOT NULL,
    deadline_at bigint,
    state text NOT NULL,
    reason text,
    planned_at bigint NOT NULL,
    CONSTRAINT slots_check CHECK (((reason IS NOT NULL) = (state = 'skipped'::text))),
    CONSTRAINT slots_customers_check CHECK (((customers)::json IS NOT NULL)),
    CONSTRAINT slots_origin_check CHECK ((origin = ANY (ARRAY['schedule'::text, 'catch-up'::text, 'backfill'::text, 'manual'::text]))),
    CONSTRAINT slots_overlap_check CHECK ((overlap = ANY (ARRAY['skip'::text, 'queue'::text, 'cancel'::text, 'allow'::text]))),
    CONSTRAINT slots_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'held'::text, 'running'::text, 'done'::text, 'skipped'::text])))
);
ALTER TABLE consign.slots ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME consign.slots_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE consign.uploads (
    id bigint NOT NULL,
    attempt bigint NOT NULL,
    key text NOT NULL,
    upload_id text NOT NULL,
    state text NOT NULL,
    created_at bigint NOT NULL,
    ended_at bigint,
    CONSTRAINT uploads_check CHECK (((ended_at IS NULL) = (state = 'created'::text))),
    CONSTRAINT uploads_state_check CHECK ((state = ANY (ARRAY['created'::text, 'completed'::text, 'aborted'::text, 'abandoned'::text])))
);
ALTER TABLE consign.uploads ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME consign.uploads_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
INSERT INTO consign.attempts OVERRIDING SYSTEM VALUE VALUES
	(1, 1, 1, 'committed', NULL, 'http://127.0.0.1:5997/', 'acme-data', '100000000001', 'in/tick/2026-11-28/230132Z/_manifest.json', '{"manifest_version":1,"share":"tick","slot":"2026-11-28T23:01:32Z","interval":{"start":"2026-11-28T23:01:30Z","end":"2026-11-28T23:01:32Z"},"customer":"acme","run":"01a22464-7177-7609-ba06-116da9e790ea","rows":113300,"objects":[],"schema":[{"name":"year","type":"Int16","nullable":true},{"name":"month","type":"Int16","nullable":true},{"name":"day","type":"Int16","nullable":true},{"name":"dep_time","type":"Int16","nullable":true},{"name":"sched_dep_time","type":"Int16","nullable":true},{"name":"dep_delay","type":"Int16","nullable":true},{"name":"arr_time","type":"Int16","nullable":true},{"name":"sched_arr_time","type":"Int16","nullable":true},{"name":"arr_delay","type":"Int16","nullable":true},{"name":"carrier","type":"Utf8","nullable":true},{"name":"flight","type":"Int16","nullable":true},{"name":"tailnum","type":"Utf8","nullable":true},{"name":"origin","type":"Utf8","nullable":true},{"name":"dest","type":"Utf8","nullable":true},{"name":"air_time","type":"Int16","nullable":true},{"name":"distance","type":"Int16","nullable":true},{"name":"hour","type":"Int16","nullable":true},{"name":"minute","type":"Int16","nullable":true},{"name":"time_hour","type":"Timestamp(ms, \"UTC\")","nullable":true}],"plugin":{"name":"jsonl","version":"1.0.0","digest":"sha256:5156815c7a0cf39dcacc7922f9b422bcf99bc6ec7eb859b07d3f563abbd98daf"},"consign_version":"0.1.0","started":"2026-11-28T23:01:32.201005964Z","finished":"2026-11-28T23:01:32.201005964Z"}', 1795906892170774, 1795906892750769, NULL),
	(2, 2, 1, 'committed', NULL, 'http://127.0.0.1:5997/', 'acme-data', '100000000001', 'in/tick/2026-11-28/230134Z/_manifest.json', '{"manifest_version":1,"share":"tick","slot":"2026-11-28T23:01:34Z","interval":{"start":"2026-11-28T23:01:32Z","end":"2026-11-28T23:01:34Z"},"customer":"acme","run":"01a22464-7956-70b0-8f00-b06f547c8559","rows":113300,"objects":[],"schema":[{"name":"year","type":"Int16","nullable":true},{"name":"month","type":"Int16","nullable":true},{"name":"day","type":"Int16","nullable":true},{"name":"dep_time","type":"Int16","nullable":true},{"name":"sched_dep_time","type":"Int16","nullable":true},{"name":"dep_delay","type":"Int16","nullable":true},{"name":"arr_time","type":"Int16","nullable":true},{"name":"sched_arr_time","type":"Int16","nullable":true},{"name":"arr_delay","type":"Int16","nullable":true},{"name":"carrier","type":"Utf8","nullable":true},{"name":"flight","type":"Int16","nullable":true},{"name":"tailnum","type":"Utf8","nullable":true},{"name":"origin","type":"Utf8","nullable":true},{"name":"dest","type":"Utf8","nullable":true},{"name":"air_time","type":"Int16","nullable":true},{"name":"distance","type":"Int16","nullable":true},{"name":"hour","type":"Int16","nullable":true},{"name":"minute","type":"Int16","nullable":true},{"name":"time_hour","type":"Timestamp(ms, \"UTC\")","nullable":true}],"plugin":{"name":"jsonl","version":"1.0.0","digest":"sha256:5156815c7a0cf39dcacc7922f9b422bcf99bc6ec7eb859b07d3f563abbd98daf"},"consign_version":"0.1.0","started":"2026-11-28T23:01:34.210182736Z","finished":"2026-11-28T23:01:34.210182736Z"}', 1795906894194912, 1795906894894793, NULL),
	(3, 3, 1, 'committed', NULL, 'http://127.0.0.1:5997/', 'acme-data', '100000000001', 'in/tick/2026-11-28/230136Z/_manifest.json', '{"manifest_version":1,"share":"tick","slot":"2026-11-28T23:01:36Z","interval":{"start":"2026-11-28T23:01:34Z","end":"2026-11-28T23:01:36Z"},"customer":"acme","run":"01a22464-8129-705d-b567-bff74761b350","rows":113300,"objects":[],"schema":[{"name":"year","type":"Int16","nullable":true},{"name":"month","type":"Int16","nullable":true},{"name":"day","type":"Int16","nullable":true},{"name":"dep_time","type":"Int16","nullable":true},{"name":"sched_dep_time","type":"Int16","nullable":true},{"name":"dep_delay","type":"Int16","nullable":true},{"name":"arr_time","type":"Int16","nullable":true},{"name":"sched_arr_time","type":"Int16","nullable":true},{"name":"arr_delay","type":"Int16","nullable":true},{"name":"carrier","type":"Utf8","nullable":true},{"name":"flight","type":"Int16","nullable":true},{"name":"tailnum","type":"Utf8","nullable":true},{"name":"origin","type":"Utf8","nullable":true},{"name":"dest","type":"Utf8","nullable":true},{"name":"air_time","type":"Int16","nullable":true},{"name":"distance","type":"Int16","nullable":true},{"name":"hour","type":"Int16","nullable":true},{"name":"minute","type":"Int16","nullable":true},{"name":"time_hour","type":"Timestamp(ms, \"UTC\")","nullable":true}],"plugin":{"name":"jsonl","version":"1.0.0","digest":"sha256:5156815c7a0cf39dcacc7922f9b422bcf99bc6ec7eb859b07d3f563abbd98daf"},"consign_version":"0.1.0","started":"2026-11-28T23:01:36.186804509Z","finished":"2026-11-28T23:01:36.186804509Z"}', 1795906896179627, 1795906896668686, NULL),
	(4, 4, 1, 'working', NULL, 'http://127.0.0.1:5997/', 'acme-data', '100000000001', 'in/tick/2026-11-28/230138Z/_manifest.json', NULL, 1795906898189838, NULL, NULL);
INSERT INTO consign.consign_ledger VALUES
	(5);
INSERT INTO consign.customers VALUES
	('acme', 1795906896690388, NULL, NULL, 0, 0, NULL),
	('globex', 1795906950000000, 1795906890000000, '{"layer":"trust-policy","retry":"never","message":"AssumeRole was refused","remedy":"this trust policy"}', 3, 1795907370000000, NULL),
	('initech', 1795906890000000, NULL, '{"layer":"trust-policy","retry":"never","message":"the vendor can assume the role without any external ID","remedy":"this trust policy"}', 0, 0, NULL);
INSERT INTO consign.deliveries OVERRIDING SYSTEM VALUE VALUES
	(1, 1, 1, 'acme', 'committed', NULL, 'in/tick/2026-11-28/230132Z/_manifest.json', 0, NULL, 113300, 34472830, NULL, NULL),
	(2, 2, 2, 'acme', 'committed', NULL, 'in/tick/2026-11-28/230134Z/_manifest.json', 0, NULL, 113300, 34472830, NULL, NULL),
	(3, 3, 3, 'acme', 'committed', NULL, 'in/tick/2026-11-28/230136Z/_manifest.json', 0, NULL, 113300, 34472830, NULL, NULL),
	(4, 4, 4, 'acme', 'working', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO consign.faults VALUES
	('sha256:abababababababababababababababababababababababababababababababab', 'acme-format', 5, '{"layer":"plugin","retry":"never","message":"plugin acme-format trapped","remedy":"report it","plugin_fault":true}', 1795601693000000, 1795601693000000);
INSERT INTO consign.nodes OVERRIDING SYSTEM VALUE VALUES
	(1, 'vm process 27251', 'alive', '2026-11-28 23:01:40.19138+00', '2026-11-28 23:01:30.064103+00', NULL),
	(2, 'vm process 27399', 'left', '2026-11-28 23:01:43.330417+00', '2026-11-28 23:01:41.330418+00', '2026-11-28 23:01:41.440528+00');
INSERT INTO consign.objects VALUES
	(1, 0, 'in/tick/2026-11-28/230132Z/tick.jsonl', 34472830, 113300, '5735a37ecbf4333464cc23fe738b64ce-5', '{"key":"in/tick/2026-11-28/230132Z/tick.jsonl","upload_id":"AaIkZHHWdVCsmrPE9OHPjgGiJGRx1nVQrJqzxVmtoZQ","created":"2026-11-28T23:01:32.240686136Z","media_type":"application/x-ndjson","rows":113300,"bytes":34472830,"checksum_crc64nvme":"09UygSoTv/Q=","full_checksum":true,"parts":[{"etag":"\"a041533a3b2694330a149976a214483c\"","checksum_crc64nvme":"rYCdQ9G+WqI="},{"etag":"\"6057248c5c20a0db3d8508d3013e3033\"","checksum_crc64nvme":"RsTDYaCXnek="},{"etag":"\"e97f999806b08b9de13ebde9b4a24694\"","checksum_crc64nvme":"t/VQi70NGFU="},{"etag":"\"54d98045f4622710d04143eb15420a90\"","checksum_crc64nvme":"NgNM5ZLqoiw="},{"etag":"\"399d732d04a389064ff138af30a8d0f7\"","checksum_crc64nvme":"MxsYf4vUauM="}]}'),
	(2, 0, 'in/tick/2026-11-28/230134Z/tick.jsonl', 34472830, 113300, '5735a37ecbf4333464cc23fe738b64ce-5', '{"key":"in/tick/2026-11-28/230134Z/tick.jsonl","upload_id":"AaIkZHmjcZ-c4ekimA8SwwGiJGR5o3GfnOHpI23VwfA","created":"2026-11-28T23:01:34.242453033Z","media_type":"application/x-ndjson","rows":113300,"bytes":34472830,"checksum_crc64nvme":"09UygSoTv/Q=","full_checksum":true,"parts":[{"etag":"\"a041533a3b2694330a149976a214483c\"","checksum_crc64nvme":"rYCdQ9G+WqI="},{"etag":"\"6057248c5c20a0db3d8508d3013e3033\"","checksum_crc64nvme":"RsTDYaCXnek="},{"etag":"\"e97f999806b08b9de13ebde9b4a24694\"","checksum_crc64nvme":"t/VQi70NGFU="},{"etag":"\"54d98045f4622710d04143eb15420a90\"","checksum_crc64nvme":"NgNM5ZLqoiw="},{"etag":"\"399d732d04a389064ff138af30a8d0f7\"","checksum_crc64nvme":"MxsYf4vUauM="}]}'),
	(3, 0, 'in/tick/2026-11-28/230136Z/tick.jsonl', 34472830, 113300, '5735a37ecbf4333464cc23fe738b64ce-5', '{"key":"in/tick/2026-11-28/230136Z/tick.jsonl","upload_id":"AaIkZIFcdqS8wk2FIcispwGiJGSBXHakvMJNhjXWuXs","created":"2026-11-28T23:01:36.220210231Z","media_type":"application/x-ndjson","rows":113300,"bytes":34472830,"checksum_crc64nvme":"09UygSoTv/Q=","full_checksum":true,"parts":[{"etag":"\"a041533a3b2694330a149976a214483c\"","checksum_crc64nvme":"rYCdQ9G+WqI="},{"etag":"\"6057248c5c20a0db3d8508d3013e3033\"","checksum_crc64nvme":"RsTDYaCXnek="},{"etag":"\"e97f999806b08b9de13ebde9b4a24694\"","checksum_crc64nvme":"t/VQi70NGFU="},{"etag":"\"54d98045f4622710d04143eb15420a90\"","checksum_crc64nvme":"NgNM5ZLqoiw="},{"etag":"\"399d732d04a389064ff138af30a8d0f7\"","checksum_crc64nvme":"MxsYf4vUauM="}]}');
INSERT INTO consign.pauses VALUES
	('tick', 1795906901370494, NULL);
INSERT INTO consign.runs OVERRIDING SYSTEM VALUE VALUES
	(1, '01a22464-7177-7609-ba06-116da9e790ea', 1, 'tick', 'schedule', 'succeeded', 1, 1795906892151457, 1795906892769640),
	(2, '01a22464-7956-70b0-8f00-b06f547c8559', 2, 'tick', 'schedule', 'succeeded', 1, 1795906894166384, 1795906894903044),
	(3, '01a22464-8129-705d-b567-bff74761b350', 3, 'tick', 'schedule', 'succeeded', 1, 1795906896169262, 1795906896690388),
	(4, '01a22464-8904-7430-9970-4cab36bbe457', 4, 'tick', 'schedule', 'running', 1, 1795906898180326, NULL);
INSERT INTO consign.shares VALUES
	('tick', 1795906898000000);
INSERT INTO consign.slots OVERRIDING SYSTEM VALUE VALUES
	(1, 'tick', 1795906892000000, 1795906890000000, 1795906892000000, 'schedule', '["acme"]', 'allow', NULL, 'done', NULL, 1795906892151455),
	(2, 'tick', 1795906894000000, 1795906892000000, 1795906894000000, 'schedule', '["acme"]', 'allow', NULL, 'done', NULL, 1795906894166382),
	(3, 'tick', 1795906896000000, 1795906894000000, 1795906896000000, 'schedule', '["acme"]', 'allow', NULL, 'done', NULL, 1795906896169259),
	(4, 'tick', 1795906898000000, 1795906896000000, 1795906898000000, 'schedule', '["acme"]', 'allow', NULL, 'running', NULL, 1795906898180324);
INSERT INTO consign.uploads OVERRIDING SYSTEM VALUE VALUES
	(1, 1, 'in/tick/2026-11-28/230132Z/tick.jsonl', 'AaIkZHHWdVCsmrPE9OHPjgGiJGRx1nVQrJqzxVmtoZQ', 'completed', 1795906892247417, 1795906892750769),
	(2, 1, 'in/tick/2026-11-28/230132Z/_manifest.json', 'AaIkZHO3cAat-38OcIG0pwGiJGRzt3AGrft_Dzd9IwU', 'completed', 1795906892727806, 1795906892750769),
	(3, 2, 'in/tick/2026-11-28/230134Z/tick.jsonl', 'AaIkZHmjcZ-c4ekimA8SwwGiJGR5o3GfnOHpI23VwfA', 'completed', 1795906894243555, 1795906894894793),
	(4, 2, 'in/tick/2026-11-28/230134Z/_manifest.json', 'AaIkZHwTd1SH2mw9yA1xIAGiJGR8E3dUh9psPuOFWU4', 'completed', 1795906894870580, 1795906894894793),
	(5, 3, 'in/tick/2026-11-28/230136Z/tick.jsonl', 'AaIkZIFcdqS8wk2FIcispwGiJGSBXHakvMJNhjXWuXs', 'completed', 1795906896224089, 1795906896668686),
	(6, 3, 'in/tick/2026-11-28/230136Z/_manifest.json', 'AaIkZIMGcq2nb3jKMws0DAGiJGSDBnKtp294y_2mHm4', 'completed', 1795906896650555, 1795906896668686),
	(7, 4, 'in/tick/2026-11-28/230138Z/tick.jsonl', 'AaIkZIkxd2CeE6rBZnuszQGiJGSJMXdgnhOqwnr_Prc', 'created', 1795906898226097, NULL);
SELECT pg_catalog.setval('consign.attempts_id_seq', 4, true);
SELECT pg_catalog.setval('consign.deliveries_id_seq', 4, true);
SELECT pg_catalog.setval('consign.nodes_id_seq', 2, true);
SELECT pg_catalog.setval('consign.runs_seq_seq', 4, true);
SELECT pg_catalog.setval('consign.slots_id_seq', 4, true);
SELECT pg_catalog.setval('consign.uploads_id_seq', 7, true);
ALTER TABLE ONLY consign.attempts
    ADD CONSTRAINT attempts_delivery_number_key UNIQUE (delivery, number);
ALTER TABLE ONLY consign.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY consign.customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (name);
ALTER TABLE ONLY consign.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);
ALTER TABLE ONLY consign.deliveries
    ADD CONSTRAINT deliveries_run_customer_key UNIQUE (run, customer);
ALTER TABLE ONLY consign.faults
    ADD CONSTRAINT faults_pkey PRIMARY KEY (digest);
ALTER TABLE ONLY consign.nodes
    ADD CONSTRAINT nodes_pkey PRIMARY KEY (id);
ALTER TABLE ONLY consign.objects
    ADD CONSTRAINT objects_pkey PRIMARY KEY (attempt, ordinal);
ALTER TABLE ONLY consign.pauses
    ADD CONSTRAINT pauses_pkey PRIMARY KEY (share, since);
ALTER TABLE ONLY consign.runs
    ADD CONSTRAINT runs_id_key UNIQUE (id);
ALTER TABLE ONLY consign.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY consign.shares
    ADD CONSTRAINT shares_pkey PRIMARY KEY (name);
ALTER TABLE ONLY consign.slots
    ADD CONSTRAINT slots_pkey PRIMARY KEY (id);
ALTER TABLE ONLY consign.slots
    ADD CONSTRAINT slots_share_at_key UNIQUE (share, at);
ALTER TABLE ONLY consign.uploads
    ADD CONSTRAINT uploads_attempt_upload_id_key UNIQUE (attempt, upload_id);
ALTER TABLE ONLY consign.uploads
    ADD CONSTRAINT uploads_pkey PRIMARY KEY (id);
CREATE INDEX attempts_by_key ON consign.attempts USING btree (manifest_key) WHERE (state = ANY (ARRAY['working'::text, 'sealed'::text, 'committed'::text]));
CREATE INDEX deliveries_by_slot ON consign.deliveries USING btree (slot);
CREATE INDEX deliveries_left_out ON consign.deliveries USING btree (slot) WHERE (reason IS NOT NULL);
CREATE UNIQUE INDEX one_per_slot ON consign.deliveries USING btree (slot, customer) WHERE (state <> 'failed'::text);
CREATE UNIQUE INDEX pauses_open ON consign.pauses USING btree (share) WHERE (until IS NULL);
CREATE INDEX runs_by_share ON consign.runs USING btree (share, seq);
CREATE INDEX runs_by_slot ON consign.runs USING btree (slot);
CREATE INDEX runs_failed ON consign.runs USING btree (seq) WHERE (state = 'failed'::text);
CREATE INDEX runs_open ON consign.runs USING btree (share) WHERE (state = 'running'::text);
CREATE INDEX slots_ended ON consign.slots USING btree (at) WHERE (state = ANY (ARRAY['done'::text, 'skipped'::text]));
CREATE INDEX slots_held ON consign.slots USING btree (share) WHERE (state = 'held'::text);
CREATE INDEX slots_pending ON consign.slots USING btree (origin, at, id) WHERE (state = 'pending'::text);
CREATE INDEX slots_skipped ON consign.slots USING btree (at, id) WHERE (state = 'skipped'::text);
CREATE INDEX uploads_open ON consign.uploads USING btree (attempt) WHERE (state = 'created'::text);
ALTER TABLE ONLY consign.attempts
    ADD CONSTRAINT attempts_delivery_fkey FOREIGN KEY (delivery) REFERENCES consign.deliveries(id);
ALTER TABLE ONLY consign.deliveries
    ADD CONSTRAINT deliveries_run_fkey FOREIGN KEY (run) REFERENCES consign.runs(seq);
ALTER TABLE ONLY consign.deliveries
    ADD CONSTRAINT deliveries_slot_fkey FOREIGN KEY (slot) REFERENCES consign.slots(id);
ALTER TABLE ONLY consign.objects
    ADD CONSTRAINT objects_attempt_fkey FOREIGN KEY (attempt) REFERENCES consign.attempts(id);
ALTER TABLE ONLY consign.runs
    ADD CONSTRAINT runs_slot_fkey FOREIGN KEY (slot) REFERENCES consign.slots(id);
ALTER TABLE ONLY consign.uploads
    ADD CONSTRAINT uploads_attempt_fkey FOREIGN KEY (attempt) REFERENCES consign.attempts(id);
