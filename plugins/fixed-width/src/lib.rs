//! The fixed-width format: every value in its place, as mainframes and banks
//! read it.

mod cell;
mod layout;
mod options;
mod place;

use consign_sdk::text::Buffer;
use consign_sdk::{Batch, Column, Diagnostic, Error, Formatter, Output, RowWriter, RunFacts, Schema};

use cell::Cell;
use layout::{Layout, Part};
pub use options::{Align, Controls, Encoding, Fact, LineEnding, Options, Overflow, Pad, Place, Sign};

/// The fixed-width format.
pub struct FixedWidth {
    layout: Layout,
    scratch: Buffer,
    rows: RowWriter,
    /// Of the delivery, so far.
    written: u64,
}

impl Formatter for FixedWidth {
    const NAME: &'static str = "fixed-width";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const EXTENSION: &'static str = "txt";
    const MEDIA_TYPE: &'static str = "text/plain";

    type Options = Options;

    fn open(options: Options, schema: &Schema, run: &RunFacts) -> Result<Self, Error> {
        let layout = Layout::of(&options, schema, run)?;
        let rows = RowWriter::new(layout.header.clone());
        let trailer = layout.trailer.clone();
        let rows = rows.with_trailer(trailer.line(0)?.len(), move |rows| trailer.line(rows));
        Ok(FixedWidth { layout, scratch: Buffer::new(), rows, written: 0 })
    }

    fn write(&mut self, batch: &Batch<'_>, out: &mut Output<'_>) -> Result<(), Error> {
        let FixedWidth { layout, scratch, rows, written } = self;
        let columns = batch.columns()?;
        let cells = cells(layout, &columns)?;
        for row in 0..batch.rows() {
            let line = rows.row();
            for (part, cell) in &cells {
                match cell {
                    None => line.extend(part.fixed()),
                    Some(cell) => {
                        let written = *written + row as u64 + 1;
                        cell.write(row, scratch, line).map_err(|why| part.failed(why, written))?;
                    }
                }
            }
            line.extend(layout.line_ending);
            rows.end_row(out)?;
        }
        *written += batch.rows() as u64;
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        self.rows.finish(out)
    }

    fn check(options: &str, schema: &Schema) -> Vec<Diagnostic> {
        let mut findings = consign_sdk::options::check::<Self>(options, schema);
        if findings.is_empty() {
            findings.extend(layout::left_out(options, schema));
        }
        findings
    }
}

/// Each part of a row, and what is in it if that is not always the same.
fn cells<'a>(layout: &'a Layout, columns: &'a [Column<'_>]) -> Result<Vec<(&'a Part, Option<Cell<'a>>)>, Error> {
    let cell = |part: &'a Part| {
        let column = part.column().and_then(|(index, rule)| Some((columns.get(index)?, rule)));
        let cell = column.map(|(column, rule)| Cell::of(column, rule, &part.place)).transpose()?;
        Ok((part, cell))
    };
    layout.parts.iter().map(cell).collect()
}

consign_sdk::export!(FixedWidth);
