//! The binary: parse, call, print the error chain, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    consign::cli::main()
}
