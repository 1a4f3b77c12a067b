/// Which values of a column are not null.
#[derive(Debug, Clone, Copy)]
pub struct Validity<'a> {
    bits: &'a [u8],
    without_bits: bool,
}

impl<'a> Validity<'a> {
    pub(crate) fn all_valid() -> Self {
        Validity { bits: &[], without_bits: true }
    }

    pub(crate) fn all_null() -> Self {
        Validity { bits: &[], without_bits: false }
    }

    pub(crate) fn from_bits(bits: &'a [u8]) -> Self {
        Validity { bits, without_bits: true }
    }

    /// Whether the value at `row` is not null.
    #[inline(always)]
    pub fn is_valid(&self, row: usize) -> bool {
        match self.bits.get(row >> 3) {
            Some(byte) => (byte >> (row & 7)) & 1 == 1,
            None => self.without_bits,
        }
    }

    /// The 64 rows from `first` on, one bit each, least significant first.
    pub(crate) fn word(&self, first: usize) -> u64 {
        if self.bits.is_empty() {
            return if self.without_bits { u64::MAX } else { 0 };
        }
        let bytes = self.bits.get(first >> 3..).unwrap_or_default();
        let mut nine = [0; 16];
        for (to, byte) in nine.iter_mut().zip(bytes.iter().take(9)) {
            *to = *byte;
        }
        (u128::from_le_bytes(nine) >> (first & 7)) as u64
    }

    /// One item a row, true = not null.
    pub fn iter(&self, rows: usize) -> impl Iterator<Item = bool> + 'a {
        let validity = *self;
        (0..rows).map(move |row| validity.is_valid(row))
    }
}
