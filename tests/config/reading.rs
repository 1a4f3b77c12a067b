//! What a good configuration becomes.

use std::time::Duration;

use chrono::{TimeZone, Utc};
use chrono_tz::Tz;
use consign::clock::Instant;
use consign::config::{
    CatchUp, Compression, Config, ConfigErrors, Dataset, Empty, Encryption, Environment, FileFormat, Missed, Overlap,
    PluginSource, Tls,
};
use consign::domain::{ParamValue, ShareName};
use proptest::prelude::*;

use super::{environment, load};

/// The example of the design, with the compression where it belongs.
const DESIGN: &str = r#"
[customers.acme]
role_arn    = "arn:aws:iam::123456789012:role/consign-delivery"
external_id = "c0ns1gn-7f0c"
bucket = "acme-data"
region = "eu-west-1"
prefix = "uploads/your-team/"
groups = ["enterprise"]
params = { customer_id = 42 }

[datasets.orders]
tables.orders = { path = "lake/orders/*.parquet" }        # or a database
query         = "select * from orders where updated_at >= $interval_start and updated_at < $interval_end"
tenant_column = "customer_id"

[shares.daily-orders]
schedule = "0 6 * * *"
timezone = "America/New_York"
dataset  = "orders"
plugin   = "csv"
options  = { delimiter = ";" }
compression = "gzip"
to       = { customers = ["acme"], groups = ["enterprise"] }
"#;

const CUSTOMER: &str = r#"
[customers.acme]
role_arn = "arn:aws-us-gov:iam::123456789012:role/path/consign"
external_id = "c0ns1gn-7f0c"
bucket = "acme-data"
region = "us-gov-west-1"
"#;

fn with_customer(more: &str) -> Config {
    load(&format!("{CUSTOMER}{more}")).unwrap()
}

fn with_share(more: &str) -> Config {
    with_customer(&format!(
        "[datasets.d]\ntables.t = \"t.parquet\"\n[shares.s]\nschedule = \"@daily\"\ndataset = \"d\"\n\
         to = {{ all = true }}\n{more}"
    ))
}

