//! One workbook: a ZIP of XML, written from front to back, so that of its rows
//! only some are in memory at a time.
//!
//! The XML is our own for that reason: libraries for workbooks keep all cells in
//! memory, or in files, which a plugin has not.

use std::mem;

use consign_sdk::text::Buffer;
use consign_sdk::{Error, Object};

use crate::zip::Zip;

/// Rows that a sheet can have.
pub(crate) const SHEET_ROWS: u32 = 1_048_576;

/// Bytes handed to the host at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of XML after which they are compressed.
const XML_BYTES: usize = 64 * 1024;
/// After that much of a sheet another one begins: the ZIP counts in 32 bits.
const SHEET_XML_BYTES: u64 = 3 << 30;
/// What is written after the last row: the other parts and the directory.
const END_BYTES: u64 = 4096;
const END_BYTES_PER_SHEET: u64 = 512;

/// What each sheet begins with.
pub(crate) struct Head {
    pub sheet: String,
    pub freeze: bool,
    /// In characters.
    pub widths: Vec<usize>,
    /// The cells of the header; none without.
    pub cells: Option<Vec<u8>>,
    pub sheet_rows: u32,
    pub compression_level: u32,
    pub styles: String,
}

/// A workbook that is being written.
pub(crate) struct Workbook {
    object: Object,
    zip: Zip,
    /// XML of rows that is not compressed yet.
    xml: Buffer,
    sheets: usize,
    sheet_rows: u32,
    sheet_bytes: u64,
    rows: u64,
    /// The object's size when it was last known exactly.
    measured: u64,
}

impl Workbook {
    pub fn begin(object: Object, head: &Head) -> Result<Self, Error> {
        let mut workbook = Workbook {
            object,
            zip: Zip::new(head.compression_level),
            xml: Buffer::new(),
            sheets: 0,
            sheet_rows: 0,
            sheet_bytes: 0,
            rows: 0,
            measured: 0,
        };
        workbook.begin_sheet(head)?;
        Ok(workbook)
    }

    /// The number of the next row in its sheet, which begins if the last one is
    /// full.
    pub fn next_row(&mut self, head: &Head) -> Result<u32, Error> {
        if self.sheet_rows >= head.sheet_rows || self.sheet_bytes >= SHEET_XML_BYTES {
            self.end_sheet()?;
            self.begin_sheet(head)?;
        }
        self.sheet_rows += 1;
        self.rows += 1;
        Ok(self.sheet_rows)
    }

    /// Where to append the row.
    pub fn xml(&mut self) -> &mut Buffer {
        &mut self.xml
    }

    /// The row is complete. Returns whether so much has come together that it was
    /// compressed.
    pub fn end_row(&mut self) -> Result<bool, Error> {
        let enough = self.xml.len() >= XML_BYTES;
        if enough {
            self.compress()?;
        }
        Ok(enough)
    }

    /// Whether as much again as since the last question would make the object
    /// too large. Asking costs some compression.
    pub fn is_full(&mut self, limit: u64) -> Result<bool, Error> {
        self.zip.flush()?;
        self.drain(1);
        let now = self.object.bytes();
        let before = mem::replace(&mut self.measured, now);
        let end = END_BYTES + END_BYTES_PER_SHEET * self.sheets as u64;
        Ok(now + now.saturating_sub(before) + end > limit)
    }

    pub fn finish(mut self, head: &Head) -> Result<(), Error> {
        self.end_sheet()?;
        let names: Vec<String> = (1..=self.sheets).map(|number| sheet_name(&head.sheet, number)).collect();
        let parts = crate::parts::others(&names, &head.styles);
        for (name, xml) in parts {
            self.zip.begin(name)?;
            self.zip.write(xml.as_bytes())?;
        }
        let Workbook { mut object, zip, rows, .. } = self;
        object.write(&zip.finish()?);
        object.finish(rows);
        Ok(())
    }

    fn begin_sheet(&mut self, head: &Head) -> Result<(), Error> {
        self.sheets += 1;
        self.sheet_bytes = 0;
        self.zip.begin(&crate::parts::sheet_path(self.sheets))?;
        crate::parts::sheet_begin(head, self.sheets, &mut self.xml);
        self.sheet_rows = 0;
        if let Some(cells) = &head.cells {
            self.sheet_rows = 1;
            self.xml.extend(b"<row r=\"1\">");
            self.xml.extend(cells);
            self.xml.extend(b"</row>");
        }
        Ok(())
    }

    fn end_sheet(&mut self) -> Result<(), Error> {
        self.xml.extend(b"</sheetData></worksheet>");
        self.compress()
    }

    fn compress(&mut self) -> Result<(), Error> {
        self.zip.write(self.xml.as_bytes())?;
        self.sheet_bytes += self.xml.len() as u64;
        self.xml.clear();
        self.drain(CHUNK_BYTES);
        Ok(())
    }

    /// Hands over what has been written, if it is as much.
    fn drain(&mut self, least: usize) {
        if self.zip.written().len() >= least {
            let written = mem::take(self.zip.written());
            self.object.write(&written);
        }
    }
}

/// `Data`, `Data 2`, `Data 3`.
fn sheet_name(first: &str, number: usize) -> String {
    if number == 1 { first.to_owned() } else { format!("{first} {number}") }
}
