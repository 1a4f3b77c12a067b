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
    cancel text,
    rows bigint,
    bytes bigint,
    CONSTRAINT deliveries_cancel_check CHECK (((cancel IS NULL) OR ((cancel)::json IS NOT NULL))),
    CONSTRAINT deliveries_check CHECK (((manifest_key IS NOT NULL) = (state = 'committed'::text))),
    CONSTRAINT deliveries_check1 CHECK (((due_at IS NULL) OR (state = ANY (ARRAY['waiting'::text, 'sealed'::text])))),
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
	(25, 25, 1, 'committed', NULL, 'http://127.0.0.1:33843/', 'acme-data', '100000000001', 'in/tick/2026-11-25/101445Z/_manifest.json', '{"manifest_version":1,"share":"tick","slot":"2026-11-25T10:14:45Z","interval":{"start":"2026-11-25T10:14:44Z","end":"2026-11-25T10:14:45Z"},"customer":"acme","run":"01a21233-5b68-7710-aa11-eae8f46bea7f","rows":113300,"objects":[],"schema":[{"name":"year","type":"Int16","nullable":true},{"name":"month","type":"Int16","nullable":true},{"name":"day","type":"Int16","nullable":true},{"name":"dep_time","type":"Int16","nullable":true},{"name":"sched_dep_time","type":"Int16","nullable":true},{"name":"dep_delay","type":"Int16","nullable":true},{"name":"arr_time","type":"Int16","nullable":true},{"name":"sched_arr_time","type":"Int16","nullable":true},{"name":"arr_delay","type":"Int16","nullable":true},{"name":"carrier","type":"Utf8","nullable":true},{"name":"flight","type":"Int16","nullable":true},{"name":"tailnum","type":"Utf8","nullable":true},{"name":"origin","type":"Utf8","nullable":true},{"name":"dest","type":"Utf8","nullable":true},{"name":"air_time","type":"Int16","nullable":true},{"name":"distance","type":"Int16","nullable":true},{"name":"hour","type":"Int16","nullable":true},{"name":"minute","type":"Int16","nullable":true},{"name":"time_hour","type":"Timestamp(ms, \"UTC\")","nullable":true}],"plugin":{"name":"jsonl","version":"1.0.0","digest":"sha256:a1eaf2c438bfa5b93286ce6a10fedfb832dded8d2cb4cb4844f70d1bf8cc9fa9"},"consign_version":"0.1.0","started":"2026-11-25T10:14:45.357384254Z","finished":"2026-11-25T10:14:45.357384254Z"}', 1795601685356204, 1795601685869344),
	(29, 29, 1, 'failed', '{"layer":"conflict","retry":"never","message":"''in/tick/2026-11-25/101449Z/_manifest.json'' is already in bucket ''acme-data'', and this attempt did not write it","remedy":"a delivery for this slot and customer ''acme'' is committed there. Look at the field \"run\" in it: if it is this run, all is well; otherwise another consign delivers with this profile, or the ledger was lost. To deliver again, have the customer delete ''in/tick/2026-11-25/101449Z/_manifest.json'' first"}', 'http://127.0.0.1:33843/', 'acme-data', '100000000001', 'in/tick/2026-11-25/101449Z/_manifest.json', '{"manifest_version":1,"share":"tick","slot":"2026-11-25T10:14:49Z","interval":{"start":"2026-11-25T10:14:48Z","end":"2026-11-25T10:14:49Z"},"customer":"acme","run":"01a21233-6b27-7525-b6de-d00aa539b1f5","rows":113300,"objects":[],"schema":[{"name":"year","type":"Int16","nullable":true},{"name":"month","type":"Int16","nullable":true},{"name":"day","type":"Int16","nullable":true},{"name":"dep_time","type":"Int16","nullable":true},{"name":"sched_dep_time","type":"Int16","nullable":true},{"name":"dep_delay","type":"Int16","nullable":true},{"name":"arr_time","type":"Int16","nullable":true},{"name":"sched_arr_time","type":"Int16","nullable":true},{"name":"arr_delay","type":"Int16","nullable":true},{"name":"carrier","type":"Utf8","nullable":true},{"name":"flight","type":"Int16","nullable":true},{"name":"tailnum","type":"Utf8","nullable":true},{"name":"origin","type":"Utf8","nullable":true},{"name":"dest","type":"Utf8","nullable":true},{"name":"air_time","type":"Int16","nullable":true},{"name":"distance","type":"Int16","nullable":true},{"name":"hour","type":"Int16","nullable":true},{"name":"minute","type":"Int16","nullable":true},{"name":"time_hour","type":"Timestamp(ms, \"UTC\")","nullable":true}],"plugin":{"name":"jsonl","version":"1.0.0","digest":"sha256:a1eaf2c438bfa5b93286ce6a10fedfb832dded8d2cb4cb4844f70d1bf8cc9fa9"},"consign_version":"0.1.0","started":"2026-11-25T10:14:49.393256477Z","finished":"2026-11-25T10:14:49.393256477Z"}', 1795601689392069, 1795601689807487),
	(33, 33, 1, 'working', NULL, 'http://127.0.0.1:33843/', 'acme-data', '100000000001', 'in/tick/2026-11-25/101453Z/_manifest.json', NULL, 1795601693451382, NULL),
	(32, 32, 1, 'committed', NULL, 'http://127.0.0.1:33843/', 'acme-data', '100000000001', 'in/tick/2026-11-25/101452Z/_manifest.json', '{"manifest_version":1,"share":"tick","slot":"2026-11-25T10:14:52Z","interval":{"start":"2026-11-25T10:14:51Z","end":"2026-11-25T10:14:52Z"},"customer":"acme","run":"01a21233-76e8-7ac9-b599-ac6064f8b0d5","rows":113300,"objects":[],"schema":[{"name":"year","type":"Int16","nullable":true},{"name":"month","type":"Int16","nullable":true},{"name":"day","type":"Int16","nullable":true},{"name":"dep_time","type":"Int16","nullable":true},{"name":"sched_dep_time","type":"Int16","nullable":true},{"name":"dep_delay","type":"Int16","nullable":true},{"name":"arr_time","type":"Int16","nullable":true},{"name":"sched_arr_time","type":"Int16","nullable":true},{"name":"arr_delay","type":"Int16","nullable":true},{"name":"carrier","type":"Utf8","nullable":true},{"name":"flight","type":"Int16","nullable":true},{"name":"tailnum","type":"Utf8","nullable":true},{"name":"origin","type":"Utf8","nullable":true},{"name":"dest","type":"Utf8","nullable":true},{"name":"air_time","type":"Int16","nullable":true},{"name":"distance","type":"Int16","nullable":true},{"name":"hour","type":"Int16","nullable":true},{"name":"minute","type":"Int16","nullable":true},{"name":"time_hour","type":"Timestamp(ms, \"UTC\")","nullable":true}],"plugin":{"name":"jsonl","version":"1.0.0","digest":"sha256:a1eaf2c438bfa5b93286ce6a10fedfb832dded8d2cb4cb4844f70d1bf8cc9fa9"},"consign_version":"0.1.0","started":"2026-11-25T10:14:52.402069802Z","finished":"2026-11-25T10:14:52.402069802Z"}', 1795601692395834, 1795601692716123),
	(26, 26, 1, 'committed', NULL, 'http://127.0.0.1:33843/', 'acme-data', '100000000001', 'in/tick/2026-11-25/101446Z/_manifest.json', '{"manifest_version":1,"share":"tick","slot":"2026-11-25T10:14:46Z","interval":{"start":"2026-11-25T10:14:45Z","end":"2026-11-25T10:14:46Z"},"customer":"acme","run":"01a21233-5f57-7608-99b8-055e6223a0b8","rows":113300,"objects":[],"schema":[{"name":"year","type":"Int16","nullable":true},{"name":"month","type":"Int16","nullable":true},{"name":"day","type":"Int16","nullable":true},{"name":"dep_time","type":"Int16","nullable":true},{"name":"sched_dep_time","type":"Int16","nullable":true},{"name":"dep_delay","type":"Int16","nullable":true},{"name":"arr_time","type":"Int16","nullable":true},{"name":"sched_arr_time","type":"Int16","nullable":true},{"name":"arr_delay","type":"Int16","nullable":true},{"name":"carrier","type":"Utf8","nullable":true},{"name":"flight","type":"Int16","nullable":true},{"name":"tailnum","type":"Utf8","nullable":true},{"name":"origin","type":"Utf8","nullable":true},{"name":"dest","type":"Utf8","nullable":true},{"name":"air_time","type":"Int16","nullable":true},{"name":"distance","type":"Int16","nullable":true},{"name":"hour","type":"Int16","nullable":true},{"name":"minute","type":"Int16","nullable":true},{"name":"time_hour","type":"Timestamp(ms, \"UTC\")","nullable":true}],"plugin":{"name":"jsonl","version":"1.0.0","digest":"sha256:a1eaf2c438bfa5b93286ce6a10fedfb832dded8d2cb4cb4844f70d1bf8cc9fa9"},"consign_version":"0.1.0","started":"2026-11-25T10:14:46.404148068Z","finished":"2026-11-25T10:14:46.404148068Z"}', 1795601686391572, 1795601686976032),
	(30, 30, 1, 'failed', '{"layer":"conflict","retry":"never","message":"''in/tick/2026-11-25/101450Z/_manifest.json'' is already in bucket ''acme-data'', and this attempt did not write it","remedy":"a delivery for this slot and customer ''acme'' is committed there. Look at the field \"run\" in it: if it is this run, all is well; otherwise another consign delivers with this profile, or the ledger was lost. To deliver again, have the customer delete ''in/tick/2026-11-25/101450Z/_manifest.json'' first"}', 'http://127.0.0.1:33843/', 'acme-data', '100000000001', 'in/tick/2026-11-25/101450Z/_manifest.json', '{"manifest_version":1,"share":"tick","slot":"2026-11-25T10:14:50Z","interval":{"start":"2026-11-25T10:14:49Z","end":"2026-11-25T10:14:50Z"},"customer":"acme","run":"01a21233-6f17-7c6a-9755-0a82e8377686","rows":113300,"objects":[],"schema":[{"name":"year","type":"Int16","nullable":true},{"name":"month","type":"Int16","nullable":true},{"name":"day","type":"Int16","nullable":true},{"name":"dep_time","type":"Int16","nullable":true},{"name":"sched_dep_time","type":"Int16","nullable":true},{"name":"dep_delay","type":"Int16","nullable":true},{"name":"arr_time","type":"Int16","nullable":true},{"name":"sched_arr_time","type":"Int16","nullable":true},{"name":"arr_delay","type":"Int16","nullable":true},{"name":"carrier","type":"Utf8","nullable":true},{"name":"flight","type":"Int16","nullable":true},{"name":"tailnum","type":"Utf8","nullable":true},{"name":"origin","type":"Utf8","nullable":true},{"name":"dest","type":"Utf8","nullable":true},{"name":"air_time","type":"Int16","nullable":true},{"name":"distance","type":"Int16","nullable":true},{"name":"hour","type":"Int16","nullable":true},{"name":"minute","type":"Int16","nullable":true},{"name":"time_hour","type":"Timestamp(ms, \"UTC\")","nullable":true}],"plugin":{"name":"jsonl","version":"1.0.0","digest":"sha256:a1eaf2c438bfa5b93286ce6a10fedfb832dded8d2cb4cb4844f70d1bf8cc9fa9"},"consign_version":"0.1.0","started":"2026-11-25T10:14:50.399172123Z","finished":"2026-11-25T10:14:50.399172123Z"}', 1795601690395743, 1795601690705776),
	(31, 31, 1, 'failed', '{"layer":"conflict","retry":"never","message":"''in/tick/2026-11-25/101451Z/_manifest.json'' is already in bucket ''acme-data'', and this attempt did not write it","remedy":"a delivery for this slot and customer ''acme'' is committed there. Look at the field \"run\" in it: if it is this run, all is well; otherwise another consign delivers with this profile, or the ledger was lost. To deliver again, have the customer delete ''in/tick/2026-11-25/101451Z/_manifest.json'' first"}', 'http://127.0.0.1:33843/', 'acme-data', '100000000001', 'in/tick/2026-11-25/101451Z/_manifest.json', '{"manifest_version":1,"share":"tick","slot":"2026-11-25T10:14:51Z","interval":{"start":"2026-11-25T10:14:50Z","end":"2026-11-25T10:14:51Z"},"customer":"acme","run":"01a21233-730c-7962-b944-1e13f2c7db48","rows":113300,"objects":[],"schema":[{"name":"year","type":"Int16","nullable":true},{"name":"month","type":"Int16","nullable":true},{"name":"day","type":"Int16","nullable":true},{"name":"dep_time","type":"Int16","nullable":true},{"name":"sched_dep_time","type":"Int16","nullable":true},{"name":"dep_delay","type":"Int16","nullable":true},{"name":"arr_time","type":"Int16","nullable":true},{"name":"sched_arr_time","type":"Int16","nullable":true},{"name":"arr_delay","type":"Int16","nullable":true},{"name":"carrier","type":"Utf8","nullable":true},{"name":"flight","type":"Int16","nullable":true},{"name":"tailnum","type":"Utf8","nullable":true},{"name":"origin","type":"Utf8","nullable":true},{"name":"dest","type":"Utf8","nullable":true},{"name":"air_time","type":"Int16","nullable":true},{"name":"distance","type":"Int16","nullable":true},{"name":"hour","type":"Int16","nullable":true},{"name":"minute","type":"Int16","nullable":true},{"name":"time_hour","type":"Timestamp(ms, \"UTC\")","nullable":true}],"plugin":{"name":"jsonl","version":"1.0.0","digest":"sha256:a1eaf2c438bfa5b93286ce6a10fedfb832dded8d2cb4cb4844f70d1bf8cc9fa9"},"consign_version":"0.1.0","started":"2026-11-25T10:14:51.407501848Z","finished":"2026-11-25T10:14:51.407501848Z"}', 1795601691406711, 1795601692104404),
	(27, 27, 1, 'committed', NULL, 'http://127.0.0.1:33843/', 'acme-data', '100000000001', 'in/tick/2026-11-25/101447Z/_manifest.json', '{"manifest_version":1,"share":"tick","slot":"2026-11-25T10:14:47Z","interval":{"start":"2026-11-25T10:14:46Z","end":"2026-11-25T10:14:47Z"},"customer":"acme","run":"01a21233-6349-7e54-a8ab-58a31c645ebd","rows":113300,"objects":[],"schema":[{"name":"year","type":"Int16","nullable":true},{"name":"month","type":"Int16","nullable":true},{"name":"day","type":"Int16","nullable":true},{"name":"dep_time","type":"Int16","nullable":true},{"name":"sched_dep_time","type":"Int16","nullable":true},{"name":"dep_delay","type":"Int16","nullable":true},{"name":"arr_time","type":"Int16","nullable":true},{"name":"sched_arr_time","type":"Int16","nullable":true},{"name":"arr_delay","type":"Int16","nullable":true},{"name":"carrier","type":"Utf8","nullable":true},{"name":"flight","type":"Int16","nullable":true},{"name":"tailnum","type":"Utf8","nullable":true},{"name":"origin","type":"Utf8","nullable":true},{"name":"dest","type":"Utf8","nullable":true},{"name":"air_time","type":"Int16","nullable":true},{"name":"distance","type":"Int16","nullable":true},{"name":"hour","type":"Int16","nullable":true},{"name":"minute","type":"Int16","nullable":true},{"name":"time_hour","type":"Timestamp(ms, \"UTC\")","nullable":true}],"plugin":{"name":"jsonl","version":"1.0.0","digest":"sha256:a1eaf2c438bfa5b93286ce6a10fedfb832dded8d2cb4cb4844f70d1bf8cc9fa9"},"consign_version":"0.1.0","started":"2026-11-25T10:14:47.373104953Z","finished":"2026-11-25T10:14:47.373104953Z"}', 1795601687371912, 1795601687712270),
	(28, 28, 1, 'failed', '{"layer":"conflict","retry":"never","message":"''in/tick/2026-11-25/101448Z/_manifest.json'' is already in bucket ''acme-data'', and this attempt did not write it","remedy":"a delivery for this slot and customer ''acme'' is committed there. Look at the field \"run\" in it: if it is this run, all is well; otherwise another consign delivers with this profile, or the ledger was lost. To deliver again, have the customer delete ''in/tick/2026-11-25/101448Z/_manifest.json'' first"}', 'http://127.0.0.1:33843/', 'acme-data', '100000000001', 'in/tick/2026-11-25/101448Z/_manifest.json', '{"manifest_version":1,"share":"tick","slot":"2026-11-25T10:14:48Z","interval":{"start":"2026-11-25T10:14:47Z","end":"2026-11-25T10:14:48Z"},"customer":"acme","run":"01a21233-673b-780a-a49f-95631e8dad3e","rows":113300,"objects":[],"schema":[{"name":"year","type":"Int16","nullable":true},{"name":"month","type":"Int16","nullable":true},{"name":"day","type":"Int16","nullable":true},{"name":"dep_time","type":"Int16","nullable":true},{"name":"sched_dep_time","type":"Int16","nullable":true},{"name":"dep_delay","type":"Int16","nullable":true},{"name":"arr_time","type":"Int16","nullable":true},{"name":"sched_arr_time","type":"Int16","nullable":true},{"name":"arr_delay","type":"Int16","nullable":true},{"name":"carrier","type":"Utf8","nullable":true},{"name":"flight","type":"Int16","nullable":true},{"name":"tailnum","type":"Utf8","nullable":true},{"name":"origin","type":"Utf8","nullable":true},{"name":"dest","type":"Utf8","nullable":true},{"name":"air_time","type":"Int16","nullable":true},{"name":"distance","type":"Int16","nullable":true},{"name":"hour","type":"Int16","nullable":true},{"name":"minute","type":"Int16","nullable":true},{"name":"time_hour","type":"Timestamp(ms, \"UTC\")","nullable":true}],"plugin":{"name":"jsonl","version":"1.0.0","digest":"sha256:a1eaf2c438bfa5b93286ce6a10fedfb832dded8d2cb4cb4844f70d1bf8cc9fa9"},"consign_version":"0.1.0","started":"2026-11-25T10:14:48.494004884Z","finished":"2026-11-25T10:14:48.494004884Z"}', 1795601688488309, 1795601688800644);
