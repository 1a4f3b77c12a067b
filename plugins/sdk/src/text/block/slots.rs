//! The memory of a block: a slot for each row.

use super::super::buffer::SLACK;
use super::super::cursor::Affix;
use super::ROWS;

/// Bytes of all rows of a block, unless it has one row only: what stays in the
/// processor's caches while column after column is written.
const BYTES_MAX: usize = 256 * 1024;

/// Bytes of one slot at first.
const STRIDE: usize = 5 * 64;

/// Bytes after its text that writing to a row may touch.
pub const MARGIN: usize = 32;

/// Rows in slots of `stride` bytes each.
#[derive(Debug)]
pub struct Slots {
    /// All slots, and [`SLACK`].
    bytes: Vec<u8>,
    stride: usize,
    /// Where in `bytes` each row ends.
    ends: [usize; ROWS],
    rows: usize,
    /// No row is longer.
    longest: usize,
    /// So many rows are too wide to be written at once; nothing more is.
    too_wide: bool,
}

impl Slots {
    /// Empties the slots, of which there are so many from now on.
    pub fn begin(&mut self, rows: usize) {
        if rows * self.stride > BYTES_MAX {
            (self.stride, self.bytes) = (STRIDE, Vec::new());
        }
        (self.rows, self.longest, self.too_wide) = (rows, 0, false);
        self.lay_out();
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn too_wide(&self) -> bool {
        self.too_wide
    }

    /// The rows, each with at least [`SLACK`] bytes after its end, and their
    /// lengths.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], usize)> {
        self.lengths().map(|(index, length)| (self.bytes.get(index * self.stride..).unwrap_or_default(), length))
    }

    /// Bytes of all rows.
    pub fn size(&self) -> usize {
        self.lengths().map(|(_, length)| length).sum()
    }

    /// The first byte of a row, if it has one.
    pub fn first_mut(&mut self, index: usize) -> Option<&mut u8> {
        let start = index * self.stride;
        let is_empty = self.ends.get(index).is_none_or(|end| *end == start);
        self.bytes.get_mut(start).filter(|_| !is_empty)
    }

    /// Appends to one row.
    pub fn append(&mut self, index: usize, text: &[u8]) {
        if self.make_room(text.len())
            && let Some(end) = self.ends.get_mut(index)
            && let Some(to) = self.bytes.get_mut(*end..*end + text.len())
        {
            to.copy_from_slice(text);
            *end += text.len();
        }
    }

    /// The same; short ones cost little.
    pub(in crate::text) fn append_affix(&mut self, index: usize, affix: &Affix) {
        let text = affix.text();
        if let Some(piece) = affix.only_piece()
            && let Some(end) = self.ends.get_mut(index)
            && *end - index * self.stride + MARGIN <= self.stride
            && let Some(to) = self.bytes.get_mut(*end..*end + 16)
        {
            to.copy_from_slice(piece);
            *end += text.len();
        } else {
            self.append(index, text);
        }
    }

    /// Takes back what was appended to a row since it ended at `end`.
    pub fn rewind(&mut self, index: usize, end: usize) {
        if let Some(now) = self.ends.get_mut(index) {
            *now = end.clamp(index * self.stride, *now);
        }
    }

    /// The memory, and where in it each row ends, with room there for `width` bytes
    /// and the margin; none when the rows are too wide.
    #[inline(always)]
    pub fn room(&mut self, width: usize) -> Option<(*mut u8, &mut [usize; ROWS])> {
        self.make_room(width).then_some((self.bytes.as_mut_ptr(), &mut self.ends))
    }

    #[inline(always)]
    fn make_room(&mut self, width: usize) -> bool {
        self.longest += width;
        self.longest + MARGIN <= self.stride && !self.too_wide || self.make_more_room(width)
    }

    #[inline(never)]
    fn make_more_room(&mut self, width: usize) -> bool {
        self.longest = self.lengths().map(|(_, length)| length).max().unwrap_or(0) + width;
        if self.longest + MARGIN > self.stride && !self.too_wide {
            // An odd number of cache lines: rows whose distance is a power of two
            // would compete for the same places in the caches.
            let stride = (self.longest + self.longest / 4 + MARGIN).next_multiple_of(128) + 64;
            self.too_wide = stride * self.rows > BYTES_MAX && self.rows > 1;
            if !self.too_wide {
                self.widen(stride);
            }
        }
        !self.too_wide
    }

    fn widen(&mut self, stride: usize) {
        let old = std::mem::take(&mut self.bytes);
        let (old_stride, old_ends) = (std::mem::replace(&mut self.stride, stride), self.ends);
        self.lay_out();
        for (index, (end, old_end)) in self.ends.iter_mut().zip(old_ends).take(self.rows).enumerate() {
            let row = old.get(index * old_stride..old_end).unwrap_or_default();
            if let Some(to) = self.bytes.get_mut(*end..*end + row.len()) {
                to.copy_from_slice(row);
                *end += row.len();
            }
        }
    }

    /// Makes `bytes` large enough for the slots, and all of them empty.
    fn lay_out(&mut self) {
        let length = self.rows * self.stride + SLACK;
        if self.bytes.len() < length {
            self.bytes.resize(length, 0);
        }
        for (index, end) in self.ends.iter_mut().enumerate() {
            *end = index * self.stride;
        }
    }

    fn lengths(&self) -> impl Iterator<Item = (usize, usize)> {
        self.ends.iter().take(self.rows).enumerate().map(|(index, end)| (index, end - index * self.stride))
    }
}

impl Default for Slots {
    fn default() -> Self {
        Slots { bytes: Vec::new(), stride: STRIDE, ends: [0; ROWS], rows: 0, longest: 0, too_wide: false }
    }
}
