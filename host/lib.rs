//! consign delivers shares (datasets and assets) into the S3 buckets of a
//! software vendor's customers, on a cron schedule, formatted by sandboxed
//! WebAssembly plugins.
//!
//! Floors, lowest first; imports only go down, peers never import each other:
//!
//! ```text
//! 0 domain    domain  clock  calendar  crash  limits  lock  replace
//! 1 config    config  policy
//! 2 peers     schedule  dataset  plugin  registry  delivery  ledger  sandbox  pack
//! 3 path      run
//! 4 process   daemon  check  author
//! 5 edge      cli (main.rs)
//! ```
//!
//! Invariants, held by `tests/tidy.rs`:
//! - only `plugin/v1.rs` and what is below it name WIT types; only `plugin` names wasmtime;
//! - only `registry` names reqwest;
//! - only `delivery` names AWS types;
//! - only `dataset` names DataFusion;
//! - `config` does no I/O but reading its files;
//! - only a [`domain::CustomerPrefix`] makes a [`domain::ObjectKey`];
//! - no secret implements `Display` or `Debug`;
//! - the real clock is read in `clock.rs` alone.

pub mod domain;

pub mod calendar;
pub mod clock;
#[doc(hidden)]
pub mod crash;
pub mod limits;
pub mod lock;
pub mod replace;

pub mod config;
pub mod policy;

pub mod dataset;
pub mod delivery;
pub mod ledger;
pub mod pack;
pub mod plugin;
pub mod registry;
pub mod sandbox;
pub mod schedule;

pub mod run;

pub mod author;
pub mod check;
pub mod daemon;

pub mod cli;
