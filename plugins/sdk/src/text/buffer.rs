use super::cursor::{Affix, Cursor};
use super::lanes::Lanes;

/// How much memory must be after a text that [`Buffer::extend_slots`] copies.
pub(crate) const SLACK: usize = 64;

/// A growing byte buffer that numbers, dates and text are appended to without
/// an allocation or a copy of their own.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Buffer::default()
    }

    /// What has been appended.
    #[inline(always)]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Number of bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Drops all bytes, keeping the memory.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Drops all but the first `length` bytes.
    #[inline(always)]
    pub fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    /// Appends one byte.
    #[inline(always)]
    pub fn push(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Appends bytes.
    #[inline(always)]
    pub fn extend(&mut self, bytes: &[u8]) {
        let count = bytes.len();
        if count > 64 {
            return self.bytes.extend_from_slice(bytes);
        }
        // SAFETY: 64 bytes are room for as many as there are.
        unsafe { self.put(64, |cursor| cursor.bytes(bytes)) }
    }

    /// Puts bytes before all others.
    pub(crate) fn prepend(&mut self, bytes: &[u8]) {
        self.bytes.splice(0..0, bytes.iter().copied());
    }

    /// Puts a byte before the one at `at`.
    pub(super) fn insert(&mut self, at: usize, byte: u8) {
        self.bytes.insert(at, byte);
    }

    /// Puts zeros before the byte at `at`.
    pub(super) fn insert_zeros(&mut self, at: usize, count: usize) {
        self.bytes.splice(at..at, std::iter::repeat_n(b'0', count));
    }

    /// Appends the first `used` bytes (at most 8) of `word`, the least
    /// significant first.
    #[inline(always)]
    pub(crate) fn word(&mut self, word: u64, used: usize) {
        // SAFETY: a word touches eight bytes.
        unsafe { self.put(8, |cursor| cursor.word(word, used)) }
    }

    /// Appends one value.
    #[inline(always)]
    pub(super) fn value(&mut self, write: impl FnOnce(&mut Cursor)) {
        // SAFETY: a value touches no more than that.
        unsafe { self.put(Cursor::ROOM, write) }
    }

    pub(super) fn affix(&mut self, affix: &Affix) {
        // SAFETY: an affix touches its width.
        unsafe { self.put(affix.width(), |cursor| cursor.affix(affix)) }
    }

    /// Appends what `write` writes.
    ///
    /// # Safety
    /// It must not touch more than `room` bytes.
    #[inline(always)]
    unsafe fn put(&mut self, room: usize, write: impl FnOnce(&mut Cursor)) {
        self.bytes.reserve(room);
        let length = self.bytes.len();
        // SAFETY: as many bytes after the last were reserved, and the cursor has
        // written all of those that become part of the text.
        unsafe {
            let mut cursor = Cursor::new(self.bytes.as_mut_ptr().add(length), room);
            write(&mut cursor);
            let written = cursor.position().offset_from_unsigned(self.bytes.as_ptr());
            self.bytes.set_len(written);
        }
    }

    /// Appends texts, together at most `room` bytes: of each slot the first bytes, as
    /// many as is said, after which it has [`SLACK`] more.
    pub(crate) fn extend_slots<'a>(&mut self, slots: impl Iterator<Item = (&'a [u8], usize)>, room: usize) {
        self.bytes.reserve(room + SLACK);
        let end = self.bytes.len();
        let mut left = room;
        // SAFETY: no more than `room` bytes and one piece are written, for which
        // memory was reserved; and all bytes that become part of the buffer are.
        unsafe {
            let mut to = self.bytes.as_mut_ptr().add(end);
            for (slot, length) in slots {
                let pieces = slot.as_chunks::<SLACK>().0;
                if length > left || length > SLACK * pieces.len() {
                    debug_assert!(false, "a text is longer than was said");
                    break;
                }
                left -= length;
                for (index, piece) in pieces.iter().take(length.div_ceil(SLACK)).enumerate() {
                    for (part, sixteen) in piece.as_chunks().0.iter().enumerate() {
                        Lanes::load(sixteen).store(to.add(SLACK * index + 16 * part));
                    }
                }
                to = to.add(length);
            }
            self.bytes.set_len(end + room - left);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_length_is_copied(before in 0usize..70, text: Vec<u8>) {
            let mut buffer = Buffer::new();
            buffer.extend(&vec![b'x'; before]);
            buffer.extend(&text);
            prop_assert_eq!(&buffer.as_bytes()[before..], &text[..]);
        }
    }
}
