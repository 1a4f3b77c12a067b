//! Rows of text that are written column by column.

use std::ops::Range;

use super::buffer::SLACK;
use super::cursor::{Affix, Cursor};
use super::lanes::Lanes;
use super::{Buffer, Special};
use crate::views::{Bools, Bytes, Native, Validity, Values};

/// Rows of one block: as many as a word has bits, so that one tells of all
/// which are null.
pub(super) const ROWS: usize = 64;

/// Bytes of all rows of a block, unless it has one row only: what stays in the
/// processor's caches while column after column is written.
const BYTES_MAX: usize = 256 * 1024;

/// Bytes of one row at first.
const STRIDE: usize = 3 * 64;

/// Some consecutive rows of a batch as text, to which one column after another
/// is appended: a loop over the values of one column is much faster than one
/// over the columns of a row, where each value is of another type. See
/// [`RowWriter::write_columns`](crate::RowWriter::write_columns).
#[derive(Debug, Default)]
pub struct Block {
    /// A slot of `stride` bytes for each row, and [`SLACK`].
    bytes: Vec<u8>,
    stride: usize,
    /// Where in `bytes` each row ends.
    ends: Ends,
    /// The batch's row that is the first here, and how many follow it.
    first: usize,
    rows: usize,
    /// No row is longer.
    longest: usize,
    /// The rows are so long that fewer must be written at once …
    too_wide: bool,
    /// … and how often half of them have been too many.
    halved: u32,
    scratch: Buffer,
}

#[derive(Debug)]
struct Ends([usize; ROWS]);

/// What stands around the values of a column.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// What `before` and `null` begin with, if they are long.
    lead: Affix,
    before: Affix,
    quote: Option<u8>,
    null: Affix,
}

/// Which texts are copied as they are.
#[derive(Debug, Clone, Copy)]
pub struct Plain {
    /// Those without any of these bytes …
    pub special: Special,
    /// … and not of this length, if any.
    pub but_of_length: Option<usize>,
}

/// What the loop over a column needs to know of [`Around`], if `before` is at most
/// `N` pieces long.
struct Frame<const N: usize> {
    before: [Lanes; N],
    before_len: usize,
    null: Lanes,
    null_len: usize,
    quote: u8,
    is_quoted: bool,
    /// A bit for each row.
    valid: u64,
}

/// The most pieces that `before` may have besides what it shares with `null`.
const PIECES_MAX: usize = 2;

impl Around {
    /// `before` stands before each value and a `quote`, if there is one, after it;
    /// in place of all stands `null` for one that is null.
    pub fn new(before: &[u8], quote: Option<u8>, null: &[u8]) -> Self {
        let common = before.iter().zip(null).take_while(|(a, b)| a == b).count();
        let lead = if before.len() > 16 * PIECES_MAX { common } else { 0 };
        let part = |text: &[u8]| Affix::new(text.get(lead..).unwrap_or_default());
        let lead_of = before.get(..lead).unwrap_or_default();
        Around { lead: Affix::new(lead_of), before: part(before), quote, null: part(null) }
    }

    fn frame<const N: usize>(&self, valid: u64) -> Frame<N> {
        let [null] = self.null.lanes();
        Frame {
            before: self.before.lanes(),
            before_len: self.before.len(),
            null,
            // A longer one is appended after the loop.
            null_len: if self.has_short_null() { self.null.len() } else { 0 },
            quote: self.quote.unwrap_or(0),
            is_quoted: self.quote.is_some(),
            valid,
        }
    }

    fn has_short_null(&self) -> bool {
        self.null.len() <= 16
    }
}

impl Block {
    /// Appends the same text to each row.
    pub fn literal(&mut self, text: &[u8]) {
        self.affix(&Affix::new(text));
    }

    /// Puts a byte in the place of each row's first, or into an empty row.
    pub(crate) fn open_with(&mut self, byte: u8) {
        for index in 0..self.rows {
            let start = index * self.stride;
            if self.ends.0.get(index) == Some(&start) {
                self.append(index, |_, out| out.push(byte));
            } else if let Some(first) = self.bytes.get_mut(start) {
                *first = byte;
            }
        }
    }

