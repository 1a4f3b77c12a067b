//! What surrounds the configuration: environment variables, and through them
//! the directories that systemd made. Injected, so that tests have their own.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::domain::{Invalid, Secret};

/// What systemd puts before the name of each file of a folder: the unit has
/// `LoadCredential=consign:/etc/consign/credentials` (systemd.exec(5)).
const OF_THE_FOLDER: &str = "consign_";

/// A snapshot of environment variables.
#[derive(Clone, Default, PartialEq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
}

impl Environment {
    /// Of this process; variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let pairs = std::env::vars_os();
        Self::from_pairs(pairs.filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))))
    }

    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self { variables: pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect() }
    }

    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// `$STATE_DIRECTORY` or `$CACHE_DIRECTORY`: the first of those that the unit asked for (systemd.exec(5)).
    pub(super) fn directory(&self, variable: &str) -> Option<PathBuf> {
        let first = self.variable(variable)?.split(':').next()?;
        (!first.is_empty()).then(|| PathBuf::from(first))
    }

    /// Where docker and its like keep logins: `$DOCKER_CONFIG`, or else `~/.docker`.
    pub(crate) fn docker_dir(&self) -> Option<PathBuf> {
        let set = |name: &str| self.variable(name).filter(|value| !value.is_empty());
        set("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(Path::new(set("HOME")?).join(".docker")))
    }

    /// The value of a variable that holds a secret.
    pub(super) fn secret_variable(&self, name: &str) -> Result<Secret, Invalid> {
        match self.variable(name) {
            Some(text) if !text.trim().is_empty() => Ok(Secret::new(text)),
            Some(_) => Err(Invalid::new("is an empty environment variable; give it its value")),
            None => Err(Invalid::new(
                "is not set in the environment; set it where consign is started (`EnvironmentFile=` in a systemd unit)",
            )),
        }
    }

    /// The content of a file in `$CREDENTIALS_DIRECTORY`, without the newline at its end:
    /// of one of this name, or of one that the shipped unit took from its folder.
    pub(super) fn credential(&self, name: &str) -> Result<Secret, Invalid> {
        if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
            return Err(Invalid::new(
                "is not the name of a credential; write the name of a file in /etc/consign/credentials, or the one \
                 given in `LoadCredential=`",
            ));
        }
        let give = format!(
            "put the secret into /etc/consign/credentials/{name}, or add `LoadCredential={name}:/path/to/file` to the \
             systemd unit"
        );
        let Some(directory) = self.variable("CREDENTIALS_DIRECTORY") else {
            return Err(Invalid::new(format!(
                "cannot be read, because $CREDENTIALS_DIRECTORY is not set, as it is by systemd; {give}; elsewhere set \
                 the variable to a directory with a file of this name"
            )));
        };
        let read = |file: &str| std::fs::read_to_string(Path::new(directory).join(file));
        let found = read(name).or_else(|error| match error.kind() {
            ErrorKind::NotFound => read(&format!("{OF_THE_FOLDER}{name}")),
            _ => Err(error),
        });
        match found {
            Ok(text) if text.trim().is_empty() => {
                Err(Invalid::new("is an empty credential; put the secret into its file"))
            }
            Ok(text) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']))),
            Err(error) => Err(Invalid::new(format!(
                "cannot be read from {directory} ({}); {give}, and start again",
                error.kind()
            ))),
        }
    }
}
