//! `consign plugin inspect`: what a component is, before it is configured.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::super::Global;
use super::super::output::{self, CliError, Exit, bytes, line, rows};
use super::workbench;
use crate::author::Subject;
use crate::plugin;

#[derive(Args)]
pub struct InspectArgs {
    /// A component's file, a plugin's project, or the name of a shipped plugin, such as csv.
    file: PathBuf,
}

const CONTRACT: &str = "consign:format@1";

#[derive(Serialize)]
struct Inspection {
    contract: String,
    name: String,
    version: String,
    sha256: String,
    bytes: u64,
    extension: String,
    media_type: String,
    options_schema: serde_json::Value,
    imports: Vec<Import>,
    exports: Vec<String>,
}

/// What it asks for, and gets.
#[derive(Serialize)]
struct Import {
    name: String,
    gets: &'static str,
}

pub fn inspect(global: &Global, args: &InspectArgs) -> Result<Exit, CliError> {
    let inspection = inspected(&workbench::subject(&args.file)?)?;
    if global.json {
        output::json(&inspection);
    } else {
        inspection.print();
    }
    Ok(Exit::Done)
}

fn inspected(subject: &Subject) -> Result<Inspection, CliError> {
    let loaded = workbench::look(subject)?;
    let said = loaded.description();
    let import = |name: String| {
        let gets = plugin::gets(&name).unwrap_or_default();
        Import { name, gets }
    };
    let exports = loaded.exports().to_vec();
    // The version that it was built for, if the whole of it can be told.
    let built_for = exports.iter().find_map(|name| name.strip_prefix("consign:format/formatter@"));
    Ok(Inspection {
        contract: built_for.map_or_else(|| CONTRACT.to_owned(), |version| format!("consign:format@{version}")),
        name: said.name.clone(),
        version: said.version.clone(),
        sha256: loaded.digest().to_owned(),
        bytes: subject.bytes.len() as u64,
        extension: said.extension.clone(),
        media_type: said.media_type.clone(),
        options_schema: serde_json::from_str(&said.options_schema).unwrap_or_default(),
        imports: loaded.imports().iter().cloned().map(import).collect(),
        exports,
    })
}

impl Inspection {
    fn print(&self) {
        line(&format!("name        {} {}", self.name, self.version));
        line(&format!("contract    {}", self.contract));
        line(&format!("sha256      {}", self.sha256));
        line(&format!("size        {}", bytes(self.bytes)));
        line(&format!("writes      .{}  {}", self.extension, self.media_type));
        line(&format!("exports     {}", self.exports.join(", ")));
        line("asks for");
        let row = |import: &Import| vec![format!("  {}", import.name), import.gets.to_owned()];
        rows(&self.imports.iter().map(row).collect::<Vec<_>>());
        line("  and gets no files, no network, no environment, no real clock");
        let options = plugin::described(&self.options_schema.to_string());
        if options.is_empty() {
            return line("options     none");
        }
        line("options");
        for option in options {
            let takes = if option.takes.is_empty() { String::new() } else { format!("  {}", option.takes) };
            let default = option.default.map(|default| format!("; default {default}")).unwrap_or_default();
            line(&format!("  {}{takes}{default}", option.name));
            wrapped(&option.doc).iter().for_each(|text| line(&format!("      {text}")));
        }
    }
}

/// Lines of at most about 90 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + word.chars().count() < 90) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}
