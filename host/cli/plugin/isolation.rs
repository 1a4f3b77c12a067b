//! `consign plugin isolation`: whether the wall around a plugin's process stands here.

use serde::Serialize;

use super::super::Global;
use super::super::output::{self, CliError, Exit, line};
use crate::domain::{Failure, PluginName};
use crate::limits::{Isolation, Limits};
use crate::plugin::{self, Attempt, PluginHost, Wall};

#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    wall: Wall,
    attempts: Vec<Attempt>,
}

pub fn isolation(global: &Global) -> Result<Exit, CliError> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        let help = "processes for plugins need seccomp; see docs/isolation.md for what else they use";
        CliError::new(Exit::Failed, Failure::chain(error), help)
    };
    let cache = tempfile::tempdir().map_err(|error| CliError::internal("cannot make a temporary directory", &error))?;
    let name = PluginName::parse("csv").map_err(|why| CliError::new(Exit::Internal, why.to_string(), ""))?;
    let component = plugin::shipped(name.as_str()).unwrap_or_default();
    let host = PluginHost::new(cache.path()).map_err(|error| failed(&error))?;
    let loaded = host.load_in(Isolation::Process, &name, component, &Limits::default());
    let (wall, attempts) = loaded.map_err(|error| failed(&error))?.try_wall().map_err(|error| failed(&error))?;
    let found = Found { wall, attempts };
    match global.json {
        true => output::json(&found),
        false => found.print(),
    }
    Ok(if found.attempts.iter().all(|attempt| attempt.refused.is_some()) { Exit::Done } else { Exit::Failed })
}

impl Found {
    fn print(&self) {
        let Wall { seccomp, landlock, namespaces } = &self.wall;
        line(&format!("system calls  {}", if *seccomp { "filtered" } else { "NOT filtered" }));
        line(&format!("Landlock      {landlock}"));
        line(&format!("namespaces    {namespaces}"));
        line("");
        for Attempt { what, refused } in &self.attempts {
            let answer = refused.as_ref().map_or("POSSIBLE".to_owned(), |why| format!("refused ({why})"));
            line(&format!("{what:<34}{answer}"));
        }
    }
}
