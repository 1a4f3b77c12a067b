//! Datasets: files as tables, one SQL query over them, and the rows of one
//! customer as a stream of Arrow record batches; or whole files, unread.
//!
//! The only module that names DataFusion. Rows pass two gates: a filter on the
//! tenant column inside the plan, and a [`Guard`] outside of it.

mod assets;
mod error;
mod named;
mod params;
mod schema;
mod source;
mod store;
mod stream;
mod table;
mod tenant;
mod text;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::TaskContext;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, MemoryPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;

pub use assets::AssetFile;
pub use error::{DatasetError, Kind};
pub use store::{VendorCredentials, VendorKeys, VendorStore};
pub use stream::{BATCH_ROWS, Batches};
pub use tenant::Guard;

use crate::config::{FileDataset, TableDataset};
use crate::domain::{CustomerName, DatasetName, Interval, ParamValue};
use params::Values;
use table::FilesTable;

/// Everything that reads data. Clones share one memory pool, one place for
/// spill files and the connections to the object stores.
#[derive(Clone)]
pub struct Datasets {
    runtime: Arc<RuntimeEnv>,
    memory_bytes: usize,
    config: SessionConfig,
    vendor: VendorStore,
}

/// For whom and for which stretch of time a dataset is read.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub interval: Interval,
    /// The customer's `params`.
    pub params: &'a BTreeMap<String, ParamValue>,
}

/// A query that is ready to run. Nothing but file heads has been read.
pub struct Plan {
    dataset: DatasetName,
    physical: Arc<dyn ExecutionPlan>,
    task: Arc<TaskContext>,
    guard: Option<Guard>,
}

impl Datasets {
    /// `memory_bytes` is what all queries together may hold before they spill
    /// to files under `spill_dir`, which is made if it is missing.
    pub fn new(memory_bytes: usize, spill_dir: &Path, vendor: VendorStore) -> Result<Self, DatasetError> {
        Self::beside(None, memory_bytes, spill_dir, vendor)
    }

    /// The same, with the memory of `earlier` ones, whose queries may still run, if they have as much.
    pub fn beside(
        earlier: Option<&Self>,
        memory_bytes: usize,
        spill_dir: &Path,
        vendor: VendorStore,
    ) -> Result<Self, DatasetError> {
        let disk = |why: String| {
            let what = format!("spill files cannot be put under {}: {why}", spill_dir.display());
            DatasetError::new(Kind::Disk, what, "let the daemon's user write to daemon.cache_dir")
        };
        std::fs::create_dir_all(spill_dir).map_err(|error| disk(error.to_string()))?;
        let top = std::num::NonZeroUsize::MIN;
        let spill = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![spill_dir.to_owned()]));
        let memory: Arc<dyn MemoryPool> = match earlier.filter(|earlier| earlier.memory_bytes == memory_bytes) {
            Some(earlier) => earlier.runtime.memory_pool.clone(),
            None => Arc::new(TrackConsumersPool::new(FairSpillPool::new(memory_bytes), top)),
        };
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(memory)
            .with_disk_manager_builder(spill)
            .build_arc()
            .map_err(|error| disk(DatasetError::engine(&error).message))?;
        Ok(Self { runtime, memory_bytes, config: session_config(memory_bytes), vendor })
    }

    /// Plans the query for one customer. Fails before any row is read if the
    /// query, a parameter, the tenant column or a file's head is wrong.
    pub async fn plan(&self, dataset: &TableDataset, request: &Request<'_>) -> Result<Plan, DatasetError> {
        let values = Values { interval: Some(request.interval), params: Some(request.params) };
        self.prepare(dataset, values).await.map_err(|error| error.of(&dataset.name))
    }

    /// Plans the query without running it, as `consign check` does. Without
    /// `example` parameters those of the customer are NULL. Returns the schema
    /// of the result.
    pub async fn check(
        &self,
        dataset: &TableDataset,
        example: Option<&BTreeMap<String, ParamValue>>,
    ) -> Result<SchemaRef, DatasetError> {
        let values = Values { interval: None, params: example };
        let plan = self.prepare(dataset, values).await.map_err(|error| error.of(&dataset.name))?;
        Ok(plan.schema())
    }

    /// The files of an asset for one customer, sorted by name.
    pub async fn files(
        &self,
        dataset: &FileDataset,
        customer: &CustomerName,
        params: &BTreeMap<String, ParamValue>,
    ) -> Result<Vec<AssetFile>, DatasetError> {
        let files = assets::find(dataset, customer, params, &self.vendor, &self.runtime).await;
        files.map_err(|error| error.of(&dataset.name))
    }

    async fn prepare(&self, dataset: &TableDataset, values: Values<'_>) -> Result<Plan, DatasetError> {
        let engine = |error| DatasetError::engine(&error);
        let rewritten = params::rewrite(&query(dataset)?)?;
        let bound = params::values(&rewritten.used, values)?;
        let session = self.session(dataset, values.interval).await?;
        let plan = select(&session, &rewritten.sql).await?;
        let plan = params::bind(plan, &bound).map_err(engine)?;
        refuse_volatile(&plan)?;
        let (plan, guard) = match (&dataset.tenant, values.params) {
            (Some(tenant), Some(params)) => {
                let (plan, guard) = tenant::confine(plan, tenant, params, &dataset.name)?;
                (plan, Some(guard))
            }
            (Some(tenant), None) => {
                tenant::find(&plan, tenant)?;
                (plan, None)
            }
            (None, _) => (plan, None),
        };
        let physical = session.create_physical_plan(&plan).await.map_err(engine)?;
        Ok(Plan { dataset: dataset.name.clone(), physical, task: session.task_ctx(), guard })
    }

    /// A session that knows the dataset's tables and nothing else.
    async fn session(&self, dataset: &TableDataset, interval: Option<Interval>) -> Result<SessionState, DatasetError> {
        let context = SessionContext::new_with_config_rt(self.config.clone(), self.runtime.clone());
        let state = context.state();
        for (name, source) in &dataset.tables {
            let table = FilesTable::open(name, source, &self.vendor, &self.runtime, &state).await?;
            context.register_table(name.as_str(), Arc::new(table)).map_err(|error| DatasetError::engine(&error))?;
        }
        let mut state = context.state();
        // A repeat of the slot must give the same bytes: now() is the slot's instant.
        if let Some(interval) = interval {
            state.execution_props_mut().query_execution_start_time = Some(interval.end);
        }
        Ok(state)
    }
}

