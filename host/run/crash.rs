//! Places where a test can have the process die, as it would of a power cut, or
//! the task, as it would of a fault in consign.

/// Ends the process when `CONSIGN_CRASH_AT` names this place, without unwinding
/// or flushing anything; panics when `CONSIGN_PANIC_AT` does. Compiled into builds
/// with debug assertions only.
#[expect(clippy::panic, reason = "a test asks for it")]
pub(super) fn point(name: &str) {
    let is_wanted = |variable| std::env::var_os(variable).is_some_and(|wanted| wanted == name);
    if !cfg!(debug_assertions) {
        return;
    }
    if is_wanted("CONSIGN_CRASH_AT") {
        std::process::abort();
    }
    if is_wanted("CONSIGN_PANIC_AT") {
        panic!("CONSIGN_PANIC_AT names {name}");
    }
}