    /// Appends what `write` appends, for each row in turn: of values that have
    /// no faster way.
    pub fn cells(&mut self, mut write: impl FnMut(usize, &mut Buffer)) {
        for index in 0..self.rows {
            self.append(index, |row, out| write(row, out));
        }
    }

    /// Appends booleans, as the first of `texts` when true.
    pub fn bools(&mut self, bools: &Bools<'_>, validity: Validity<'_>, around: &Around, texts: [&[u8]; 2]) {
        let (first, rows) = (self.first, self.rows);
        let values = (first..first + rows).map(|row| bools.value(row));
        let [yes, no] = texts.map(Affix::new);
        let ([yes_lanes], [no_lanes]) = (yes.lanes(), no.lanes());
        let (yes_len, no_len) = (yes.len(), no.len());
        let is_short = yes_len.max(no_len) <= 16;
        let write = move |cursor: &mut Cursor, value: bool| {
            let (lanes, length) = if value { (yes_lanes, yes_len) } else { (no_lanes, no_len) };
            cursor.lanes(lanes, length);
            is_short
        };
        // SAFETY: sixteen bytes are touched.
        let others = unsafe { self.column(validity, around, 16, values, write) };
        for index in ones(others) {
            self.append_within(index, around, |row, out| out.affix(if bools.value(row) { &yes } else { &no }));
        }
    }

    /// Appends texts. Of one that is not `plain`, `other` appends what stands
    /// for it.
    pub fn texts(
        &mut self,
        texts: &Bytes<'_>,
        validity: Validity<'_>,
        around: &Around,
        plain: &Plain,
        mut other: impl FnMut(&[u8], &mut Buffer),
    ) {
        let texts = texts.slice(self.first, self.rows);
        let (values, special) = (texts.values(), plain.special);
        // The texts of a block lie one after the other, and mostly all are plain.
        let all_plain = !special.is_in(texts.whole());
        let but_of_length = plain.but_of_length.unwrap_or(usize::MAX);
        let write = move |cursor: &mut Cursor, place: Range<usize>| {
            let is_plain = place.len() != but_of_length
                && (all_plain || !special.is_in(values.get(place.clone()).unwrap_or_default()));
            if is_plain {
                write_text(cursor, values, place);
            }
            is_plain
        };
        let width = texts.longest().next_multiple_of(16).max(16);
        // SAFETY: a text touches its length, or sixteen bytes if it is shorter.
        let others = unsafe {
            match texts.small_offsets() {
                Some(offsets) => {
                    let places = offsets.array_windows().map(|[start, end]| {
                        u32::from_le_bytes(*start) as usize..u32::from_le_bytes(*end) as usize
                    });
                    self.column(validity, around, width, places, write)
                }
                None => self.column(validity, around, width, (0..self.rows).map(|row| texts.place(row).1), write),
            }
        };
        for index in ones(others) {
            self.append_within(index, around, |_, out| other(texts.value(index), out));
        }
    }

    /// Appends the values that `write` writes, each into `width` bytes. It answers
    /// for which it does not; `other` appends these.
    ///
    /// # Safety
    /// `write` must not touch more than `width` bytes.
    pub(super) unsafe fn values<T: Native>(
        &mut self,
        values: &Values<'_, T>,
        validity: Validity<'_>,
        around: &Around,
        width: usize,
        write: impl Fn(&mut Cursor, T) -> bool,
        other: impl Fn(usize, &mut Buffer),
    ) {
        let values = values.slice(self.first, self.rows);
        // SAFETY: the caller's promise.
        let others = unsafe { self.column(validity, around, width, values.present(), write) };
        for index in ones(others) {
            self.append_within(index, around, &other);
        }
    }

