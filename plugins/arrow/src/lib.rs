//! The arrow format: Arrow IPC, every column with its own type.
//!
//! Each batch of the dataset becomes a record batch, so memory depends on the
//! size of a batch, never on the dataset.

mod file;
mod options;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use consign_sdk::{Batch, Error, Formatter, Output, RunFacts, Schema};

use file::File;
pub use options::{Format, Options};

/// Rows below which a record batch is not cut any more only to fill an object.
const PIECE_ROWS: usize = 1024;

/// The arrow format.
pub struct Arrow {
    schema: SchemaRef,
    format: Format,
    file: Option<File>,
    any_object: bool,
}

impl Formatter for Arrow {
    const NAME: &'static str = "arrow";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const EXTENSION: &'static str = "arrow";
    const MEDIA_TYPE: &'static str = "application/vnd.apache.arrow.file";

    type Options = Options;

    fn open(options: Options, schema: &Schema, _: &RunFacts) -> Result<Self, Error> {
        Ok(Arrow {
            schema: consign_sdk_arrow::schema(schema).into(),
            format: options.format,
            file: None,
            any_object: false,
        })
    }

    fn write(&mut self, batch: &Batch<'_>, out: &mut Output<'_>) -> Result<(), Error> {
        let batch = consign_sdk_arrow::record_batch(&self.schema, batch, consign_sdk_arrow::no_conversion)?;
        match out.max_object_bytes() {
            None => self.file(out)?.write(&batch),
            Some(limit) => self.write_within(limit, batch, out),
        }
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        // When the last object was cut exactly at the end of the data, another
        // one without rows would only puzzle the customer.
        if self.file.is_none() && self.any_object {
            return Ok(());
        }
        self.file(out)?;
        self.finish_file()
    }
}

impl Arrow {
    /// Writes a batch, cut where the next object has to begin.
    fn write_within(&mut self, limit: u64, batch: RecordBatch, out: &mut Output<'_>) -> Result<(), Error> {
        let mut rest = vec![batch];
        while let Some(batch) = rest.pop() {
            let rows = batch.num_rows();
            let file = self.file(out)?;
            if file.has_room(&batch, limit)? || (file.rows() == 0 && rows == 1) {
                file.write(&batch)?;
            } else if rows > PIECE_ROWS || file.rows() == 0 {
                let half = rows / 2;
                rest.push(batch.slice(half, rows - half));
                rest.push(batch.slice(0, half));
            } else {
                self.finish_file()?;
                rest.push(batch);
            }
        }
        Ok(())
    }

    /// The present object, begun if there is none.
    fn file(&mut self, out: &mut Output<'_>) -> Result<&mut File, Error> {
        let file = match self.file.take() {
            Some(file) => file,
            None => {
                self.any_object = true;
                let object = out.next_object_as(self.format.extension(), self.format.media_type())?;
                File::begin(object, self.format, &self.schema)?
            }
        };
        Ok(self.file.insert(file))
    }

    fn finish_file(&mut self) -> Result<(), Error> {
        self.file.take().map_or(Ok(()), File::finish)
    }
}

consign_sdk::export!(Arrow);
