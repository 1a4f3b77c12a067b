//! What surrounds the configuration: environment variables, and through them
//! the directories that systemd made. Injected, so that tests have their own.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::domain::{Invalid, Secret};

/// What systemd puts before the name of each file of a folder: the unit has
/// `LoadCredential=consign:/etc/consign/credentials` (systemd.exec(5)).
const OF_THE_FOLDER: &str = "consign_";
/// That folder, which only root can enter.
const FOLDER: &str = "/etc/consign/credentials";

/// A snapshot of environment variables.
#[derive(Clone, PartialEq)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// [`FOLDER`].
    folder: PathBuf,
}

impl Default for Environment {
    fn default() -> Self {
        Self { variables: BTreeMap::new(), folder: FOLDER.into() }
    }
}

impl Environment {
    /// Of this process; variables that are not UTF-8 are left out.
    pub fn of_process() -> Self {
        let pairs = std::env::vars_os();
        Self::from_pairs(pairs.filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))))
    }

    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let variables = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { variables, ..Self::default() }
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
    /// of one of this name, or of one that the shipped unit took from its folder. Where the
    /// variable is not set, which is outside of the unit, of the folder's own file.
    pub(super) fn credential(&self, name: &str) -> Result<Secret, Invalid> {
        let folder = self.folder.display();
        if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
            return Err(Invalid::new(format!(
                "is not the name of a credential; write the name of a file in {folder}, or the one given in `LoadCredential=`"
            )));
        }
        let give = format!(
            "put the secret into {folder}/{name}, or add `LoadCredential={name}:/path/to/file` to the systemd unit"
        );
        let handed = self.variable("CREDENTIALS_DIRECTORY").filter(|directory| !directory.is_empty()).map(Path::new);
        let read = |file: &str| std::fs::read_to_string(handed.unwrap_or(&self.folder).join(file));
        let found = read(name).or_else(|error| match error.kind() {
            ErrorKind::NotFound if handed.is_some() => read(&format!("{OF_THE_FOLDER}{name}")),
            _ => Err(error),
        });
        let error = match found {
            Ok(text) if text.trim().is_empty() => {
                return Err(Invalid::new("is an empty credential; put the secret into its file"));
            }
            Ok(text) => return Ok(Secret::new(text.trim_end_matches(['\r', '\n']))),
            Err(error) => error.kind(),
        };
        Err(Invalid::new(match handed {
            Some(directory) => {
                format!("cannot be read from {} ({error}); {give}, and start again", directory.display())
            }
            None if error == ErrorKind::PermissionDenied => format!(
                "cannot be read from {folder} ({error}); do this as root, who alone may, or set $CREDENTIALS_DIRECTORY to a \
                 directory with a file of this name"
            ),
            None => format!(
                "cannot be read from {folder} ({error}), and $CREDENTIALS_DIRECTORY is not set, as it is by systemd; {give}. What \
                 only a unit can read, as of `LoadCredentialEncrypted=`, a command can in one of its own: `systemd-run --pipe \
                 --wait -p LoadCredentialEncrypted={name}:/path/to/file consign ...`. Elsewhere set the variable to a directory \
                 with a file of this name"
            ),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As at root's shell, where systemd has set nothing.
    #[test]
    fn the_folder_of_the_unit_is_read_where_nothing_was_handed_over() {
        let empty = tempfile::tempdir().unwrap();
        let filled = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config/credentials");
        let of = |folder: &Path, handed: Option<&Path>| {
            let handed = handed.map(|directory| ("CREDENTIALS_DIRECTORY", directory.to_str().unwrap()));
            Environment { folder: folder.to_owned(), ..Environment::from_pairs(handed) }
        };
        let secret = |environment: Environment| environment.credential("aws-secret");
        assert!(secret(of(&filled, None)).is_ok_and(|secret| !secret.reveal().is_empty()));
        assert!(secret(of(empty.path(), Some(&filled))).is_ok());
        assert!(secret(of(&filled, Some(Path::new("")))).is_ok(), "an empty variable is as good as none");
        assert!(of(&filled, None).credential("../credentials/aws-secret").is_err());
        // What was handed over at the start counts, there or not.
        for (environment, is_the_shells) in [(of(empty.path(), None), true), (of(&filled, Some(empty.path())), false)] {
            let put = format!("put the secret into {}/aws-secret", environment.folder.display());
            let why = secret(environment).map(drop).unwrap_err().to_string();
            assert!(why.contains(&put) && why.contains("LoadCredential=aws-secret:"), "{why}");
            for told in ["$CREDENTIALS_DIRECTORY is not set", "-p LoadCredentialEncrypted=aws-secret:"] {
                assert_eq!(why.contains(told), is_the_shells, "{why}");
            }
        }
    }
}
