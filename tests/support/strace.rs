//! What a process asks of the system, seen by strace (Debian: strace).

use std::process::Command;

use super::needs::not_tested;

/// False, and a word, where it is not installed or may not trace.
pub fn may_trace() -> bool {
    let tried = Command::new("strace").args(["-D", "-qq", "-o", "/dev/null", "true"]).status();
    let may = tried.is_ok_and(|status| status.success());
    if !may {
        not_tested("strace is not installed, or may not trace (on Debian, apt-get install strace)");
    }
    may
}