INSERT INTO consign.consign_ledger VALUES
	(1);
INSERT INTO consign.deliveries OVERRIDING SYSTEM VALUE VALUES
	(25, 25, 25, 'acme', 'committed', NULL, 'in/tick/2026-11-25/101445Z/_manifest.json', 0, NULL, NULL, 113300, 34472830),
	(26, 26, 26, 'acme', 'committed', NULL, 'in/tick/2026-11-25/101446Z/_manifest.json', 0, NULL, NULL, 113300, 34472830),
	(27, 27, 27, 'acme', 'committed', NULL, 'in/tick/2026-11-25/101447Z/_manifest.json', 0, NULL, NULL, 113300, 34472830),
	(28, 28, 28, 'acme', 'failed', '{"layer":"conflict","retry":"never","message":"''in/tick/2026-11-25/101448Z/_manifest.json'' is already in bucket ''acme-data'', and this attempt did not write it","remedy":"a delivery for this slot and customer ''acme'' is committed there. Look at the field \"run\" in it: if it is this run, all is well; otherwise another consign delivers with this profile, or the ledger was lost. To deliver again, have the customer delete ''in/tick/2026-11-25/101448Z/_manifest.json'' first"}', NULL, 1, NULL, NULL, NULL, NULL),
	(29, 29, 29, 'acme', 'failed', '{"layer":"conflict","retry":"never","message":"''in/tick/2026-11-25/101449Z/_manifest.json'' is already in bucket ''acme-data'', and this attempt did not write it","remedy":"a delivery for this slot and customer ''acme'' is committed there. Look at the field \"run\" in it: if it is this run, all is well; otherwise another consign delivers with this profile, or the ledger was lost. To deliver again, have the customer delete ''in/tick/2026-11-25/101449Z/_manifest.json'' first"}', NULL, 1, NULL, NULL, NULL, NULL),
	(30, 30, 30, 'acme', 'failed', '{"layer":"conflict","retry":"never","message":"''in/tick/2026-11-25/101450Z/_manifest.json'' is already in bucket ''acme-data'', and this attempt did not write it","remedy":"a delivery for this slot and customer ''acme'' is committed there. Look at the field \"run\" in it: if it is this run, all is well; otherwise another consign delivers with this profile, or the ledger was lost. To deliver again, have the customer delete ''in/tick/2026-11-25/101450Z/_manifest.json'' first"}', NULL, 1, NULL, NULL, NULL, NULL),
	(31, 31, 31, 'acme', 'failed', '{"layer":"conflict","retry":"never","message":"''in/tick/2026-11-25/101451Z/_manifest.json'' is already in bucket ''acme-data'', and this attempt did not write it","remedy":"a delivery for this slot and customer ''acme'' is committed there. Look at the field \"run\" in it: if it is this run, all is well; otherwise another consign delivers with this profile, or the ledger was lost. To deliver again, have the customer delete ''in/tick/2026-11-25/101451Z/_manifest.json'' first"}', NULL, 1, NULL, NULL, NULL, NULL),
	(32, 32, 32, 'acme', 'committed', NULL, 'in/tick/2026-11-25/101452Z/_manifest.json', 0, NULL, NULL, 113300, 34472830),
	(33, 33, 33, 'acme', 'working', NULL, NULL, 0, NULL, NULL, NULL, NULL);
