//! The rows of a text table, as the query engine reads them.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;

use super::{open, rows};
use crate::config::FileFormat;
use crate::dataset::named::{About, Files};

/// Batches that wait for the query.
const AHEAD: usize = 1;

/// Some columns of some files, which are read one after the other.
#[derive(Clone, Debug)]
pub(in crate::dataset) struct TextScan {
    pub format: FileFormat,
    pub about: Files,
    pub files: Vec<PartitionedFile>,
    pub file_schema: SchemaRef,
    /// Columns of the result by number: those of the files, then the partitions.
    pub wanted: Vec<usize>,
    /// Of the result.
    pub schema: SchemaRef,
    pub batch_rows: usize,
}

impl TextScan {
    pub fn plan(self, limit: Option<usize>) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema.clone();
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(self)], None, [], false, limit)?))
    }

    /// False once nobody listens.
    fn read(&self, file: &PartitionedFile, about: &About, sender: &Sender<Result<RecordBatch>>) -> Result<bool> {
        let width = self.file_schema.fields().len();
        let mut from_file: Vec<usize> = self.wanted.iter().copied().filter(|column| *column < width).collect();
        if from_file.is_empty() {
            // Rows have to be counted.
            from_file.push(0);
        }
        let input = open(about.store(), &file.object_meta)?;
        for batch in rows(&self.format, input, &self.file_schema, &from_file, self.batch_rows)? {
            let batch = batch?;
            let mut read = batch.columns().iter();
            let columns = self.wanted.iter().filter_map(|column| match column.checked_sub(width) {
                None => read.next().cloned().map(Ok),
                Some(partition) => Some(file.partition_values.get(partition)?.to_array_of_size(batch.num_rows())),
            });
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
            if sender.blocking_send(Ok(batch)).is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl PartitionStream for TextScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), AHEAD);
        let (scan, sender) = (self.clone(), stream.tx());
        stream.spawn_blocking(move || {
            for file in &scan.files {
                let about = scan.about.of(&file.object_meta);
                let named = |error: DataFusionError| about.name(error);
                if !scan.read(file, &about, &sender).map_err(named)? {
                    break;
                }
                Handle::current().block_on(about.unchanged())?;
            }
            Ok(())
        });
        stream.build()
    }
}
