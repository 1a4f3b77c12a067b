//! The binary, end to end: what a person types, what is in the buckets after it.

mod admin;
mod audit;
mod buckets;
mod calendar;
mod callers;
mod check;
mod clocks;
mod commands;
mod daemon;
mod demo;
mod fairness;
mod flights;
mod inputs;
mod ledger;
mod options;
mod plugins;
mod postgres;
mod recovery;
mod registries;
mod reload;
mod sandbox;
mod service;
mod sweeps;
mod timing;
mod verify;
mod world;
