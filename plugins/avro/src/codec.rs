//! How a block is compressed.

use std::io::Write as _;

use consign_sdk::Error;
use flate2::Crc;
use flate2::write::DeflateEncoder;

use crate::options::{Compression, Options};

/// A codec with what it keeps between blocks.
pub(crate) enum Codec {
    None,
    Deflate(flate2::Compression),
    Snappy(Box<snap::raw::Encoder>),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Codec {
    pub fn of(options: &Options) -> Result<Self, Error> {
        let level = options.compression_level;
        Ok(match options.compression {
            Compression::None => Codec::None,
            Compression::Deflate => Codec::Deflate(flate2::Compression::new(level.unwrap_or(6))),
            Compression::Snappy => Codec::Snappy(Box::new(snap::raw::Encoder::new())),
            Compression::Zstd => {
                let level = level.unwrap_or(3).cast_signed();
                Codec::Zstd(zstd::bulk::Compressor::new(level).map_err(failed)?)
            }
        })
    }

    /// What the file calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Codec::None => "null",
            Codec::Deflate(_) => "deflate",
            Codec::Snappy(_) => "snappy",
            Codec::Zstd(_) => "zstandard",
        }
    }

    /// The block as the file has it.
    pub fn compress(&mut self, block: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            Codec::None => Ok(block.to_vec()),
            Codec::Deflate(level) => {
                let mut encoder = DeflateEncoder::new(Vec::with_capacity(block.len() / 2), *level);
                encoder.write_all(block).map_err(failed)?;
                encoder.finish().map_err(failed)
            }
            Codec::Snappy(encoder) => {
                let mut compressed = encoder.compress_vec(block).map_err(failed)?;
                let mut crc = Crc::new();
                crc.update(block);
                compressed.extend_from_slice(&crc.sum().to_be_bytes());
                Ok(compressed)
            }
            Codec::Zstd(encoder) => encoder.compress(block).map_err(failed),
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Other(format!("a block could not be compressed: {error}"))
}
