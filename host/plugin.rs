//! Format plugins: WebAssembly components in a world of their own, where every
//! limit ends the plugin and never the daemon.
//!
//! A plugin sees its batches, its options and a few facts of the run. It has no
//! files, network, environment or real clock; its only way out is the output,
//! whose names the host confines. Each run has a store of its own, on a thread
//! of its own, and leaves nothing behind.

mod cache;
mod compiled;
mod engine;
mod error;
mod facts;
mod failed;
mod guest;
mod inspect;
mod logs;
mod meter;
mod observe;
mod options;
mod output;
mod pieces;
mod plain;
mod shipped;
mod spent;
mod store;
mod v1;
mod views;
mod walled;
mod wasi;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::clock::Instant;
use crate::domain::{ContentDigest, Failure, OutputEvent, PluginName};
use crate::limits::{Isolation, Limits};

pub use cache::CacheError;
pub use error::PluginError;
pub use facts::Facts;
pub use failed::{Cause, Failed};
pub use inspect::{InspectError, gets};
pub use observe::{Observe, Observed, Profile};
pub use options::{Described, Endless, Misfit, OptionsSchema, described};
pub(crate) use pieces::first_rows;
pub use pieces::{Crew, Lost, Pieces, in_pieces};
pub use shipped::{FIXED_FLIGHTS, SHIPPED, shipped};
#[doc(hidden)]
pub use walled::heard_all;
pub use walled::{Attempt, COMMAND, Purpose, Wall, WallLayer, serve};

use compiled::Compiled;
use guest::{Code, Ends};
use inspect::World;
use logs::Logs;
use store::State;
use walled::Walled;

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Short name such as `csv`.
    pub name: String,
    pub version: String,
    /// Without the dot.
    pub extension: String,
    pub media_type: String,
    /// JSON Schema (2020-12), a JSON object as text.
    pub options_schema: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    Warning,
    Error,
}

/// One finding about options or schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub severity: Severity,
    /// JSON Pointer into the options; empty for the whole, or for the schema.
    pub path: String,
    pub message: String,
}

/// Compiles and runs plugins. Clones share one engine.
#[derive(Clone)]
pub struct PluginHost {
    /// By stack size, which each engine has one of.
    machines: Arc<Mutex<BTreeMap<usize, Machine>>>,
    cache: cache::Cache,
    /// One at a time: compiling has all cores at work, and much memory.
    compiling: Arc<Mutex<()>>,
    /// None for the daemon.
    observe: Option<Observe>,
    /// What is started to have a plugin in a process of its own.
    worker: PathBuf,
}

#[derive(Clone)]
struct Machine {
    engine: Engine,
    linker: Arc<Linker<State>>,
}

/// A plugin, ready to run. Cheap to clone.
#[derive(Clone)]
pub struct Component(Arc<Loaded>);

struct Loaded {
    name: PluginName,
    digest: ContentDigest,
    description: Description,
    options: OptionsSchema,
    limits: Limits,
    world: World,
    guest: Guest,
}

/// Where a plugin's code runs.
enum Guest {
    InProcess(Code),
    Walled(Walled),
}

/// One delivery's formatting.
#[derive(Clone, Debug)]
pub struct Job {
    /// What `run.get` answers. `share`, `slot` and `customer` seed the randomness.
    pub facts: Vec<(String, String)>,
    /// JSON text, an object.
    pub options: String,
    /// The schema of the batches, as they come.
    pub schema: SchemaRef,
    /// All but `stack_bytes`, which the plugin was loaded with.
    pub limits: Limits,
    /// Where the guest's wall clock stands.
    pub slot_at: Instant,
    /// Parent of the guest's log lines: has the fields run, share, customer.
    pub span: tracing::Span,
}

/// A run that ended well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Formatted {
    /// What went in, which is what the plugin says is in its objects.
    pub rows: u64,
    pub objects: u32,
    pub bytes_out: u64,
    /// Of the guest and of the host's work for it.
    pub cpu_time: Duration,
    pub peak_memory_bytes: u64,
}

impl PluginHost {
    /// Keeps compiled plugins in `<cache_dir>/plugins`, which must be this user's alone.
    pub fn new(cache_dir: &Path) -> Result<Self, PluginError> {
        Self::start(cache_dir, None)
    }

