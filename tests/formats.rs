//! The shipped formats as the daemon runs them, read back by readers that are
//! not consign's: the parquet crate's, Python's and pyarrow's and its like.

#![cfg(test)]

mod arrow;
mod avro;
mod columnar;
mod documented;
mod fixed;
#[path = "../benches/format/lent.rs"]
mod lent;
mod nested;
mod splitting;
mod text;
mod world;
mod xlsx;
mod zoo;