INSERT INTO consign.nodes OVERRIDING SYSTEM VALUE VALUES
	(1, 'vm process 20488', 'alive', '2026-11-25 10:14:57.536081+00', '2026-11-25 10:14:18.710133+00', NULL),
	(2, 'vm process 22822', 'left', '2026-11-25 10:14:58.879787+00', '2026-11-25 10:14:53.879788+00', '2026-11-25 10:14:53.955246+00');
INSERT INTO consign.objects VALUES
	(31, 0, 'in/tick/2026-11-25/101451Z/tick.jsonl', 34472830, 113300, NULL, '{"key":"in/tick/2026-11-25/101451Z/tick.jsonl","upload_id":"AaISM3MtctSUBwW59CroRwGiEjNzLXLUlAcFuhPnq0s","created":"2026-11-25T10:14:51.436674434Z","media_type":"application/x-ndjson","rows":113300,"bytes":34472830,"checksum_crc64nvme":"09UygSoTv/Q=","full_checksum":true,"parts":[{"etag":"\"a041533a3b2694330a149976a214483c\"","checksum_crc64nvme":"rYCdQ9G+WqI="},{"etag":"\"6057248c5c20a0db3d8508d3013e3033\"","checksum_crc64nvme":"RsTDYaCXnek="},{"etag":"\"e97f999806b08b9de13ebde9b4a24694\"","checksum_crc64nvme":"t/VQi70NGFU="},{"etag":"\"54d98045f4622710d04143eb15420a90\"","checksum_crc64nvme":"NgNM5ZLqoiw="},{"etag":"\"399d732d04a389064ff138af30a8d0f7\"","checksum_crc64nvme":"MxsYf4vUauM="}]}'),
	(28, 0, 'in/tick/2026-11-25/101448Z/tick.jsonl', 34472830, 113300, NULL, '{"key":"in/tick/2026-11-25/101448Z/tick.jsonl","upload_id":"AaISM2e7cvS2ZaZYmczVDwGiEjNnu3L0tmWmWdKQhLI","created":"2026-11-25T10:14:48.506913697Z","media_type":"application/x-ndjson","rows":113300,"bytes":34472830,"checksum_crc64nvme":"09UygSoTv/Q=","full_checksum":true,"parts":[{"etag":"\"a041533a3b2694330a149976a214483c\"","checksum_crc64nvme":"rYCdQ9G+WqI="},{"etag":"\"6057248c5c20a0db3d8508d3013e3033\"","checksum_crc64nvme":"RsTDYaCXnek="},{"etag":"\"e97f999806b08b9de13ebde9b4a24694\"","checksum_crc64nvme":"t/VQi70NGFU="},{"etag":"\"54d98045f4622710d04143eb15420a90\"","checksum_crc64nvme":"NgNM5ZLqoiw="},{"etag":"\"399d732d04a389064ff138af30a8d0f7\"","checksum_crc64nvme":"MxsYf4vUauM="}]}'),
	(29, 0, 'in/tick/2026-11-25/101449Z/tick.jsonl', 34472830, 113300, NULL, '{"key":"in/tick/2026-11-25/101449Z/tick.jsonl","upload_id":"AaISM2tQcx-V487VsRr1FgGiEjNrUHMflePO1r5h_7c","created":"2026-11-25T10:14:49.423633191Z","media_type":"application/x-ndjson","rows":113300,"bytes":34472830,"checksum_crc64nvme":"09UygSoTv/Q=","full_checksum":true,"parts":[{"etag":"\"a041533a3b2694330a149976a214483c\"","checksum_crc64nvme":"rYCdQ9G+WqI="},{"etag":"\"6057248c5c20a0db3d8508d3013e3033\"","checksum_crc64nvme":"RsTDYaCXnek="},{"etag":"\"e97f999806b08b9de13ebde9b4a24694\"","checksum_crc64nvme":"t/VQi70NGFU="},{"etag":"\"54d98045f4622710d04143eb15420a90\"","checksum_crc64nvme":"NgNM5ZLqoiw="},{"etag":"\"399d732d04a389064ff138af30a8d0f7\"","checksum_crc64nvme":"MxsYf4vUauM="}]}'),
	(25, 0, 'in/tick/2026-11-25/101445Z/tick.jsonl', 34472830, 113300, '5735a37ecbf4333464cc23fe738b64ce-5', '{"key":"in/tick/2026-11-25/101445Z/tick.jsonl","upload_id":"AaISM1t3dE-KYoN0A-ebVwGiEjNbd3RPimKDdQVh9vA","created":"2026-11-25T10:14:45.367184547Z","media_type":"application/x-ndjson","rows":113300,"bytes":34472830,"checksum_crc64nvme":"09UygSoTv/Q=","full_checksum":true,"parts":[{"etag":"\"a041533a3b2694330a149976a214483c\"","checksum_crc64nvme":"rYCdQ9G+WqI="},{"etag":"\"6057248c5c20a0db3d8508d3013e3033\"","checksum_crc64nvme":"RsTDYaCXnek="},{"etag":"\"e97f999806b08b9de13ebde9b4a24694\"","checksum_crc64nvme":"t/VQi70NGFU="},{"etag":"\"54d98045f4622710d04143eb15420a90\"","checksum_crc64nvme":"NgNM5ZLqoiw="},{"etag":"\"399d732d04a389064ff138af30a8d0f7\"","checksum_crc64nvme":"MxsYf4vUauM="}]}'),
	(26, 0, 'in/tick/2026-11-25/101446Z/tick.jsonl', 34472830, 113300, '5735a37ecbf4333464cc23fe738b64ce-5', '{"key":"in/tick/2026-11-25/101446Z/tick.jsonl","upload_id":"AaISM1-WcxasiUqDY9VTAAGiEjNflnMWrIlKhNtC4_M","created":"2026-11-25T10:14:46.419673168Z","media_type":"application/x-ndjson","rows":113300,"bytes":34472830,"checksum_crc64nvme":"09UygSoTv/Q=","full_checksum":true,"parts":[{"etag":"\"a041533a3b2694330a149976a214483c\"","checksum_crc64nvme":"rYCdQ9G+WqI="},{"etag":"\"6057248c5c20a0db3d8508d3013e3033\"","checksum_crc64nvme":"RsTDYaCXnek="},{"etag":"\"e97f999806b08b9de13ebde9b4a24694\"","checksum_crc64nvme":"t/VQi70NGFU="},{"etag":"\"54d98045f4622710d04143eb15420a90\"","checksum_crc64nvme":"NgNM5ZLqoiw="},{"etag":"\"399d732d04a389064ff138af30a8d0f7\"","checksum_crc64nvme":"MxsYf4vUauM="}]}'),
	(27, 0, 'in/tick/2026-11-25/101447Z/tick.jsonl', 34472830, 113300, '5735a37ecbf4333464cc23fe738b64ce-5', '{"key":"in/tick/2026-11-25/101447Z/tick.jsonl","upload_id":"AaISM2NWcka5oaoBurWDSgGiEjNjVnJGuaGqAiuUDMA","created":"2026-11-25T10:14:47.381608219Z","media_type":"application/x-ndjson","rows":113300,"bytes":34472830,"checksum_crc64nvme":"09UygSoTv/Q=","full_checksum":true,"parts":[{"etag":"\"a041533a3b2694330a149976a214483c\"","checksum_crc64nvme":"rYCdQ9G+WqI="},{"etag":"\"6057248c5c20a0db3d8508d3013e3033\"","checksum_crc64nvme":"RsTDYaCXnek="},{"etag":"\"e97f999806b08b9de13ebde9b4a24694\"","checksum_crc64nvme":"t/VQi70NGFU="},{"etag":"\"54d98045f4622710d04143eb15420a90\"","checksum_crc64nvme":"NgNM5ZLqoiw="},{"etag":"\"399d732d04a389064ff138af30a8d0f7\"","checksum_crc64nvme":"MxsYf4vUauM="}]}'),
	(30, 0, 'in/tick/2026-11-25/101450Z/tick.jsonl', 34472830, 113300, NULL, '{"key":"in/tick/2026-11-25/101450Z/tick.jsonl","upload_id":"AaISM28rdcSKxPZpbs-GUQGiEjNvK3XEisT2arn8ULA","created":"2026-11-25T10:14:50.408081845Z","media_type":"application/x-ndjson","rows":113300,"bytes":34472830,"checksum_crc64nvme":"09UygSoTv/Q=","full_checksum":true,"parts":[{"etag":"\"a041533a3b2694330a149976a214483c\"","checksum_crc64nvme":"rYCdQ9G+WqI="},{"etag":"\"6057248c5c20a0db3d8508d3013e3033\"","checksum_crc64nvme":"RsTDYaCXnek="},{"etag":"\"e97f999806b08b9de13ebde9b4a24694\"","checksum_crc64nvme":"t/VQi70NGFU="},{"etag":"\"54d98045f4622710d04143eb15420a90\"","checksum_crc64nvme":"NgNM5ZLqoiw="},{"etag":"\"399d732d04a389064ff138af30a8d0f7\"","checksum_crc64nvme":"MxsYf4vUauM="}]}'),
	(32, 0, 'in/tick/2026-11-25/101452Z/tick.jsonl', 34472830, 113300, '5735a37ecbf4333464cc23fe738b64ce-5', '{"key":"in/tick/2026-11-25/101452Z/tick.jsonl","upload_id":"AaISM3cFcVOW0HUTrXRfJAGiEjN3BXFTltB1FE40lZ0","created":"2026-11-25T10:14:52.420625356Z","media_type":"application/x-ndjson","rows":113300,"bytes":34472830,"checksum_crc64nvme":"09UygSoTv/Q=","full_checksum":true,"parts":[{"etag":"\"a041533a3b2694330a149976a214483c\"","checksum_crc64nvme":"rYCdQ9G+WqI="},{"etag":"\"6057248c5c20a0db3d8508d3013e3033\"","checksum_crc64nvme":"RsTDYaCXnek="},{"etag":"\"e97f999806b08b9de13ebde9b4a24694\"","checksum_crc64nvme":"t/VQi70NGFU="},{"etag":"\"54d98045f4622710d04143eb15420a90\"","checksum_crc64nvme":"NgNM5ZLqoiw="},{"etag":"\"399d732d04a389064ff138af30a8d0f7\"","checksum_crc64nvme":"MxsYf4vUauM="}]}');
