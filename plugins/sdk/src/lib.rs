#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod batch;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod bindings;
mod error;
pub mod json;
pub mod options;
mod output;
mod rows;
mod run;
mod schema;
pub mod testing;
pub mod text;
mod validity;
mod views;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod wasm;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use batch::{Batch, BatchSource, Column, RawColumn};
pub use error::{Diagnostic, Error, Problem, Severity};
pub use options::NoOptions;
pub use output::{Naming, Object, ObjectSink, Output, Sink};
pub use rows::RowWriter;
pub use run::{RunFacts, log};
pub use schema::{DataType, Field, IntervalUnit, MAX_DEPTH, Schema, TimeUnit};
pub use validity::Validity;
pub use views::{Bools, Bytes, DayTime, Half, I256, Members, MonthDayNano, Native, Ranges, Strs, Values};

/// A format: how record batches become the objects of one delivery.
///
/// One value serves one delivery: `open`, any number of `write`s, `finish`.
/// Nothing is called after an error.
pub trait Formatter: Sized + 'static {
    /// Short name: `csv`.
    const NAME: &'static str;
    /// Semantic version of the plugin: `env!("CARGO_PKG_VERSION")`.
    const VERSION: &'static str;
    /// Extension of its objects, without the dot: `csv`.
    const EXTENSION: &'static str;
    /// Media type of its objects: `text/csv; charset=utf-8`.
    const MEDIA_TYPE: &'static str;

    /// What a share's `options` may hold; [`NoOptions`] for a format without.
    /// Keys that it does not have are refused before it is deserialized, and
    /// its JSON Schema, with the fields' doc comments, is shown to users.
    type Options: DeserializeOwned + JsonSchema;

    /// Begins one delivery. Refuse here, with all there is to say, what the
    /// format cannot do: [`check`](Formatter::check) tries `open` too.
    fn open(options: Self::Options, schema: &Schema, run: &RunFacts) -> Result<Self, Error>;

    /// Writes the next batch.
    fn write(&mut self, batch: &Batch<'_>, out: &mut Output<'_>) -> Result<(), Error>;

    /// No more batches: finish every object. Also called when there was no
    /// batch at all; then a format with a header writes one object with that.
    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error>;

    /// Looks at options (JSON text) and schema without data: every problem at
    /// once, nothing when `open` would succeed. Override it to add warnings.
    fn check(options: &str, schema: &Schema) -> Vec<Diagnostic> {
        options::check::<Self>(options, schema)
    }
}

/// Makes this crate the component of the given [`Formatter`]. Does nothing when
/// the crate is not compiled to WebAssembly.
#[macro_export]
macro_rules! export {
    ($formatter:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = $crate::wasm::Component<$formatter>;
    $crate::bindings::export!(Component with_types_in $crate::bindings);
        };
    };
}