impl Plan {
    /// Columns of the result.
    pub fn schema(&self) -> SchemaRef {
        self.physical.schema()
    }

    /// Runs the query. Rows come in the query's order, in batches of at most
    /// [`BATCH_ROWS`]; dropping the stream stops the work.
    pub fn stream(self) -> Result<Batches, DatasetError> {
        Batches::start(self.physical, self.task, self.guard, self.dataset)
    }

    /// The physical plan, for people.
    pub fn explain(&self) -> String {
        displayable(self.physical.as_ref()).indent(false).to_string()
    }
}

fn session_config(memory_bytes: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        // One partition: rows come in the order of the files, and the same data give the same
        // bytes. Deliveries run side by side, which keeps the cores busy.
        .with_target_partitions(1)
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(false)
        // What a sort keeps aside for merging its spill files must fit the pool.
        .with_sort_spill_reservation_bytes((memory_bytes / 8).min(10 << 20));
    let options = config.options_mut();
    // Text stays Utf8, which is the layout that plugins are lent.
    options.execution.parquet.schema_force_view_types = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    // Rows of other customers are dropped before their other columns are decoded.
    options.execution.parquet.pushdown_filters = true;
    config
}

/// The query as written, or every row of the only table.
fn query(dataset: &TableDataset) -> Result<String, DatasetError> {
    let mut tables = dataset.tables.keys();
    match (&dataset.query, tables.next(), tables.next()) {
        (Some(query), _, _) => Ok(query.clone()),
        (None, Some(only), None) => Ok(format!("SELECT * FROM \"{only}\"")),
        (None, _, _) => {
            let what = format!("there are {} tables and no `query`", dataset.tables.len());
            Err(DatasetError::new(Kind::Query, what, "write a `query` that says how the tables make up the result"))
        }
    }
}

/// Plans one SELECT, and nothing that could change anything.
async fn select(session: &SessionState, sql: &str) -> Result<LogicalPlan, DatasetError> {
    let engine = |error| DatasetError::engine(&error);
    let dialect = session.config().options().sql_parser.dialect;
    let statement = session.sql_to_statement(sql, &dialect).map_err(engine)?;
    let is_query = matches!(&statement, Statement::Statement(inner) if matches!(**inner, ast::Statement::Query(_)));
    let refused = |what: String| {
        DatasetError::new(Kind::Query, what, "write one SELECT; a dataset's query reads its tables and nothing else")
    };
    if !is_query {
        let text = statement.to_string();
        let verb = text.split_whitespace().next().unwrap_or_default().to_uppercase();
        return Err(refused(format!("the query is a {verb} statement")));
    }
    let plan = session.statement_to_plan(statement).await.map_err(engine)?;
    SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false)
        .verify_plan(&plan)
        .map_err(|error| refused(format!("the query would change data: {}", DatasetError::engine(&error).message)))?;
    Ok(plan)
}

/// random() and uuid() would give a repeated slot other bytes.
fn refuse_volatile(plan: &LogicalPlan) -> Result<(), DatasetError> {
    let mut found = None;
    let visited = plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if expr.is_volatile_node() {
                    found = Some(expr.to_string());
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    visited.map_err(|error| DatasetError::engine(&error))?;
    match found {
        None => Ok(()),
        Some(call) => Err(DatasetError::new(
            Kind::Query,
            format!("the query uses {call}, which gives other rows each time"),
            "leave it out: a repeated slot must give the same bytes",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Failure;

    struct Nobody;

    impl VendorCredentials for Nobody {
        fn keys(&self) -> std::pin::Pin<Box<dyn Future<Output = Result<VendorKeys, Failure>> + Send + '_>> {
            Box::pin(std::future::pending())
        }
    }

    #[test]
    fn the_memory_of_queries_is_common_where_it_is_as_much() {
        let dir = tempfile::tempdir().unwrap();
        let new = |earlier: Option<&Datasets>, bytes| {
            let credentials = Arc::new(Nobody);
            let vendor = VendorStore { endpoint: None, region: "us-east-1".into(), path_style: false, credentials };
            Datasets::beside(earlier, bytes, dir.path(), vendor).unwrap()
        };
        let first = new(None, 16 << 20);
        let (second, third) = (new(Some(&first), 16 << 20), new(Some(&first), 32 << 20));
        assert!(Arc::ptr_eq(&first.runtime.memory_pool, &second.runtime.memory_pool));
        assert!(!Arc::ptr_eq(&first.runtime.memory_pool, &third.runtime.memory_pool));
    }
}
