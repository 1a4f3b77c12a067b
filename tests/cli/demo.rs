//! `consign demo`: each airline has exactly its own flights, in its own format.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use super::flights::{self, Row, at};
use super::world::{self, Demo, consign, demo, says};

const SLOT: &str = "2014-01-01T05:00:00Z";

/// Share, customer, bucket, prefix and carriers of all that the demo delivers.
const DELIVERIES: [(&str, &str, &str, &str, &[&str]); 5] = [
    ("flights-csv", "united", "united-analytics", "inbound/airport-analytics/", &["UA"]),
    ("flights-csv", "southwest", "southwest-lake", "partners/aa/", &["WN"]),
    ("flights-jsonl", "jetblue", "jetblue-events", "airport-analytics/", &["B6"]),
    ("flights-parquet", "delta", "delta-warehouse", "landing/airport-analytics/", &["DL", "9E"]),
    ("flights-movements", "american", "american-ops", "vendors/airport-analytics/", &["AA"]),
];

/// One customer's outcome, as the demo printed it.
fn outcome<'a>(demo: &'a Demo, share: &str, customer: &str) -> &'a Value {
    let reports = demo.said["reports"].as_array().unwrap();
    let report = reports.iter().find(|report| report["slot"]["share"] == share).unwrap();
    let outcomes = report["outcomes"].as_array().unwrap();
    outcomes.iter().find(|outcome| outcome["customer"] == customer).unwrap()
}

/// The files of a customer's objects, in the manifest's order.
fn objects(customer: &str) -> Vec<PathBuf> {
    let (share, _, bucket, ..) = *DELIVERIES.iter().find(|delivery| delivery.1 == customer).unwrap();
    let objects = outcome(demo(), share, customer)["manifest"]["objects"].as_array().unwrap();
    let bucket = demo().dir.join("buckets").join(bucket);
    objects.iter().map(|object| bucket.join(object["key"].as_str().unwrap())).collect()
}

fn only(customer: &str, extension: &str) -> PathBuf {
    let objects = objects(customer);
    let [only] = objects.as_slice() else { panic!("{objects:?}") };
    assert!(only.to_str().unwrap().ends_with(extension), "{}", only.display());
    only.clone()
}

#[test]
fn demo_fills_each_bucket_with_what_its_manifest_names() {
    let demo = demo();
    let mut buckets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in world::files(&demo.dir.join("buckets")).into_keys() {
        let (bucket, key) = file.split_once('/').unwrap();
        buckets.entry(bucket.to_owned()).or_default().push(key.to_owned());
    }
    assert_eq!(buckets.len(), DELIVERIES.len(), "{buckets:?}");
    for (share, customer, bucket, prefix, carriers) in DELIVERIES {
        let said = outcome(demo, share, customer);
        assert_eq!(said["state"], "committed");
        let folder = format!("{prefix}{share}/2014-01-01/050000Z/");
        let keys = buckets.get(bucket).unwrap();
        assert!(keys.iter().all(|key| key.starts_with(&folder)), "{keys:?}");
        assert_eq!(said["place"], format!("s3://{bucket}/{folder}_manifest.json"));

        let manifests = world::manifests(&demo.dir.join("buckets").join(bucket));
        let [(key, manifest)] = manifests.iter().collect::<Vec<_>>()[..] else { panic!("{manifests:?}") };
        assert_eq!(*key, format!("{folder}_manifest.json"));
        assert_eq!(*manifest, said["manifest"]);
        assert_eq!(manifest["manifest_version"], 1);
        assert_eq!(manifest["share"], share);
        assert_eq!(manifest["customer"], customer);
        assert_eq!(manifest["slot"], SLOT);
        assert_eq!(manifest["interval"]["start"], "2013-01-01T05:00:00Z");
        assert_eq!(manifest["interval"]["end"], SLOT);
        assert_eq!(manifest["rows"], flights::of(carriers).len());
        let columns = manifest["schema"].as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap());
        assert_eq!(columns.collect::<Vec<_>>(), flights::COLUMNS);
    }
}

#[test]
fn demo_csv_is_what_python_reads() {
    flights::same(flights::flights_csv(&only("united", ".csv.gz")), flights::of(&["UA"]));
    flights::same(flights::flights_csv(&only("southwest", ".csv.gz")), flights::of(&["WN"]));
}

