//! Delivery against a scripted server at the wire, against ministack, and into a
//! directory. The AWS SDK is the real one everywhere.

mod answers;
mod compression;
mod directory;
mod enforced;
mod faults;
mod first;
mod layers;
mod markers;
mod probed;
mod protocol;
mod recorded;
mod session;
mod spilled;
mod strays;
mod wire;
pub mod world;