    /// A host for the author of a plugin, whose runs tell more of themselves: [`observe`].
    /// Core dumps and profiles are made of what runs in this process alone.
    pub fn observing(cache_dir: &Path, observe: Observe) -> Result<Self, PluginError> {
        Self::start(cache_dir, Some(observe))
    }

    fn start(cache_dir: &Path, observe: Option<Observe>) -> Result<Self, PluginError> {
        let usual = Limits::default().stack_bytes;
        let machine = Machine::new(usual, observe)?;
        let cache = cache::Cache::open(cache_dir, &machine.engine)?;
        let machines = Arc::new(Mutex::new(BTreeMap::from([(usual, machine)])));
        // Not by its name: an upgrade may have put another binary there.
        Ok(Self { machines, cache, compiling: Arc::default(), observe, worker: "/proc/self/exe".into() })
    }

    /// Another binary of consign to start for plugins in processes of their own.
    pub fn with_worker(self, worker: &Path) -> Self {
        Self { worker: worker.into(), ..self }
    }

    /// Compiles a component, or takes it from the cache, and asks it who it is.
    /// Computes for seconds the first time: call it under `spawn_blocking`.
    ///
    /// `limits` holds for `describe` and `check`, and its stack for every run.
    pub fn load(&self, name: &PluginName, bytes: &[u8], limits: &Limits) -> Result<Component, PluginError> {
        self.load_in(Isolation::InProcess, name, bytes, limits)
    }

    /// As [`PluginHost::load`]. With [`Isolation::Process`] none of the plugin's code
    /// ever runs in this process.
    pub fn load_in(
        &self,
        isolation: Isolation,
        name: &PluginName,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Component, PluginError> {
        let inspect = |why| PluginError::Inspect { plugin: name.clone(), why };
        inspect::header(bytes).map_err(inspect)?;
        let Machine { engine, linker } = self.machine(limits.stack_bytes)?;
        let digest = ContentDigest::of(bytes);
        let (code, compiled) = match self.cache.get(&engine, digest.digits())? {
            Some(cached) => cached,
            None => self.compile(&engine, name, digest.digits(), bytes)?,
        };
        let world = inspect::world(&engine, &code).map_err(inspect)?;
        let prepared = linker
            .instantiate_pre(&code)
            .and_then(v1::Prepared::new)
            .map_err(|error| PluginError::Contract { plugin: name.clone(), source: error.into_boxed_dyn_error() })?;
        let guest = match isolation {
            Isolation::InProcess => {
                let observed = self.observe.map(|observe| (observe, name.clone()));
                Guest::InProcess(Code { engine, prepared, observed })
            }
            Isolation::Process => {
                let purpose = if self.observe.is_some() { Purpose::Observed } else { Purpose::Runs };
                Guest::Walled(Walled::new(&self.worker, compiled, limits.stack_bytes, purpose))
            }
        };
        let limits = guest::quick_limits(limits);
        let description = guest.describe(name, &limits).map_err(|source| PluginError::Call {
            plugin: name.clone(),
            function: "describe",
            source: Box::new(source),
        })?;
        let options =
            inspect::description(&description).map_err(|why| PluginError::Description { plugin: name.clone(), why })?;
        let name = name.clone();
        let loaded = Loaded { name, digest, description, options, limits, world, guest };
        Ok(Component(Arc::new(loaded)))
    }

    /// Forgets compiled plugins but for this many, those compiled last.
    pub fn forget(&self, but: usize) {
        self.cache.forget(but);
    }

    fn machine(&self, stack_bytes: usize) -> Result<Machine, PluginError> {
        let mut machines = self.machines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(machine) = machines.get(&stack_bytes) {
            return Ok(machine.clone());
        }
        let machine = Machine::new(stack_bytes, self.observe)?;
        machines.insert(stack_bytes, machine.clone());
        Ok(machine)
    }

    fn compile(
        &self,
        engine: &Engine,
        name: &PluginName,
        digest: &str,
        bytes: &[u8],
    ) -> Result<(wasmtime::component::Component, Compiled), PluginError> {
        let error = |error: wasmtime::Error| PluginError::Compile {
            plugin: name.clone(),
            source: error.into_boxed_dyn_error(),
        };
        let _turn = self.compiling.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Somebody else may have had the same in hand.
        if let Some(cached) = self.cache.get(engine, digest)? {
            return Ok(cached);
        }
        let code = wasmtime::component::Component::from_binary(engine, bytes).map_err(error)?;
        let compiled = code.serialize().map_err(error)?;
        // A full disk costs the next start a compilation, not today's deliveries.
        if let Err(error) = self.cache.put(digest, &compiled) {
            tracing::warn!(plugin = %name, error = Failure::chain(&error), "cannot keep the compiled plugin");
        }
        let compiled = Compiled::of(&compiled).map_err(|error| PluginError::Engine(error.into()))?;
        Ok((code, compiled))
    }
}

impl Machine {
    fn new(stack_bytes: usize, observe: Option<Observe>) -> Result<Self, PluginError> {
        let start = || -> wasmtime::Result<Self> {
            let machine = Self::at_rest(stack_bytes, observe)?;
            engine::tick(&machine.engine, observe)?;
            Ok(machine)
        };
        start().map_err(|error| PluginError::Engine(error.into_boxed_dyn_error()))
    }

