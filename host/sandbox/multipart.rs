//! Multipart uploads: begun, filled, completed or aborted.
//! <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html>

use std::fs::File;
use std::io;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};
use tempfile::TempPath;
use uuid::Uuid;

use super::Shared;
use super::answer::{no_such_upload, set_checksums, writer};
use super::checksum::{self, Algorithm, Coverage, Sums};
use super::condition::Condition;
use super::identity::Caller;
use super::ingest::ingest;
use super::store::{Attributes, StoredObject, StoredPart, StoredUpload};
use crate::domain::hex;

/// Every part but the last has at least this many bytes.
const PART_BYTES_MIN: u64 = 5 << 20;
const PART_NUMBERS: std::ops::RangeInclusive<i32> = 1..=10_000;

impl Shared {
    pub(super) fn begin_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let attributes = Attributes::of(&req.headers)?;
        let input = req.input;
        let checksum = checksum_wanted(input.checksum_algorithm.as_ref(), input.checksum_type.as_ref())?;
        let id = BASE64_URL_SAFE_NO_PAD.encode([Uuid::now_v7(), Uuid::now_v7()].map(Uuid::into_bytes).concat());
        let upload = StoredUpload {
            id: id.clone(),
            bucket: input.bucket.clone(),
            key: input.key.clone(),
            initiator: req.extensions.get::<Caller>().map(|caller| caller.principal.clone()).unwrap_or_default(),
            initiated: self.clock.now(),
            attributes,
            checksum,
            parts: Default::default(),
        };
        self.store.begin_upload(upload.clone()).map_err(S3Error::internal_error)?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            checksum_algorithm: checksum.map(|(algorithm, _)| ChecksumAlgorithm::from_static(algorithm.name())),
            checksum_type: checksum.map(|(_, coverage)| ChecksumType::from_static(coverage.name())),
            server_side_encryption: upload.attributes.encryption.map(Into::into),
            ssekms_key_id: upload.attributes.kms_key_id,
            ..Default::default()
        }))
    }

    pub(super) async fn take_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        if !PART_NUMBERS.contains(&input.part_number) {
            return Err(s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive"));
        }
        let upload = self.store.upload(&input.bucket, &input.key, &input.upload_id).ok_or_else(no_such_upload)?;
        let wanted = upload.checksum.map(|(algorithm, _)| algorithm);
        let announced = checksum::announced(&req.headers);
        if let (Some(wanted), Some(given)) = (wanted, announced.iter().find(|given| Some(**given) != wanted)) {
            return Err(s3_error!(
                InvalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                wanted.name().to_ascii_lowercase(),
                given.name().to_ascii_lowercase()
            ));
        }
        let body = ingest(&self.store, input.body, &req.headers, req.trailing_headers.as_ref(), wanted).await?;
        let part = StoredPart {
            number: input.part_number,
            size_bytes: body.size_bytes,
            etag: hex(&body.md5),
            checksums: body.sums,
            modified: self.clock.now(),
        };
        let mut output = UploadPartOutput {
            e_tag: Some(ETag::Strong(part.etag.clone())),
            server_side_encryption: upload.attributes.encryption.map(Into::into),
            ssekms_key_id: upload.attributes.kms_key_id,
            ..Default::default()
        };
        let told: Sums = part
            .checksums
            .iter()
            .filter(|(algorithm, _)| announced.contains(algorithm) || wanted == Some(**algorithm))
            .map(|(algorithm, sum)| (*algorithm, sum.clone()))
            .collect();
        set_checksums!(output, told);

        let _lock = self.store.lock_upload(&input.upload_id).await;
        let known = self.store.put_part(&input.upload_id, part, body.bytes).map_err(S3Error::internal_error)?;
        self.store.forget_lock(&input.upload_id);
        known.then(|| S3Response::new(output)).ok_or_else(no_such_upload)
    }

    pub(super) async fn complete_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let declared = checksum::declared(&req.headers);
        let written_by = writer(&req.extensions);
        let input = req.input;
        let (bucket, key, id) = (input.bucket, input.key, input.upload_id);
        let lock = self.store.lock_upload(&id).await;
        let Some(upload) = self.store.upload(&bucket, &key, &id) else {
            drop(lock);
            self.store.forget_lock(&id);
            // A client that lost the answer asks again, and gets it.
            let finished = self.store.object(&bucket, &key).filter(|object| object.upload_id.as_deref() == Some(&id));
            return finished.map(|object| self.completed(&bucket, object)).ok_or_else(no_such_upload);
        };
        let requested = input.multipart_upload.and_then(|list| list.parts).unwrap_or_default();
        let parts = choose_parts(&upload, requested)?;
        let size_bytes = parts.iter().map(|part| part.size_bytes).sum();
        if input.mpu_object_size.is_some_and(|declared| u64::try_from(declared) != Ok(size_bytes)) {
            return Err(s3_error!(
                InvalidRequest,
                "The provided 'x-amz-mp-object-size' header does not match what was computed."
            ));
        }
        let (checksums, coverage) = whole_checksums(&upload, &parts, &declared)?;
        if let Some(given) = input.checksum_type.filter(|given| given.as_str() != coverage.name()) {
            return Err(s3_error!(
                InvalidRequest,
                "The upload was created using the {} checksum mode. The complete request must use the same, not {}.",
                coverage.name(),
                given.as_str()
            ));
        }
        verify_whole(&declared, &checksums)?;
        let condition = Condition::new(input.if_match, input.if_none_match)?;
        let _reservation = condition.begin(self, &bucket, &key)?;

        let (_, target) = self.store.temporary().map_err(S3Error::internal_error)?;
        let sources = parts.iter().map(|part| self.store.part_path(&id, part.number)).collect();
        let joined = tokio::task::spawn_blocking(move || join(sources, target)).await;
        let bytes = joined.map_err(S3Error::internal_error)?.map_err(S3Error::internal_error)?;
        let object = StoredObject {
            key,
            size_bytes,
            etag: joint_etag(&parts),
            checksums,
            coverage,
            attributes: upload.attributes,
            modified: self.clock.now(),
            written_by,
            upload_id: Some(id.clone()),
            path: PathBuf::new(),
        };
        let object = self.store.commit(&bucket, object, bytes, |before| condition.check(before))?;
        self.store.end_upload(&id).map_err(S3Error::internal_error)?;
        self.store.forget_lock(&id);
        Ok(self.completed(&bucket, object))
    }

    pub(super) async fn abort_upload(
        &self,
        input: AbortMultipartUploadInput,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let id = input.upload_id;
        let _lock = self.store.lock_upload(&id).await;
        let known = self.store.upload(&input.bucket, &input.key, &id).is_some();
        if known {
            self.store.end_upload(&id).map_err(S3Error::internal_error)?;
        }
        self.store.forget_lock(&id);
        known.then(|| S3Response::new(Default::default())).ok_or_else(no_such_upload)
    }

    fn completed(&self, bucket: &str, object: StoredObject) -> S3Response<CompleteMultipartUploadOutput> {
        let mut output = CompleteMultipartUploadOutput {
            location: Some(format!("/{bucket}/{}", object.key)),
            bucket: Some(bucket.to_owned()),
            key: Some(object.key),
            e_tag: Some(ETag::Strong(object.etag)),
            checksum_type: Some(ChecksumType::from_static(object.coverage.name())),
            server_side_encryption: object.attributes.encryption.map(Into::into),
            ssekms_key_id: object.attributes.kms_key_id,
            ..Default::default()
        };
        set_checksums!(output, object.checksums);
        S3Response::new(output)
    }
}

