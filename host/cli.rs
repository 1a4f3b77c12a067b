//! The command line: parse, call, print, exit code. Nothing is decided here.

mod backfill;
mod cancel;
mod check;
mod client;
mod customer;
mod demo;
mod history;
mod ledger;
mod log;
mod manual;
mod next;
mod output;
mod pause;
mod plugin;
mod preflight;
mod progress;
mod reload;
mod report;
mod retry;
mod sandbox;
mod send;
mod serve;
mod settle;
mod setup;
mod status;
mod waiting;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use chrono_tz::IANA_TZDB_VERSION;
use clap::{Args, Parser, Subcommand};

pub use output::Exit;
use output::Tell;

/// Deliver datasets and assets into your customers' S3 buckets, on a schedule.
///
/// consign reads shares from a TOML file: which dataset goes to which
/// customers, when, and in which format. For each firing it reads the data,
/// formats it in a sandboxed WebAssembly plugin, assumes the customer's IAM
/// role and writes the objects under that customer's prefix, the manifest last.
///
/// Start with `consign demo`: it needs no account and no configuration.
#[derive(Parser)]
#[command(
    name = "consign",
    version,
    long_version = VERSION.as_str(),
    propagate_version = true,
    after_help = EXIT_CODES
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What `--version` says, and `-V` only the first line of: schedules depend on the zones.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{}\ntime zones {IANA_TZDB_VERSION}", env!("CARGO_PKG_VERSION")));

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  at least one delivery failed, a customer is not ready, something is wrong
     (`status --check`), the thing asked for (share, customer, run, component,
     running daemon) is not there, a component is refused, or a case or check
     of a plugin failed
  2  the command line is wrong
  3  the configuration (or the sandbox's file) is missing or wrong; every error
     is printed
  4  the ledger cannot be used: held by another process, corrupt, no room; its
     database refuses, does not answer, or has given the work to another consign
  5  consign itself or its machine failed: files, sockets, memory, output that
     cannot be written";

#[derive(Args)]
struct Global {
    /// The configuration file.
    #[arg(
        short,
        long,
        global = true,
        env = "CONSIGN_CONFIG",
        default_value = "/etc/consign/consign.toml",
        value_name = "FILE"
    )]
    config: PathBuf,

    /// Where the running daemon listens, if that is not `consign.sock` in the configuration's `state_dir`.
    #[arg(long, global = true, env = "CONSIGN_SOCKET", value_name = "FILE")]
    socket: Option<PathBuf>,

    /// Print JSON for machines instead of text for people; `run` logs JSON.
    ///
    /// What fails is told on stdout as `{"error": {"exit", "message", "help",
    /// "problems", "omitted"}}`.
    #[arg(long, global = true)]
    json: bool,

    /// What to log to stderr: `error`, `warn`, `info`, `debug`, or tracing directives.
    #[arg(long, global = true, env = "CONSIGN_LOG", value_name = "FILTER")]
    log: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Check the configuration, everything that can be checked without network.
    ///
    /// Parses the files, plans every query, asks every plugin about its options
    /// and prints when each share fires next. All errors come at once.
    Check(check::CheckArgs),
    /// Try whether customers' roles and buckets would take a delivery, leaving nothing behind.
    ///
    /// Assumes each role, with its external ID and without, and begins and aborts
    /// uploads in the prefix and outside of it. What is wrong is told with its
    /// remedy, ready to be forwarded. Works beside a running daemon.
    Preflight(preflight::PreflightArgs),
    /// Run one share now and wait for it; the running daemon does it if there is one.
    ///
    /// The slot is the share's latest firing, or `--at`. A customer who already
    /// has that slot is left alone: sending twice delivers once.
    Send(send::SendArgs),
    /// Run the daemon: deliver every share on its schedule until told to stop.
    ///
    /// SIGHUP has it read its configuration again, as `consign reload` does.
    Run,
    /// Tell what the daemon does: what is wrong, what is at work, what is to come.
    ///
    /// Without a daemon, what its ledger knows; then it ends with 1.
    Status(status::StatusArgs),
    /// Have the running daemon read its configuration again.
    ///
    /// All of it is checked, as `check` does, while deliveries go on. One with an
    /// error is not taken, and the old one runs on. What is at work ends under the
    /// configuration that it began with.
    ///
    /// Nor is one that has no share any more, or not half of the shares or customers
    /// that the running one has: files may be cut off. With `--remove` it is.
    Reload(reload::ReloadArgs),
    /// Try again what failed of a run, as a new run of its slot.
    ///
    /// What waits for its next try is tried now. A customer who has the slot is
    /// left alone.
    Retry(retry::RetryArgs),
    /// End the deliveries of a run that are not stored yet.
    ///
    /// Their uploads are aborted, and they are on record as failed. What is stored
    /// whole becomes visible all the same.
    Cancel(cancel::CancelArgs),
    /// Say what became of a delivery whose manifest is in doubt.
    ///
    /// Only for who has looked into the bucket, or asked the customer: consign
    /// itself may not read there, and otherwise asks until S3 answers. What waits
    /// for the delivery goes on at once.
    Settle(settle::SettleArgs),
    /// List the coming slots of a share, with what each covers.
    ///
    /// Slots on days on which clocks are changed say so. The rules are in
    /// docs/calendar.md.
    Next(next::NextArgs),
    /// Leave out the slots of a share until `resume`.
    ///
    /// What is being delivered goes on, and so do `send` and `backfill`. Each slot
    /// that is left out is on record: `consign history --skipped`.
    Pause(pause::PauseArgs),
    /// Go on with a share that was paused, from its next slot on.
    ///
    /// What was left out stays so; `backfill` delivers it.
    Resume(pause::PauseArgs),
    /// Plan past slots of a share, for whoever has not got them.
    ///
    /// The daemon delivers them one after another, behind what is on time. It need
    /// not run to be told. A
    /// customer who has a slot is left alone.
    Backfill(backfill::BackfillArgs),
    /// List past runs, newest first.
    History(history::HistoryArgs),
    /// Show one run: its deliveries, attempts, objects and failures.
    Show(history::ShowArgs),
    /// Look after the ledger: check it, copy it, restore it, forget what is old.
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Take on customers: profiles, external IDs, and what a customer has to set up.
    #[command(subcommand)]
    Customer(customer::CustomerCommand),
    /// Deliver a real dataset to five airlines, on this machine alone.
    Demo(demo::DemoArgs),
    /// Serve S3 and STS on 127.0.0.1, to try a configuration without an account.
    Sandbox(sandbox::SandboxArgs),
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Work with format plugins.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Print a shell's completions of this command line.
    Completions(manual::CompletionsArgs),
    /// Write the manual pages, one for each command.
    #[command(hide = true)]
    Man(manual::ManArgs),
}