    /// Without the thread that counts its epochs.
    fn at_rest(stack_bytes: usize, observe: Option<Observe>) -> wasmtime::Result<Self> {
        let engine = engine::new(stack_bytes, observe)?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker)?;
        v1::link(&mut linker)?;
        Ok(Self { engine, linker: Arc::new(linker) })
    }
}

impl Component {
    /// As configured.
    pub fn name(&self) -> &PluginName {
        &self.0.name
    }

    /// SHA-256 of the component's bytes, 64 hex digits.
    pub fn digest(&self) -> &str {
        self.0.digest.digits()
    }

    /// The same, as it is written elsewhere.
    pub fn content_digest(&self) -> &ContentDigest {
        &self.0.digest
    }

    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// What it imports, as `package:name/interface@version`.
    pub fn imports(&self) -> &[String] {
        &self.0.world.imports
    }

    pub fn exports(&self) -> &[String] {
        &self.0.world.exports
    }

    /// Has a process of the plugin try what none may do. Refused by one that has none.
    pub fn try_wall(&self) -> Result<(Wall, Vec<Attempt>), Failed> {
        match &self.0.guest {
            Guest::Walled(walled) => walled.attempts(None),
            Guest::InProcess(_) => Err(unwalled()),
        }
    }

    /// The same behind one layer alone, as far as what is tried can be without the others. None of the
    /// plugin's code runs there.
    pub fn try_layer(&self, layer: WallLayer) -> Result<(Wall, Vec<Attempt>), Failed> {
        match &self.0.guest {
            Guest::Walled(walled) => walled.attempts(Some(layer)),
            Guest::InProcess(_) => Err(unwalled()),
        }
    }

    /// What its options are.
    pub fn options(&self) -> &OptionsSchema {
        &self.0.options
    }

    /// Every problem of options (JSON text, an object) and schema at once, as the
    /// plugin tells them. The options should fit its schema.
    /// Blocks while the plugin computes, at most for some seconds.
    pub fn check(&self, options: &str, schema: &Schema) -> Result<Vec<Diagnostic>, PluginError> {
        self.check_within(&self.0.limits, options, schema)
    }

    /// The same within other limits than those that it was loaded with, but for the stack.
    pub fn check_within(
        &self,
        limits: &Limits,
        options: &str,
        schema: &Schema,
    ) -> Result<Vec<Diagnostic>, PluginError> {
        let Loaded { name, guest, .. } = &*self.0;
        let limits = &guest::quick_limits(limits);
        guest.check(name, limits, options, &plain::schema(schema)).map_err(|source| PluginError::Call {
            plugin: name.clone(),
            function: "check",
            source: Box::new(source),
        })
    }
}

impl Guest {
    fn describe(&self, name: &PluginName, limits: &Limits) -> Result<Description, Failed> {
        let logs = Logs::new(name.to_string(), tracing::Span::current(), limits.log_lines);
        let described = match self {
            Self::InProcess(code) => code.quick(limits, &logs, async |store| v1::describe(store, &code.prepared).await),
            Self::Walled(walled) => walled.describe(limits, &logs),
        };
        described.map_err(|failed| Failed { plugin: Some(name.clone()), ..failed })
    }

