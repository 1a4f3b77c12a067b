//! CSV (RFC 4180), record by record. What the row reader would take in its
//! stride (a quote that is never closed, text after a closing one) is an error.

use std::io::BufRead;

use super::kinds::Column;
use super::{Declared, RECORD_BYTES_MAX, Seen, empty, malformed, unread};
use crate::dataset::error::DatasetError;

pub(super) fn see(
    input: impl BufRead,
    header: bool,
    delimiter: u8,
    quote: u8,
    declared: &[Declared],
) -> Result<Seen, DatasetError> {
    let mut records = Records { input, record: Record::new(delimiter, quote) };
    if !records.next()? {
        return Err(empty());
    }
    let first = records.record.fields(&[])?;
    let names: Vec<String> = match header {
        true => first.iter().map(|name| (*name).to_owned()).collect(),
        false => (1..=first.len()).map(|number| format!("column_{number}")).collect(),
    };
    let mut sorted: Vec<&str> = names.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        let what = format!("the header has the column '{}' twice", twice[0]);
        return Err(malformed(what, "give every column a name of its own"));
    }
    let mut seen = Seen {
        columns: names.iter().map(|name| Column::new(name, declared)).collect(),
        record_bytes: records.record.size(),
    };
    let mut is_row = !header;
    while is_row || records.next()? {
        is_row = false;
        let record = &records.record;
        seen.record_bytes = seen.record_bytes.max(record.size());
        let fields = record.fields(&seen.columns)?;
        for (column, text) in seen.columns.iter_mut().zip(fields) {
            column.field_of_csv(text, record.line)?;
        }
    }
    Ok(seen)
}

struct Records<R> {
    input: R,
    record: Record,
}

impl<R: BufRead> Records<R> {
    /// Reads the next record; false at the end.
    fn next(&mut self) -> Result<bool, DatasetError> {
        self.record.clear();
        loop {
            let chunk = self.input.fill_buf().map_err(unread)?;
            if chunk.is_empty() {
                return self.record.end();
            }
            let (used, whole) = self.record.feed(chunk)?;
            self.input.consume(used);
            if whole {
                return Ok(true);
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before a record.
    Start,
    /// Before a field's first byte, the only place where a quote opens.
    Field,
    Plain,
    Quoted,
    /// After a quote inside of a quoted value: the value's end, or half of a doubled quote.
    Closed,
}

/// One record, and how far it has been read.
struct Record {
    delimiter: u8,
    quote: u8,
    at: At,
    /// The fields without what is between them.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Line that the record begins on.
    line: u64,
    /// Line that is being read.
    now: u64,
    /// Line of the last quote that opened.
    opened: u64,
    /// Whether the last byte was a carriage return, which a line feed may follow.
    returned: bool,
}

impl Record {
    fn new(delimiter: u8, quote: u8) -> Self {
        let (bytes, ends) = (Vec::new(), Vec::new());
        Self { delimiter, quote, at: At::Start, bytes, ends, line: 1, now: 1, opened: 1, returned: false }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn size(&self) -> usize {
        self.bytes.len() + self.ends.len()
    }

    /// Reads up to the record's end; says how many bytes, and whether it has ended.
    fn feed(&mut self, chunk: &[u8]) -> Result<(usize, bool), DatasetError> {
        let mut used = 0;
        while used < chunk.len() {
            let rest = &chunk[used..];
            let newline = |byte: u8| byte == b'\n' || byte == b'\r';
            let run = match self.at {
                At::Plain => rest.iter().position(|byte| *byte == self.delimiter || newline(*byte)),
                At::Quoted => rest.iter().position(|byte| *byte == self.quote || newline(*byte)),
                At::Start | At::Field | At::Closed => Some(0),
            };
            let run = run.unwrap_or(rest.len());
            self.bytes.extend_from_slice(&rest[..run]);
            self.returned &= run == 0;
            used += run;
            if self.size() > RECORD_BYTES_MAX {
                return Err(self.too_long());
            }
            if let Some(byte) = rest.get(run) {
                used += 1;
                if self.step(*byte)? {
                    return Ok((used, true));
                }
            }
        }
        Ok((used, false))
    }

    /// Reads one byte; true if it ends the record.
    fn step(&mut self, byte: u8) -> Result<bool, DatasetError> {
        let line = self.now;
        let newline = byte == b'\n' || byte == b'\r';
        if newline && !(byte == b'\n' && self.returned) {
            self.now += 1;
        }
        self.returned = byte == b'\r';
        if self.at == At::Start {
            // An empty line is no record.
            if newline {
                return Ok(false);
            }
            (self.line, self.at) = (line, At::Field);
        }
        match self.at {
            At::Field if byte == self.quote => (self.opened, self.at) = (line, At::Quoted),
            At::Quoted if byte == self.quote => self.at = At::Closed,
            At::Quoted => self.bytes.push(byte),
            At::Closed if byte == self.quote => {
                self.bytes.push(byte);
                self.at = At::Quoted;
            }
            _ if byte == self.delimiter => {
                self.ends.push(self.bytes.len());
                self.at = At::Field;
            }
            _ if newline => {
                self.ends.push(self.bytes.len());
                self.at = At::Start;
                return Ok(true);
            }
            At::Closed => {
                let what = format!("malformed CSV: line {line} has text after a quote that ends a value");
                return Err(malformed(what, "quote whole values, and double each quote inside of one"));
            }
            At::Start | At::Field | At::Plain => {
                self.bytes.push(byte);
                self.at = At::Plain;
            }
        }
        Ok(false)
    }

    /// The file has ended; true if it did with a record.
    fn end(&mut self) -> Result<bool, DatasetError> {
        match self.at {
            At::Start => Ok(false),
            At::Quoted => {
                let what = format!("malformed CSV: the file ends inside the quotes that open on line {}", self.opened);
                Err(malformed(what, "write the file again, whole, and close the quotes"))
            }
            At::Field | At::Plain | At::Closed => {
                self.ends.push(self.bytes.len());
                self.at = At::Start;
                Ok(true)
            }
        }
    }

    fn too_long(&self) -> DatasetError {
        let most = RECORD_BYTES_MAX >> 20;
        if self.at == At::Quoted {
            let what =
                format!("malformed CSV: the quotes that open on line {} do not close in {most} MiB", self.opened);
            return malformed(what, "close the quotes; a record has at most 16 MiB");
        }
        let what = format!("malformed CSV: the record on line {} has more than {most} MiB", self.line);
        malformed(what, "write one record a line; if records are this large, use Parquet")
    }

    /// The fields, as many as there are columns; any number if there are none yet.
    fn fields(&self, columns: &[Column]) -> Result<Vec<&str>, DatasetError> {
        if !columns.is_empty() && self.ends.len() != columns.len() {
            let (line, found, expected) = (self.line, self.ends.len(), columns.len());
            let what = format!("malformed CSV: line {line} has {found} fields, the first line has {expected}");
            let remedy = "give every line as many fields as the header, and quote fields with the delimiter";
            return Err(malformed(what, remedy));
        }
        let whole = std::str::from_utf8(&self.bytes).ok();
        let mut start = 0;
        let mut fields = Vec::with_capacity(self.ends.len());
        for end in &self.ends {
            let Some(text) = whole.and_then(|whole| whole.get(start..*end)) else {
                let what = format!("malformed CSV: line {} is not UTF-8", self.line);
                return Err(malformed(what, "write the file as UTF-8"));
            };
            fields.push(text);
            start = *end;
        }
        Ok(fields)
    }
}
