//! The binary, end to end: what a person types, what is in the buckets after it.

mod buckets;
mod check;
mod clocks;
mod commands;
mod daemon;
mod demo;
mod flights;
mod inputs;
mod ledger;
mod postgres;
mod recovery;
mod sandbox;
mod service;
mod timing;
mod world;
