//! How large the parts of an upload are, and what their checksums make together.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm::Crc64Nvme;

const MIB: u64 = 1 << 20;

/// S3 User Guide, "Amazon S3 multipart upload limits".
pub(super) const PART_BYTES_MIN: u64 = 5 * MIB;
pub(super) const PART_BYTES_MAX: u64 = 5 << 30;
pub(super) const PARTS_MAX: u32 = 10_000;
pub(super) const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// A part is at least this fraction of what was uploaded before it. Parts then
/// grow by 1/1250 each, and 10,000 of them reach 5 TiB from any allowed
/// beginning, with the last ones still below 5 GiB.
const GROWTH: u64 = 1250;

/// The size of the part that follows `uploaded` bytes, whole mebibytes beyond `smallest`.
pub(super) fn part_bytes(smallest: u64, uploaded: u64) -> u64 {
    let grown = uploaded.div_ceil(GROWTH).next_multiple_of(MIB);
    smallest.max(grown).clamp(PART_BYTES_MIN, PART_BYTES_MAX)
}

/// How many times as long as another request a completion may take. "Could take
/// several minutes to finalize" (S3 API Reference, CompleteMultipartUpload), the
/// longer the more parts there are.
pub(super) fn completion_weight(parts: usize) -> u32 {
    u32::try_from(parts.div_ceil(1000)).unwrap_or(u32::MAX).saturating_add(2)
}

/// The CRC64NVME of bytes that arrive as parts, in any pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checksum {
    crc: u64,
}

impl Checksum {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { crc: crc_fast::checksum(Crc64Nvme, bytes) }
    }

    /// The checksum of these bytes followed by `next_bytes` bytes whose checksum is `next`.
    pub(super) fn then(self, next: Checksum, next_bytes: u64) -> Self {
        if next_bytes == 0 {
            return self;
        }
        Self { crc: crc_fast::checksum_combine(Crc64Nvme, self.crc, next.crc, next_bytes) }
    }

    /// As S3 writes it: base64 of 8 bytes big-endian.
    pub(super) fn base64(self) -> String {
        STANDARD.encode(self.crc.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_reach_the_largest_object_from_any_beginning() {
        for smallest in [PART_BYTES_MIN, 8 * MIB, 64 * MIB, PART_BYTES_MAX] {
            let (mut uploaded, mut parts) = (0, 0);
            while uploaded < OBJECT_BYTES_MAX {
                let size = part_bytes(smallest, uploaded);
                assert!((PART_BYTES_MIN..=PART_BYTES_MAX).contains(&size));
                uploaded += size;
                parts += 1;
            }
            assert!(parts <= PARTS_MAX, "{parts} parts of at least {smallest} bytes");
        }
    }

    #[test]
    fn parts_stay_small_while_they_can() {
        assert_eq!(part_bytes(8 * MIB, 0), 8 * MIB);
        assert_eq!(part_bytes(8 * MIB, 10_000 * MIB), 8 * MIB);
        assert_eq!(part_bytes(8 * MIB, 100 << 30), 82 * MIB);
        assert_eq!(part_bytes(1, 0), PART_BYTES_MIN, "never below what S3 takes");
    }

    #[test]
    fn a_completion_has_minutes() {
        // Of `attempt_timeout`, which is a minute unless said.
        assert_eq!([0, 1, 1000, 1001, PARTS_MAX as usize].map(completion_weight), [2, 3, 3, 4, 12]);
    }

    /// `docs/delivery.md` has these.
    #[test]
    fn the_largest_parts_of_an_object() {
        let sizes = [100 << 30, 1 << 40, OBJECT_BYTES_MAX].map(|object| part_bytes(8 * MIB, object) / MIB);
        assert_eq!(sizes, [82, 839, 4195]);
    }

    #[test]
    fn part_checksums_make_the_checksum_of_the_whole() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| ((i * 7919) >> 3) as u8).collect();
        let whole = Checksum::of(&bytes);
        for cut in [0, 1, 4096, 99_999, 100_000] {
            let (head, tail) = bytes.split_at(cut);
            let joined = Checksum::default().then(Checksum::of(head), head.len() as u64);
            let joined = joined.then(Checksum::of(tail), tail.len() as u64);
            assert_eq!(joined.base64(), whole.base64(), "cut at {cut}");
        }
    }

    /// Check value of CRC-64/NVME in the catalogue of parametrised CRC algorithms.
    #[test]
    fn the_algorithm_is_crc64nvme() {
        assert_eq!(Checksum::of(b"123456789").base64(), STANDARD.encode(0xae8b_1486_0a79_9888u64.to_be_bytes()));
        assert_eq!(Checksum::default().base64(), Checksum::of(b"").base64());
    }
}
