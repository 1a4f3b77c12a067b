//! The integration tests: one binary, because each further one would link
//! DataFusion, wasmtime and the AWS SDK again.

mod support {
    pub mod ministack;
}

mod config;
mod delivery;
mod domain;
mod ledger;
mod plugin;
mod schedule;
mod tidy;
