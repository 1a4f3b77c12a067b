//! The other end of the daemon's socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Global;
use super::output::{CliError, Exit};
use crate::config::{Config, Environment};
use crate::daemon::admin::ask::{Ask, Event, Request, Said, VERSION};
use crate::daemon::admin::socket;
use crate::domain::Refused;

/// How long the daemon may take with what takes no time.
pub const AT_ONCE: Option<Duration> = Some(Duration::from_secs(30));

/// A daemon that runs.
pub struct Client(BufReader<UnixStream>);

impl Client {
    /// None when no daemon runs with the configuration's state directory.
    pub async fn connect(global: &Global) -> Result<Option<Self>, CliError> {
        let path = path(global)?;
        match socket::connect(&path).await {
            Ok(None) if global.socket.is_some() => Err(nobody(global, &path)),
            Ok(stream) => Ok(stream.map(|stream| Self(BufReader::new(stream)))),
            Err(error) => {
                let what = format!("cannot reach consign at {}", path.display());
                let mut failed = CliError::internal(&what, &error);
                if error.kind() == std::io::ErrorKind::PermissionDenied {
                    failed.help = "only root and the user that runs consign may ask it: use sudo".into();
                }
                Err(failed)
            }
        }
    }

    /// The same for who has nothing to do without one.
    pub async fn needed(global: &Global) -> Result<Self, CliError> {
        match Self::connect(global).await? {
            Some(client) => Ok(client),
            None => Err(nobody(global, &path(global)?)),
        }
    }

    /// Asks, hears what happens on the way, and returns the answer. Each line of it
    /// may take `patience`; None for as long as the daemon lives.
    pub async fn ask<T: DeserializeOwned>(
        mut self,
        ask: Ask,
        patience: Option<Duration>,
        mut hear: impl FnMut(Event),
    ) -> Result<T, CliError> {
        let request = Request { version: VERSION, consign: env!("CARGO_PKG_VERSION").to_owned(), ask };
        let mut line = serde_json::to_vec(&request).map_err(|error| CliError::internal("cannot ask", &error))?;
        line.push(b'\n');
        // It may answer without having read all of it, and says why.
        let _ = self.0.get_mut().write_all(&line).await;
        loop {
            match self.next(patience).await? {
                Said::Event(event) => hear(event),
                Said::Ok(answer) => return serde_json::from_value(answer).map_err(|error| strange(&error)),
                Said::Error(refused) => return Err(refused.into()),
            }
        }
    }

    async fn next(&mut self, patience: Option<Duration>) -> Result<Said, CliError> {
        let mut line = String::new();
        let reading = self.0.read_line(&mut line);
        let read = match patience {
            None => reading.await,
            Some(patience) => timeout(patience, reading).await.map_err(|_| {
                let message = format!("consign runs, but has not answered within {} s", patience.as_secs());
                CliError::new(Exit::Internal, message, "its log may say why: journalctl -u consign")
            })?,
        };
        match read {
            Ok(0) => {
                let help = "what it had begun is in its ledger, and its next start goes on with it";
                Err(CliError::new(Exit::Internal, "consign ended before it answered", help))
            }
            Ok(_) => serde_json::from_str(&line).map_err(|error| strange(&error)),
            Err(error) => Err(CliError::internal("cannot hear consign", &error)),
        }
    }
}

fn path(global: &Global) -> Result<PathBuf, CliError> {
    match &global.socket {
        Some(path) => Ok(path.clone()),
        None => Ok(socket::path(&Config::state_dir(&global.config, &Environment::of_process())?)),
    }
}

fn nobody(global: &Global, path: &Path) -> CliError {
    let message = format!("no consign listens at {}", path.display());
    let help = match (&global.socket, global.config.exists()) {
        (None, false) => format!("there is no {}: name its configuration with --config", global.config.display()),
        (None, true) => "start it, or name its configuration with --config".to_owned(),
        (Some(_), _) => "start it; without --socket its place follows from its configuration".to_owned(),
    };
    CliError::new(Exit::Failed, message, help)
}

fn strange(error: &serde_json::Error) -> CliError {
    let message = format!("consign's answer is not understood: {error}");
    CliError::new(Exit::Internal, message, "restart consign after an upgrade, or ask with the one that runs")
}

impl From<Refused> for CliError {
    fn from(refused: Refused) -> Self {
        use crate::domain::Blame;
        let exit = match refused.blame {
            Blame::Request => Exit::Failed,
            Blame::Config => Exit::Config,
            Blame::Ledger => Exit::Ledger,
            Blame::Machine => Exit::Internal,
        };
        let Refused { message, help, problems, omitted, text, .. } = refused;
        Self { problems, omitted, text, ..Self::new(exit, message, help) }
    }
}
