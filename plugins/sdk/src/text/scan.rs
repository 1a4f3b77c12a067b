use super::lanes::Lanes;

/// The bytes that a text format must not write as they are: up to two ASCII
/// bytes, and the control characters if asked for. Sixteen bytes are looked at
/// in one go.
#[derive(Debug, Clone, Copy)]
pub struct Special {
    pub(super) first: u64,
    pub(super) second: u64,
    pub(super) below: u64,
}

const ONES: u64 = 0x0101_0101_0101_0101;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
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
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    #[inline(always)]
    pub(super) fn hits(&self, word: u64) -> u64 {
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
        let (sixteens, _) = text.as_chunks::<16>();
        match text.last_chunk::<16>() {
            // The last sixteen may have been among the others.
            Some(last) => sixteens.iter().any(|bytes| Lanes::load(bytes).any(self)) || Lanes::load(last).any(self),
            None => {
                let mut padded = [0; 16];
                for (to, byte) in padded.iter_mut().zip(text) {
                    *to = *byte;
                }
                Lanes::load(&padded).any_of_first(text.len(), self)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn special_bytes_are_found_wherever_they_are(text in "[ -~\n\u{7f},\"é€\u{1f}]{0,70}", controls: bool) {
            let special = Special::new(b'"', b',', controls);
            let expected = text.bytes().any(|b| b == b'"' || b == b',' || controls && b < 0x20);
            prop_assert_eq!(special.is_in(text.as_bytes()), expected);
        }
    }
}
