//! `consign completions` and `consign man`: the command line as its users' shells
//! and manuals know it. The package carries both.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::output::{CliError, Exit};

#[derive(Args)]
pub struct CompletionsArgs {
    /// Whose completions.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Args)]
pub struct ManArgs {
    /// A directory; it is made when it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub fn completions(args: &CompletionsArgs) -> Result<Exit, CliError> {
    // In memory first, because the library panics when it cannot write.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "consign", &mut text);
    match std::io::stdout().lock().write_all(&text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::internal("cannot write to stdout", &error))
        }
        _ => Ok(Exit::Done),
    }
}

pub fn man(args: &ManArgs) -> Result<Exit, CliError> {
    std::fs::create_dir_all(&args.out)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.out))
        .map_err(|error| CliError::internal(&format!("cannot write to {}", args.out.display()), &error))?;
    Ok(Exit::Done)
}