INSERT INTO consign.pauses VALUES
	('tick', 1795601693897125, NULL);
INSERT INTO consign.runs OVERRIDING SYSTEM VALUE VALUES
	(25, '01a21233-5b68-7710-aa11-eae8f46bea7f', 25, 'tick', 'schedule', 'succeeded', 1, 1795601685352973, 1795601685873753),
	(26, '01a21233-5f57-7608-99b8-055e6223a0b8', 26, 'tick', 'schedule', 'succeeded', 1, 1795601686359936, 1795601686987247),
	(27, '01a21233-6349-7e54-a8ab-58a31c645ebd', 27, 'tick', 'schedule', 'succeeded', 1, 1795601687369861, 1795601687713360),
	(28, '01a21233-673b-780a-a49f-95631e8dad3e', 28, 'tick', 'schedule', 'failed', 1, 1795601688379859, 1795601688810842),
	(29, '01a21233-6b27-7525-b6de-d00aa539b1f5', 29, 'tick', 'schedule', 'failed', 1, 1795601689383754, 1795601689810999),
	(30, '01a21233-6f17-7c6a-9755-0a82e8377686', 30, 'tick', 'schedule', 'failed', 1, 1795601690391679, 1795601690709632),
	(31, '01a21233-730c-7962-b944-1e13f2c7db48', 31, 'tick', 'schedule', 'failed', 1, 1795601691404249, 1795601692116826),
	(32, '01a21233-76e8-7ac9-b599-ac6064f8b0d5', 32, 'tick', 'schedule', 'succeeded', 1, 1795601692392049, 1795601692717250),
	(33, '01a21233-7ad2-72e3-a3d4-b21ac815a282', 33, 'tick', 'schedule', 'running', 1, 1795601693394158, NULL);