/// Parses the arguments of this process, does what they say, and reports.
pub fn main() -> ExitCode {
    if let Some(code) = worker::worker() {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refused) => return misused(&refused),
    };
    let json_log = cli.global.json && matches!(cli.command, Command::Run);
    log::start(cli.global.log.as_deref(), default_filter(&cli.command), json_log);
    let ended = dispatch(&cli);
    if let Err(error) = &ended {
        let to = match (cli.global.json, json_log) {
            (_, true) => Tell::JsonLog,
            (true, _) => Tell::Machines,
            _ => Tell::People,
        };
        output::error(error, to);
    }
    match output::arrived() {
        Ok(()) => ended.unwrap_or_else(|error| error.exit).code(),
        Err(lost) => {
            // Where it should have gone, it cannot go.
            output::error(&lost, Tell::People);
            lost.exit.code()
        }
    }
}

/// `--help` and `--version` come here too, and are no failure.
fn misused(refused: &clap::Error) -> ExitCode {
    let has = |wanted: &str| std::env::args_os().any(|argument| argument == wanted);
    if !refused.use_stderr() {
        refused.exit();
    }
    if !has("--json") {
        // With colours for a terminal, with priorities for the journal.
        if output::on_terminal() {
            refused.exit();
        }
        output::stderr(log::Priority::Error, refused.to_string().trim_end());
        return Exit::Usage.code();
    }
    let text = refused.to_string();
    let (message, help) = text.split_once("\n\n").unwrap_or((&text, ""));
    let message = message.trim_start_matches("error: ").trim();
    let to = if has("run") { Tell::JsonLog } else { Tell::Machines };
    output::error(&output::CliError::new(Exit::Usage, message, help.trim()), to);
    Exit::Usage.code()
}

/// The daemon tells what it does; the other commands speak through their output.
fn default_filter(command: &Command) -> &'static str {
    match command {
        // The clock's library logs each step of its own start.
        Command::Run => "info,tokio_cron_scheduler=warn",
        _ => "error",
    }
}

fn dispatch(cli: &Cli) -> Result<Exit, output::CliError> {
    let global = &cli.global;
    match &cli.command {
        Command::Check(args) => setup::block_on(check::check(global, args)),
        Command::Preflight(args) => setup::block_on(preflight::preflight(global, args)),
        Command::Send(args) => setup::block_on(send::send(global, args)),
        Command::Run => setup::block_on(serve::serve(global)),
        Command::Status(args) => setup::block_on(status::status(global, args)),
        Command::Reload(args) => setup::block_on(reload::reload(global, args)),
        Command::Retry(args) => setup::block_on(retry::retry(global, args)),
        Command::Cancel(args) => setup::block_on(cancel::cancel(global, args)),
        Command::Settle(args) => setup::block_on(settle::settle(global, args)),
        Command::Next(args) => setup::block_on(next::next(global, args)),
        Command::Pause(args) => setup::block_on(pause::pause(global, args)),
        Command::Resume(args) => setup::block_on(pause::resume(global, args)),
        Command::Backfill(args) => setup::block_on(backfill::backfill(global, args)),
        Command::History(args) => setup::block_on(history::history(global, args)),
        Command::Show(args) => setup::block_on(history::show(global, args)),
        Command::Ledger(command) => setup::block_on(ledger::ledger(global, command)),
        Command::Customer(command) => customer::customer(global, command),
        Command::Demo(args) => setup::block_on(demo::demo(global, args)),
        Command::Sandbox(args) => setup::block_on(sandbox::sandbox(global, args)),
        Command::Schema => {
            output::json(&crate::config::schema());
            Ok(Exit::Done)
        }
        Command::Plugin(command) => plugin::plugin(global, command),
        Command::Completions(args) => manual::completions(args),
        Command::Man(args) => manual::man(args),
    }
}
