//! A plugin that keeps the contract, but for the one rule that its options name:
//! `{"fault":"empty"}`. Each fault has the name of the check of `consign plugin
//! conformance` that has to see it. Without one it writes lines of JSON, and all is well.

use std::cell::{Cell, RefCell};
use std::hint::black_box;

wit_bindgen::generate!({ path: "../../../wit/v1", world: "consign:format/format-plugin" });

use consign::format::data::Batch;
use consign::format::output::{Object, Sink};
use consign::format::run;
use consign::format::types::{DataType, Description, Diagnostic, Error, Field, Severity};
use exports::consign::format::formatter::{Formatter, Guest, GuestFormatter};

struct Sloppy;

struct Open {
    fault: String,
    object: RefCell<Option<Object>>,
    batches: Cell<u32>,
    rows: Cell<u64>,
    kept: RefCell<Vec<Vec<u8>>>,
}

export!(Sloppy);

impl Guest for Sloppy {
    type Formatter = Open;

    fn describe() -> Description {
        Description {
            name: "sloppy".into(),
            version: "1.0.0".into(),
            extension: "jsonl".into(),
            media_type: "application/x-ndjson".into(),
            options_schema: r#"{
                "type": "object",
                "properties": { "fault": { "type": "string" }, "level": { "type": "integer" } },
                "additionalProperties": false
            }"#
            .into(),
        }
    }

    fn check(options: String, schema: Vec<Field>) -> Vec<Diagnostic> {
        let error =
            |(path, message): (&str, String)| Diagnostic { severity: Severity::Error, path: path.into(), message };
        let fault = match parse(&options) {
            Ok(fault) => fault,
            Err(wrong) => return vec![error(wrong)],
        };
        let refused = refused(&schema).filter(|_| fault != "check-agrees");
        refused.into_iter().map(|message| error(("", message))).collect()
    }
}

/// The fault, or the option that is wrong and why.
fn parse(options: &str) -> Result<String, (&'static str, String)> {
    let text = |key: &str| {
        let begin = options.find(&format!("\"{key}\":"))? + key.len() + 3;
        let rest = &options[begin..];
        let end =
            if rest.starts_with('"') { rest[1..].find('"')? + 2 } else { rest.find([',', '}']).unwrap_or(rest.len()) };
        Some(&rest[..end])
    };
    let fault = text("fault").unwrap_or("\"\"");
    let lenient = |check: &str| fault == format!("\"{check}\"");
    let Some(fault_name) = fault.strip_prefix('"').and_then(|fault| fault.strip_suffix('"')) else {
        return Err(("/fault", "`fault` is not a string".into()));
    };
    let is_number = |level: &str| level.parse::<i64>().is_ok();
    if text("level").is_some_and(|level| !is_number(level)) && !lenient("wrong-option") {
        return Err(("/level", "`level` is not an integer".into()));
    }
    if text("no_such_option").is_some() && !lenient("unknown-option") {
        return Err(("/no_such_option", "there is no option `no_such_option`; write `level`".into()));
    }
    Ok(fault_name.to_owned())
}

/// What the format does not have.
fn refused(schema: &[Field]) -> Option<String> {
    let wide = schema.iter().find(|field| matches!(field.data_type, DataType::Decimal256(_)))?;
    Some(format!("column `{}` is a decimal of 256 bits", wide.name))
}

impl GuestFormatter for Open {
    fn open(options: String, schema: Vec<Field>) -> Result<Formatter, Error> {
        let fault = parse(&options).map_err(|(_, message)| Error::InvalidOptions(message))?;
        if let Some(message) = refused(&schema) {
            return Err(Error::Unsupported(message));
        }
        if fault == "nesting" {
            assert!(schema.len() < 20, "too deep");
        }
        if fault == "types" {
            assert!(schema.iter().all(|field| !matches!(field.data_type, DataType::Float16)), "no such type");
        }
        let (object, kept) = (RefCell::new(None), RefCell::new(Vec::new()));
        Ok(Formatter::new(Open { fault, object, batches: Cell::new(0), rows: Cell::new(0), kept }))
    }

    fn write(&self, batch: &Batch, sink: &Sink) -> Result<(), Error> {
        let (rows, text) = (batch.rows(), batch.json_lines());
        self.batches.set(self.batches.get() + 1);
        self.rows.set(self.rows.get() + u64::from(rows));
        match self.fault.as_str() {
            "one-row" => assert!(rows > 1, "one row is not enough"),
            "nulls" => assert!(count(&text, b":null") < 500, "so many nulls"),
            "long-values" if text.len() > 16 << 20 => return self.all_at_once(sink, &text),
            "column-names" => return self.all_at_once(sink, &by_name(&text)),
            "cancel" => assert!(self.batches.get() < 20, "so many batches"),
            "large" => self.kept.borrow_mut().push(text.clone()),
            _ => {}
        }
        self.object(sink);
        if let Some(object) = self.object.borrow().as_ref() {
            text.chunks(1 << 20).for_each(|piece| object.write(piece));
            if self.fault == "batches" {
                object.write(b"\n");
            }
        }
        Ok(())
    }

    fn finish(&self, sink: &Sink) -> Result<(), Error> {
        if self.fault == "empty" {
            assert!(self.rows.get() > 0, "no rows");
        }
        if ["slow-output", "closed-output", "small-memory"].contains(&self.fault.as_str()) {
            self.linger();
        }
        self.object(sink);
        let Some(object) = self.object.borrow_mut().take() else { return Ok(()) };
        if self.fault == "repeat" {
            object.write(run::get("attempt").unwrap_or_default().as_bytes());
        }
        let rows = self.rows.get();
        object.finish(if self.fault == "rows" { rows.saturating_sub(1) } else { rows });
        if self.fault == "split" && run::get("max-object-bytes").is_some() {
            sink.create("rest", "text/plain").finish(0);
        }
        Ok(())
    }
}

impl Open {
    fn object(&self, sink: &Sink) {
        if self.object.borrow().is_none() {
            let stem = run::get("object-stem").unwrap_or_default();
            let stem = if self.fault == "names" { stem.repeat(4) } else { stem };
            *self.object.borrow_mut() = Some(sink.create(&format!("{stem}.jsonl"), "application/x-ndjson"));
        }
    }

    fn all_at_once(&self, sink: &Sink, text: &[u8]) -> Result<(), Error> {
        self.object(sink);
        if let Some(object) = self.object.borrow().as_ref() {
            object.write(text);
        }
        Ok(())
    }

    /// Computes without end.
    fn linger(&self) {
        while black_box(self.batches.get()) < u32::MAX {
            black_box(());
        }
    }
}

/// The values of each row alone, in the order of the columns' names.
fn by_name(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let row = |line: &str| {
        let mut columns: Vec<&str> = line.trim_matches(['{', '}']).split(',').collect();
        columns.sort_unstable();
        let values: Vec<&str> = columns.iter().filter_map(|column| Some(column.split_once(':')?.1)).collect();
        format!("{}\n", values.join(","))
    };
    text.lines().map(row).collect::<String>().into_bytes()
}

fn count(text: &[u8], word: &[u8]) -> usize {
    text.windows(word.len()).filter(|window| *window == word).count()
}