INSERT INTO consign.shares VALUES
	('tick', 1795601693000000);
INSERT INTO consign.slots OVERRIDING SYSTEM VALUE VALUES
	(25, 'tick', 1795601685000000, 1795601684000000, 1795601685000000, 'schedule', '["acme"]', 'queue', NULL, 'done', NULL, 1795601685352970),
	(26, 'tick', 1795601686000000, 1795601685000000, 1795601686000000, 'schedule', '["acme"]', 'queue', NULL, 'done', NULL, 1795601686359918),
	(27, 'tick', 1795601687000000, 1795601686000000, 1795601687000000, 'schedule', '["acme"]', 'queue', NULL, 'done', NULL, 1795601687369859),
	(28, 'tick', 1795601688000000, 1795601687000000, 1795601688000000, 'schedule', '["acme"]', 'queue', NULL, 'done', NULL, 1795601688379847),
	(29, 'tick', 1795601689000000, 1795601688000000, 1795601689000000, 'schedule', '["acme"]', 'queue', NULL, 'done', NULL, 1795601689383752),
	(30, 'tick', 1795601690000000, 1795601689000000, 1795601690000000, 'schedule', '["acme"]', 'queue', NULL, 'done', NULL, 1795601690391657),
	(31, 'tick', 1795601691000000, 1795601690000000, 1795601691000000, 'schedule', '["acme"]', 'queue', NULL, 'done', NULL, 1795601691404189),
	(32, 'tick', 1795601692000000, 1795601691000000, 1795601692000000, 'schedule', '["acme"]', 'queue', NULL, 'done', NULL, 1795601692392037),
	(33, 'tick', 1795601693000000, 1795601692000000, 1795601693000000, 'schedule', '["acme"]', 'queue', NULL, 'running', NULL, 1795601693394156);
