//! Memory stays flat: a generated Parquet dataset is delivered as CSV through
//! the sandbox endpoint while the peak memory of consign is watched.
//!
//! ```text
//! cargo bench --bench memory                                # 5 GB, about 13 GB of disk
//! CONSIGN_BENCH_MB=500 cargo bench --bench memory
//! CONSIGN_BENCH_PART_MIB=500 cargo bench --bench memory     # parts as those of an object of 600 GiB
//! ```
//!
//! Prints the dataset's and the output's size, the time, and the peak resident
//! set (`VmHWM`) of the consign process, which does the query, the plugin, the
//! compression and the upload. The sandbox is a process of its own.

#![expect(clippy::print_stdout, clippy::expect_used, reason = "a bench prints its figures and may panic")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

const CONSIGN: &str = env!("CARGO_BIN_EXE_consign");
const FILE_MB: u64 = 500;

/// The sandbox's own keys; they open nothing else.
const KEY: &str = "AKIACONSIGNSANDBOX00";
const SECRET: &str = "consign-sandbox-secret";

const CONFIG: &str = r#"
[daemon]
state_dir = "state"
cache_dir = "cache"

[aws]
region            = "us-east-1"
endpoint_url      = "@ENDPOINT@"
part_size         = "@PART@ MiB"
access_key_id     = { env = "KEY" }
secret_access_key = { env = "SECRET" }

[customers.acme]
role_arn    = "arn:aws:iam::123456789012:role/consign-delivery"
external_id = "bench-7f0c"
bucket      = "acme-data"
region      = "us-east-1"
prefix      = "in/"

[datasets.big]
tables.big = "lake/*.parquet"
query      = "select * from big"
shared     = true

[shares.big]
schedule = "0 0 * * *"
dataset  = "big"
plugin   = "csv"
to       = { customers = ["acme"] }
"#;

fn main() {
    let megabytes = number("CONSIGN_BENCH_MB").unwrap_or(5_000);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (bytes, rows) = generate(dir.path(), megabytes);
    println!("dataset     {:>8} MB Parquet, {rows} rows", bytes / 1_000_000);
    println!("parts       {:>8} MiB at least", part_mib());

    // The sandbox takes roles and buckets from the configuration, before it has
    // an address to put there.
    write_config(dir.path(), "http://127.0.0.1:1");
    let (mut sandbox, endpoint) = start_sandbox(dir.path());
    write_config(dir.path(), &endpoint);
    let started = Instant::now();
    let send = Command::new(CONSIGN)
        .args(["--config", "consign.toml", "send", "big", "--at", "2026-01-02T00:00:00Z", "--json"])
        .current_dir(dir.path())
        .env("KEY", KEY)
        .env("SECRET", SECRET)
        .stdout(Stdio::null())
        .spawn()
        .expect("consign send starts");
    let (peak_kb, success) = watch(send);
    let seconds = started.elapsed().as_secs_f64();
    let output = folder_bytes(&dir.path().join("buckets"));
    let _ = sandbox.kill();
    let _ = sandbox.wait();
    assert!(success, "consign send failed: see above");
    println!("delivered   {:>8} MB CSV", output / 1_000_000);
    println!("time        {seconds:>8.1} s, {:.0} MB/s of CSV", output as f64 / 1e6 / seconds);
    println!("peak memory {:>8} MB resident", peak_kb / 1000);
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn part_mib() -> u64 {
    number("CONSIGN_BENCH_PART_MIB").unwrap_or(8)
}

/// Rows that do not compress, so that the files are as large as they look.
fn generate(dir: &Path, megabytes: u64) -> (u64, u64) {
    let lake = dir.join("lake");
    fs::create_dir(&lake).expect("a directory for the dataset");
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let (mut bytes, mut rows, mut number) = (0, 0_u64, 0);
    while bytes < megabytes * 1_000_000 {
        let path = lake.join(format!("part-{number:04}.parquet"));
        let properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(100_000))
            .build();
        let batch = |random: &mut dyn FnMut() -> u64, first: i64| {
            let count = 50_000;
            let ids = Int64Array::from_iter_values(first..first + count);
            let amounts = Float64Array::from_iter_values((0..count).map(|_| (random() >> 20) as f64 / 1000.0));
            let times = TimestampMicrosecondArray::from_iter_values(
                (0..count).map(|_| 1_600_000_000_000_000 + (random() >> 16) as i64),
            );
            let notes =
                StringArray::from_iter_values((0..count).map(|_| format!("{:016x}{:016x}", random(), random())));
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("id", Arc::new(ids)),
                ("amount", Arc::new(amounts)),
                ("at", Arc::new(times)),
                ("note", Arc::new(notes)),
            ];
            RecordBatch::try_from_iter(columns).expect("a batch")
        };
        let first = batch(&mut random, rows as i64);
        let file = File::create(&path).expect("a file");
        let mut writer = ArrowWriter::try_new(file, first.schema(), Some(properties)).expect("a writer");
        writer.write(&first).expect("a batch is written");
        rows += 50_000;
        while writer.bytes_written() < (FILE_MB.min(megabytes) * 1_000_000) as usize {
            writer.write(&batch(&mut random, rows as i64)).expect("a batch is written");
            rows += 50_000;
        }
        writer.close().expect("the file is finished");
        bytes += fs::metadata(&path).expect("the file").len();
        number += 1;
    }
    (bytes, rows)
}

fn start_sandbox(dir: &Path) -> (Child, String) {
    let mut sandbox = Command::new(CONSIGN)
        .args(["--config", "consign.toml", "sandbox", "--dir", "buckets", "--listen", "127.0.0.1:0", "--json"])
        .current_dir(dir)
        .env("KEY", KEY)
        .env("SECRET", SECRET)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the sandbox starts");
    let mut line = String::new();
    BufReader::new(sandbox.stdout.take().expect("its output")).read_line(&mut line).expect("its first line");
    let hello: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    (sandbox, hello["endpoint"].as_str().expect("an endpoint").to_owned())
}

fn write_config(dir: &Path, endpoint: &str) {
    let config = CONFIG.replace("@ENDPOINT@", endpoint).replace("@PART@", &part_mib().to_string());
    fs::write(dir.join("consign.toml"), config).expect("the configuration");
}

/// Polls the child's own high-water mark until it ends.
fn watch(mut child: Child) -> (u64, bool) {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Ok(text) = fs::read_to_string(&status) {
            let mark = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kb = mark.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
            peak = peak.max(kb.unwrap_or(0));
        }
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            return (peak, status.success());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn folder_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => folder_bytes(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}
