/// The bytes that a text format must not write as they are: up to two ASCII
/// bytes, and the control characters if asked for. Eight bytes are looked at
/// in one go.
#[derive(Debug, Clone, Copy)]
pub struct Special {
    first: u64,
    second: u64,
    below: u64,
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

impl Special {
    /// The two bytes, which must be ASCII (others are never found), and, when
    /// `controls`, all below 0x20.
    pub const fn new(first: u8, second: u8, controls: bool) -> Self {
        Special {
            first: ONES * first as u64,
            second: ONES * second as u64,
            below: if controls { ONES * 0x20 } else { 0 },
        }
    }

    /// Zero when no byte of `word` is special; else the top bit of the least
    /// significant special byte is set, and any bits above it.
    #[inline(always)]
    pub(crate) fn hits(&self, word: u64) -> u64 {
        // A byte minus one has its top bit set only if it was zero (or already
        // had it set, which the mask by `!word` excludes). A borrow reaches
        // only bytes above one that is itself special.
        let first = (word ^ self.first).wrapping_sub(ONES);
        let second = (word ^ self.second).wrapping_sub(ONES);
        let control = word.wrapping_sub(self.below);
        (first | second | control) & !word & HIGHS
    }

    /// Whether `text` has a special byte.
    #[inline]
    pub fn is_in(&self, text: &[u8]) -> bool {
        let (words, tail) = text.as_chunks::<8>();
        let hits = |bytes: [u8; 8]| self.hits(u64::from_le_bytes(bytes));
        if words.iter().any(|word| hits(*word) != 0) {
            return true;
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        hits(last) & !(u64::MAX << (tail.len() as u32 * 8)) != 0
    }
}
