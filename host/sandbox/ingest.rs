//! Takes a request's body in: to a file, hashed on the way, and compared with what was declared.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode};
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders, s3_error};
use tempfile::TempPath;
use tokio::io::{AsyncWriteExt as _, BufWriter};

use super::checksum::{self, Algorithm, Sums};
use super::store::Store;

/// Bytes gathered before they are handed to the file.
const BUFFER_BYTES: usize = 256 << 10;
/// What one request may carry: 5 GiB, for objects and parts alike.
const BODY_BYTES_MAX: u64 = 5 << 30;

/// A body that arrived whole and is what its sender declared.
pub(super) struct Ingested {
    pub bytes: TempPath,
    pub size_bytes: u64,
    pub md5: [u8; 16],
    /// CRC64NVME, and every checksum the request announced.
    pub sums: Sums,
    /// The algorithms the request announced.
    pub announced: BTreeSet<Algorithm>,
}

pub(super) async fn ingest(
    store: &Store,
    body: Option<StreamingBlob>,
    headers: &HeaderMap,
    trailers: Option<&TrailingHeaders>,
    also: Option<Algorithm>,
) -> S3Result<Ingested> {
    let announced = checksum::announced(headers);
    let mut algorithms = announced.clone();
    algorithms.insert(Algorithm::Crc64Nvme);
    algorithms.extend(also);
    let mut sums = checksum::hasher(&algorithms);
    let mut md5 = Md5::new();
    let mut size_bytes = 0;

    let (file, bytes) = store.temporary().map_err(S3Error::internal_error)?;
    let mut file = BufWriter::with_capacity(BUFFER_BYTES, tokio::fs::File::from_std(file));
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(broken_body)?;
            size_bytes += chunk.len() as u64;
            if size_bytes > BODY_BYTES_MAX {
                return Err(s3_error!(EntityTooLarge, "Your proposed upload exceeds the maximum allowed size"));
            }
            md5.update(&chunk);
            sums.update(&chunk);
            file.write_all(&chunk).await.map_err(S3Error::internal_error)?;
        }
    }
    file.flush().await.map_err(S3Error::internal_error)?;

    let md5 = md5.finalize();
    let sums = checksum::finish(sums);
    verify_content_md5(headers, &md5)?;
    let mut declared = checksum::declared(headers);
    if let Some(trailers) = trailers {
        declared.extend(trailers.read(checksum::declared).unwrap_or_default());
    }
    if let Some(missing) = announced.iter().find(|algorithm| !declared.contains_key(algorithm)) {
        return Err(s3_error!(InvalidRequest, "The trailer {} was announced and is missing.", missing.header()));
    }
    checksum::verify(&declared, &sums)?;
    Ok(Ingested { bytes, size_bytes, md5, sums, announced })
}

fn verify_content_md5(headers: &HeaderMap, md5: &[u8; 16]) -> S3Result<()> {
    let Some(declared) = headers.get("content-md5") else { return Ok(()) };
    match BASE64_STANDARD.decode(declared.as_bytes()) {
        Ok(bytes) if bytes == md5 => Ok(()),
        Ok(bytes) if bytes.len() == md5.len() => {
            Err(s3_error!(BadDigest, "The Content-MD5 you specified did not match what we received."))
        }
        _ => Err(s3_error!(InvalidDigest, "The Content-MD5 you specified was invalid.")),
    }
}

/// s3s keeps its stream errors private, so their text has to tell; its version is pinned, and
/// `tests/sandbox/raw.rs` notices if the text changes.
fn broken_body(error: StdError) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        return payload_hash_mismatch();
    }
    if text.contains("SignatureMismatch") {
        return s3_error!(SignatureDoesNotMatch, "The signature of a chunk does not match.");
    }
    s3_error!(IncompleteBody, "You did not provide the number of bytes specified by the Content-Length HTTP header")
}

pub(super) fn payload_hash_mismatch() -> S3Error {
    let mut error = S3Error::with_message(
        S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    );
    error.set_status_code(StatusCode::BAD_REQUEST);
    error
}
