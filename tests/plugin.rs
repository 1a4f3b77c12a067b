//! The plugin host against real components, built from `tests/guests`.

#![cfg(test)]

mod bindings;
mod hostile;
mod load;
mod options;
mod roundtrip;
pub mod support;
mod views;
mod walled;
