//! What comes from a plugin's process: one that has been taken over may send anything,
//! and the daemon ends that run and nothing else.
#![no_main]

use consign::plugin::heard_all;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Each frame is at least its header.
    assert!(heard_all(bytes) <= bytes.len() / 5);
});
