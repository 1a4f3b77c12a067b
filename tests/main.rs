//! The integration tests: one binary, because each further one would link
//! DataFusion, wasmtime and the AWS SDK again.

#![cfg(test)]

mod support {
    pub mod disk;
    pub mod ministack;
    pub mod needs;
    pub mod ports;
    pub mod postgres;
    pub mod promises;
    pub mod proxy;
    pub mod registry;
    pub mod stall;
    pub mod strace;
    pub mod tunnel;
    pub mod way;
    pub mod wire;
}

mod cli;
mod config;
mod dataset;
mod delivery;
mod domain;
mod faults;
mod formats;
mod ledger;
mod packaging;
mod plugin;
mod sandbox;
mod schedule;
mod tidy;