#[test]
fn demo_jsonl_is_what_python_reads() {
    // Split by the share's `max_object_size`, each object a complete file.
    let objects = objects("jetblue");
    assert!(objects.len() > 1);
    let mut rows = Vec::new();
    for (number, path) in objects.iter().enumerate() {
        assert!(path.ends_with(format!("flights-jsonl-{number:05}.jsonl")), "{}", path.display());
        assert!(std::fs::metadata(path).unwrap().len() <= 4 << 20, "{}", path.display());
        rows.extend(flights::flights_jsonl(path));
    }
    flights::same(rows, flights::of(&["B6"]));
}

#[test]
fn demo_parquet_is_what_the_parquet_crate_reads() {
    flights::same(flights::parquet(&only("delta", ".parquet")), flights::of(&["DL", "9E"]));
}

#[test]
fn demo_movements_are_one_whole_file_of_records() {
    let text = std::fs::read_to_string(only("american", "/flights-movements.mvt")).unwrap();
    let records: Vec<&str> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
    for (number, record) in (1..).zip(&records) {
        assert!(record.len() == 80 && record.is_ascii(), "{record}");
        assert_eq!(record[74..], format!("{:06}", number % 1_000_000), "{record}");
    }
    let [header, inner @ .., trailer] = records.as_slice() else { panic!("{records:?}") };
    let header = header.split_whitespace().collect::<Vec<_>>();
    assert_eq!(header, ["1FLIGHT", "MOVEMENTS", "2013-01-01T05:00:00Z", SLOT, "000001"]);
    assert_eq!(trailer[..10], format!("5{:09}", inner.len()));
    assert_eq!(trailer[10..74].trim(), "");
    let movements: Vec<Row> = inner.iter().map(|record| movement(record)).collect();
    // By local day and hour, which for these flights is the order of `time_hour`.
    let order = |row: &Row| [0, 1, 2, 16, 10].map(|column| row[column].as_deref().unwrap().parse::<i64>().unwrap());
    for pair in movements.windows(2) {
        assert!(order(&pair[0]) <= order(&pair[1]), "out of order: {pair:?}");
    }
    let mut expected = flights::of(&["AA"]);
    for row in &mut expected {
        // The record has no such places.
        row[at("minute")] = None;
        row[at("time_hour")] = None;
    }
    flights::same_rows(movements, expected);
}

/// A movement record as a row, by the table in the plugin's README. `hour` is
/// that of the scheduled departure; `minute` and `time_hour` are null.
fn movement(record: &str) -> Row {
    const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
    assert_eq!(record[..1], *"3");
    assert_eq!(record[63..74].trim(), "", "{record}");
    let mut row: Row = vec![None; flights::COLUMNS.len()];
    // Columns as the README counts them: from 1, the last included.
    let field = |from: usize, to: usize| record[from - 1..to].trim().to_owned();
    let mut set = |column: &str, text: String| row[at(column)] = (!text.is_empty()).then_some(text);
    let number = |text: String| if text.is_empty() { text } else { text.parse::<i64>().unwrap().to_string() };
    for (column, from, to) in [("carrier", 2, 4), ("origin", 16, 18), ("dest", 19, 21), ("tailnum", 57, 62)] {
        set(column, field(from, to));
    }
    let numbers = [
        ("flight", 5, 8),
        ("day", 9, 10),
        ("sched_dep_time", 22, 25),
        ("dep_time", 26, 29),
        ("sched_arr_time", 30, 33),
        ("arr_time", 34, 37),
        ("dep_delay", 38, 42),
        ("arr_delay", 43, 47),
        ("air_time", 48, 51),
        ("distance", 52, 56),
    ];
    for (column, from, to) in numbers {
        set(column, number(field(from, to)));
    }
    let month = MONTHS.iter().position(|name| *name == field(11, 13)).unwrap() + 1;
    set("month", month.to_string());
    set("year", format!("20{}", field(14, 15)));
    set("hour", number(field(22, 23)));
    let status = match (&row[at("dep_time")], &row[at("air_time")]) {
        (None, _) => "X",
        (_, None) => "D",
        _ => "",
    };
    assert_eq!(field(63, 63), status, "{record}");
    row
}

