//! The first rows, which are held back: columns come before all rows in a sheet, and
//! are to be as wide as what is in them, in whatever batches that comes.

use consign_sdk::Error;
use consign_sdk::text::Buffer;

use crate::cells::LATER;

/// Rows that are looked at.
const ROWS: usize = 200;
/// Bytes of XML after which no more are: rows may be long.
const BYTES: usize = 1 << 20;

/// Rows without their numbers.
#[derive(Default)]
pub(crate) struct Sample {
    xml: Buffer,
    ends: Vec<usize>,
}

impl Sample {
    /// Holds back a row, whose cells `write` appends. Returns whether there are enough.
    pub fn keep(&mut self, write: impl FnOnce(&mut Buffer) -> Result<(), Error>) -> Result<bool, Error> {
        write(&mut self.xml)?;
        self.ends.push(self.xml.len());
        Ok(self.ends.len() == ROWS || self.xml.len() >= BYTES)
    }

    /// The cells of each row.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| self.xml.as_bytes().get(begin..*end).unwrap_or_default())
    }
}

/// Appends the cells of a row that is `number` in its sheet.
pub(crate) fn numbered(cells: &[u8], number: u32, out: &mut Buffer) {
    let mut parts = cells.split(|byte| *byte == LATER);
    out.extend(parts.next().unwrap_or_default());
    for part in parts {
        out.u64(number.into());
        out.extend(part);
    }
}
