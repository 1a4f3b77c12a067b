//! The Parquet format, natively: what it writes is read back by the parquet
//! crate's own reader.

#![cfg(test)]

mod refusals;
mod round_trip;
mod settings;
mod support;
