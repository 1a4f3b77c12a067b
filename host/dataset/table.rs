//! A table of files as DataFusion sees it: the files are listed once, when the
//! query is planned, and read in the order of their paths.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, Result, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::FileFormat as Reader;
use datafusion::datasource::file_format::arrow::ArrowFormat;
use datafusion::datasource::file_format::avro::AvroFormat;
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

use super::error::DatasetError;
use super::named::{Files, name_files};
use super::schema;
use super::source::{self, Found};
use super::store::VendorStore;
use super::text::TextScan;
use crate::config::{FileFormat, TableSource};
use crate::domain::TableName;

#[derive(Debug)]
pub(super) struct FilesTable {
    name: TableName,
    found: Found,
    schema: TableSchema,
    files: Vec<PartitionedFile>,
    reading: Reading,
}

/// Who reads the rows.
#[derive(Debug)]
enum Reading {
    /// The query engine.
    Engine {
        reader: Arc<dyn Reader>,
        statistics: Statistics,
    },
    Text {
        format: FileFormat,
        batch_rows: usize,
    },
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
        let partitions: Vec<FieldRef> =
            source.partitions.iter().map(|name| Arc::new(Field::new(name, DataType::Utf8, true))).collect();
        let with_partitions =
            |schema: SchemaRef| TableSchema::builder(schema).with_table_partition_cols(partitions).build();
        let (schema, reading, measured) = match reader(&source.format, session) {
            None => {
                let (schema, seen) = schema::of_text(name, source, &found, session).await?;
                let reading = Reading::Text { format: source.format.clone(), batch_rows: seen.batch_rows() };
                (with_partitions(schema), reading, Vec::new())
            }
            Some(reader) => {
                let schema = with_partitions(schema::of_files(name, source, &found, &reader, session).await?);
                let measured = measure(name, &found, &reader, &schema, session).await?;
                let statistics = Statistics::try_merge_iter(&measured, schema.table_schema())
                    .map_err(|error| DatasetError::engine(&error).in_table(name, None))?;
                (schema, Reading::Engine { reader, statistics }, measured)
            }
        };
        let mut files = Vec::new();
        for meta in &found.files {
            let file = format!("{}{}", found.root, meta.location);
            let values = source::partition_values(&file, &source.partitions);
            let values = values.map_err(|error| error.in_table(name, Some(&file)))?;
            files.push(PartitionedFile::new_from_meta(meta.clone()).with_partition_values(values));
        }
        for (file, statistics) in files.iter_mut().zip(measured) {
            *file = file.clone().with_statistics(Arc::new(statistics));
        }
        Ok(Self { name: name.clone(), found, schema, files, reading })
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

/// The statistics of each file.
async fn measure(
    name: &TableName,
    found: &Found,
    reader: &Arc<dyn Reader>,
    schema: &TableSchema,
    session: &SessionState,
) -> Result<Vec<Statistics>, DatasetError> {
    let of_file = |meta: ObjectMeta| {
        // Boxed, so that the whole can be sent between threads (rust-lang/rust#102211).
        async move {
            let statistics = reader.infer_stats(session, &found.store, schema.file_schema().clone(), &meta).await;
            statistics.map_err(|error| {
                let file = format!("{}{}", found.root, meta.location);
                DatasetError::engine(&error).in_table(name, Some(&file))
            })
        }
        .boxed()
    };
    let metas = stream::iter(found.files.iter().cloned());
    metas.map(of_file).buffered(8).try_collect().await
}

/// The query engine's reader; none for text.
fn reader(format: &FileFormat, session: &SessionState) -> Option<Arc<dyn Reader>> {
    match format {
        FileFormat::Csv { .. } | FileFormat::Ndjson => None,
        FileFormat::Parquet => {
            Some(Arc::new(ParquetFormat::new().with_options(session.default_table_options().parquet)))
        }
        FileFormat::ArrowIpc => Some(Arc::new(ArrowFormat)),
        FileFormat::Avro => Some(Arc::new(AvroFormat)),
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
        let about =
            Files { table: self.name.clone(), root: self.found.root.as_str().into(), store: self.found.store.clone() };
        let (reader, statistics) = match &self.reading {
            Reading::Engine { reader, statistics } => (reader, statistics),
            Reading::Text { format, batch_rows } => {
                let schema = self.schema();
                let wanted = projection.cloned().unwrap_or_else(|| (0..schema.fields().len()).collect());
                let scan = TextScan {
                    format: format.clone(),
                    about,
                    files,
                    file_schema: self.schema.file_schema().clone(),
                    schema: Arc::new(schema.project(&wanted)?),
                    wanted,
                    batch_rows: *batch_rows,
                };
                return scan.plan(limit);
            }
        };
        let statistics = match files.len() == self.files.len() {
            true => statistics.clone(),
            false => Statistics::new_unknown(&self.schema()),
        };
        let source = reader.file_source(self.schema.clone());
        let config = FileScanConfigBuilder::new(self.found.url.clone(), source)
            .with_file_groups(vec![FileGroup::new(files)])
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        let plan = reader.create_physical_plan(state, config).await?;
        Ok(name_files(plan, about))
    }
}
