//! `consign plugin new`: a project that builds and passes its tests at once.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::super::Global;
use super::super::output::{self, CliError, Exit, line};
use crate::author::{self, Language, TemplateError};
use crate::domain::{Failure, PluginName};

#[derive(Args)]
pub struct NewArgs {
    /// What the plugin is called: 1 to 63 of `a-z`, `0-9`, `-` and `_`, beginning with a letter.
    name: String,
    /// The language to write it in.
    #[arg(long, value_enum, value_name = "LANGUAGE")]
    lang: Lang,
    /// Where to make the project; a folder of the plugin's name if not said.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Lang {
    /// Fast, and all of the SDK: start here if you have no reason not to.
    Rust,
    /// Slowest to start with, easy to write.
    Python,
    Javascript,
    /// As fast as Rust; for code that is there already.
    C,
}

pub fn new(global: &Global, args: &NewArgs) -> Result<Exit, CliError> {
    let named = PluginName::parse(&args.name);
    let name = named.map_err(|why| CliError::new(Exit::Usage, format!("the name '{}' {why}", args.name), ""))?;
    let language = match args.lang {
        Lang::Rust => Language::Rust,
        Lang::Python => Language::Python,
        Lang::Javascript => Language::JavaScript,
        Lang::C => Language::C,
    };
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(name.as_str()));
    author::create(&name, language, &dir).map_err(|error| {
        let exit = match error {
            TemplateError::Name { .. } => Exit::Usage,
            TemplateError::Taken { .. } => Exit::Failed,
            TemplateError::Write { .. } => Exit::Internal,
        };
        CliError::new(exit, Failure::chain(&error), "")
    })?;
    if global.json {
        output::json(&json!({ "name": name, "language": language.name(), "dir": dir }));
        return Ok(Exit::Done);
    }
    line(&format!("made {} in {}, a format plugin in {}", name, dir.display(), language.name()));
    line("");
    line("It writes PostgreSQL's COPY text format; README.md says what to change. Next:");
    line("");
    line(&format!("  cd {}", dir.display()));
    line("  consign plugin build --install   # gets the tools that are missing, and builds");
    line("  consign plugin test              # runs cases/ and compares what is written");
    Ok(Exit::Done)
}
