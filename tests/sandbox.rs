//! The sandbox in this process, driven by the code that delivers for real.

#![cfg(test)]

mod delivered;
mod file;
mod preflight;
pub mod raw;
mod refused;
mod served;
pub mod session;
mod world;
