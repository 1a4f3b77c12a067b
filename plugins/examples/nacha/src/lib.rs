#![doc = include_str!("../README.md")]

mod entries;
mod options;
mod record;

use consign_sdk::{Batch, Error, Formatter, Object, Output, RunFacts, Schema};

use entries::{Entries, Entry};
pub use options::{EntryClass, LineEnding, Options, ServiceClass};
use record::{RECORD_CHARACTERS, Record};

/// A file is a whole number of blocks of so many records.
const BLOCK_RECORDS: u64 = 10;

/// Only the last ten digits of a hash are written.
const HASH_LIMIT: u64 = 10_000_000_000;

/// ACH entries in a NACHA file.
pub struct Nacha {
    options: Options,
    run: RunFacts,
    object: Option<Object>,
    /// Records written so far.
    records: u64,
    batches: u64,
    /// Of the batch that is being written.
    batch: Option<OpenBatch>,
    totals: Totals,
}

struct OpenBatch {
    effective_date: i32,
    totals: Totals,
}

/// What the controls of a batch and of the file add up.
#[derive(Default)]
struct Totals {
    entries: u64,
    hash: u64,
    debits: u64,
    credits: u64,
}

impl Formatter for Nacha {
    const NAME: &'static str = "nacha";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const EXTENSION: &'static str = "ach";
    const MEDIA_TYPE: &'static str = "text/plain; charset=us-ascii";
    type Options = Options;

    fn open(options: Options, schema: &Schema, run: &RunFacts) -> Result<Self, Error> {
        options.check()?;
        entries::check(schema)?;
        Ok(Nacha {
            options,
            run: run.clone(),
            object: None,
            records: 0,
            batches: 0,
            batch: None,
            totals: Totals::default(),
        })
    }

    fn write(&mut self, batch: &Batch<'_>, out: &mut Output<'_>) -> Result<(), Error> {
        let columns = batch.columns()?;
        let entries = Entries::of(&columns)?;
        let mut text = String::with_capacity(batch.rows() * (RECORD_CHARACTERS + 2));
        self.begin_file(out, &mut text)?;
        for row in 0..batch.rows() {
            let number = self.totals.entries + 1;
            let entry = entries.get(row, number)?;
            self.begin_batch(entry.effective_date, &mut text)?;
            self.entry(&entry, number, &mut text)?;
        }
        self.put(&text);
        Ok(())
    }

    fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        let mut text = String::new();
        self.begin_file(out, &mut text)?;
        self.end_batch(&mut text)?;
        self.end_file(&mut text)?;
        self.put(&text);
        if let Some(object) = self.object.take() {
            object.finish(self.totals.entries);
        }
        Ok(())
    }
}

impl Nacha {
    fn put(&mut self, text: &str) {
        if let Some(object) = &mut self.object {
            object.write(text.as_bytes());
        }
    }

    fn push(&mut self, record: Record, text: &mut String) -> Result<(), Error> {
        text.push_str(&record.finish()?);
        text.push_str(self.options.line_ending.text());
        self.records += 1;
        Ok(())
    }

    /// The one object and its file header, once.
    fn begin_file(&mut self, out: &mut Output<'_>, text: &mut String) -> Result<(), Error> {
        if self.object.is_some() {
            return Ok(());
        }
        self.object = Some(out.next_object()?);
        let Options { immediate_destination, immediate_origin, file_id_modifier, .. } = &self.options;
        // 2026-11-28T19:05:00Z
        let slot = self.run.slot().unwrap_or_default();
        let part = |from: usize, to: usize| slot.get(from..to).unwrap_or_default();
        let (date, time) = ([part(2, 4), part(5, 7), part(8, 10)].concat(), [part(11, 13), part(14, 16)].concat());
        let header = Record::new('1')
            .text("priority code", "01", 2)
            .right("immediate_destination", immediate_destination, 10)
            .right("immediate_origin", immediate_origin, 10)
            .text("slot", &date, 6)
            .text("slot", &time, 4)
            .text("file_id_modifier", file_id_modifier, 1)
            .number("record size", RECORD_CHARACTERS as u64, 3)
            .number("blocking factor", BLOCK_RECORDS, 2)
            .number("format code", 1, 1)
            .text("destination_name", &self.options.destination_name, 23)
            .text("origin_name", &self.options.origin_name, 23)
            .text("reference code", "", 8);
        self.push(header, text)
    }