    /// Appends what stands for nulls, and other values by `write` with what
    /// stands around them. The answer has a bit for each row that it did not
    /// write, to which nothing has been appended.
    ///
    /// # Safety
    /// `write` must not touch more than `width` bytes.
    #[inline(always)]
    unsafe fn column<V>(
        &mut self,
        validity: Validity<'_>,
        around: &Around,
        width: usize,
        values: impl Iterator<Item = V>,
        write: impl Fn(&mut Cursor, V) -> bool,
    ) -> u64 {
        self.affix(&around.lead);
        let valid = validity.word(self.first);
        let (base, ends, room) = match self.room((around.before.width() + width + 1).max(16)) {
            Some(room) => room,
            None => return 0,
        };
        let present = u64::MAX >> (ROWS - ends.len()) & valid;
        // SAFETY: every row has room for the pieces, the value and the quote, or
        // for a null.
        let others = unsafe {
            match around.before.pieces() {
                0 | 1 => each(base, ends, room, around.frame::<1>(valid), values, write),
                PIECES_MAX => each(base, ends, room, around.frame::<PIECES_MAX>(valid), values, write),
                _ => present,
            }
        };
        if !around.has_short_null() {
            for index in ones(u64::MAX >> (ROWS - self.rows) & !valid) {
                self.append(index, |_, out| out.affix(&around.null));
            }
        }
        others
    }

    fn affix(&mut self, affix: &Affix) {
        if affix.len() == 0 {
            return;
        }
        let around = Around { before: affix.clone(), ..Around::default() };
        let nothing = std::iter::repeat_n((), self.rows);
        // SAFETY: no value is written.
        let others = unsafe { self.column(Validity::all_valid(), &around, 0, nothing, |_, ()| true) };
        for index in ones(others) {
            self.append(index, |_, out| out.affix(affix));
        }
    }

    fn append_within(&mut self, index: usize, around: &Around, write: impl FnOnce(usize, &mut Buffer)) {
        self.append(index, |row, out| {
            out.affix(&around.before);
            write(row, out);
            if let Some(quote) = around.quote {
                out.push(quote);
            }
        });
    }

    /// Appends to one row.
    #[inline(never)]
    fn append(&mut self, index: usize, write: impl FnOnce(usize, &mut Buffer)) {
        let mut text = std::mem::take(&mut self.scratch);
        text.clear();
        write(self.first + index, &mut text);
        if self.make_room(text.len())
            && let Some(end) = self.ends.0.get_mut(index)
            && let Some(to) = self.bytes.get_mut(*end..*end + text.len())
        {
            to.copy_from_slice(text.as_bytes());
            *end += text.len();
        }
        self.scratch = text;
    }
}

/// Lets `write` append to each row. A function of its own for each type of
/// column, so that what the loop needs is in registers.
///
/// # Safety
/// `ends` must be places after `base` with `room` bytes to write, which are those
/// that the pieces of `before`, a value and a quote touch, or a null.
#[inline(never)]
unsafe fn each<const N: usize, V>(
    base: *mut u8,
    ends: &mut [usize],
    room: usize,
    frame: Frame<N>,
    values: impl Iterator<Item = V>,
    write: impl Fn(&mut Cursor, V) -> bool,
) -> u64 {
    let Frame { before, before_len, null, null_len, quote, is_quoted, valid } = frame;
    let mut others = 0;
    for (index, (end, value)) in ends.iter_mut().zip(values).enumerate() {
        // SAFETY: the caller's promise.
        let mut cursor = unsafe { Cursor::new(base.add(*end), room) };
        if valid >> index & 1 == 1 {
            cursor.pieces(before, before_len);
            if write(&mut cursor, value) {
                cursor.push_if(quote, is_quoted);
            } else {
                others |= 1 << index;
                continue;
            }
        } else {
            cursor.lanes(null, null_len);
        }
        // SAFETY: the cursor was made from `base` and moved forward.
        *end = unsafe { cursor.position().offset_from_unsigned(base) };
    }
    others
}

/// How the block is filled and emptied.
impl Block {
    /// Has `write` append every column to rows from `first` on, at most `rows`
    /// of them, and answers how many.
    pub(crate) fn fill(&mut self, first: usize, rows: usize, mut write: impl FnMut(&mut Block)) -> usize {
        let halved = self.halved;
        loop {
            let rows = rows.min(ROWS >> self.halved);
            self.begin(first, rows);
            write(self);
            if !self.too_wide {
                if self.halved == halved {
                    self.halved = halved.saturating_sub(1);
                }
                return rows;
            }
            self.halved += 1;
        }
    }

