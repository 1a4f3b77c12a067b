use crate::Error;
use crate::output::{FLUSH_BYTES, Object, Output};
use crate::text::{Block, Buffer};

/// Writes the objects of a row-oriented text format: append a row to
/// [`row`](RowWriter::row), call [`end_row`](RowWriter::end_row), and at the
/// end [`finish`](RowWriter::finish).
///
/// Bytes go to the host in large writes. When the share splits, every object
/// is complete (header, whole rows, footer) and none exceeds the limit, unless
/// a single row does.
pub struct RowWriter {
    header: Vec<u8>,
    footer: Footer,
    buffer: Buffer,
    block: Box<Block>,
    /// Where in `buffer` the present row begins.
    row_start: usize,
    /// The length of `buffer` at which something must be done.
    threshold: usize,
    object: Option<OpenObject>,
}

struct OpenObject {
    object: Object,
    rows: u64,
}

struct Footer {
    bytes: usize,
    /// Of so many rows.
    of: Box<dyn Fn(u64) -> Result<Vec<u8>, Error>>,
}

impl RowWriter {
    /// A writer that begins every object with `header`.
    pub fn new(header: impl Into<Vec<u8>>) -> Self {
        RowWriter {
            header: header.into(),
            footer: Footer { bytes: 0, of: Box::new(|_| Ok(Vec::new())) },
            buffer: Buffer::new(),
            block: Box::default(),
            row_start: 0,
            threshold: 0,
            object: None,
        }
    }

    /// Also ends every object with `footer`.
    pub fn with_footer(self, footer: impl Into<Vec<u8>>) -> Self {
        let footer = footer.into();
        self.with_trailer(footer.len(), move |_| Ok(footer.clone()))
    }

    /// Also ends every object with what `trailer` makes of the number of its
    /// rows, which must be so many bytes for any number.
    pub fn with_trailer(mut self, bytes: usize, trailer: impl Fn(u64) -> Result<Vec<u8>, Error> + 'static) -> Self {
        self.footer = Footer { bytes, of: Box::new(trailer) };
        self
    }

    /// The buffer to append the present row to, its line ending included. What
    /// is already in it must not be touched.
    #[inline(always)]
    pub fn row(&mut self) -> &mut Buffer {
        &mut self.buffer
    }

    /// The row is complete.
    #[inline(always)]
    pub fn end_row(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        if self.buffer.len() > self.threshold {
            self.make_room(out)?;
        }
        self.row_start = self.buffer.len();
        if let Some(open) = &mut self.object {
            open.rows += 1;
        }
        Ok(())
    }

    /// Writes rows whose columns are appended one after the other, which is much
    /// faster than one row after the other: `columns` appends every column of the
    /// next rows of a batch with `rows` rows to the block that it is given, and is
    /// called until all are written. What it appends must depend on the rows alone:
    /// it may be called again for the same ones.
    pub fn write_columns(
        &mut self,
        rows: usize,
        out: &mut Output<'_>,
        mut columns: impl FnMut(&mut Block),
    ) -> Result<(), Error> {
        let mut block = std::mem::take(&mut self.block);
        let mut written = 0;
        while written < rows {
            block.fill(written, rows - written, &mut columns);
            let slots = block.slots();
            written += slots.rows();
            match &mut self.object {
                // Nothing to be done between two rows.
                Some(open) if out.max_object_bytes().is_none() => {
                    self.buffer.extend_slots(slots.iter(), slots.size());
                    open.rows += slots.rows() as u64;
                    if self.buffer.len() > self.threshold {
                        self.make_room(out)?;
                    }
                }
                _ => {
                    for (row, length) in slots.iter() {
                        self.buffer.extend(row.get(..length).unwrap_or_default());
                        self.end_row(out)?;
                    }
                }
            }
        }
        self.block = block;
        Ok(())
    }

    /// Finishes the last object; without any row, one that has the header only.
    pub fn finish(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        let open = match self.object.take() {
            Some(open) => open,
            None => self.open(out)?,
        };
        self.close(open)
    }

    /// Called with a complete row at the end of the buffer that is the first,
    /// fills the buffer, or makes the object too large.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, out: &mut Output<'_>) -> Result<(), Error> {
        let mut open = match self.object.take() {
            Some(open) => open,
            None => self.open(out)?,
        };
        if let Some(limit) = out.max_object_bytes() {
            let size = open.object.bytes() + (self.buffer.len() + self.footer.bytes) as u64;
            if size > limit && open.rows > 0 {
                let row = self.buffer.as_bytes()[self.row_start..].to_vec();
                self.buffer.truncate(self.row_start);
                self.close(open)?;
                open = self.open(out)?;
                self.buffer.extend(&row);
            }
        }
        if self.buffer.len() >= FLUSH_BYTES {
            open.object.write(self.buffer.as_bytes());
            self.buffer.clear();
        }
        let room = out
            .max_object_bytes()
            .map_or(u64::MAX, |limit| limit.saturating_sub(open.object.bytes() + self.footer.bytes as u64));
        self.threshold = usize::try_from(room).unwrap_or(usize::MAX).min(FLUSH_BYTES);
        self.object = Some(open);
        Ok(())
    }

    /// Begins an object and puts its header before what is in the buffer.
    fn open(&mut self, out: &mut Output<'_>) -> Result<OpenObject, Error> {
        let object = out.next_object()?;
        self.buffer.prepend(&self.header);
        Ok(OpenObject { object, rows: 0 })
    }

    fn close(&mut self, mut open: OpenObject) -> Result<(), Error> {
        self.buffer.extend(&(self.footer.of)(open.rows)?);
        open.object.write(self.buffer.as_bytes());
        self.buffer.clear();
        open.object.finish(open.rows);
        Ok(())
    }
}
