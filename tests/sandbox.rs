//! The sandbox in this process, driven by the code that delivers for real.

#![cfg(test)]

mod delivered;
mod raw;
mod refused;
mod session;
mod world;
