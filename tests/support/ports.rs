//! Ports for whoever is told where to listen, or comes back to where it was. The kernel gives none of
//! them to a process that asks for any port, nor to a connection, so that nobody else has it meanwhile.

use std::net::TcpListener;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below `ip_local_port_range`, as Linux has it.
const PORTS: Range<u16> = 20_000..32_000;

/// One at which nobody listens, and that no other test of this process is given.
pub fn free() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let all = u32::from(PORTS.end - PORTS.start);
    // Tests of another checkout at the same time begin elsewhere.
    let first = std::process::id().wrapping_mul(389) % all;
    for _ in 0..all {
        let number = (first + GIVEN.fetch_add(1, Ordering::Relaxed)) % all;
        let port = PORTS.start + u16::try_from(number).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}

/// The same, as an address of this machine.
pub fn address() -> String {
    format!("127.0.0.1:{}", free())
}
