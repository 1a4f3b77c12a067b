//! `consign demo`: the main job, end to end, on this machine alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{TimeZone, Utc};
use clap::Args;
use tokio::signal::unix::SignalKind;

use super::output::{self, CliError, Exit, line, thousands};
use super::progress::Progress;
use super::sandbox::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, for_customers, start};
use super::send::Sending;
use super::{Global, report, serve, setup};
use crate::clock::{Clock, Instant};
use crate::config::{Config, Customer, Environment};
use crate::daemon::Source;
use crate::domain::ExternalId;
use crate::ledger::OnRecord;
use crate::run::{Parts, Report, wanted};

#[derive(Args)]
pub struct DemoArgs {
    /// Where to put the configuration and the buckets; default: a new temporary directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Go on as a daemon, with a share that fires every ten seconds, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

/// The shares that the demo sends once, in this order.
const SHARES: [&str; 4] = ["flights-csv", "flights-jsonl", "flights-parquet", "flights-movements"];

const FILES: [(&str, &[u8]); 3] = [
    ("flights.parquet", include_bytes!("../../config/demo/flights.parquet")),
    ("movements.wasm", crate::plugin::FIXED_FLIGHTS),
    ("customers.toml", include_bytes!("../../config/demo/customers.toml")),
];
const CONFIG: &str = include_str!("../../config/demo/consign.toml");

pub async fn demo(global: &Global, args: &DemoArgs) -> Result<Exit, CliError> {
    let dir = directory(args.dir.as_deref())?;
    let environment = Environment::from_pairs([
        ("CONSIGN_DEMO_ACCESS_KEY_ID", ACCESS_KEY_ID),
        ("CONSIGN_DEMO_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
    ]);
    // The sandbox takes its roles and buckets from the customers, so the
    // configuration is read once before there is an endpoint to put in it.
    let path = write_files(&dir, "http://127.0.0.1:1")?;
    let customers = Config::load(&path, &environment)?;
    let any_port = ([127, 0, 0, 1], 0).into();
    let sandbox = start(for_customers(&customers, &dir.join("buckets"), any_port)?).await?;
    let endpoint = sandbox.endpoint().to_string();
    let path = write_files(&dir, endpoint.trim_end_matches('/'))?;
    let config = Arc::new(Config::load(&path, &environment)?);

    let clock = Clock::system();
    let ledger = setup::ledger(&config, &clock)?;
    let parts = Arc::new(Parts::build(&config, clock).await?);
    if !global.json {
        introduce(&dir, endpoint.trim_end_matches('/'), &config);
    }
    let mut reports = Vec::new();
    for name in SHARES {
        let sending = sending(&config, &parts, name)?;
        let report = sending.to_buckets(&ledger, &Progress::hidden()).await?;
        if !global.json {
            report::print(&report);
            line("");
        }
        reports.push(report);
    }
    let refused = stranger(&config, &parts, &ledger).await?;
    if global.json {
        output::json(&serde_json::json!({ "dir": dir, "reports": reports, "refused": refused }));
    } else {
        conclude(&dir, &reports, &refused);
    }
    let exit = reports.iter().map(report::exit).find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done);
    if args.keep && exit == Exit::Done {
        if !global.json {
            line("going on as a daemon: share 'today' fires every ten seconds; stop with Ctrl-C");
        }
        let hangup = serve::listen(SignalKind::hangup())?;
        serve::until_stopped(config, parts, ledger, Source { path: dir.join("consign.toml"), hangup }).await?;
    }
    sandbox.shutdown().await;
    Ok(exit)
}

fn directory(wanted: Option<&Path>) -> Result<PathBuf, CliError> {
    let failed = |error: std::io::Error| CliError::internal("cannot make the demo's directory", &error);
    match wanted {
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(failed)?;
            std::fs::canonicalize(dir).map_err(failed)
        }
        // Kept, because looking at it is what the demo is for.
        None => Ok(tempfile::Builder::new().prefix("consign-demo-").tempdir().map_err(failed)?.keep()),
    }
}

