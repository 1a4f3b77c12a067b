//! The xlsx format: a workbook of Excel (ECMA-376), every value in a cell of its
//! type.
//!
//! Rows are compressed and handed to the host as they come, so memory depends on
//! the size of a batch, never on the dataset.

mod cells;
mod options;
mod parts;
mod sample;
mod styles;
mod workbook;
mod xml;
mod zip;

use consign_sdk::text::Buffer;
use consign_sdk::{Batch, DataType, Error, Field, Formatter, Output, RunFacts, Schema, TimeUnit};

use cells::{Cell, Rule, TEXT_UNITS_MAX, push_inline};
pub use options::{Beyond, Options};
use sample::Sample;
use styles::{GENERAL, HEADER, Style, Styles};
use workbook::{Head, Workbook};

/// Columns that a sheet can have.
const COLUMNS_MAX: usize = 16_384;

/// In characters.
const WIDTH_MIN: usize = 8;
const WIDTH_MAX: usize = 60;

/// The xlsx format.
pub struct Xlsx {
    columns: Vec<Rule>,
    head: Head,
    scratch: Buffer,
    /// The first rows, by which the columns are made as wide as they should be.
    sample: Option<Sample>,
    books: Books,
}

/// The workbook at work, and whether there was one.
#[derive(Default)]
struct Books {
    workbook: Option<Workbook>,
    any_object: bool,
}

impl Formatter for Xlsx {
    const NAME: &'static str = "xlsx";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const EXTENSION: &'static str = "xlsx";
    const MEDIA_TYPE: &'static str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

    type Options = Options;

    fn open(options: Options, schema: &Schema, _: &RunFacts) -> Result<Self, Error> {
        options.check()?;
        check_columns(&schema.fields)?;
        let mut styles = Styles::default();
        let columns = letters().zip(&schema.fields).map(|(letters, field)| Rule {
            letters,
            style: style(&field.data_type, &options, &mut styles),
            beyond: options.beyond,
            binary: options.binary,
        });
        let columns: Vec<Rule> = columns.collect();
        let head = Head {
            cells: options.header.then(|| header(&columns, &schema.fields)),
            sheet: options.sheet,
            freeze: options.freeze_header,
            widths: schema.fields.iter().map(|field| width(field.name.chars().count())).collect(),
            sheet_rows: options.sheet_rows,
            compression_level: options.compression_level,
            styles: styles.xml(),
        };
        let (scratch, sample) = (Buffer::new(), Some(Sample::default()));
        Ok(Xlsx { columns, head, scratch, sample, books: Books::default() })
    }