    /// The rows, each with at least [`SLACK`] bytes after its end, and their
    /// lengths.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let ends = self.ends.0.iter().take(self.rows).enumerate();
        ends.map(|(index, end)| {
            let start = index * self.stride;
            (self.bytes.get(start..).unwrap_or_default(), end - start)
        })
    }

    fn begin(&mut self, first: usize, rows: usize) {
        if rows * self.stride > BYTES_MAX || self.stride == 0 {
            (self.stride, self.bytes) = (STRIDE, Vec::new());
        }
        (self.first, self.rows, self.longest, self.too_wide) = (first, rows, 0, false);
        self.lay_out();
    }

    /// Makes `bytes` large enough for the slots, and all of them empty.
    fn lay_out(&mut self) {
        let length = self.rows * self.stride + SLACK;
        if self.bytes.len() < length {
            self.bytes.resize(length, 0);
        }
        for (index, end) in self.ends.0.iter_mut().enumerate() {
            *end = index * self.stride;
        }
    }

    /// Where each row ends, when there is room for `width` more bytes.
    #[inline(always)]
    fn room(&mut self, width: usize) -> Option<(*mut u8, &mut [usize], usize)> {
        let has_room = self.make_room(width);
        let ends = self.ends.0.get_mut(..self.rows)?;
        has_room.then_some((self.bytes.as_mut_ptr(), ends, width))
    }

    /// Whether each row has room for `width` more bytes now.
    #[inline(always)]
    fn make_room(&mut self, width: usize) -> bool {
        self.longest += width;
        self.longest <= self.stride && !self.too_wide || self.make_more_room(width)
    }

    #[inline(never)]
    fn make_more_room(&mut self, width: usize) -> bool {
        let lengths = self.ends.0.iter().take(self.rows).enumerate().map(|(index, end)| end - index * self.stride);
        self.longest = lengths.max().unwrap_or(0) + width;
        if self.longest > self.stride && !self.too_wide {
            // An odd number of cache lines: rows whose distance is a power of two
            // would compete for the same places in the caches.
            let stride = (self.longest + self.longest / 4).next_multiple_of(128) + 64;
            self.too_wide = stride * self.rows > BYTES_MAX && self.rows > 1;
            if !self.too_wide {
                self.widen(stride);
            }
        }
        !self.too_wide
    }

    fn widen(&mut self, stride: usize) {
        let old = std::mem::take(&mut self.bytes);
        let (old_stride, old_ends) = (std::mem::replace(&mut self.stride, stride), self.ends.0);
        self.lay_out();
        for (index, (end, old_end)) in self.ends.0.iter_mut().zip(old_ends).take(self.rows).enumerate() {
            let row = old.get(index * old_stride..old_end).unwrap_or_default();
            if let Some(to) = self.bytes.get_mut(*end..*end + row.len()) {
                to.copy_from_slice(row);
                *end += row.len();
            }
        }
    }
}

impl Default for Ends {
    fn default() -> Self {
        Ends([0; ROWS])
    }
}

/// Touches as many bytes as the text has, or sixteen if it has fewer.
#[inline(always)]
fn write_text(cursor: &mut Cursor, values: &[u8], place: Range<usize>) {
    let length = place.len();
    if length > 16 {
        return cursor.long(values.get(place).unwrap_or_default());
    }
    match values.get(place.start..place.start + 16).and_then(<[u8]>::first_chunk) {
        Some(window) => cursor.lanes(Lanes::load(window), length),
        // Among the last sixteen bytes of all.
        None => write_last(cursor, values.get(place).unwrap_or_default()),
    }
}

#[cold]
#[inline(never)]
fn write_last(cursor: &mut Cursor, text: &[u8]) {
    cursor.bytes(text);
}

/// The places of the bits that are set.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (index < ROWS).then_some(index)
    })
}
