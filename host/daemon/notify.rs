//! What the service manager (systemd) is told: ready, alive, stopping, and in
//! words what the daemon does.
//!
//! Once it is ready only the daemon's own loop speaks here, as it goes round. A loop
//! that hangs says nothing, and the manager's watchdog ends the process.

use std::fmt;
use std::sync::mpsc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time;

use crate::clock::{Instant, to_the_second};
use crate::domain::{CustomerName, PluginName};

/// The manager hears the same kind of thing no more often than this.
const EVERY: Duration = Duration::from_millis(500);

/// While deliveries finish, the manager waits this much longer each time it hears
/// of progress. So a stop may last for `drain_timeout` and this.
const EXTENSION: Duration = Duration::from_secs(15);

/// While it starts, consign asks this often for this much more time, and for no
/// longer than this in all: a start that hangs is then ended after all.
const STARTING_EVERY: Duration = Duration::from_secs(5);
const STARTING_EXTENSION: Duration = Duration::from_secs(30);
const STARTING_MAX: Duration = Duration::from_secs(3600);

/// Asks the manager for time until it is dropped. A thread of its own, because what
/// takes long at a start (a large ledger is read, plugins are compiled) blocks.
pub struct Starting {
    /// Ends the thread when it is dropped.
    _goes_on: Option<mpsc::Sender<()>>,
}

impl Starting {
    /// `doing` is what takes the time, in words.
    pub fn begin(doing: &str) -> Self {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Self { _goes_on: None };
        }
        notify(&[NotifyState::Status(&format!("starting: {doing}"))]);
        let (goes_on, ends) = mpsc::channel::<()>();
        let ask = move || {
            let began = time::Instant::now();
            while began.elapsed() < STARTING_MAX {
                notify(&[NotifyState::ExtendTimeoutUsec(micros(STARTING_EXTENSION))]);
                if ends.recv_timeout(STARTING_EVERY) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
            }
        };
        // Without the thread the start has the time that the unit gives it.
        let started = std::thread::Builder::new().name("starting".to_owned()).spawn(ask);
        if let Err(error) = started {
            tracing::debug!(error = %error, "systemd is not asked for more time to start");
        }
        Self { _goes_on: Some(goes_on) }
    }
}

/// The service manager that started this process, if one did.
pub(super) struct Manager {
    listens: bool,
    /// It ends the process when it hears nothing for a while.
    watches: bool,
    /// When it last heard of progress.
    progress: Option<time::Instant>,
    /// When it was last due to hear the status, and which it knows.
    told: Option<time::Instant>,
    status: String,
}

impl Manager {
    pub fn of_process() -> Self {
        let listens = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watches = listens && sd_notify::watchdog_enabled().is_some();
        Self { listens, watches, progress: None, told: None, status: String::new() }
    }

    #[cfg(test)]
    pub fn watching() -> Self {
        Self { listens: false, watches: true, progress: None, told: None, status: String::new() }
    }

    /// It was told of progress.
    #[cfg(test)]
    pub fn has_heard(&self) -> bool {
        self.progress.is_some()
    }

    pub fn ready(&mut self, status: &Status) {
        self.say(&[NotifyState::Ready], &status.to_string());
    }

    /// A configuration is being read; [`Manager::ready`] says that this is over.
    pub fn reloading(&mut self) {
        let mut states = vec![NotifyState::Reloading];
        // What `Type=notify-reload` asks for.
        states.extend(NotifyState::monotonic_usec_now().ok());
        if self.listens {
            notify(&states);
        }
    }

    /// The loop has gone round, or some way.
    pub fn progress(&mut self) {
        if self.watches && is_due(self.progress) {
            self.progress = Some(time::Instant::now());
            notify(&[NotifyState::Watchdog]);
        }
    }

    pub fn wants_status(&self) -> bool {
        self.listens && is_due(self.told)
    }

    pub fn status(&mut self, status: &Status) {
        self.told = Some(time::Instant::now());
        self.say(&[], &status.to_string());
    }

    pub fn stopping(&mut self) {
        self.say(&[NotifyState::Stopping], "stopping");
    }

    /// Deliveries are still finishing.
    pub fn draining(&mut self, deliveries: usize, left: Duration) {
        self.progress();
        if self.wants_status() {
            self.told = Some(time::Instant::now());
            let status = format!("stopping: {deliveries} at work, cut off in {:.0} s", left.as_secs_f64().ceil());
            self.say(&[NotifyState::ExtendTimeoutUsec(micros(EXTENSION))], &status);
        }
    }

