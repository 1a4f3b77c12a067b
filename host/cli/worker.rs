//! `consign plugin-worker`: a process that the daemon starts for a plugin. Nobody
//! else has a use for it, so it is in no manual; and it is told apart before all else,
//! because it is to have and to do as little as possible.

use std::io::Write as _;
use std::process::ExitCode;

use crate::plugin::Purpose;

pub fn worker() -> Option<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next()? != crate::plugin::COMMAND {
        return None;
    }
    let stack_bytes = arguments.next()?.parse().ok()?;
    let purpose = Purpose::parse(arguments.next().as_deref())?;
    match crate::plugin::serve(stack_bytes, purpose) {
        Ok(()) => Some(ExitCode::SUCCESS),
        Err(error) => {
            // Its stderr goes to the daemon, which tells it with the failure.
            let _ = writeln!(std::io::stderr(), "{error}");
            Some(ExitCode::FAILURE)
        }
    }
}
