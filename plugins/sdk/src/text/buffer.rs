use std::ops::Range;

use super::Special;

/// A growing byte buffer that numbers, dates and text are appended to without
/// an allocation or a copy of their own.
///
/// Most writers store whole 8-byte words and then advance by the bytes that
/// count: a store of fixed size is far cheaper than a copy of unknown length.
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
        self.bytes.reserve(64);
        let end = self.bytes.len();
        // SAFETY: 64 more bytes were reserved and `count` is at most that. Every
        // branch copies bytes within `count` to the same place after `end`, and
        // together all of them. (A copy of unknown length is a call; a few of
        // fixed size that overlap are not.)
        unsafe {
            let (from, to) = (bytes.as_ptr(), self.bytes.as_mut_ptr().add(end));
            if count >= 16 {
                let mut at = 0;
                while at + 16 < count {
                    copy::<16>(from, to, at);
                    at += 16;
                }
                copy::<16>(from, to, count - 16);
            } else if count >= 8 {
                copy::<8>(from, to, 0);
                copy::<8>(from, to, count - 8);
            } else if count >= 4 {
                copy::<4>(from, to, 0);
                copy::<4>(from, to, count - 4);
            } else if count > 0 {
                copy::<1>(from, to, 0);
                copy::<1>(from, to, count / 2);
                copy::<1>(from, to, count - 1);
            }
            self.bytes.set_len(end + count);
        }
    }

    /// Puts bytes before all others.
    pub(crate) fn prepend(&mut self, bytes: &[u8]) {
        self.bytes.splice(0..0, bytes.iter().copied());
    }

    /// Appends the first `used` bytes (at most 8) of `word`, the least
    /// significant first.
    #[inline(always)]
    pub(crate) fn word(&mut self, word: u64, used: usize) {
        self.bytes.reserve(8);
        let length = self.bytes.len();
        // SAFETY: eight more bytes were reserved, so that the store lies within
        // the capacity and the new length covers only bytes that it wrote.
        unsafe {
            self.bytes.as_mut_ptr().add(length).cast::<[u8; 8]>().write(word.to_le_bytes());
            self.bytes.set_len(length + used.min(8));
        }
    }

    /// Appends the text that lies at `range` of `values`, unless it has a
    /// special byte: then nothing is appended and the answer is false.
    #[inline(always)]
    pub fn extend_plain(&mut self, values: &[u8], range: Range<usize>, special: &Special) -> bool {
        let length = range.len();
        if length <= 16
            && let Some(window) = values.get(range.start..)
            && let Some((window, _)) = window.split_first_chunk::<16>()
        {
            return self.extend_short(window, length, special);
        }
        self.extend_long(values.get(range).unwrap_or_default(), special)
    }

    /// The text is the first `length` bytes of `window`. No branch depends on
    /// its length.
    #[inline(always)]
    fn extend_short(&mut self, window: &[u8; 16], length: usize, special: &Special) -> bool {
        let whole = u128::from_le_bytes(*window);
        let (low, high) = (whole as u64, (whole >> 64) as u64);
        let hits =
            special.hits(low) & first_bytes(length.min(8)) | special.hits(high) & first_bytes(length.saturating_sub(8));
        if hits != 0 {
            return false;
        }
        self.bytes.reserve(16);
        let end = self.bytes.len();
        // SAFETY: sixteen more bytes were reserved, so that the store lies
        // within the capacity and the new length covers only what it wrote.
        unsafe {
            self.bytes.as_mut_ptr().add(end).cast::<[u8; 16]>().write(*window);
            self.bytes.set_len(end + length.min(16));
        }
        true
    }

    /// Looks at and copies eight bytes at a time.
    #[inline(never)]
    fn extend_long(&mut self, text: &[u8], special: &Special) -> bool {
        let (Some(last), (words, _)) = (text.last_chunk::<8>(), text.as_chunks::<8>()) else {
            if special.is_in(text) {
                return false;
            }
            self.extend(text);
            return true;
        };
        let end = self.bytes.len();
        self.bytes.reserve(text.len());
        // SAFETY: as many bytes as the text has were reserved. The whole words
        // and the last eight bytes, which may overlap them, are all of it.
        unsafe {
            let to = self.bytes.as_mut_ptr().add(end);
            for (index, word) in words.iter().enumerate() {
                if special.hits(u64::from_le_bytes(*word)) != 0 {
                    return false;
                }
                to.add(8 * index).cast::<[u8; 8]>().write(*word);
            }
            if special.hits(u64::from_le_bytes(*last)) != 0 {
                return false;
            }
            to.add(text.len() - 8).cast::<[u8; 8]>().write(*last);
            self.bytes.set_len(end + text.len());
        }
        true
    }
}

/// Copies `N` bytes at `at`.
///
/// # Safety
/// `at..at + N` must lie within what both pointers may be used for, which must
/// not overlap.
#[inline(always)]
unsafe fn copy<const N: usize>(from: *const u8, to: *mut u8, at: usize) {
    // SAFETY: the caller's promise.
    unsafe { to.add(at).cast::<[u8; N]>().write(from.add(at).cast::<[u8; N]>().read()) }
}

/// A mask of the `count` (at most 8) least significant bytes.
#[inline(always)]
fn first_bytes(count: usize) -> u64 {
    // Half the shift each, because one by all 64 bits is not defined.
    let half = count as u32 * 4;
    !(u64::MAX << half << half)
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

        #[test]
        fn special_bytes_are_found_wherever_they_are(
            before in 0usize..20, text in "[ -~\n,\"é€]{0,40}", after in 0usize..20, controls: bool
        ) {
            let special = Special::new(b'"', b',', controls);
            let expected = !text.bytes().any(|b| b == b'"' || b == b',' || controls && b < 0x20);
            let mut values = vec![b'"'; before];
            values.extend(text.bytes());
            values.extend(vec![b','; after]);
            let mut buffer = Buffer::new();
            prop_assert_eq!(buffer.extend_plain(&values, before..before + text.len(), &special), expected);
            prop_assert_eq!(buffer.as_bytes(), if expected { text.as_bytes() } else { b"" });
            prop_assert_eq!(special.is_in(text.as_bytes()), !expected);
        }
    }
}