fn checksum_wanted(
    algorithm: Option<&ChecksumAlgorithm>,
    coverage: Option<&ChecksumType>,
) -> S3Result<Option<(Algorithm, Coverage)>> {
    let Some(algorithm) = algorithm else {
        return match coverage {
            None => Ok(None),
            Some(_) => Err(s3_error!(
                InvalidRequest,
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
            )),
        };
    };
    let Some(algorithm) = Algorithm::named(algorithm.as_str()) else {
        return Err(s3_error!(InvalidRequest, "Checksum algorithm provided is unsupported."));
    };
    let coverage = match coverage.map(ChecksumType::as_str) {
        None => algorithm.default_coverage(),
        Some("FULL_OBJECT") => Coverage::FullObject,
        Some("COMPOSITE") => Coverage::Composite,
        Some(_) => return Err(s3_error!(InvalidRequest, "Value for x-amz-checksum-type header is invalid.")),
    };
    if !algorithm.can(coverage) {
        return Err(s3_error!(
            InvalidRequest,
            "The {} checksum type cannot be used with the {} checksum algorithm.",
            coverage.name(),
            algorithm.name().to_ascii_lowercase()
        ));
    }
    Ok(Some((algorithm, coverage)))
}

/// The parts of the request, if they are all there, in order and large enough.
fn choose_parts(upload: &StoredUpload, requested: Vec<CompletedPart>) -> S3Result<Vec<StoredPart>> {
    if requested.is_empty() {
        return Err(s3_error!(
            MalformedXML,
            "The XML you provided was not well-formed or did not validate against our published schema"
        ));
    }
    if !requested.is_sorted_by(|a, b| a.part_number < b.part_number) {
        return Err(s3_error!(
            InvalidPartOrder,
            "The list of parts was not in ascending order. The parts list must be specified in order by part number."
        ));
    }
    let composite = upload.checksum.filter(|(_, coverage)| *coverage == Coverage::Composite);
    let mut parts = Vec::with_capacity(requested.len());
    for wanted in requested {
        let sums = part_sums(&wanted);
        let number = wanted.part_number.unwrap_or_default();
        if let Some((algorithm, _)) = composite.filter(|(algorithm, _)| !sums.contains_key(algorithm)) {
            return Err(s3_error!(
                InvalidRequest,
                "The upload was created using a {} checksum. The complete request must include the checksum for each part. \
                 It was missing for part {number} in the request.",
                algorithm.name().to_ascii_lowercase()
            ));
        }
        let same = |part: &&StoredPart| {
            wanted.e_tag.as_ref().is_some_and(|etag| etag.value().trim_matches('"') == part.etag)
                && sums.iter().all(|(algorithm, sum)| part.checksums.get(algorithm) == Some(sum))
        };
        let part = upload.parts.get(&number).filter(same).ok_or_else(|| {
            s3_error!(
                InvalidPart,
                "One or more of the specified parts could not be found. The part may not have been uploaded, \
                 or the specified entity tag may not match the part's entity tag."
            )
        })?;
        parts.push(part.clone());
    }
    let before_last = parts.len() - 1;
    if parts[..before_last].iter().any(|part| part.size_bytes < PART_BYTES_MIN) {
        return Err(s3_error!(EntityTooSmall, "Your proposed upload is smaller than the minimum allowed size"));
    }
    Ok(parts)
}