    /// Entries of the same effective date are one batch.
    fn begin_batch(&mut self, effective_date: i32, text: &mut String) -> Result<(), Error> {
        if self.batch.as_ref().is_some_and(|batch| batch.effective_date == effective_date) {
            return Ok(());
        }
        self.end_batch(text)?;
        self.batches += 1;
        self.batch = Some(OpenBatch { effective_date, totals: Totals::default() });
        let options = &self.options;
        let header = Record::new('5')
            .number("service_class", options.service_class.code(), 3)
            .text("company_name", &options.company_name, 16)
            .text("discretionary data", "", 20)
            .text("company_id", &options.company_id, 10)
            .text("entry_class", options.entry_class.code(), 3)
            .text("entry_description", &options.entry_description, 10)
            .text("descriptive date", "", 6)
            .text("effective_date", &entries::yymmdd(effective_date), 6)
            // Filled by the ACH operator.
            .text("settlement date", "", 3)
            .number("originator status", 1, 1)
            .text("originating_bank", options.originating_bank(), 8)
            .number("number of batches", self.batches, 7);
        self.push(header, text)
    }

    fn entry(&mut self, entry: &Entry<'_>, number: u64, text: &mut String) -> Result<(), Error> {
        if !self.options.service_class.allows(entry.is_debit) {
            return Err(Error::Unsupported(format!(
                "entry {number} is a {} (transaction code {}), which options.service_class does not allow",
                if entry.is_debit { "debit" } else { "credit" },
                entry.transaction_code
            )));
        }
        let record = Record::new('6')
            .number("transaction_code", entry.transaction_code, 2)
            .text("routing_number", entry.routing_number, 9)
            .text("account_number", entry.account_number, 17)
            .number("amount", entry.cents, 10)
            .text("individual_id", entry.individual_id, 15)
            .text("individual_name", entry.individual_name, 22)
            .text("discretionary data", "", 2)
            // No addenda.
            .number("addenda indicator", 0, 1)
            .text("originating_bank", self.options.originating_bank(), 8)
            .number("number of entries", number, 7)
            .of_entry(number);
        self.push(record, text)?;
        self.totals.add(entry);
        if let Some(batch) = &mut self.batch {
            batch.totals.add(entry);
        }
        Ok(())
    }

    fn end_batch(&mut self, text: &mut String) -> Result<(), Error> {
        let Some(OpenBatch { totals, .. }) = self.batch.take() else { return Ok(()) };
        let options = &self.options;
        let control = Record::new('8')
            .number("service_class", options.service_class.code(), 3)
            .number("number of entries", totals.entries, 6)
            .number("entry hash", totals.hash, 10)
            .number("sum of debits", totals.debits, 12)
            .number("sum of credits", totals.credits, 12)
            .text("company_id", &options.company_id, 10)
            .text("message authentication code", "", 19)
            .text("reserved", "", 6)
            .text("originating_bank", options.originating_bank(), 8)
            .number("number of batches", self.batches, 7);
        self.push(control, text)
    }

    /// The file control, and records of nines up to the end of the block.
    fn end_file(&mut self, text: &mut String) -> Result<(), Error> {
        let Totals { entries, hash, debits, credits } = self.totals;
        let blocks = (self.records + 1).div_ceil(BLOCK_RECORDS);
        let control = Record::new('9')
            .number("number of batches", self.batches, 6)
            .number("number of blocks", blocks, 6)
            .number("number of entries", entries, 8)
            .number("entry hash", hash, 10)
            .number("sum of debits", debits, 12)
            .number("sum of credits", credits, 12)
            .text("reserved", "", 39);
        self.push(control, text)?;
        while self.records < blocks * BLOCK_RECORDS {
            let nines = "9".repeat(RECORD_CHARACTERS - 1);
            self.push(Record::new('9').text("filler", &nines, RECORD_CHARACTERS - 1), text)?;
        }
        Ok(())
    }
}

impl Totals {
    fn add(&mut self, entry: &Entry<'_>) {
        self.entries += 1;
        self.hash = (self.hash + entry.receiving_bank) % HASH_LIMIT;
        if entry.is_debit {
            self.debits += entry.cents;
        } else {
            self.credits += entry.cents;
        }
    }
}

consign_sdk::export!(Nacha);