    fn write(&mut self, batch: &Batch<'_>, out: &mut Output<'_>) -> Result<(), Error> {
        let Xlsx { columns: rules, head, scratch, sample, books } = self;
        let columns = batch.columns()?;
        let cells = columns.iter().zip(rules.iter()).map(|(column, rule)| Cell::of(column, rule));
        let cells = cells.collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.rows() {
            let Some(first) = sample else {
                books.row(head, out, |number, xml| {
                    cells.iter().try_for_each(|cell| cell.write(row, Some(number), scratch, xml))
                })?;
                continue;
            };
            for (widest, cell) in head.widths.iter_mut().zip(&cells) {
                *widest = width(cell.shown(row, scratch)).max(*widest);
            }
            if first.keep(|xml| cells.iter().try_for_each(|cell| cell.write(row, None, scratch, xml)))? {
                books.sample(head, sample.take(), out)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        self.books.sample(&self.head, self.sample.take(), out)?;
        self.books.finish(&self.head, out)
    }
}

impl Books {
    /// A row, whose cells `write` appends for its number in the sheet.
    fn row(
        &mut self,
        head: &Head,
        out: &mut Output<'_>,
        write: impl FnOnce(u32, &mut Buffer) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut workbook = match self.workbook.take() {
            Some(workbook) => workbook,
            None => self.begin(head, out)?,
        };
        let number = workbook.next_row(head)?;
        let xml = workbook.xml();
        xml.extend(b"<row r=\"");
        xml.u64(number.into());
        xml.extend(b"\">");
        write(number, xml)?;
        xml.extend(b"</row>");
        match (workbook.end_row()?, out.max_object_bytes()) {
            (true, Some(limit)) if workbook.is_full(limit)? => workbook.finish(head),
            _ => {
                self.workbook = Some(workbook);
                Ok(())
            }
        }
    }

    /// The rows of the sample, now that all widths are known.
    fn sample(&mut self, head: &Head, sample: Option<Sample>, out: &mut Output<'_>) -> Result<(), Error> {
        sample.iter().flat_map(Sample::rows).try_for_each(|row| {
            self.row(head, out, |number, xml| {
                sample::numbered(row, number, xml);
                Ok(())
            })
        })
    }

    fn finish(&mut self, head: &Head, out: &mut Output<'_>) -> Result<(), Error> {
        match self.workbook.take() {
            Some(workbook) => workbook.finish(head),
            // When the last object was cut exactly at the end of the data,
            // another one without rows would only puzzle the customer.
            None if self.any_object => Ok(()),
            None => self.begin(head, out)?.finish(head),
        }
    }

    fn begin(&mut self, head: &Head, out: &mut Output<'_>) -> Result<Workbook, Error> {
        self.any_object = true;
        Workbook::begin(out.next_object()?, head)
    }
}

fn check_columns(fields: &[Field]) -> Result<(), Error> {
    if fields.is_empty() {
        return Err(Error::Unsupported("the dataset has no columns: select at least one in the query".into()));
    }
    if fields.len() > COLUMNS_MAX {
        return Err(Error::Unsupported(format!(
            "the dataset has {} columns, and a sheet of Excel holds {COLUMNS_MAX}: select fewer in the query",
            fields.len()
        )));
    }
    let long = fields.iter().find(|field| field.name.encode_utf16().count() > TEXT_UNITS_MAX);
    match long {
        Some(_) => Err(Error::Unsupported(format!(
            "a column's name has more than {TEXT_UNITS_MAX} characters: rename it in the query (`as`)"
        ))),
        None => Ok(()),
    }
}

/// How the values of a type are shown.
fn style(data_type: &DataType, options: &Options, styles: &mut Styles) -> Style {
    match data_type {
        DataType::Date32 | DataType::Date64 => styles.of_format(&options.date_format),
        DataType::Time32(unit) | DataType::Time64(unit) => {
            timed(options.time_format.as_deref(), "hh:mm:ss", *unit, styles)
        }
        DataType::Timestamp { unit, .. } => {
            timed(options.timestamp_format.as_deref(), "yyyy-mm-dd hh:mm:ss", *unit, styles)
        }
        DataType::Decimal32 { scale, .. }
        | DataType::Decimal64 { scale, .. }
        | DataType::Decimal128 { scale, .. }
        | DataType::Decimal256 { scale, .. } => match usize::try_from(*scale) {
            Ok(places @ 1..=15) => styles.of_format(&format!("0.{}", "0".repeat(places))),
            _ => GENERAL,
        },
        _ => GENERAL,
    }
}

fn timed(wanted: Option<&str>, usual: &str, unit: TimeUnit, styles: &mut Styles) -> Style {
    match (wanted, unit) {
        (Some(format), _) => styles.of_format(format),
        (None, TimeUnit::Second) => styles.of_format(usual),
        (None, _) => styles.of_format(&format!("{usual}.000")),
    }
}

fn header(columns: &[Rule], fields: &[Field]) -> Vec<u8> {
    let mut cells = Buffer::new();
    for (rule, field) in columns.iter().zip(fields) {
        cells.extend(format!("<c r=\"{}1\" s=\"{}\"", rule.letters, HEADER.0).as_bytes());
        push_inline(field.name.as_bytes(), &mut cells);
    }
    cells.as_bytes().to_vec()
}

fn width(characters: usize) -> usize {
    (characters + 2).clamp(WIDTH_MIN, WIDTH_MAX)
}

/// `A`, `B`, … `Z`, `AA`, `AB`, …
fn letters() -> impl Iterator<Item = String> {
    let of = |number: u32| {
        let mut rest = number;
        let mut letters = Vec::new();
        while rest > 0 {
            letters.push(char::from(b'A' + ((rest - 1) % 26) as u8));
            rest = (rest - 1) / 26;
        }
        letters.into_iter().rev().collect()
    };
    (1..).map(of)
}

consign_sdk::export!(Xlsx);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_lettered() {
        let all: Vec<String> = letters().take(COLUMNS_MAX).collect();
        assert_eq!([&all[0], &all[25], &all[26], &all[701], &all[702]], ["A", "Z", "AA", "ZZ", "AAA"]);
        assert_eq!(all.last().unwrap(), "XFD");
    }
}
