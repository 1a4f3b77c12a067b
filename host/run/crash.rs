//! Places where a test can have the process die, as it would of a power cut.

/// Ends the process when `CONSIGN_CRASH_AT` names this place, without unwinding
/// or flushing anything. Compiled into builds with debug assertions only.
pub(super) fn point(name: &str) {
    if cfg!(debug_assertions) && std::env::var_os("CONSIGN_CRASH_AT").is_some_and(|wanted| wanted == name) {
        std::process::abort();
    }
}
