//! Version 1 of the contract with plugins, `wit/v1/format.wit`. Only this file
//! and its leaves name the contract's types.

mod lower;
mod schema;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use tracing::Level;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceAny, ResourceType, WasmList};
use wasmtime::{Store, StoreContextMut};

use self::consign::format::{run, types};
use super::failed::{Cause, Stop};
use super::store::State;
use super::words::printable;
use super::{Description, Diagnostic, Severity, views};

wasmtime::component::bindgen!({
    path: "wit/v1",
    world: "consign:format/format-plugin",
    imports: { default: trappable },
    exports: { default: async },
    with: {
        "consign:format/data.batch": crate::plugin::v1::Batch,
        "consign:format/output.object": crate::plugin::v1::Object,
        "consign:format/output.sink": crate::plugin::v1::Sink,
    },
});

/// The component with its imports resolved.
pub type Prepared = FormatPluginPre<State>;

/// Rows that are lent to the guest for one call.
pub struct Batch(RecordBatch);

/// The output, lent for one call.
pub struct Sink;

/// One object, by its number.
pub struct Object(u32);

/// What a guest says is wrong, by the cases of the contract.
#[derive(Debug)]
pub struct Said {
    pub cause: Cause,
    pub message: String,
}

/// Defines the contract's imports. Two are by hand: `write` of an object reads the
/// bytes straight from the guest's memory, and `columns` of a batch are copied
/// straight from Arrow's.
pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    run::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    // An instance without functions, that guests import for its types.
    linker.instance("consign:format/types@1.0.0")?;
    let mut data = linker.instance("consign:format/data@1.0.0")?;
    data.resource("batch", ResourceType::host::<Batch>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Batch>::new_own(rep))?;
        Ok(())
    })?;
    data.func_wrap("[method]batch.rows", |store, (batch,): (Resource<Batch>,)| {
        Ok((u32::try_from(store.data().table.get(&batch)?.0.num_rows())?,))
    })?;
    data.func_wrap("[method]batch.columns", view(lower::columns))?;
    data.func_wrap("[method]batch.arrow-ipc", view(views::arrow_ipc))?;
    data.func_wrap("[method]batch.json-lines", view(views::json_lines))?;
    let mut output = linker.instance("consign:format/output@1.0.0")?;
    output.resource("sink", ResourceType::host::<Sink>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Sink>::new_own(rep))?;
        Ok(())
    })?;
    output.resource("object", ResourceType::host::<Object>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Object>::new_own(rep))?;
        Ok(())
    })?;
    output.func_wrap_async("[method]sink.create", |store, (sink, name, media_type)| {
        Box::new(create(store, sink, name, media_type))
    })?;
    output.func_wrap_async("[method]object.write", |store, (object, bytes)| Box::new(write(store, object, bytes)))?;
    output.func_wrap_async("[method]object.finish", |store, (object, rows)| Box::new(finish(store, object, rows)))
}

async fn create(
    mut store: StoreContextMut<'_, State>,
    _: Resource<Sink>,
    name: String,
    media_type: String,
) -> wasmtime::Result<(Resource<Object>,)> {
    let object = store.data_mut().host(|state| -> wasmtime::Result<_> {
        let number = state.output()?.create(&name, &media_type)?;
        Ok(state.table.push(Object(number))?)
    })?;
    send(&mut store).await?;
    Ok((object,))
}

async fn write(
    mut store: StoreContextMut<'_, State>,
    object: Resource<Object>,
    bytes: WasmList<u8>,
) -> wasmtime::Result<()> {
    let Object(number) = *store.data().table.get(&object)?;
    let began = store.data().watch.begin();
    // Taken out, because the bytes stay borrowed from the same store.
    let mut output = store.data_mut().take_output()?;
    let written = output.write(number, bytes.as_le_slice(&store));
    store.data_mut().put_output(output);
    store.data_mut().watch.end(began);
    written?;
    send(&mut store).await
}

async fn finish(mut store: StoreContextMut<'_, State>, object: Resource<Object>, rows: u64) -> wasmtime::Result<()> {
    let Object(number) = *store.data().table.get(&object)?;
    store.data_mut().host(|state| state.output()?.finish(number, rows))?;
    send(&mut store).await
}

/// Sends what is ready; waits while the uploads are behind.
async fn send(store: &mut StoreContextMut<'_, State>) -> wasmtime::Result<()> {
    while let Some((event, outlet)) = store.data_mut().output()?.next() {
        outlet.send(event).await?;
    }
    Ok(())
}

impl types::Host for State {}

/// A function that makes a view of a batch.
fn view<T, E: ToString>(
    make: fn(&RecordBatch) -> Result<T, E>,
) -> impl Fn(StoreContextMut<'_, State>, (Resource<Batch>,)) -> wasmtime::Result<(T,)> {
    move |mut store, (batch,)| {
        store.data_mut().host(|state| match make(&state.table.get(&batch)?.0) {
            Ok(made) => Ok((made,)),
            Err(error) => Err(unsupported(error.to_string())),
        })
    }
}

