//! A file source around DataFusion's own that tells which file an error is
//! about, and that no file changed while it was read.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use chrono::{DateTime, Utc};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, ExecutionPlan, SortOrderPushdownResult};
use datafusion_datasource::morsel::{Morsel, MorselPlan, MorselPlanner, Morselizer};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::error::{DatasetError, InFile, Kind};
use crate::domain::TableName;

/// Wraps the source of a scan. Plans that are not file scans pass unchanged.
pub(super) fn name_files(plan: Arc<dyn ExecutionPlan>, files: Files) -> Arc<dyn ExecutionPlan> {
    let config = plan
        .downcast_ref::<DataSourceExec>()
        .and_then(|exec| exec.data_source().downcast_ref::<FileScanConfig>())
        .cloned();
    let Some(config) = config else {
        return plan;
    };
    let source = Arc::new(NamedSource { inner: config.file_source().clone(), files });
    DataSourceExec::from_data_source(FileScanConfigBuilder::from(config).with_source(source).build())
}

/// What is needed to speak of a table's files.
#[derive(Clone)]
pub(super) struct Files {
    pub table: TableName,
    /// What stands before an object's path: `/` or `s3://bucket/`.
    pub root: Arc<str>,
    pub store: Arc<dyn ObjectStore>,
}

impl Files {
    pub(super) fn of(&self, meta: &ObjectMeta) -> About {
        About { files: self.clone(), meta: Arc::new(meta.clone()) }
    }
}

#[derive(Clone)]
struct NamedSource {
    inner: Arc<dyn FileSource>,
    files: Files,
}

impl NamedSource {
    fn wrap(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, files: self.files.clone() })
    }
}

impl FileSource for NamedSource {
    fn create_file_opener(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(object_store, base_config, partition)
    }

    fn create_morselizer(
        &self,
        object_store: Arc<dyn ObjectStore>,
        base_config: &FileScanConfig,
        partition: usize,
    ) -> Result<Box<dyn Morselizer>> {
        let inner = self.inner.create_morselizer(object_store, base_config, partition)?;
        Ok(Box::new(NamedMorselizer { inner, files: self.files.clone() }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.wrap(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt_extra(t, f)
    }

    /// Files are read whole and in order.
    fn supports_repartitioning(&self) -> bool {
        false
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        Ok(FilterPushdownPropagation {
            filters: pushed.filters,
            updated_node: pushed.updated_node.map(|inner| self.wrap(inner)),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> Result<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(match self.inner.try_pushdown_sort(order, properties)? {
            SortOrderPushdownResult::Exact { inner } => SortOrderPushdownResult::Exact { inner: self.wrap(inner) },
            SortOrderPushdownResult::Inexact { inner } => SortOrderPushdownResult::Inexact { inner: self.wrap(inner) },
            SortOrderPushdownResult::Unsupported => SortOrderPushdownResult::Unsupported,
        })
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.wrap(inner)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }
}

#[derive(Debug)]
struct NamedMorselizer {
    inner: Box<dyn Morselizer>,
    files: Files,
}

impl Morselizer for NamedMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> Result<Box<dyn MorselPlanner>> {
        let about = self.files.of(&file.object_meta);
        let inner = self.inner.plan_file(file).map_err(|error| about.name(error))?;
        Ok(Box::new(NamedPlanner { inner, about }))
    }
}

/// One file of a table.
#[derive(Clone)]
pub(super) struct About {
    files: Files,
    meta: Arc<ObjectMeta>,
}

impl About {
    pub(super) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.files.store
    }

    pub(super) fn name(&self, source: DataFusionError) -> DataFusionError {
        let file = format!("{}{}", self.files.root, self.meta.location);
        DataFusionError::External(Box::new(InFile { table: self.files.table.clone(), file, source }))
    }

    pub(super) async fn unchanged(&self) -> Result<()> {
        changed(self.files.store.as_ref(), &self.meta).await.map_err(|error| self.name(error))
    }
}

/// An error if a file is no longer what it was when it was listed.
async fn changed(store: &dyn ObjectStore, meta: &ObjectMeta) -> Result<()> {
    let now = store.head(&meta.location).await?;
    match same(&meta.location, (meta.size, meta.last_modified), (now.size, now.last_modified)) {
        Ok(()) => Ok(()),
        Err(error) => Err(DataFusionError::External(Box::new(error))),
    }
}

/// Compares size and time of last change, before and after. S3's headers say whole seconds, and
/// some stores' listings parts of them.
pub(super) fn same(
    path: &Path,
    before: (u64, DateTime<Utc>),
    after: (u64, DateTime<Utc>),
) -> std::result::Result<(), DatasetError> {
    let whole = [before.1, after.1].iter().any(|at| at.timestamp_subsec_nanos() == 0);
    let same_time = before.1 == after.1 || (whole && before.1.timestamp() == after.1.timestamp());
    if before.0 == after.0 && same_time {
        return Ok(());
    }
    let name = path.filename().unwrap_or_default();
    Err(DatasetError::new(
        Kind::Changed,
        format!("'{name}' changed while it was read ({} bytes before, {} after)", before.0, after.0),
        "write files elsewhere and rename them into place",
    ))
}

/// What an empty piece of a file means: object_store gives them without end when a local file has
/// become shorter than it was when it was opened.
pub(super) fn shortened() -> DatasetError {
    let what = "the file changed while it was read: it became shorter";
    DatasetError::new(Kind::Changed, what, "write files elsewhere and rename them into place")
}

struct NamedPlanner {
    inner: Box<dyn MorselPlanner>,
    about: About,
}

impl fmt::Debug for NamedPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "files of {}", self.table)
    }
}

impl MorselPlanner for NamedPlanner {
    fn plan(self: Box<Self>) -> Result<Option<MorselPlan>> {
        let about = self.about;
        let Some(mut plan) = self.inner.plan().map_err(|error| about.name(error))? else {
            return Ok(None);
        };
        let planner = |inner| Box::new(NamedPlanner { inner, about: about.clone() }) as Box<dyn MorselPlanner>;
        let morsels = plan.take_morsels().into_iter();
        let mut named = MorselPlan::new()
            .with_morsels(
                morsels.map(|inner| Box::new(NamedMorsel { inner, about: about.clone() }) as Box<dyn Morsel>).collect(),
            )
            .with_planners(plan.take_ready_planners().into_iter().map(planner).collect());
        if let Some(pending) = plan.take_pending_planner() {
            let about = about.clone();
            named.set_pending_planner(async move {
                let inner = pending.await.map_err(|error| about.name(error))?;
                Ok(Box::new(NamedPlanner { inner, about }) as Box<dyn MorselPlanner>)
            });
        }
        Ok(Some(named))
    }
}

struct NamedMorsel {
    inner: Box<dyn Morsel>,
    about: About,
}

impl fmt::Debug for NamedMorsel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Morsel for NamedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, Result<RecordBatch>> {
        let about = self.about.clone();
        let batches = self.inner.into_stream().map_err(move |error| about.name(error));
        let about = self.about;
        let end = stream::once(async move { about.unchanged().await })
            .filter_map(|checked| async move { checked.err().map(Err) });
        batches.chain(end).boxed()
    }
}