#[test]
fn demo_is_refused_with_a_wrong_external_id() {
    let refused = &demo().said["refused"];
    let [outcome] = refused["outcomes"].as_array().unwrap().as_slice() else { panic!("{refused}") };
    assert_eq!((&outcome["customer"], &outcome["state"]), (&"jetblue".into(), &"failed".into()));
    let failure = &outcome["failure"];
    assert_eq!((&failure["layer"], &failure["retry"]), (&"trust-policy".into(), &"never".into()));
    let role = "arn:aws:iam::100000000003:role/flight-data";
    says(failure["message"].as_str().unwrap(), &["AssumeRole", role, "customer 'jetblue'", "403 AccessDenied"]);
    says(failure["remedy"].as_str().unwrap(), &["external ID", "not-the-agreed-one", "sts:ExternalId", "trust policy"]);
    // Nothing of that slot is in the bucket, not even an unfinished upload.
    let slot = refused["slot"]["at"].as_str().unwrap();
    assert_eq!(slot, "2015-01-01T05:00:00Z");
    let bucket = demo().dir.join("buckets/jetblue-events");
    assert!(world::files(&bucket).keys().all(|key| !key.contains("2015")));
    assert_eq!(std::fs::read_dir(demo().dir.join("buckets/.sandbox/uploads")).unwrap().count(), 0);
    // And the ledger has it, in words.
    let run = refused["run"].as_str().unwrap();
    consign(&demo().dir, &["--config", "consign.toml", "show", run]).ended(0).out_says(&[
        "state     failed",
        "jetblue  failed",
        "trust policy: AssumeRole",
        "help: the customer's role must trust the vendor",
    ]);
}

#[test]
fn demo_again_delivers_nothing_again() {
    let dir = &demo().dir;
    let before = world::files(&dir.join("buckets"));
    for (share, customer, ..) in DELIVERIES {
        let args = ["--config", "consign.toml", "send", share, "--at", SLOT, "--customer", customer];
        let run = outcome(demo(), share, customer)["manifest"]["run"].as_str().unwrap();
        consign(dir, &args).ended(0).out_says(&[customer, "was delivered before, by run", run]);
        let again = consign(dir, &[&args[..], &["--json"]].concat()).ended(0).json();
        assert_eq!(again["outcomes"][0]["state"], "already-committed");
        assert_eq!(again["outcomes"][0]["earlier"], run);
        assert!(again.get("run").is_none(), "{again}");
    }
    assert_eq!(world::files(&dir.join("buckets")), before);
    let runs = consign(dir, &["--config", "consign.toml", "history", "--json"]).ended(0).json();
    assert_eq!(runs.as_array().unwrap().len(), 5);
}

#[test]
fn demo_in_the_same_directory_keeps_what_was_changed() {
    let copy = tempfile::tempdir().unwrap();
    let dir = copy.path().join("demo");
    let copied = std::process::Command::new("cp").arg("-r").arg(&demo().dir).arg(&dir).status().unwrap();
    assert!(copied.success());
    let path = dir.join("consign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let endpoint = |text: &str| text.lines().find(|line| line.starts_with("endpoint_url")).unwrap().to_owned();
    // Where no sandbox ever is.
    let tried = text.replace(&endpoint(&text), "endpoint_url = \"http://127.0.0.1:1\"") + "\n# my own try\n";
    std::fs::write(&path, &tried).unwrap();
    let said = consign(&dir, &["demo", "--dir", dir.to_str().unwrap()]).ended(0);
    says(&said.stdout, &["was delivered before", "Everything was delivered already", env!("CARGO_BIN_EXE_consign")]);
    let now = std::fs::read_to_string(&path).unwrap();
    let other =
        |text: &str| text.lines().filter(|line| !line.starts_with("endpoint_url")).collect::<Vec<_>>().join("\n");
    assert_eq!(other(&now), other(&tried));
    assert_ne!(endpoint(&now), endpoint(&tried));
    // Without a place for the address, nothing is written over.
    std::fs::write(&path, "# nothing\n").unwrap();
    consign(&dir, &["demo", "--dir", dir.to_str().unwrap()]).ended(3).err_says(&["has no `endpoint_url`"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "# nothing\n");
}
