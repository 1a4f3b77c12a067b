//! The plugin host against real components, built from `tests/guests`.

#![cfg(test)]

mod hostile;
mod load;
mod roundtrip;
mod support;
mod views;
