//! Rows of text that are written column by column.

mod scalars;
mod slots;
mod writers;

use super::cursor::{Affix, Cursor};
use super::{Buffer, Special};
use crate::Validity;
use crate::views::{Bools, Bytes, Native, Values};

use slots::MARGIN;
pub(crate) use slots::Slots;
use writers::{By, Nothing, ShortTexts, Texts, Writer};

/// Rows of one block: as many as a word has bits, so that one tells of all
/// which are null.
const ROWS: usize = 64;

/// Some consecutive rows of a batch as text, to which one column after another
/// is appended: a loop over the values of one column is much faster than one
/// over the columns of a row, where each value is of another type. See
/// [`RowWriter::write_columns`](crate::RowWriter::write_columns).
#[derive(Debug, Default)]
pub struct Block {
    slots: Slots,
    /// The batch's row that is the first here.
    first: usize,
    /// How often half as many rows were still too wide to be written at once.
    halved: u32,
    scratch: Buffer,
}

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
}

impl Block {
    /// Appends the same text to each row.
    pub fn literal(&mut self, text: &[u8]) {
        self.affix(&Affix::new(text));
    }

    /// Puts a byte in the place of each row's first, or into an empty row.
    pub(crate) fn open_with(&mut self, byte: u8) {
        for index in 0..self.slots.rows() {
            match self.slots.first_mut(index) {
                Some(first) => *first = byte,
                None => self.slots.append(index, &[byte]),
            }
        }
    }

    /// Appends what `write` appends, for each row in turn: of values that have
    /// no faster way.
    pub fn cells(&mut self, mut write: impl FnMut(usize, &mut Buffer)) {
        for index in 0..self.slots.rows() {
            self.append(index, |row, out| write(row, out));
        }
    }

    /// Appends booleans, as the first of `texts` when true.
    pub fn bools(&mut self, bools: &Bools<'_>, validity: Validity<'_>, around: &Around, texts: [&[u8]; 2]) {
        let (first, rows) = (self.first, self.slots.rows());
        let values = (first..first + rows).map(|row| bools.value(row));
        let [yes, no] = texts.map(Affix::new);
        let ([yes_lanes], [no_lanes]) = (yes.lanes(), no.lanes());
        let (yes_len, no_len) = (yes.len(), no.len());
        let is_short = yes_len.max(no_len) <= 16;
        let writer = By(move |cursor: &mut Cursor, value: bool| {
            let (lanes, length) = if value { (yes_lanes, yes_len) } else { (no_lanes, no_len) };
            cursor.lanes(lanes, length);
            is_short
        });
        // SAFETY: sixteen bytes are touched.
        let others = unsafe { self.column(validity, around, yes_len.max(no_len), values, writer) };
        for index in ones(others) {
            self.append_within(index, around, |row, out| out.affix(if bools.value(row) { &yes } else { &no }));
        }
    }

    /// Appends texts. Of one that is not `plain`, `other` appends what stands
    /// for it; of a plain one it must append the text.
    pub fn texts(
        &mut self,
        texts: &Bytes<'_>,
        validity: Validity<'_>,
        around: &Around,
        plain: &Plain,
        mut other: impl FnMut(&[u8], &mut Buffer),
    ) {
        let texts = texts.slice(self.first, self.slots.rows());
        let others = match texts.small_offsets() {
            Some(offsets) => {
                let places = || {
                    offsets.array_windows().map(|[start, end]| (u32::from_le_bytes(*start), u32::from_le_bytes(*end)))
                };
                self.places(&texts, validity, around, plain, || places().map(|(a, b)| (a as usize, b as usize)))
            }
            None => {
                let places = || (0..texts.rows()).map(|row| texts.place(row).1);
                self.places(&texts, validity, around, plain, || places().map(|place| (place.start, place.end)))
            }
        };
        for index in ones(others) {
            self.append_within(index, around, |_, out| other(texts.value(index), out));
        }
    }

    /// Appends the plain ones of texts that lie at `places`.
    fn places<P: Iterator<Item = (usize, usize)>>(
        &mut self,
        texts: &Bytes<'_>,
        validity: Validity<'_>,
        around: &Around,
        plain: &Plain,
        places: impl Fn() -> P,
    ) -> u64 {
        let (values, special) = (texts.values(), plain.special);
        let but_of_length = plain.but_of_length.unwrap_or(usize::MAX);
        let width = places().fold(0, |longest, (start, end)| longest.max(end.wrapping_sub(start)));
        // The texts of a block lie one after the other, and mostly all are plain.
        let writer = Texts { values, but_of_length, special, are_checked: special.is_in(texts.whole()) };
        // SAFETY: a text touches its length, or as many times sixteen bytes as the longest has.
        unsafe {
            match width.div_ceil(16) {
                0 | 1 => self.short_texts::<1>(validity, around, width, places(), writer),
                2 => self.short_texts::<2>(validity, around, width, places(), writer),
                3 => self.short_texts::<3>(validity, around, width, places(), writer),
                _ => self.column(validity, around, width, places(), writer),
            }
        }
    }

    /// The same for texts of at most so many times sixteen bytes.
    ///
    /// # Safety
    /// All of these must not be more than `width` and sixteen bytes.
    unsafe fn short_texts<const PIECES: usize>(
        &mut self,
        validity: Validity<'_>,
        around: &Around,
        width: usize,
        places: impl Iterator<Item = (usize, usize)>,
        texts: Texts<'_>,
    ) -> u64 {
        // SAFETY: the caller's promise.
        unsafe {
            match texts.are_checked {
                true => self.column(validity, around, width, places, ShortTexts::<PIECES, true>(texts)),
                false => self.column(validity, around, width, places, ShortTexts::<PIECES, false>(texts)),
            }
        }
    }

