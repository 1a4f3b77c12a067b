//! The csv format: RFC 4180, with null kept apart from the empty text.

mod cells;
mod options;

use consign_sdk::text::Buffer;
use consign_sdk::{Batch, Diagnostic, Error, Formatter, Output, RowWriter, RunFacts, Schema};

use cells::{Cell, Style};
pub use options::{Ascii, CsvOptions, LineEnding, Quoting};

/// The csv format.
pub struct Csv {
    style: Style,
    line_ending: &'static [u8],
    scratch: Buffer,
    rows: RowWriter,
}

impl Formatter for Csv {
    const NAME: &'static str = "csv";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const EXTENSION: &'static str = "csv";
    const MEDIA_TYPE: &'static str = "text/csv; charset=utf-8";

    type Options = CsvOptions;

    fn open(options: CsvOptions, schema: &Schema, _: &RunFacts) -> Result<Self, Error> {
        options.check()?;
        if schema.fields.is_empty() {
            return Err(Error::Unsupported("the dataset has no columns: select at least one in the query".into()));
        }
        let line_ending: &[u8] = match options.line_ending {
            LineEnding::Lf => b"\n",
            LineEnding::Crlf => b"\r\n",
        };
        let mut header = Buffer::new();
        if options.bom {
            header.extend("\u{feff}".as_bytes());
        }
        let has_header = options.header;
        let style = Style::new(options);
        if has_header {
            style.header(schema, &mut header);
            header.extend(line_ending);
        }
        let rows = RowWriter::new(header.as_bytes());
        Ok(Csv { style, line_ending, scratch: Buffer::new(), rows })
    }

    fn write(&mut self, batch: &Batch<'_>, out: &mut Output<'_>) -> Result<(), Error> {
        let Csv { style, line_ending, scratch, rows } = self;
        let columns = batch.columns()?;
        let cells = Cell::all(&columns, style)?;
        rows.write_columns(batch.rows(), out, |block| {
            cells.iter().for_each(|cell| cell.write(style, scratch, block));
            block.literal(line_ending);
        })
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        self.rows.finish(out)
    }

    fn check(options: &str, schema: &Schema) -> Vec<Diagnostic> {
        let mut findings = consign_sdk::options::check::<Self>(options, schema);
        if let (true, [only]) = (findings.is_empty(), schema.fields.as_slice()) {
            let null = consign_sdk::options::parse::<CsvOptions>(options).map(|options| options.null);
            if only.nullable && null.is_ok_and(|null| cells::is_blank(null.as_bytes())) {
                findings.push(Diagnostic::warning(
                    "/null",
                    format!(
                        "a null of `{}`, the only column, is written as a blank line, which many readers skip: \
                         set `null`, for instance to \"NULL\"",
                        only.name
                    ),
                ));
            }
        }
        findings
    }
}

consign_sdk::export!(Csv);
