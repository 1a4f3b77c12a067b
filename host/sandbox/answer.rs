//! Pieces that the answers of several operations have in common.

use std::time::SystemTime;

use s3s::dto::Timestamp;
use s3s::{S3Error, s3_error};

use super::identity::Caller;
use crate::clock::Instant;

/// Sets the five checksum fields that many outputs have.
macro_rules! set_checksums {
    ($output:expr, $sums:expr) => {{
        use crate::sandbox::checksum::Algorithm;
        let sums = &$sums;
        $output.checksum_crc32 = sums.get(&Algorithm::Crc32).cloned();
        $output.checksum_crc32c = sums.get(&Algorithm::Crc32c).cloned();
        $output.checksum_crc64nvme = sums.get(&Algorithm::Crc64Nvme).cloned();
        $output.checksum_sha1 = sums.get(&Algorithm::Sha1).cloned();
        $output.checksum_sha256 = sums.get(&Algorithm::Sha256).cloned();
    }};
}
pub(super) use set_checksums;

pub(super) fn writer(extensions: &http::Extensions) -> String {
    extensions.get::<Caller>().map(|caller| caller.arn.clone()).unwrap_or_default()
}

pub(super) fn timestamp(at: Instant) -> Timestamp {
    Timestamp::from(SystemTime::from(at))
}

pub(super) fn no_such_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )
}
