//! The glue between the contract (`wit/v1`) and the SDK's own types.

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::bindings::consign::format::{data, output, run, types};
use crate::bindings::exports::consign::format::formatter as exports;
use crate::{Batch, Formatter, Naming, Output, RunFacts, Schema, options};

mod convert;

/// The exported side of the component of `F`.
pub struct Component<F>(PhantomData<F>);

/// One delivery.
pub struct Delivery<F> {
    state: RefCell<State<F>>,
}

struct State<F> {
    formatter: F,
    schema: Schema,
    naming: Naming,
    rows: u64,
}

impl<F: Formatter> exports::Guest for Component<F> {
    type Formatter = Delivery<F>;

    fn describe() -> types::Description {
        types::Description {
            name: F::NAME.into(),
            version: F::VERSION.into(),
            extension: F::EXTENSION.into(),
            media_type: F::MEDIA_TYPE.into(),
            options_schema: options::schema::<F::Options>(),
        }
    }

    fn check(options: String, schema: Vec<types::Field>) -> Vec<types::Diagnostic> {
        let findings = match convert::schema(schema) {
            Ok(schema) => F::check(&options, &schema),
            Err(error) => error.into_diagnostics(),
        };
        findings.into_iter().map(convert::diagnostic).collect()
    }
}

impl<F: Formatter> exports::GuestFormatter for Delivery<F> {
    fn open(options: String, schema: Vec<types::Field>) -> Result<exports::Formatter, types::Error> {
        let open = || {
            let schema = convert::schema(schema)?;
            let run = RunFacts::of_host();
            let naming = Naming::new(&run, F::EXTENSION, F::MEDIA_TYPE)?;
            let formatter = F::open(options::parse(&options)?, &schema, &run)?;
            Ok(Delivery { state: RefCell::new(State { formatter, schema, naming, rows: 0 }) })
        };
        open().map(exports::Formatter::new).map_err(convert::error)
    }

    fn write(&self, batch: &data::Batch, sink: &output::Sink) -> Result<(), types::Error> {
        let mut state = self.state.try_borrow_mut().map_err(|_| convert::reentered())?;
        let State { formatter, schema, naming, rows } = &mut *state;
        let batch = Batch::new(schema, batch);
        formatter.write(&batch, &mut Output::new(sink, naming)).map_err(convert::error)?;
        *rows += batch.rows() as u64;
        run::progress(*rows);
        Ok(())
    }

    fn finish(&self, sink: &output::Sink) -> Result<(), types::Error> {
        let mut state = self.state.try_borrow_mut().map_err(|_| convert::reentered())?;
        let State { formatter, naming, .. } = &mut *state;
        formatter.finish(&mut Output::new(sink, naming)).map_err(convert::error)
    }
}
