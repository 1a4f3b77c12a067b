//! A plugin's batches as Arrow record batches: what the formats share that link
//! an Arrow library.

#![deny(missing_docs)]

mod arrays;
mod types;

pub use arrays::{no_conversion, record_batch};
pub use types::{data_type, field, schema};
