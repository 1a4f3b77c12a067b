use std::ops::RangeInclusive;

use consign_sdk::{Error, Problem};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::types::is_name;

const BLOCK_BYTES: RangeInclusive<u64> = 1024..=16 * 1024 * 1024;

/// The options of the avro format.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How blocks are compressed inside the file. Every reader must know
    /// `deflate` and `none`.
    pub compression: Compression,
    /// How hard to compress: 0 to 9 for `deflate` (6 when absent), 1 to 19 for
    /// `zstd` (3 when absent). Higher is smaller and slower.
    pub compression_level: Option<u32>,
    /// Bytes before compression after which a block ends. Readers decompress,
    /// skip and split files by block.
    #[schemars(range(min = 1024, max = 16_777_216))]
    pub block_bytes: u64,
    /// The full name of the record that a row is, such as `com.example.Order`.
    /// Code generated from the schema has its classes named so.
    pub name: String,
    /// Timestamps in nanoseconds: `micros`, which every reader knows and a value
    /// with more ends the delivery; or `nanos`, new in Avro 1.12 and a plain long
    /// to older readers.
    pub nanoseconds: Nanoseconds,
}

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Known to every reader.
    #[default]
    Deflate,
    /// Smaller and faster; called `zstandard` in the file.
    Zstd,
    /// Fast, larger.
    Snappy,
    /// Not at all; called `null` in the file.
    None,
}

/// What timestamps in nanoseconds become.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Nanoseconds {
    /// `timestamp-micros`.
    #[default]
    Micros,
    /// `timestamp-nanos`.
    Nanos,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            compression: Compression::default(),
            compression_level: None,
            block_bytes: 256 * 1024,
            name: "row".into(),
            nanoseconds: Nanoseconds::default(),
        }
    }
}

impl Options {
    /// Every option that makes no sense.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let mut problems = Vec::new();
        let mut wrong = |path: &str, message| problems.push(Problem { path: path.into(), message });
        if !BLOCK_BYTES.contains(&self.block_bytes) {
            let (min, max) = (BLOCK_BYTES.start(), BLOCK_BYTES.end());
            wrong("/block_bytes", format!("`block_bytes` must be from {min} to {max}, not {}", self.block_bytes));
        }
        if !self.name.split('.').all(is_name) {
            let message = format!(
                "`{}` is not a full name of Avro: write names of letters, digits and `_`, not beginning with a digit, \
                 with dots between",
                self.name
            );
            wrong("/name", message);
        }
        let levels = match self.compression {
            Compression::Deflate => Some(("deflate", 0..=9)),
            Compression::Zstd => Some(("zstd", 1..=19)),
            Compression::Snappy | Compression::None => None,
        };
        match (levels, self.compression_level) {
            (Some((codec, levels)), Some(level)) if !levels.contains(&level) => {
                let (min, max) = (levels.start(), levels.end());
                wrong("/compression_level", format!("`{codec}` has the levels {min} to {max}, not {level}"));
            }
            (None, Some(_)) => {
                let message = "only `deflate` and `zstd` have levels: leave it out or choose one of them";
                wrong("/compression_level", message.into());
            }
            _ => {}
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::InvalidOptions(problems)) }
    }
}
