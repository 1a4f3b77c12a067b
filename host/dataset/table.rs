//! A table of files as DataFusion sees it: the files are listed once, when the
//! query is planned, and read in the order of their paths.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue, Statistics};
use datafusion::config::CsvOptions;
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat as Reader;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::avro::AvroFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::ObjectMeta;

use super::error::{DatasetError, Kind};
use super::named::name_files;
use super::schema;
use super::source::{self, Found};
use super::store::VendorStore;
use crate::config::{FileFormat, TableSource};
use crate::domain::TableName;

#[derive(Debug)]
pub(super) struct FilesTable {
    name: TableName,
    found: Found,
    reader: Arc<dyn Reader>,
    schema: TableSchema,
    files: Vec<PartitionedFile>,
    statistics: Statistics,
}

impl FilesTable {
    /// Lists the files and reads or infers their columns.
    pub(super) async fn open(
        name: &TableName,
        source: &TableSource,
        vendor: &VendorStore,
        runtime: &RuntimeEnv,
        session: &SessionState,
    ) -> Result<Self, DatasetError> {
        let found = source::find(&source.path, vendor, runtime).await.map_err(|error| error.in_table(name, None))?;
        let reader = reader(&source.format, one_compression(name, source, &found)?, session);
        let file_schema = schema::of_files(name, source, &found, &reader, session).await?;
        let partitions: Vec<FieldRef> =
            source.partitions.iter().map(|name| Arc::new(Field::new(name, DataType::Utf8, true))).collect();
        let schema = TableSchema::builder(file_schema).with_table_partition_cols(partitions).build();
        let (at, reads, of) = (&found, &reader, &schema);
        let described = |meta: ObjectMeta| {
            // Boxed, so that the whole can be sent between threads (rust-lang/rust#102211).
            async move {
                let file = format!("{}{}", at.root, meta.location);
                let named = |error: DatasetError| error.in_table(name, Some(&file));
                let values = source::partition_values(&file, &source.partitions).map_err(named)?;
                let statistics = reads
                    .infer_stats(session, &at.store, of.file_schema().clone(), &meta)
                    .await
                    .map_err(|error| named(DatasetError::engine(&error)))?;
                Ok(PartitionedFile::new_from_meta(meta.clone())
                    .with_partition_values(values)
                    .with_statistics(Arc::new(statistics)))
            }
            .boxed()
        };
        let files =
            stream::iter(found.files.iter().cloned()).map(described).buffered(8).try_collect::<Vec<_>>().await?;
        let statistics = files.iter().filter_map(|file| file.statistics.as_deref());
        let statistics = Statistics::try_merge_iter(statistics, schema.table_schema())
            .map_err(|error| DatasetError::engine(&error).in_table(name, None))?;
        Ok(Self { name: name.clone(), found, reader, schema, files, statistics })
    }

    /// The files that can hold rows for which the filters on partition columns are true.
    fn unpruned(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<PartitionedFile>> {
        let columns = self.schema.table_partition_cols();
        let names: Vec<&str> = columns.iter().map(|field| field.name().as_str()).collect();
        let applicable = filters.iter().filter(|filter| expr_applicable_for_cols(&names, filter));
        let Some(filter) = applicable.cloned().reduce(Expr::and).filter(|_| !names.is_empty()) else {
            return Ok(self.files.clone());
        };
        let partition_schema = arrow::datatypes::Schema::new(columns.iter().cloned().collect::<Vec<_>>());
        let partition_schema = Arc::new(partition_schema);
        let filter = state.create_physical_expr(filter, &DFSchema::try_from(partition_schema.clone())?)?;
        let values = (0..columns.len())
            .map(|column| {
                ScalarValue::iter_to_array(self.files.iter().map(|file| file.partition_values[column].clone()))
            })
            .collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(partition_schema, values)?;
        let kept = filter.evaluate(&batch)?.into_array(batch.num_rows())?;
        let kept = kept.as_boolean();
        let files = self.files.iter().enumerate();
        Ok(files.filter(|(row, _)| kept.is_valid(*row) && kept.value(*row)).map(|(_, file)| file.clone()).collect())
    }
}

/// Formats with a codec of their own have none from outside.
fn one_compression(name: &TableName, source: &TableSource, found: &Found) -> Result<FileCompressionType, DatasetError> {
    if !matches!(source.format, FileFormat::Csv { .. } | FileFormat::Ndjson) {
        return Ok(FileCompressionType::UNCOMPRESSED);
    }
    let first = found.files.first().map_or(FileCompressionType::UNCOMPRESSED, schema::compression);
    let odd = found.files.iter().find(|meta| schema::compression(meta) != first);
    if let Some(odd) = odd {
        let file = format!("{}{}", found.root, odd.location);
        let what = "it is not compressed like the table's first file";
        let error = DatasetError::new(Kind::Data, what, "compress all files of a table in the same way");
        return Err(error.in_table(name, Some(&file)));
    }
    if first == FileCompressionType::ZSTD && found.root != "/" {
        let what = "zstd-compressed text is read from disk only";
        let error = DatasetError::new(Kind::Config, what, "compress text in S3 with gzip, or use Parquet");
        return Err(error.in_table(name, None));
    }
    Ok(first)
}

fn reader(format: &FileFormat, compression: FileCompressionType, session: &SessionState) -> Arc<dyn Reader> {
    match format {
        FileFormat::Parquet => Arc::new(ParquetFormat::new().with_options(session.default_table_options().parquet)),
        FileFormat::Csv { header, delimiter, quote } => Arc::new(
            CsvFormat::default()
                .with_options(CsvOptions {
                    has_header: Some(*header),
                    delimiter: *delimiter,
                    quote: *quote,
                    newlines_in_values: Some(true),
                    ..CsvOptions::default()
                })
                .with_file_compression_type(compression)
                .with_schema_infer_max_rec(schema::CSV_LINES_SEEN),
        ),
        FileFormat::Ndjson => Arc::new(JsonFormat::default().with_file_compression_type(compression)),
        FileFormat::ArrowIpc => Arc::new(ArrowFormat),
        FileFormat::Avro => Arc::new(AvroFormat),
    }
}

#[async_trait]
impl TableProvider for FilesTable {
    fn schema(&self) -> SchemaRef {
        self.schema.table_schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Files and row groups are skipped by a filter; the query engine checks the rows that remain.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.unpruned(state, filters)?;
        if files.is_empty() {
            let schema = datafusion::common::project_schema(&self.schema(), projection)?;
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let statistics = if files.len() == self.files.len() {
            self.statistics.clone()
        } else {
            Statistics::new_unknown(&self.schema())
        };
        let source = self.reader.file_source(self.schema.clone());
        let config = FileScanConfigBuilder::new(self.found.url.clone(), source)
            .with_file_groups(vec![FileGroup::new(files)])
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        let plan = self.reader.create_physical_plan(state, config).await?;
        Ok(name_files(plan, &self.name, self.found.store.clone(), &self.found.root))
    }
}