/// Writes what is not there yet. Of a configuration that is, only the sandbox's
/// address changes: the rest may be somebody's try.
fn write_files(dir: &Path, endpoint: &str) -> Result<PathBuf, CliError> {
    let write = |path: &Path, contents: &[u8]| {
        std::fs::write(path, contents)
            .map_err(|error| CliError::internal(&format!("cannot write {}", path.display()), &error))
    };
    for (name, contents) in FILES {
        let path = dir.join(name);
        if !path.exists() {
            write(&path, contents)?;
        }
    }
    let path = dir.join("consign.toml");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => with_endpoint(&text, endpoint).ok_or_else(|| {
            let message =
                format!("{} has no `endpoint_url`, so the demo cannot name its sandbox there", path.display());
            let help = "write `endpoint_url = \"\"` into its [aws], or give another --dir";
            CliError::new(Exit::Config, message, help)
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => CONFIG.replace("@ENDPOINT@", endpoint),
        Err(error) => return Err(CliError::internal(&format!("cannot read {}", path.display()), &error)),
    };
    write(&path, text.as_bytes())?;
    Ok(path)
}

/// The text with another value of its first `endpoint_url`.
fn with_endpoint(text: &str, endpoint: &str) -> Option<String> {
    let line = text.split_inclusive('\n').find(|line| line.trim_start().starts_with("endpoint_url"))?;
    let (before, rest) = line.split_once('"')?;
    let (_, after) = rest.split_once('"')?;
    Some(text.replacen(line, &format!("{before}\"{endpoint}\"{after}"), 1))
}

/// New Year 2014 in New York, whose interval is the whole of 2013.
fn new_year() -> Instant {
    Utc.with_ymd_and_hms(2014, 1, 1, 5, 0, 0).single().unwrap_or_default()
}

fn sending(config: &Arc<Config>, parts: &Arc<Parts>, share: &str) -> Result<Sending, CliError> {
    let share = wanted::share(config, share)?;
    let slot = wanted::slot(&share, Some(new_year()), false, parts.clock.now(), &OnRecord::default())?;
    let customers = share.to.clone();
    Ok(Sending { config: config.clone(), parts: parts.clone(), slot, customers })
}

/// What happens when the external ID is not the one that the customer's role asks for.
async fn stranger(
    config: &Arc<Config>,
    parts: &Arc<Parts>,
    ledger: &crate::ledger::Ledger,
) -> Result<Report, CliError> {
    let mut config = Config::clone(config);
    let wrong = ExternalId::parse("not-the-agreed-one")
        .map_err(|why| CliError::new(Exit::Internal, format!("the demo's external ID {why}"), ""))?;
    for customer in config.customers.values_mut() {
        if customer.name.as_str() == "jetblue" {
            *customer = Arc::new(Customer { external_id: Some(wrong.clone()), ..Customer::clone(customer) });
        }
    }
    let mut sending = sending(&Arc::new(config), parts, "flights-jsonl")?;
    // Another slot, since this customer already has the first.
    sending.slot.at += chrono::TimeDelta::days(365);
    sending.slot.interval.start = new_year();
    sending.slot.interval.end = sending.slot.at;
    sending.to_buckets(ledger, &Progress::hidden()).await
}

fn introduce(dir: &Path, endpoint: &str, config: &Config) {
    line("An airport-analytics company delivers the flights from New York in 2013 to its");
    line("customers, the airlines. Each gets its own flights, in its own format, in its own");
    line("bucket, written under its own IAM role. S3 and STS are a sandbox on this machine.");
    line("");
    line(&format!("  configuration  {}", dir.join("consign.toml").display()));
    line(&format!("  buckets        {}", dir.join("buckets").display()));
    line(&format!("  S3 and STS     {endpoint}"));
    line("");
    let rows: Vec<_> = config
        .customers
        .values()
        .map(|c| vec![format!("  {}", c.name), c.role_arn.to_string(), format!("s3://{}/{}", c.bucket, c.prefix)])
        .collect();
    output::table(&["  CUSTOMER", "ROLE", "MAY WRITE UNDER"], &rows);
    line("");
}

fn conclude(dir: &Path, reports: &[Report], refused: &Report) {
    line("And with an external ID that is not the one JetBlue agreed on, nothing is written:");
    report::print(refused);
    line("");
    let manifests = reports.iter().flat_map(|report| &report.outcomes).filter_map(|outcome| outcome.manifest.as_ref());
    let (mut objects, mut rows) = (0, 0);
    for manifest in manifests {
        objects += manifest.objects.len() as u64;
        rows += manifest.rows;
    }
    let earlier =
        reports.iter().flat_map(|report| &report.outcomes).filter(|outcome| outcome.earlier.is_some()).count();
    match (objects, earlier) {
        (0, _) => line("Everything was delivered already, and nothing is delivered twice. Look around:"),
        (_, 0) => line(&format!("{} rows in {objects} objects were delivered. Look around:", thousands(rows))),
        _ => line(&format!(
            "{} rows in {objects} objects were delivered; what is there already is not delivered twice. Look around:",
            thousands(rows)
        )),
    }
    line(&format!("  find {} -type f", dir.join("buckets").display()));
    // The configuration takes the sandbox's keys from the environment.
    line(&format!(
        "  export CONSIGN_DEMO_ACCESS_KEY_ID={ACCESS_KEY_ID} CONSIGN_DEMO_SECRET_ACCESS_KEY={SECRET_ACCESS_KEY}"
    ));
    let me = std::env::current_exe().map_or_else(|_| "consign".into(), |path| path.display().to_string());
    line(&format!("  {me} --config {} history", dir.join("consign.toml").display()));
}