INSERT INTO consign.uploads OVERRIDING SYSTEM VALUE VALUES
	(49, 25, 'in/tick/2026-11-25/101445Z/tick.jsonl', 'AaISM1t3dE-KYoN0A-ebVwGiEjNbd3RPimKDdQVh9vA', 'completed', 1795601685368304, 1795601685869344),
	(57, 29, 'in/tick/2026-11-25/101449Z/tick.jsonl', 'AaISM2tQcx-V487VsRr1FgGiEjNrUHMflePO1r5h_7c', 'aborted', 1795601689425054, 1795601689810447),
	(50, 25, 'in/tick/2026-11-25/101445Z/_manifest.json', 'AaISM11icSmqS-B8TUDeFQGiEjNdYnEpqkvgfXT81DE', 'completed', 1795601685863849, 1795601685869344),
	(62, 31, 'in/tick/2026-11-25/101451Z/_manifest.json', 'AaISM3WadLymkun8yNNr-QGiEjN1mnS8ppLp_Wo-qfA', 'aborted', 1795601692061046, 1795601692097721),
	(61, 31, 'in/tick/2026-11-25/101451Z/tick.jsonl', 'AaISM3MtctSUBwW59CroRwGiEjNzLXLUlAcFuhPnq0s', 'aborted', 1795601691437869, 1795601692116172),
	(63, 32, 'in/tick/2026-11-25/101452Z/tick.jsonl', 'AaISM3cFcVOW0HUTrXRfJAGiEjN3BXFTltB1FE40lZ0', 'completed', 1795601692422007, 1795601692716123),
	(64, 32, 'in/tick/2026-11-25/101452Z/_manifest.json', 'AaISM3gocUuBvhQHLofb1gGiEjN4KHFLgb4UCPW-oAU', 'completed', 1795601692713222, 1795601692716123),
	(51, 26, 'in/tick/2026-11-25/101446Z/tick.jsonl', 'AaISM1-WcxasiUqDY9VTAAGiEjNflnMWrIlKhNtC4_M', 'completed', 1795601686422812, 1795601686976032),
	(52, 26, 'in/tick/2026-11-25/101446Z/_manifest.json', 'AaISM2GwdjijjvZA_KONOgGiEjNhsHY4o472QS6Fggw', 'completed', 1795601686961250, 1795601686976032),
	(53, 27, 'in/tick/2026-11-25/101447Z/tick.jsonl', 'AaISM2NWcka5oaoBurWDSgGiEjNjVnJGuaGqAiuUDMA', 'completed', 1795601687382723, 1795601687712270),
	(54, 27, 'in/tick/2026-11-25/101447Z/_manifest.json', 'AaISM2ScccqbSu19yv44NgGiEjNknHHKm0rtfvaT5Ro', 'completed', 1795601687709196, 1795601687712270),
	(56, 28, 'in/tick/2026-11-25/101448Z/_manifest.json', 'AaISM2jcd8aqfeyluPz6xwGiEjNo3HfGqn3spvgqAmQ', 'aborted', 1795601688797227, 1795601688799430),
	(55, 28, 'in/tick/2026-11-25/101448Z/tick.jsonl', 'AaISM2e7cvS2ZaZYmczVDwGiEjNnu3L0tmWmWdKQhLI', 'aborted', 1795601688508098, 1795601688810201),
	(58, 29, 'in/tick/2026-11-25/101449Z/_manifest.json', 'AaISM2zLdIuyKqyfyUPG5AGiEjNsy3SLsiqsoPDFhw4', 'aborted', 1795601689803855, 1795601689806071),
	(60, 30, 'in/tick/2026-11-25/101450Z/_manifest.json', 'AaISM3BMcbOtbNvZuJZfGwGiEjNwTHGzrWzb2gsUZbo', 'aborted', 1795601690701110, 1795601690702998),
	(59, 30, 'in/tick/2026-11-25/101450Z/tick.jsonl', 'AaISM28rdcSKxPZpbs-GUQGiEjNvK3XEisT2arn8ULA', 'aborted', 1795601690412214, 1795601690709036),
	(65, 33, 'in/tick/2026-11-25/101453Z/tick.jsonl', 'AaISM3sycWmYE96AesNIkwGiEjN7MnFpmBPegYjyzQM', 'created', 1795601693491065, NULL);
