#![doc = include_str!("../README.md")]

use consign_sdk::{Batch, Column, DataType, Error, Formatter, NoOptions, Object, Output, RunFacts, Schema};

const TEXTS: [&str; 4] = ["carrier", "tailnum", "origin", "dest"];
const NUMBERS: [&str; 12] = [
    "year",
    "month",
    "day",
    "flight",
    "sched_dep_time",
    "dep_time",
    "dep_delay",
    "sched_arr_time",
    "arr_time",
    "arr_delay",
    "air_time",
    "distance",
];
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// A record, its line ending included.
const RECORD_BYTES: usize = 82;

/// Flight movements in records of 80 characters.
pub struct FixedFlights {
    run: RunFacts,
    object: Option<Object>,
    movements: u64,
}

impl Formatter for FixedFlights {
    const NAME: &'static str = "fixed-flights";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const EXTENSION: &'static str = "mvt";
    const MEDIA_TYPE: &'static str = "text/plain; charset=us-ascii";
    type Options = NoOptions;

    fn open(_: NoOptions, schema: &Schema, run: &RunFacts) -> Result<Self, Error> {
        let is = |name: &str, right: fn(&DataType) -> bool| {
            schema.fields.iter().any(|field| field.name == name && right(&field.data_type))
        };
        let texts = TEXTS.iter().filter(|name| !is(name, |t| matches!(t, DataType::Utf8 | DataType::LargeUtf8)));
        let numbers = NUMBERS
            .iter()
            .filter(|name| !is(name, |t| matches!(t, DataType::Int16 | DataType::Int32 | DataType::Int64)));
        let wrong: Vec<String> =
            texts.map(|name| format!("text `{name}`")).chain(numbers.map(|name| format!("int `{name}`"))).collect();
        if !wrong.is_empty() {
            let message =
                format!("flight movements need these columns: {}: select or cast them in the query", wrong.join(", "));
            return Err(Error::Unsupported(message));
        }
        Ok(FixedFlights { run: run.clone(), object: None, movements: 0 })
    }

    fn write(&mut self, batch: &Batch<'_>, out: &mut Output<'_>) -> Result<(), Error> {
        let flights = Flights::new(&batch.columns()?)?;
        let mut text = String::with_capacity(batch.rows() * RECORD_BYTES);
        for row in 0..batch.rows() {
            self.movements += 1;
            text.push_str(&flights.record(row, self.movements)?);
        }
        self.object(out)?.write(text.as_bytes());
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        self.object(out)?;
        if let Some(mut object) = self.object.take() {
            let trailer = format!("5{:09}{:64}{:06}\r\n", self.movements, "", (self.movements + 2) % 1_000_000);
            object.write(trailer.as_bytes());
            object.finish(self.movements);
        }
        Ok(())
    }
}

impl FixedFlights {
    /// The one object, which begins with its header.
    fn object(&mut self, out: &mut Output<'_>) -> Result<&mut Object, Error> {
        let object = match self.object.take() {
            Some(object) => object,
            None => {
                let fact = |key: &str, width: usize| fit(key, &self.run.get(key).unwrap_or_default(), width);
                let (start, end) = (fact("interval-start", 25)?, fact("interval-end", 25)?);
                let mut object = out.next_object()?;
                object.write(format!("1FLIGHT MOVEMENTS   {start}{end}{:4}{:06}\r\n", "", 1).as_bytes());
                object
            }
        };
        Ok(self.object.insert(object))
    }
}

/// The columns of a batch, in the order of [`TEXTS`] and [`NUMBERS`].
struct Flights {
    texts: Vec<Vec<Option<String>>>,
    numbers: Vec<Vec<Option<i64>>>,
}

impl Flights {
    fn new(columns: &[Column<'_>]) -> Result<Self, Error> {
        let find = |name: &&str| {
            let column = columns.iter().find(|column| column.name() == *name);
            column.ok_or_else(|| Error::Other(format!("the batch has no column `{name}`")))
        };
        let text = |name| Ok(find(name)?.strs()?.iter().map(|value| value.map(str::to_owned)).collect());
        let number = |name| {
            let column = find(name)?;
            Ok(match column.data_type() {
                DataType::Int16 => column.i16s()?.iter().map(|value| value.map(i64::from)).collect(),
                DataType::Int32 => column.i32s()?.iter().map(|value| value.map(i64::from)).collect(),
                _ => column.i64s()?.iter().collect(),
            })
        };
        Ok(Flights {
            texts: TEXTS.iter().map(text).collect::<Result<_, Error>>()?,
            numbers: NUMBERS.iter().map(number).collect::<Result<_, Error>>()?,
        })
    }

    /// The record of one flight; `number` counts them from 1.
    fn record(&self, row: usize, number: u64) -> Result<String, Error> {
        let text = |column: usize, width| fit(TEXTS[column], self.texts[column][row].as_deref().unwrap_or(""), width);
        let value = |column: usize| self.numbers[column][row];
        let digits = |column: usize, width: usize| match value(column) {
            Some(value) => fit(NUMBERS[column], &format!("{value:0width$}"), width),
            None => Ok(" ".repeat(width)),
        };
        let minutes = |column: usize| match value(column) {
            Some(value) => fit(NUMBERS[column], &format!("{value:+05}"), 5),
            None => Ok(" ".repeat(5)),
        };
        let month = value(1).and_then(|month| MONTHS.get(usize::try_from(month).ok()?.checked_sub(1)?));
        let (Some(year), Some(month)) = (value(0), month) else {
            return Err(Error::Unsupported(format!("flight {number} of the delivery has no date")));
        };
        // Without a departure it was cancelled, without a time in the air diverted.
        let status = match (value(5), value(10)) {
            (None, _) => 'X',
            (_, None) => 'D',
            _ => ' ',
        };
        Ok(format!(
            "3{}{}{}{month}{:02}{}{}{}{}{}{}{}{}{}{}{}{status}{:11}{:06}\r\n",
            text(0, 3)?,
            digits(3, 4)?,
            digits(2, 2)?,
            year.rem_euclid(100),
            text(2, 3)?,
            text(3, 3)?,
            digits(4, 4)?,
            digits(5, 4)?,
            digits(7, 4)?,
            digits(8, 4)?,
            minutes(6)?,
            minutes(9)?,
            digits(10, 4)?,
            digits(11, 5)?,
            text(1, 6)?,
            "",
            (number + 1) % 1_000_000,
        ))
    }
}

/// `text` in exactly `width` characters of ASCII.
fn fit(column: &str, text: &str, width: usize) -> Result<String, Error> {
    if text.len() > width || text.contains(|c: char| !(' '..='~').contains(&c)) {
        // Of a text that is far too long its beginning tells which it is.
        let shown: String = text.chars().take(2 * width.max(20)).collect();
        let rest = if shown.len() < text.len() { "…" } else { "" };
        let message = format!("`{column}` is `{shown}{rest}`, which does not fit into {width} ASCII characters");
        return Err(Error::Unsupported(message));
    }
    Ok(format!("{text:width$}"))
}

consign_sdk::export!(FixedFlights);