    /// `schema` is plain.
    fn check(
        &self,
        name: &PluginName,
        limits: &Limits,
        options: &str,
        schema: &Schema,
    ) -> Result<Vec<Diagnostic>, Failed> {
        let logs = Logs::new(name.to_string(), tracing::Span::current(), limits.log_lines);
        let checked = match self {
            Self::InProcess(code) => {
                code.quick(limits, &logs, async |store| v1::check(store, &code.prepared, options, schema).await)
            }
            Self::Walled(walled) => walled.check(limits, &logs, options, schema),
        };
        checked.map_err(|failed| Failed { plugin: Some(name.clone()), ..failed })
    }

    async fn format<S>(&self, job: &Job, batches: S, logs: Logs, ends: Ends) -> (Result<Formatted, Failed>, Observed)
    where
        S: Stream<Item = Result<RecordBatch, Failure>> + Unpin,
    {
        match self {
            Self::InProcess(code) => code.format(job, batches, logs, ends).await,
            Self::Walled(walled) => walled.format(job, batches, logs, ends).await,
        }
    }
}

fn unwalled() -> Failed {
    Failed::new(Cause::Host, "it runs in the daemon's own process")
}

/// Runs a plugin over a stream of batches; what it writes goes to `output`,
/// which waits while the receiver is behind. Dropping the receiver or this
/// future ends the plugin, so take every event until the channel is closed.
///
/// The guest computes on a thread of the blocking pool, which also polls `batches`.
pub async fn format<S>(
    component: Component,
    job: Job,
    batches: S,
    output: mpsc::Sender<OutputEvent>,
) -> Result<Formatted, Failed>
where
    S: Stream<Item = Result<RecordBatch, Failure>> + Send + Unpin + 'static,
{
    observe(component, job, batches, output).await.0
}

/// As [`format`], and what was seen of the run, however it ended.
pub async fn observe<S>(
    component: Component,
    job: Job,
    batches: S,
    output: mpsc::Sender<OutputEvent>,
) -> (Result<Formatted, Failed>, Observed)
where
    S: Stream<Item = Result<RecordBatch, Failure>> + Send + Unpin + 'static,
{
    let (plugin, span) = (component.name().clone(), job.span.clone());
    let (ended, observed) = instance(component, job, batches, Ends::of(output)).await;
    if let Ok(formatted) = &ended {
        formatted.log(&plugin, &span, None);
    }
    (ended, observed)
}

/// One instance, from its beginning to its end.
async fn instance<S>(component: Component, job: Job, batches: S, ends: Ends) -> (Result<Formatted, Failed>, Observed)
where
    S: Stream<Item = Result<RecordBatch, Failure>> + Send + Unpin + 'static,
{
    let _cancel_when_dropped = ends.cancel.clone().drop_guard();
    let runtime = tokio::runtime::Handle::current();
    let plugin = Some(component.name().clone());
    let work = move || {
        let (name, lines) = (component.name().to_string(), job.limits.log_lines);
        let logs = Logs::beside(ends.spent.clone(), name, job.span.clone(), lines);
        runtime.block_on(component.0.guest.format(&job, batches, logs, ends))
    };
    let (ended, observed) = match tokio::task::spawn_blocking(work).await {
        Ok(ended) => ended,
        Err(error) => {
            let failed = Failed::new(Cause::Host, format!("the plugin host failed: {error}"));
            (Err(failed), Observed::default())
        }
    };
    (ended.map_err(|failed| Failed { plugin, ..failed }), observed)
}

impl Formatted {
    /// What a plugin's limits are to be set by.
    fn log(&self, plugin: &PluginName, span: &tracing::Span, pieces: Option<u32>) {
        tracing::info!(
            parent: span,
            plugin = plugin.as_str(),
            pieces,
            rows = self.rows,
            objects = self.objects,
            output.size_bytes = self.bytes_out,
            cpu_time_ms = u64::try_from(self.cpu_time.as_millis()).unwrap_or(u64::MAX),
            memory.peak_bytes = self.peak_memory_bytes,
            "formatted"
        );
    }
}
