//! What some tests need of the machine, and a plain word where it is not there.

use std::io::Write as _;

/// Says that a test goes without, and why. Where everything must be tested
/// (`CONSIGN_MUST_TEST=1`, as in `.ci/run`) the test fails instead.
pub fn not_tested(why: &str) {
    let must = std::env::var("CONSIGN_MUST_TEST").is_ok_and(|must| must == "1");
    assert!(!must, "not tested: {why}; and CONSIGN_MUST_TEST=1 says that everything must be");
    // Shown also where the output of tests that pass is not.
    let _ = writeln!(std::io::stderr(), "not tested: {why}");
}