#[test]
fn the_designs_example_loads() {
    let config = load(DESIGN).unwrap();
    assert!(config.warnings.is_empty());
    let acme = &config.customers["acme"];
    assert_eq!(acme.bucket_owner.as_str(), "123456789012");
    assert_eq!(acme.params["customer_id"], ParamValue::Int(42));
    assert_eq!(acme.encryption, Encryption::Bucket);
    let Dataset::Tables(orders) = &*config.datasets["orders"] else { panic!("not tables") };
    assert!(orders.tables["orders"].path.ends_with("/lake/orders/*.parquet"));
    assert!(orders.tables["orders"].path.starts_with('/'));
    assert_eq!(orders.tenant.as_ref().unwrap().param, "customer_id");
    let share = &config.shares["daily-orders"];
    assert_eq!(share.timezone, Tz::America__New_York);
    assert_eq!(share.options, r#"{"delimiter":";"}"#);
    assert_eq!(share.compression, Compression::Gzip { level: 6 });
    assert_eq!(share.to.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["acme"]);
    assert_eq!(config.plugins["csv"].source, PluginSource::Shipped);
    assert_eq!(config.plugins.len(), 1);
}

#[test]
fn a_file_that_says_nothing_is_a_configuration_with_defaults() {
    let config = load("# nothing yet").unwrap();
    assert_eq!(config.daemon.state_dir.to_str(), Some("/var/lib/consign"));
    assert_eq!(config.daemon.cache_dir.to_str(), Some("/var/cache/consign"));
    assert_eq!((config.daemon.concurrency, config.daemon.query_memory_bytes), (8, 256 << 20));
    assert_eq!((config.daemon.piece_concurrency, config.daemon.piece_memory_bytes), (None, 256 << 20));
    assert_eq!(config.daemon.drain_timeout, Duration::from_secs(30));
    assert_eq!(config.aws.session_duration, Duration::from_secs(3600));
    assert_eq!((config.aws.part_concurrency, config.aws.part_bytes), (4, 8 << 20));
    assert!(!config.aws.path_style && config.aws.credentials.is_none() && config.aws.region.is_none());
}

#[test]
fn directories_come_from_systemd_unless_written() {
    let env = Environment::from_pairs([("STATE_DIRECTORY", "/var/lib/one:/var/lib/two"), ("CACHE_DIRECTORY", "/c")]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("consign.toml");
    std::fs::write(&path, "[daemon]\ncache_dir = \"cache\"\n").unwrap();
    let config = Config::load(&path, &env).unwrap();
    assert_eq!(config.daemon.state_dir.to_str(), Some("/var/lib/one"));
    assert_eq!(config.daemon.cache_dir, folder.path().join("cache"));
}

#[test]
fn daemon_and_aws_take_every_key() {
    let config = load(
        r#"
        [daemon]
        concurrency = 3
        query_memory = "1.5 GiB"
        piece_concurrency = 12
        piece_memory = "1 GiB"
        drain_timeout = "1min 30s"
        [aws]
        region = "eu-central-1"
        endpoint_url = "http://127.0.0.1:9000"
        access_key_id = { env = "VENDOR_KEY_ID" }
        secret_access_key = { credential = "aws-secret" }
        attempt_timeout = "1500ms"
        operation_timeout = "20s"
        session_duration = "12h"
        part_concurrency = 2
        part_size = "16 MiB"
        "#,
    )
    .unwrap();
    assert_eq!(config.daemon.query_memory_bytes, 3 << 29);
    assert_eq!((config.daemon.piece_concurrency, config.daemon.piece_memory_bytes), (Some(12), 1 << 30));
    assert_eq!(config.daemon.drain_timeout, Duration::from_secs(90));
    assert!(config.aws.path_style, "default with an endpoint of one's own");
    assert_eq!(config.aws.endpoint_url.as_ref().unwrap().as_str(), "http://127.0.0.1:9000/");
    assert_eq!(config.aws.attempt_timeout, Duration::from_millis(1500));
    let keys = config.aws.credentials.as_ref().unwrap().resolve().unwrap();
    assert_eq!(keys.access_key_id.reveal(), "AKIAVENDORSKEYID");
    assert_eq!(keys.secret_access_key.reveal(), "hunter2-from-a-file");
    let shown = format!("{config:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("AKIA"), "{shown}");
}

#[test]
fn profiles_take_every_key() {
    let config = with_customer(
        r#"
        bucket_owner = "210987654321"
        prefix = "in"
        groups = ["b", "a", "b"]
        encryption = { kms = "alias/k" }
        storage_class = "GLACIER_IR"
        acl = "bucket-owner-full-control"
        tags = { source = "consign" }
        [customers.acme.params]
        yes = true
        ratio = 0.5
        name = "Acme"
        since = 2026-01-31T01:00:00+01:00
        ids = [1, 2]
        "#,
    );
    let acme = &config.customers["acme"];
    assert_eq!(acme.bucket_owner.as_str(), "210987654321");
    assert_eq!(acme.prefix.as_str(), "in/");
    assert_eq!(acme.groups.iter().map(|group| group.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(acme.encryption, Encryption::Kms { key: Some("alias/k".into()) });
    assert_eq!(acme.storage_class.as_deref(), Some("GLACIER_IR"));
    assert_eq!(acme.tags["source"], "consign");
    assert_eq!(acme.params["since"], ParamValue::Instant(Utc.with_ymd_and_hms(2026, 1, 31, 0, 0, 0).unwrap()));
    assert_eq!(acme.params["ids"], ParamValue::List(vec![ParamValue::Int(1), ParamValue::Int(2)]));
    assert_eq!(acme.params["ratio"], ParamValue::Float(0.5));
}

#[test]
fn formats_follow_extensions() {
    let cases = [
        ("a.parquet", FileFormat::Parquet),
        ("dir/*.csv.gz", FileFormat::Csv { header: true, delimiter: b',', quote: b'"' }),
        ("a.TSV", FileFormat::Csv { header: true, delimiter: b'\t', quote: b'"' }),
        ("s3://bucket/a.jsonl", FileFormat::Ndjson),
        ("a.ndjson.zst", FileFormat::Ndjson),
        ("a.feather", FileFormat::ArrowIpc),
        ("a.avro", FileFormat::Avro),
    ];
    for (path, format) in cases {
        let config = load(&format!("[datasets.d]\ntables.t = \"{path}\"\n")).unwrap();
        let Dataset::Tables(dataset) = &*config.datasets["d"] else { panic!("not tables") };
        assert_eq!(dataset.tables["t"].format, format, "{path}");
    }
}

#[test]
fn a_table_says_more() {
    let config = load(
        "[datasets.d]\ntables.t = { path = \"./dir/\", format = \"csv\", header = false, delimiter = \"|\", \
         quote = \"'\", partitions = [\"year\", \"month\"] }\n",
    )
    .unwrap();
    let Dataset::Tables(dataset) = &*config.datasets["d"] else { panic!("not tables") };
    let table = &dataset.tables["t"];
    assert_eq!(table.format, FileFormat::Csv { header: false, delimiter: b'|', quote: b'\'' });
    assert!(table.path.ends_with("/dir/") && !table.path.contains("/./"), "{}", table.path);
    assert_eq!(table.partitions, ["year", "month"]);
}

#[test]
fn shares_take_every_key() {
    let config = with_share(
        r#"
        plugin = "fixed"
        options = { compression = "own", since = 2026-01-31, deep = { list = [1, 2.5, true] } }
        compression = { codec = "zstd", level = 19 }
        max_object_size = "64 KiB"
        piece_rows = 250_000
        empty = "skip"
        key = "in/{share}/{slot:%Y}/{name}"
        limits = { objects = 9, stack = "2 MiB" }
        [plugins.fixed]
        path = "fixed.wasm"
        sha256 = "sha256:9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08"
        limits = { memory = "1 GiB", objects = 7 }
        [plugins.parquet.limits]
        cpu_time = "1h"
        "#,
    );
    let share = &config.shares["s"];
    assert_eq!(share.options, r#"{"compression":"own","since":"2026-01-31","deep":{"list":[1,2.5,true]}}"#);
    assert_eq!(share.compression, Compression::Zstd { level: 19 });
    assert_eq!((share.max_object_bytes, share.empty), (Some(64 << 10), Empty::Skip));
    assert_eq!(share.piece_rows.map(u64::from), Some(250_000));
    let fixed = &config.plugins["fixed"];
    let PluginSource::File { path, sha256 } = &fixed.source else { panic!("not a file") };
    assert!(path.is_absolute() && path.ends_with("fixed.wasm"));
    assert!(sha256.as_ref().unwrap().starts_with("9f86d0"));
    assert_eq!((fixed.limits.memory_bytes, fixed.limits.objects), (1 << 30, 7));
    let own = config.limits(share).unwrap();
    assert_eq!((own.memory_bytes, own.objects, own.stack_bytes), (1 << 30, 9, 2 << 20), "key by key over the plugin's");
    assert_eq!(config.plugins["parquet"].limits.cpu_time, Duration::from_secs(3600));
    assert_eq!(config.plugins["parquet"].source, PluginSource::Shipped);
}

#[test]
fn a_share_says_when() {
    let config = with_share(
        "plugin = \"csv\"\ntimezone = \"America/New_York\"\nstart = 2026-03-08\nend = 2026-03-09T08:00:00\njitter = \"1h\"\n\
         catch_up = \"all\"\ncatch_up_window = \"3days\"\noverlap = \"cancel\"\ndeadline = \"4h\"\n",
    );
    let share = &config.shares["s"];
    assert_eq!(share.catch_up, CatchUp { missed: Missed::All, window: Duration::from_secs(3 * 86_400) });
    assert_eq!((share.overlap, share.deadline), (Overlap::Cancel, Some(Duration::from_secs(4 * 3600))));
    let all: Vec<_> =
        std::iter::successors(share.calendar.next(Instant::MIN_UTC), |at| share.calendar.next(*at)).collect();
    assert_eq!(
        all,
        [Utc.with_ymd_and_hms(2026, 3, 8, 5, 0, 0).unwrap(), Utc.with_ymd_and_hms(2026, 3, 9, 4, 0, 0).unwrap()]
    );
    assert!(share.jitter.due(&share.calendar, all[0]) > all[0]);

    let config = with_share("plugin = \"csv\"\n");
    let share = &config.shares["s"];
    assert_eq!(share.catch_up, CatchUp { missed: Missed::Latest, window: Duration::from_secs(86_400) });
    assert_eq!((share.overlap, share.deadline), (Overlap::Skip, None));
    assert_eq!(share.jitter.due(&share.calendar, all[0]), all[0]);
}

#[test]
fn parquets_own_compression_is_left_alone() {
    let config = with_share("plugin = \"parquet\"\noptions = { compression = \"zstd\" }\n");
    assert_eq!(config.shares["s"].options, r#"{"compression":"zstd"}"#);
    assert_eq!(config.shares["s"].compression, Compression::None);
}

#[test]
fn assets_pass_through() {
    let config = with_customer(
        "params = { folder = \"a-1\" }\n[datasets.d]\nfiles = \"reports/{customer}/{param.folder}/*.pdf\"\n\
         [shares.s]\nschedule = \"@daily\"\ndataset = \"d\"\nto = { customers = [\"acme\"] }\n",
    );
    let Dataset::Files(files) = &*config.datasets["d"] else { panic!("not files") };
    assert!(files.files.starts_with('/') && files.files.ends_with("reports/{customer}/{param.folder}/*.pdf"));
    assert!(config.shares["s"].plugin.is_none());
}

#[test]
fn included_files_are_relative_to_themselves() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("shares.d")).unwrap();
    let main = folder.path().join("consign.toml");
    std::fs::write(&main, "include = [\"shares.d/*.toml\", \"none.d/*.toml\", \"*.toml\"]\n").unwrap();
    std::fs::write(folder.path().join("shares.d/a.toml"), "[datasets.a]\ntables.t = \"a.parquet\"\n").unwrap();
    std::fs::write(folder.path().join("shares.d/b.toml"), "[datasets.b]\ntables.t = \"../b.parquet\"\n").unwrap();
    let config = Config::load(&main, &environment()).unwrap();
    let Dataset::Tables(a) = &*config.datasets["a"] else { panic!("not tables") };
    assert_eq!(a.tables["t"].path, folder.path().join("shares.d/a.parquet").to_str().unwrap());
    assert_eq!(config.origin.files().len(), 3);
    assert!(config.datasets.contains_key("b"));
}

/// An included file that cannot be read is not taken for none.
#[test]
fn what_a_glob_finds_must_be_readable() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("shares.d")).unwrap();
    let main = folder.path().join("consign.toml");
    std::fs::write(&main, "include = [\"shares.d/*.toml\"]\n").unwrap();
    std::os::unix::fs::symlink("loop.toml", folder.path().join("shares.d/loop.toml")).unwrap();
    let errors = Config::load(&main, &environment()).unwrap_err().render(false);
    assert!(errors.contains("cannot read") && errors.contains("shares.d/loop.toml"), "{errors}");
}

#[test]
fn places_can_be_asked_for() {
    let config = load(DESIGN).unwrap();
    let at = |path: &[&str]| {
        let location = config.locate(path);
        (location.line(), location.column())
    };
    assert_eq!(at(&["shares", "daily-orders", "schedule"]), (17, 12));
    assert_eq!(at(&["datasets", "orders", "query"]), (13, 17));
    assert_eq!(
        at(&["shares", "daily-orders", "max_object_size"]),
        (16, 9),
        "the share's name stands for what is absent"
    );
    let share = ShareName::parse("daily-orders").unwrap();
    let option = |pointer: &str, key: bool| {
        let location = config.locate_option(&share, pointer, key);
        (location.line(), location.column())
    };
    assert_eq!((option("/delimiter", false), option("/delimiter", true)), ((21, 26), (21, 14)));
    assert_eq!(option("/quote", false), (21, 1));
    let inside = config.locate_inside(&["datasets", "orders", "query"], &(7..8));
    assert_eq!((inside.line(), inside.column()), (13, 25));
}

#[test]
fn others_report_in_the_same_way() {
    let config = load(DESIGN).unwrap();
    let share = ShareName::parse("daily-orders").unwrap();
    let mut errors = ConfigErrors::new();
    errors.at(config.locate_option(&share, "/delimiter", false), "`delimiter` is `;`", "write \",\"");
    let shown = errors.to_string();
    assert!(shown.contains("options  = { delimiter = \";\" }\n   |                          ^^^\n"), "{shown}");
    assert_eq!(errors.problems()[0].to_json()["line"], 21);
    assert!(errors.into_result().is_err());
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let errors = Config::load("nowhere/consign.toml".as_ref(), &environment()).unwrap_err();
    let shown = errors.to_string();
    assert!(shown.contains("cannot read the configuration") && shown.contains("nowhere/consign.toml"), "{shown}");
}

#[test]
fn many_customers_load_quickly() {
    let mut text = String::from("[datasets.d]\ntables.t = \"t.parquet\"\ntenant_column = \"id\"\n");
    for i in 0..2000 {
        text.push_str(&format!(
            "[customers.c{i}]\nrole_arn = \"arn:aws:iam::123456789012:role/r\"\nexternal_id = \"id-{i}\"\n\
             bucket = \"shared\"\nprefix = \"c{i}/\"\nregion = \"eu-west-1\"\nparams.id = {i}\n"
        ));
    }
    text.push_str("[shares.s]\nschedule = \"@daily\"\ndataset = \"d\"\nplugin = \"csv\"\nto.all = true\n");
    assert_eq!(load(&text).unwrap().shares["s"].to.len(), 2000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is cut, inserted or replaced: loaded or refused, never a panic.
    #[test]
    fn edits_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[\\x20-\\x7eäß\u{202e}\n]{0,6}|=|\\[|\\]|\"|\\{|\\}|\"\"\"|nan|9{25}"), 1..6)
    ) {
        let mut text: Vec<char> = DESIGN.chars().collect();
        for (at, cut, put) in edits {
            let start = at.index(text.len() + 1);
            let end = (start + cut).min(text.len());
            text.splice(start..end, put.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(errors) = load(&text) {
            prop_assert!(!errors.is_empty());
            prop_assert!(!errors.to_string().is_empty());
        }
    }

    /// Also not in values: keys are right, values are anything.
    #[test]
    fn any_value_is_taken_or_refused(line in 0usize..20, value in "[0-9]{1,3}|true|\\[\\]|\\{\\}|\"\\PC{0,20}\"|1979-05-27|-inf|\\[1,\"a\"\\]|\\{ a = \\[\\] \\}") {
        let mut lines: Vec<String> = DESIGN.lines().map(str::to_owned).collect();
        let keys: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].contains(" = ")).collect();
        let chosen = keys[line % keys.len()];
        let key = lines[chosen].split('=').next().unwrap_or("").to_owned();
        lines[chosen] = format!("{key}= {value}");
        if let Err(errors) = load(&lines.join("\n")) {
            prop_assert!(!errors.to_string().is_empty());
        }
    }
}

#[test]
fn the_ledgers_url_is_a_place_and_a_secret() {
    let at = |url: &str| load(&format!("[ledger]\nurl = \"{url}\"")).unwrap().ledger.database.unwrap();
    let database = at("postgresql://consign@db.example.com:5433/c?sslrootcert=/etc/ca.pem&user=x");
    assert_eq!((database.schema.as_str(), database.lease), ("consign", Duration::from_secs(30)));
    let found = database.resolve().unwrap();
    assert_eq!(found.place, "postgres://db.example.com:5433/c");
    assert_eq!(found.url.reveal(), "postgresql://consign@db.example.com:5433/c?user=x");
    assert_eq!(found.tls, Tls::Verified { root: Some("/etc/ca.pem".into()) });
    for (url, tls) in [
        ("postgres://db.example.com/c", Tls::Verified { root: None }),
        ("postgres://db.example.com/c?sslmode=disable", Tls::Off),
        ("postgres://127.0.0.1/c", Tls::Off),
        ("postgres://[::1]/c", Tls::Off),
        ("postgres:///c?host=/run/postgresql", Tls::Off),
        ("postgres://localhost/c?sslmode=verify-full", Tls::Verified { root: None }),
    ] {
        assert_eq!(at(url).resolve().unwrap().tls, tls, "{url}");
    }
    assert!(!format!("{:?}", at("postgres://db/c")).contains("db/c"));
    assert!(load("# none").unwrap().ledger.database.is_none());
}
