//! S3's additional checksums: which were declared, what the bytes gave, and how parts combine.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use crc_fast::CrcAlgorithm;
use http::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::Checksum as _;
use s3s::{S3Result, s3_error};
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

/// What a checksum of a multipart object covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Coverage {
    FullObject,
    Composite,
}

/// Checksums in base64, as they travel.
pub type Sums = BTreeMap<Algorithm, String>;

impl Algorithm {
    pub const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// As in `x-amz-checksum-algorithm`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    pub(super) fn header(self) -> String {
        format!("x-amz-checksum-{}", self.name().to_ascii_lowercase())
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// What S3 covers when the upload does not say.
    pub(super) fn default_coverage(self) -> Coverage {
        if self == Self::Crc64Nvme { Coverage::FullObject } else { Coverage::Composite }
    }

    pub(super) fn can(self, coverage: Coverage) -> bool {
        match coverage {
            Coverage::FullObject => self.crc().is_some(),
            Coverage::Composite => self != Self::Crc64Nvme,
        }
    }
}

impl Coverage {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }
}

/// Checksums given in headers, or in trailers of the same names.
pub(super) fn declared(headers: &HeaderMap) -> Sums {
    let value = |algorithm: Algorithm| headers.get(algorithm.header())?.to_str().ok().map(str::to_owned);
    Algorithm::ALL.into_iter().filter_map(|algorithm| Some((algorithm, value(algorithm)?))).collect()
}

/// The algorithms a request names, so that they can be computed while its body streams by.
pub(super) fn announced(headers: &HeaderMap) -> BTreeSet<Algorithm> {
    let trailers = headers.get_all("x-amz-trailer").iter().filter_map(|value| value.to_str().ok());
    let trailers: Vec<&str> = trailers.flat_map(|value| value.split(',')).map(str::trim).collect();
    Algorithm::ALL
        .into_iter()
        .filter(|algorithm| {
            let header = algorithm.header();
            headers.contains_key(&header) || trailers.iter().any(|trailer| trailer.eq_ignore_ascii_case(&header))
        })
        .collect()
}

/// A hasher of the named algorithms.
pub(super) fn hasher(algorithms: &BTreeSet<Algorithm>) -> ChecksumHasher {
    let mut hasher = ChecksumHasher::default();
    for algorithm in algorithms {
        match algorithm {
            Algorithm::Crc32 => hasher.crc32 = Some(s3s::crypto::Crc32::new()),
            Algorithm::Crc32c => hasher.crc32c = Some(s3s::crypto::Crc32c::new()),
            Algorithm::Crc64Nvme => hasher.crc64nvme = Some(s3s::crypto::Crc64Nvme::new()),
            Algorithm::Sha1 => hasher.sha1 = Some(s3s::crypto::Sha1::new()),
            Algorithm::Sha256 => hasher.sha256 = Some(s3s::crypto::Sha256::new()),
        }
    }
    hasher
}

pub(super) fn finish(hasher: ChecksumHasher) -> Sums {
    let sums = hasher.finalize();
    let pairs = [
        (Algorithm::Crc32, sums.checksum_crc32),
        (Algorithm::Crc32c, sums.checksum_crc32c),
        (Algorithm::Crc64Nvme, sums.checksum_crc64nvme),
        (Algorithm::Sha1, sums.checksum_sha1),
        (Algorithm::Sha256, sums.checksum_sha256),
    ];
    pairs.into_iter().filter_map(|(algorithm, sum)| Some((algorithm, sum?))).collect()
}

/// Refuses a checksum that is not what the bytes gave.
pub(super) fn verify(declared: &Sums, computed: &Sums) -> S3Result<()> {
    for (algorithm, sum) in declared {
        if computed.get(algorithm) != Some(sum) {
            return Err(s3_error!(
                BadDigest,
                "The {} you specified did not match the calculated checksum.",
                algorithm.name()
            ));
        }
    }
    Ok(())
}

/// The checksum of the whole from those of its parts, given as (checksum, size in bytes).
pub(super) fn combine<'a>(
    algorithm: Algorithm,
    coverage: Coverage,
    parts: impl Iterator<Item = (&'a str, u64)>,
) -> Option<String> {
    match coverage {
        Coverage::FullObject => {
            let crc = algorithm.crc()?;
            let mut whole: Option<u64> = None;
            for (sum, size) in parts {
                let part =
                    BASE64_STANDARD.decode(sum).ok()?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
                whole = Some(whole.map_or(part, |before| crc_fast::checksum_combine(crc, before, part, size)));
            }
            let bytes = whole?.to_be_bytes();
            let width = if algorithm == Algorithm::Crc64Nvme { 8 } else { 4 };
            Some(BASE64_STANDARD.encode(&bytes[8 - width..]))
        }
        Coverage::Composite => {
            let mut hasher = hasher(&BTreeSet::from([algorithm]));
            let mut count = 0;
            for (sum, _) in parts {
                hasher.update(&BASE64_STANDARD.decode(sum).ok()?);
                count += 1;
            }
            Some(format!("{}-{count}", finish(hasher).remove(&algorithm)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_combine_into_the_checksum_of_the_whole() {
        let whole: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let sum = |bytes: &[u8]| {
                let mut hasher = hasher(&BTreeSet::from([algorithm]));
                hasher.update(bytes);
                finish(hasher).remove(&algorithm).unwrap()
            };
            let parts: Vec<(String, u64)> = whole.chunks(70_001).map(|part| (sum(part), part.len() as u64)).collect();
            let parts = parts.iter().map(|(sum, size)| (sum.as_str(), *size));
            assert_eq!(combine(algorithm, Coverage::FullObject, parts), Some(sum(&whole)), "{}", algorithm.name());
        }
    }

    #[test]
    fn a_composite_counts_its_parts() {
        let parts = [("AAAAAA==", 1), ("AAAAAQ==", 1)];
        let sum = combine(Algorithm::Crc32, Coverage::Composite, parts.into_iter()).unwrap();
        assert!(sum.ends_with("-2"), "{sum}");
        assert_eq!(combine(Algorithm::Sha256, Coverage::FullObject, parts.into_iter()), None);
    }
}
