//! What the formats write.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::Data;

/// As DataFusion makes them.
const BATCH_ROWS: usize = 8192;

/// The demo's dataset: small integers with nulls, short texts, a time. Again and again, where more
/// rows are wanted than it has.
pub fn flights(rows: usize) -> Data {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/demo/flights.parquet");
    let file = File::open(path).expect("the demo's flights");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let reader = reader.with_batch_size(BATCH_ROWS).build().expect("a reader");
    let once: Vec<RecordBatch> = reader.map(|batch| batch.expect("a batch")).collect();
    let mut left = rows;
    let again = once.iter().cycle().map_while(|batch| {
        let taken = batch.slice(0, batch.num_rows().min(left));
        left -= taken.num_rows();
        (taken.num_rows() > 0).then_some(taken)
    });
    Data::new("flights", again.collect())
}

/// A table like TPC-H's `lineitem`, the same one each time.
pub fn lineitem(rows: usize) -> Data {
    Data::new("lineitem", consign::author::lineitem(rows).expect("a table"))
}
