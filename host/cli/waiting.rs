//! A run that the daemon makes, and who waits for the end of it.

use std::cell::Cell;

use super::client::Client;
use super::log::Priority;
use super::output::{self, CliError, Exit, line};
use super::progress::Progress;
use super::{Global, report, send, serve};
use crate::clock::to_the_second;
use crate::daemon::admin::ask::{Ask, Event};
use crate::domain::RunId;
use crate::run::Report;

/// Asks for a run, and shows what comes of it as if it had been made here.
pub async fn run(global: &Global, client: Client, ask: Ask) -> Result<Exit, CliError> {
    let is_waited_for = !matches!(&ask, Ask::Send { wait: false, .. } | Ask::Retry { wait: false, .. });
    let begun: Cell<Option<RunId>> = Cell::new(None);
    let mut progress = Progress::hidden();
    let hear = |event| match event {
        Event::Begun { run, slot, deliveries } => {
            begun.set(Some(run));
            progress = Progress::start(!global.json, &slot.share, deliveries);
        }
        Event::Ended(fared) => progress.done(&fared.customer),
        Event::Waits { customer, due, failure } if !global.json => {
            let due = to_the_second(due);
            output::stderr(Priority::Warning, &format!("{customer}: to be tried again at {due}: {failure}"));
        }
        Event::Waits { .. } | Event::Planned(_) => {}
    };
    let interrupted = serve::told_to_stop()?;
    let made: Report = tokio::select! {
        made = client.ask(ask, None, hear) => made?,
        () = interrupted => return Err(goes_on(begun.get())),
    };
    progress.finish();
    if is_waited_for || made.run.is_none() {
        return Ok(send::show(global, &made));
    }
    match (global.json, made.run) {
        (true, _) => output::json(&made),
        (false, Some(run)) => {
            line(&format!("run {run} has begun; `consign show {run}` tells how it stands"));
            report::left_alone(&made);
        }
        (false, None) => {}
    }
    Ok(report::exit(&made))
}

/// Who stops waiting stops nothing else.
fn goes_on(run: Option<RunId>) -> CliError {
    match run {
        Some(run) => {
            let help = format!("`consign show {run}` tells how it ends, `consign cancel {run}` ends it");
            CliError::new(Exit::Failed, format!("not waited for: run {run} goes on in the daemon"), help)
        }
        None => CliError::new(Exit::Failed, "not waited for", "`consign history` tells whether it has begun"),
    }
}

/// There is no daemon to leave it to.
pub fn nobody() -> CliError {
    CliError::new(Exit::Failed, "no consign runs that could go on with it", "start it, or leave out --detach")
}