SELECT pg_catalog.setval('consign.attempts_id_seq', 33, true);
SELECT pg_catalog.setval('consign.deliveries_id_seq', 33, true);
SELECT pg_catalog.setval('consign.nodes_id_seq', 2, true);
SELECT pg_catalog.setval('consign.runs_seq_seq', 33, true);
SELECT pg_catalog.setval('consign.slots_id_seq', 33, true);
SELECT pg_catalog.setval('consign.uploads_id_seq', 65, true);
ALTER TABLE ONLY consign.attempts
    ADD CONSTRAINT attempts_delivery_number_key UNIQUE (delivery, number);
ALTER TABLE ONLY consign.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (id);
ALTER TABLE ONLY consign.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);
ALTER TABLE ONLY consign.deliveries
    ADD CONSTRAINT deliveries_run_customer_key UNIQUE (run, customer);
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
CREATE UNIQUE INDEX one_per_slot ON consign.deliveries USING btree (slot, customer) WHERE (state <> 'failed'::text);
CREATE UNIQUE INDEX pauses_open ON consign.pauses USING btree (share) WHERE (until IS NULL);
CREATE INDEX runs_by_slot ON consign.runs USING btree (slot);
CREATE INDEX runs_open ON consign.runs USING btree (share) WHERE (state = 'running'::text);
CREATE INDEX slots_ended ON consign.slots USING btree (at) WHERE (state = ANY (ARRAY['done'::text, 'skipped'::text]));
CREATE INDEX slots_held ON consign.slots USING btree (share) WHERE (state = 'held'::text);
CREATE INDEX slots_pending ON consign.slots USING btree (origin, at, id) WHERE (state = 'pending'::text);
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
