//! The shipped formats as the daemon runs them, read back by readers that are
//! not consign's: the parquet crate's and Python's.

#![cfg(test)]

mod columnar;
mod nested;
mod splitting;
mod text;
mod world;
mod zoo;
