//! The plugin host against real components, built from `tests/guests`.

#![cfg(test)]

mod bindings;
mod hostile;
mod impostors;
mod load;
mod options;
mod pieces;
mod roundtrip;
pub mod support;
mod views;
mod walled;