fn part_sums(part: &CompletedPart) -> Sums {
    let pairs = [
        (Algorithm::Crc32, &part.checksum_crc32),
        (Algorithm::Crc32c, &part.checksum_crc32c),
        (Algorithm::Crc64Nvme, &part.checksum_crc64nvme),
        (Algorithm::Sha1, &part.checksum_sha1),
        (Algorithm::Sha256, &part.checksum_sha256),
    ];
    pairs.into_iter().filter_map(|(algorithm, sum)| Some((algorithm, sum.clone()?))).collect()
}

/// What S3 keeps as the checksum of the whole: the upload's own, or CRC64NVME.
fn whole_checksums(upload: &StoredUpload, parts: &[StoredPart], declared: &Sums) -> S3Result<(Sums, Coverage)> {
    let (algorithm, coverage) = upload.checksum.unwrap_or((Algorithm::Crc64Nvme, Coverage::FullObject));
    if let Some(other) = declared.keys().find(|other| **other != algorithm) {
        return Err(s3_error!(
            InvalidRequest,
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            algorithm.name().to_ascii_lowercase(),
            other.name().to_ascii_lowercase()
        ));
    }
    let sums = parts.iter().filter_map(|part| Some((part.checksums.get(&algorithm)?.as_str(), part.size_bytes)));
    let whole = checksum::combine(algorithm, coverage, sums);
    let whole = whole.ok_or_else(|| s3_error!(InternalError, "a part has no {} checksum", algorithm.name()))?;
    Ok((Sums::from([(algorithm, whole)]), coverage))
}

/// A composite may be given without the number of its parts.
fn verify_whole(declared: &Sums, computed: &Sums) -> S3Result<()> {
    let plain: Sums = computed
        .iter()
        .map(|(algorithm, sum)| (*algorithm, sum.split('-').next().unwrap_or_default().to_owned()))
        .collect();
    checksum::verify(declared, computed).or_else(|error| checksum::verify(declared, &plain).map_err(|_| error))
}

/// MD5 over the parts' MD5s, and how many there were.
fn joint_etag(parts: &[StoredPart]) -> String {
    let mut md5 = Md5::new();
    for part in parts {
        let bytes = part.etag.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or("00"));
        md5.update(&bytes.map(|pair| u8::from_str_radix(pair, 16).unwrap_or_default()).collect::<Vec<u8>>());
    }
    format!("{}-{}", hex(&md5.finalize()), parts.len())
}

fn join(sources: Vec<PathBuf>, target: TempPath) -> io::Result<TempPath> {
    let mut file = File::create(&target)?;
    for source in sources {
        io::copy(&mut File::open(source)?, &mut file)?;
    }
    Ok(target)
}