    /// Appends the values that `writer` writes, each of at most `width` bytes; `other`
    /// appends those that it does not.
    ///
    /// # Safety
    /// `writer` must not touch more than `width` and sixteen bytes.
    unsafe fn values<T: Native>(
        &mut self,
        values: &Values<'_, T>,
        validity: Validity<'_>,
        around: &Around,
        width: usize,
        writer: impl Writer<T>,
        other: impl Fn(usize, &mut Buffer),
    ) {
        let values = values.slice(self.first, self.slots.rows());
        // SAFETY: the caller's promise.
        let others = unsafe { self.column(validity, around, width, values.present(), writer) };
        for index in ones(others) {
            self.append_within(index, around, &other);
        }
    }

    /// Appends what stands for nulls, and other values by `writer` with what
    /// stands around them. The answer has a bit for each row that it did not
    /// write, to which nothing has been appended.
    ///
    /// # Safety
    /// `writer` must not write more than `width` bytes, nor touch sixteen more.
    #[inline(always)]
    unsafe fn column<V>(
        &mut self,
        validity: Validity<'_>,
        around: &Around,
        width: usize,
        values: impl Iterator<Item = V>,
        writer: impl Writer<V>,
    ) -> u64 {
        self.affix(&around.lead);
        let valid = validity.word(self.first);
        let Around { before, quote, null, .. } = around;
        let width = (before.len() + width + 1).max(null.len());
        let rows = self.slots.rows();
        let Some((base, all_ends)) = self.slots.room(width) else { return 0 };
        let (room, all) = (width + MARGIN, u64::MAX >> (ROWS - rows));
        let starts = if all & !valid > 0 { Some(*all_ends) } else { None };
        let ends = all_ends.get_mut(..rows).unwrap_or_default();
        // SAFETY: every row has room for what stands before a value, the value and
        // the quote, and for what they touch besides.
        let others = unsafe {
            match (before.pieces(), quote) {
                _ if all & valid == 0 => 0,
                (0 | 1, None) => each::<1, false, V>(base, ends, room, before, 0, values, writer),
                (0 | 1, Some(quote)) => each::<1, true, V>(base, ends, room, before, *quote, values, writer),
                (PIECES_MAX, None) => each::<PIECES_MAX, false, V>(base, ends, room, before, 0, values, writer),
                (PIECES_MAX, Some(quote)) => {
                    each::<PIECES_MAX, true, V>(base, ends, room, before, *quote, values, writer)
                }
                _ => all,
            }
        };
        // Whatever lay where a null is, was written and is taken back: to ask before
        // each value whether it is null costs more.
        if let Some(starts) = starts {
            ones(all & !valid).for_each(|index| self.slots.rewind(index, starts[index]));
            ones(all & !valid).for_each(|index| self.slots.append_affix(index, null));
        }
        others & valid
    }

    fn affix(&mut self, affix: &Affix) {
        if affix.len() == 0 {
            return;
        }
        let around = Around { before: affix.clone(), ..Around::default() };
        let nothing = std::iter::repeat_n((), self.slots.rows());
        // SAFETY: no value is written.
        let others = unsafe { self.column(Validity::all_valid(), &around, 0, nothing, Nothing) };
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
        self.scratch.clear();
        write(self.first + index, &mut self.scratch);
        self.slots.append(index, self.scratch.as_bytes());
    }

    /// Has `write` append every column to rows from `first` on, at most `rows`
    /// of them.
    pub(crate) fn fill(&mut self, first: usize, rows: usize, mut write: impl FnMut(&mut Block)) {
        let halved = self.halved;
        loop {
            self.first = first;
            self.slots.begin(rows.min(ROWS >> self.halved));
            write(self);
            if !self.slots.too_wide() {
                break;
            }
            self.halved += 1;
        }
        if self.halved == halved {
            self.halved = halved.saturating_sub(1);
        }
    }

    /// The rows that were written.
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }
}

/// Lets `writer` append to each row. A function of its own for each type of
/// column, so that what the loop needs is in registers.
///
/// # Safety
/// `ends` must be places after `base` with `room` bytes to write, which must be those
/// that `before`, of at most `N` pieces, a value and a quote touch.
#[inline(never)]
unsafe fn each<const N: usize, const QUOTED: bool, V>(
    base: *mut u8,
    ends: &mut [usize],
    room: usize,
    before: &Affix,
    quote: u8,
    values: impl Iterator<Item = V>,
    mut writer: impl Writer<V>,
) -> u64 {
    let (before, before_len) = (before.lanes::<N>(), before.len().min(16 * N));
    let mut others = 0;
    for (index, (end, value)) in ends.iter_mut().zip(values).enumerate() {
        // SAFETY: the caller's promise.
        let mut cursor = unsafe { Cursor::new(base.add(*end), room) };
        cursor.pieces(before, before_len);
        if writer.write(&mut cursor, value) {
            if QUOTED {
                cursor.push(quote);
            }
            // SAFETY: the cursor was made from `base` and moved forward.
            *end = unsafe { cursor.position().offset_from_unsigned(base) };
        } else {
            others |= 1 << index;
        }
    }
    others
}

/// The places of the bits that are set.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (index < ROWS).then_some(index)
    })
}
