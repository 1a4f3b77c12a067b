use std::ops::RangeInclusive;

use consign_sdk::{Error, Problem};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use schemars::JsonSchema;
use serde::Deserialize;

/// Bytes of unfinished pages over all columns, roughly.
const PAGES_BYTES: usize = 32 * 1024 * 1024;
/// What Parquet readers expect of a page.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
const PAGE_BYTES_MIN: usize = 64 * 1024;
/// A row group is in memory while it is written: half of what a plugin has.
const GROUP_BYTES: RangeInclusive<u64> = 64 * 1024..=128 * 1024 * 1024;

/// The options of the parquet format.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How pages are compressed inside the file. Every reader of the last years
    /// knows `zstd`; very old ones know `snappy`.
    pub compression: Compression,
    /// How hard to compress: 1 to 19 for `zstd` (3 when absent), 0 to 9 for
    /// `gzip` (6 when absent). Higher is smaller and slower; over 9, `zstd`
    /// needs several MiB of memory for each column.
    pub compression_level: Option<u32>,
    /// Rows after which a row group ends. Readers skip and parallelise by row
    /// group.
    #[schemars(range(min = 1))]
    pub row_group_rows: u64,
    /// Encoded bytes after which a row group ends, if it has not reached
    /// `row_group_rows` before. The plugin holds one row group in memory.
    #[schemars(range(min = 65_536, max = 134_217_728))]
    pub row_group_bytes: u64,
    /// Rows after which a page ends. Readers that use the page index skip by
    /// page.
    #[schemars(range(min = 1))]
    pub data_page_rows: u64,
    /// Whether columns of few different values are stored as a dictionary.
    pub dictionary: bool,
    /// For what the smallest and largest value and the nulls are recorded.
    pub statistics: Statistics,
    /// Whether the Arrow schema is kept in the footer, from which Arrow readers
    /// learn what Parquet has no word for: zone names, durations, large types.
    pub arrow_schema: bool,
}

/// How pages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Small and fast.
    Zstd,
    /// Fast, larger, known to every reader.
    Snappy,
    /// Small, slow.
    Gzip,
    /// Not at all.
    None,
}

/// For what statistics are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Statistics {
    /// For each page and each column of a row group.
    Page,
    /// For each column of a row group.
    Chunk,
    /// For nothing.
    None,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            compression: Compression::Zstd,
            compression_level: None,
            row_group_rows: 1024 * 1024,
            row_group_bytes: 64 * 1024 * 1024,
            data_page_rows: 20_000,
            dictionary: true,
            statistics: Statistics::Page,
            arrow_schema: true,
        }
    }
}

impl Options {
    /// The writer's settings for a file of so many plain columns, or every
    /// option that makes no sense.
    pub(crate) fn writer_options(&self, leaves: usize) -> Result<ArrowWriterOptions, Error> {
        let mut problems = Vec::new();
        let codec = self.codec(&mut problems);
        let page_rows = within("data_page_rows", self.data_page_rows, 1..=u64::MAX, &mut problems);
        let group_rows = within("row_group_rows", self.row_group_rows, 1..=u64::MAX, &mut problems);
        let group_bytes = within("row_group_bytes", self.row_group_bytes, GROUP_BYTES, &mut problems);
        if !problems.is_empty() {
            return Err(Error::InvalidOptions(problems));
        }
        let page_bytes = (PAGES_BYTES / leaves.max(1)).clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX);
        let statistics = match self.statistics {
            Statistics::Page => EnabledStatistics::Page,
            Statistics::Chunk => EnabledStatistics::Chunk,
            Statistics::None => EnabledStatistics::None,
        };
        let properties = WriterProperties::builder()
            // Readers parse this to work around other writers' mistakes; the
            // form is `NAME version VERSION`.
            .set_created_by(concat!("consign-parquet version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(codec)
            .set_dictionary_enabled(self.dictionary)
            .set_dictionary_page_size_limit(page_bytes)
            .set_data_page_size_limit(page_bytes)
            .set_data_page_row_count_limit(page_rows)
            // Pages end only between batches of this size.
            .set_write_batch_size(page_rows.min(1024))
            .set_statistics_enabled(statistics)
            .set_max_row_group_row_count(Some(group_rows))
            .set_max_row_group_bytes(Some(group_bytes))
            // Lists and maps get the names that the specification asks for.
            .set_coerce_types(true)
            .build();
        Ok(ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(!self.arrow_schema))
    }

    fn codec(&self, problems: &mut Vec<Problem>) -> basic::Compression {
        let path = || "/compression_level".to_owned();
        let mut level = |name: &str, range: RangeInclusive<u32>, default: u32| match self.compression_level {
            None => default,
            Some(level) if range.contains(&level) => level,
            Some(level) => {
                let message = format!("`{name}` has the levels {} to {}, not {level}", range.start(), range.end());
                problems.push(Problem { path: path(), message });
                default
            }
        };
        match self.compression {
            Compression::Zstd => {
                let level = level("zstd", 1..=19, 3);
                basic::Compression::ZSTD(basic::ZstdLevel::try_new(level.cast_signed()).unwrap_or_default())
            }
            Compression::Gzip => {
                basic::Compression::GZIP(basic::GzipLevel::try_new(level("gzip", 0..=9, 6)).unwrap_or_default())
            }
            Compression::Snappy | Compression::None => {
                if self.compression_level.is_some() {
                    let message = "only `zstd` and `gzip` have levels: leave it out or choose one of them".to_owned();
                    problems.push(Problem { path: path(), message });
                }
                match self.compression {
                    Compression::Snappy => basic::Compression::SNAPPY,
                    _ => basic::Compression::UNCOMPRESSED,
                }
            }
        }
    }
}

fn within(key: &str, value: u64, range: RangeInclusive<u64>, problems: &mut Vec<Problem>) -> usize {
    if !range.contains(&value) {
        let message = match (range.start(), range.end()) {
            (min, &u64::MAX) => format!("`{key}` must be at least {min}, not {value}"),
            (min, max) => format!("`{key}` must be from {min} to {max}, not {value}"),
        };
        problems.push(Problem { path: format!("/{key}"), message });
    }
    usize::try_from(value).unwrap_or(usize::MAX)
}