    fn say(&mut self, states: &[NotifyState<'_>], status: &str) {
        let mut states = states.to_vec();
        if self.status != status {
            states.push(NotifyState::Status(status));
            status.clone_into(&mut self.status);
        }
        if self.listens && !states.is_empty() {
            notify(&states);
        }
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

fn is_due(last: Option<time::Instant>) -> bool {
    last.is_none_or(|last| last.elapsed() >= EVERY)
}

/// Why the daemon ended or could not start, for those who look at the service afterwards.
pub fn failed(why: &str) {
    notify(&[NotifyState::Status(&why.replace(char::is_control, " "))]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(error = %error, "systemd was not told");
    }
}

/// What the daemon does, in one line.
pub(super) struct Status {
    /// Why the configuration that was read last does not run.
    pub refused: Option<String>,
    /// Why the ledger cannot be written.
    pub unable: Option<&'static str>,
    /// Nothing of these is started.
    pub quarantined: Vec<PluginName>,
    /// Customers to whom nothing is delivered for now.
    pub unready: Vec<CustomerName>,
    pub shares: usize,
    pub next: Option<Instant>,
    pub at_work: usize,
    /// Begun runs' deliveries that have no place yet, or wait for their plugin or customer.
    pub waiting: usize,
    /// Slots that are due, which the ledger has and nobody has begun.
    pub behind: u64,
    /// Failed, and to be tried again later.
    pub again: usize,
    /// Since the start.
    pub delivered: u64,
    pub failed: u64,
    /// Slots that nobody got, or not everybody.
    pub left_out: u64,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = self.unable {
            write!(f, "{why}, nothing new begins; ")?;
        }
        if let Some(why) = &self.refused {
            write!(f, "the new configuration is refused ({why}) and the old one runs on; ")?;
        }
        match &self.quarantined[..] {
            [] => {}
            [plugin] => write!(f, "plugin {plugin} is in quarantine; ")?,
            several => write!(f, "{} plugins are in quarantine; ", several.len())?,
        }
        match &self.unready[..] {
            [] => {}
            [customer] => write!(f, "customer {customer} is not ready; ")?,
            several => write!(f, "{} customers are not ready; ", several.len())?,
        }
        let Self { shares, at_work, waiting, behind, again, delivered, failed, left_out, .. } = self;
        write!(f, "{shares} {}", if *shares == 1 { "share" } else { "shares" })?;
        match self.next {
            Some(next) => write!(f, ", next slot {}", to_the_second(next))?,
            None => f.write_str(", no slot to come")?,
        }
        write!(f, "; {at_work} at work, {waiting} waiting")?;
        if *behind > 0 {
            write!(f, " and {behind} {} behind", if *behind == 1 { "slot" } else { "slots" })?;
        }
        write!(f, ", {again} to be tried again")?;
        write!(f, "; since the start {delivered} delivered, {failed} failed, {left_out} left out")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_says_first_what_is_wrong() {
        let at = "2026-03-01T06:00:00Z".parse().unwrap();
        let (shares, at_work, waiting, again, next, unable) = (1, 2, 3, 4, Some(at), None);
        let (delivered, failed, left_out) = (5, 6, 7);
        let (refused, behind, quarantined, unready) = (None, 0, Vec::new(), Vec::new());
        let status = Status {
            refused,
            unable,
            quarantined,
            unready,
            shares,
            next,
            at_work,
            waiting,
            behind,
            again,
            delivered,
            failed,
            left_out,
        };
        let good = "1 share, next slot 2026-03-01T06:00:00Z; 2 at work, 3 waiting, 4 to be tried again; \
                    since the start 5 delivered, 6 failed, 7 left out";
        assert_eq!(status.to_string(), good);
        let full = Status { unable: Some("the disk of the ledger is full"), ..status };
        assert_eq!(full.to_string(), format!("the disk of the ledger is full, nothing new begins; {good}"));
        let halted = Status { quarantined: vec![PluginName::parse("acme-format").unwrap()], unable: None, ..full };
        assert_eq!(halted.to_string(), format!("plugin acme-format is in quarantine; {good}"));
        let acme = CustomerName::parse("acme").unwrap();
        let unready = Status { quarantined: Vec::new(), unready: vec![acme.clone()], ..halted };
        assert_eq!(unready.to_string(), format!("customer acme is not ready; {good}"));
        let unready = Status { unready: vec![acme.clone(), acme], ..unready };
        assert_eq!(unready.to_string(), format!("2 customers are not ready; {good}"));
        let full = Status { behind: 40, unready: Vec::new(), ..unready };
        let good = good.replace("3 waiting", "3 waiting and 40 slots behind");
        let refused = Status { refused: Some("1 error in the configuration".into()), unable: None, ..full };
        let why = "the new configuration is refused (1 error in the configuration) and the old one runs on";
        assert_eq!(refused.to_string(), format!("{why}; {good}"));
    }
}