fn unsupported(why: String) -> wasmtime::Error {
    Stop::new(Cause::Unsupported, why).into()
}

impl run::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        Ok(self.fact(&key).map(str::to_owned))
    }

    fn log(&mut self, level: run::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            run::Level::Trace => Level::TRACE,
            run::Level::Debug => Level::DEBUG,
            run::Level::Info => Level::INFO,
            run::Level::Warn => Level::WARN,
            run::Level::Error => Level::ERROR,
        };
        Ok(self.logs.log(level, &message)?)
    }

    fn progress(&mut self, rows: u64) -> wasmtime::Result<()> {
        tracing::trace!(target: "consign::plugin", parent: &self.span, rows, "progress");
        Ok(())
    }
}

pub async fn describe(store: &mut Store<State>, prepared: &Prepared) -> wasmtime::Result<Description> {
    resume(store);
    let guest = prepared.instantiate_async(&mut *store).await?;
    let said = guest.consign_format_formatter().call_describe(&mut *store).await?;
    Ok(Description {
        name: said.name,
        version: said.version,
        extension: said.extension,
        media_type: said.media_type,
        options_schema: said.options_schema,
    })
}

pub async fn check(
    store: &mut Store<State>,
    prepared: &Prepared,
    options: &str,
    schema: &Schema,
) -> wasmtime::Result<Vec<Diagnostic>> {
    let fields = schema::fields(schema).map_err(unsupported)?;
    resume(store);
    let guest = prepared.instantiate_async(&mut *store).await?;
    let said = guest.consign_format_formatter().call_check(&mut *store, options, &fields).await?;
    Ok(said.into_iter().map(diagnostic).collect())
}

fn diagnostic(said: types::Diagnostic) -> Diagnostic {
    let severity = match said.severity {
        types::Severity::Warning => Severity::Warning,
        types::Severity::Error => Severity::Error,
    };
    Diagnostic { severity, path: printable(said.path.as_bytes()), message: printable(said.message.as_bytes()) }
}

/// An opened formatter of one delivery.
pub struct Formatter {
    guest: FormatPlugin,
    handle: ResourceAny,
}

impl Formatter {
    /// `schema` is plain.
    pub async fn open(
        store: &mut Store<State>,
        prepared: &Prepared,
        options: &str,
        schema: &Arc<Schema>,
    ) -> wasmtime::Result<Result<Self, Said>> {
        let fields = schema::fields(schema).map_err(unsupported)?;
        resume(store);
        let guest = prepared.instantiate_async(&mut *store).await?;
        let opened = guest.consign_format_formatter().formatter().call_open(&mut *store, options, &fields).await?;
        pause(store);
        Ok(opened.map(|handle| Self { guest, handle }).map_err(said))
    }

    /// `batch` is plain.
    pub async fn write(&self, store: &mut Store<State>, batch: RecordBatch) -> wasmtime::Result<Result<(), Said>> {
        let batch = store.data_mut().table.push(Batch(batch))?;
        let sink = store.data_mut().table.push(Sink)?;
        resume(store);
        let formatter = self.guest.consign_format_formatter().formatter();
        let (lent, lent_sink) = (Resource::new_borrow(batch.rep()), Resource::new_borrow(sink.rep()));
        let written = formatter.call_write(&mut *store, self.handle, lent, lent_sink).await?;
        pause(store);
        store.data_mut().table.delete(batch)?;
        store.data_mut().table.delete(sink)?;
        Ok(written.map_err(said))
    }

    pub async fn finish(&self, store: &mut Store<State>) -> wasmtime::Result<Result<(), Said>> {
        let sink = store.data_mut().table.push(Sink)?;
        resume(store);
        let formatter = self.guest.consign_format_formatter().formatter();
        let finished = formatter.call_finish(&mut *store, self.handle, Resource::new_borrow(sink.rep())).await?;
        pause(store);
        store.data_mut().table.delete(sink)?;
        Ok(finished.map_err(said))
    }
}

fn said(error: types::Error) -> Said {
    let (cause, message) = match error {
        types::Error::InvalidOptions(message) => (Cause::InvalidOptions, message),
        types::Error::Unsupported(message) => (Cause::Unsupported, message),
        types::Error::Quota(message) => (Cause::Quota, message),
        types::Error::Retryable(message) => (Cause::Retryable, message),
        types::Error::Other(message) => (Cause::Other, message),
    };
    Said { cause, message }
}

fn resume(store: &mut Store<State>) {
    let ticks = store.data_mut().resume();
    store.set_epoch_deadline(ticks);
}

fn pause(store: &mut Store<State>) {
    store.data_mut().meter.pause();
}
