//! The S3 operations on objects and buckets. Those on uploads are in `multipart`.
//!
//! Whether the caller may do it at all has been decided in `access` before one of these is called.

use s3s::dto::*;
use s3s::{S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::access::MayList;
use super::answer::{no_such_upload, set_checksums, timestamp, writer};
use super::attributes::check_tags;
use super::checksum::Coverage;
use super::condition::{Condition, precondition_failed};
use super::ingest::ingest;
use super::store::{Attributes, StoredObject};
use super::{Shared, listing};
use crate::domain::hex;

#[async_trait::async_trait]
impl S3 for Shared {
    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let attributes = Attributes::of(&req.headers)?;
        let PutObjectInput { bucket, key, body, if_match, if_none_match, .. } = req.input;
        let condition = Condition::new(if_match, if_none_match)?;
        let _reservation = condition.begin(self, &bucket, &key)?;
        let body = ingest(&self.store, body, &req.headers, req.trailing_headers.as_ref(), None).await?;
        let mut checksums = body.sums;
        if !body.announced.is_empty() {
            checksums.retain(|algorithm, _| body.announced.contains(algorithm));
        }
        let object = StoredObject {
            key,
            size_bytes: body.size_bytes,
            etag: hex(&body.md5),
            checksums,
            coverage: Coverage::FullObject,
            attributes,
            modified: self.clock.now(),
            written_by: writer(&req.extensions),
            upload_id: None,
            path: Default::default(),
        };
        let object = self.store.commit(&bucket, object, body.bytes, |before| condition.check(before))?;
        let mut output = PutObjectOutput {
            e_tag: Some(ETag::Strong(object.etag.clone())),
            checksum_type: Some(ChecksumType::from_static(object.coverage.name())),
            server_side_encryption: object.attributes.encryption.clone().map(Into::into),
            ssekms_key_id: object.attributes.kms_key_id.clone(),
            ..Default::default()
        };
        set_checksums!(output, object.checksums);
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = req.input;
        let opened = self.store.open_object(&input.bucket, &input.key).map_err(S3Error::internal_error)?;
        let (object, file) = opened.ok_or_else(|| no_such_key(&req.extensions))?;
        check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let mut file = tokio::fs::File::from_std(file);
        let whole = 0..object.size_bytes;
        let range = match &input.range {
            Some(range) => range.check(object.size_bytes)?,
            None => whole.clone(),
        };
        file.seek(std::io::SeekFrom::Start(range.start)).await.map_err(S3Error::internal_error)?;
        let length = range.end - range.start;
        let attributes = object.attributes;
        let mut output = GetObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            body: Some(StreamingBlob::wrap(ReaderStream::with_capacity(file.take(length), 64 << 10))),
            content_length: i64::try_from(length).ok(),
            // Asked for by range, the whole is a part, too.
            content_range: input
                .range
                .is_some()
                .then(|| format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), object.size_bytes)),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(timestamp(object.modified)),
            metadata: Some(attributes.metadata.into_iter().collect()),
            content_type: attributes.media_type,
            content_encoding: attributes.content_encoding,
            content_disposition: attributes.content_disposition,
            content_language: attributes.content_language,
            cache_control: attributes.cache_control,
            storage_class: attributes.storage_class.map(Into::into),
            server_side_encryption: attributes.encryption.map(Into::into),
            ssekms_key_id: attributes.kms_key_id,
            tag_count: Some(attributes.tags.len()).filter(|n| *n > 0).and_then(|n| i32::try_from(n).ok()),
            ..Default::default()
        };
        if input.checksum_mode.is_some() && range == whole {
            output.checksum_type = Some(ChecksumType::from_static(object.coverage.name()));
            set_checksums!(output, object.checksums);
        }
        Ok(S3Response::new(output))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = req.input;
        let object = self.store.object(&input.bucket, &input.key).ok_or_else(|| no_such_key(&req.extensions))?;
        check_read(&object, input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let attributes = object.attributes;
        let mut output = HeadObjectOutput {
            accept_ranges: Some("bytes".to_owned()),
            content_length: i64::try_from(object.size_bytes).ok(),
            e_tag: Some(ETag::Strong(object.etag)),
            last_modified: Some(timestamp(object.modified)),
            metadata: Some(attributes.metadata.into_iter().collect()),
            content_type: attributes.media_type,
            content_encoding: attributes.content_encoding,
            content_disposition: attributes.content_disposition,
            content_language: attributes.content_language,
            cache_control: attributes.cache_control,
            storage_class: attributes.storage_class.map(Into::into),
            server_side_encryption: attributes.encryption.map(Into::into),
            ssekms_key_id: attributes.kms_key_id,
            ..Default::default()
        };
        if input.checksum_mode.is_some() {
            output.checksum_type = Some(ChecksumType::from_static(object.coverage.name()));
            set_checksums!(output, object.checksums);
        }
        Ok(S3Response::new(output))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.store.delete(&req.input.bucket, &req.input.key).map_err(S3Error::internal_error)?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn put_object_tagging(
        &self,
        req: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let pairs = req.input.tagging.tag_set.into_iter().map(|tag| Some((tag.key?, tag.value.unwrap_or_default())));
        let tags = pairs.collect::<Option<Vec<_>>>().ok_or_else(|| s3_error!(MalformedXML))?;
        check_tags(&tags)?;
        let found = self.store.set_tags(&req.input.bucket, &req.input.key, tags).map_err(S3Error::internal_error)?;
        found.then(|| S3Response::new(Default::default())).ok_or_else(|| no_such_key(&req.extensions))
    }

    async fn get_object_tagging(
        &self,
        req: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let found = self.store.object(&req.input.bucket, &req.input.key).ok_or_else(|| no_such_key(&req.extensions))?;
        let tags = found.attributes.tags.into_iter();
        let tag_set = tags.map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect();
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, ..Default::default() }))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        let region = self.bucket(&req.input.bucket).map(|(_, bucket)| bucket.region.clone());
        Ok(S3Response::new(HeadBucketOutput { bucket_region: region, ..Default::default() }))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        // us-east-1 is the absence of a constraint.
        let region = self.bucket(&req.input.bucket).map(|(_, bucket)| bucket.region.clone());
        let location_constraint = region.filter(|region| region != "us-east-1").map(Into::into);
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        listing::objects(self.store.list(&req.input.bucket), req.input).map(S3Response::new)
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        self.begin_upload(req)
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        self.take_part(req).await
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        self.complete_upload(req).await
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.abort_upload(req.input).await
    }

    async fn list_parts(&self, req: S3Request<ListPartsInput>) -> S3Result<S3Response<ListPartsOutput>> {
        let input = req.input;
        let upload = self.store.upload(&input.bucket, &input.key, &input.upload_id);
        let upload = upload.ok_or_else(no_such_upload)?;
        listing::parts(upload, input).map(S3Response::new)
    }

    async fn list_multipart_uploads(
        &self,
        req: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        listing::uploads(self.store.uploads(&req.input.bucket), req.input).map(S3Response::new)
    }
}

fn check_read(
    object: &StoredObject,
    if_match: Option<&ETagCondition>,
    if_none_match: Option<&ETagCondition>,
) -> S3Result<()> {
    let is = |condition: &ETagCondition| condition.as_etag().is_none_or(|etag| etag.value() == object.etag);
    if if_match.is_some_and(|condition| !is(condition)) {
        return Err(precondition_failed());
    }
    if if_none_match.is_some_and(is) {
        return Err(S3Error::new(S3ErrorCode::NotModified));
    }
    Ok(())
}

/// A missing key is only told to those who may list the bucket.
fn no_such_key(extensions: &http::Extensions) -> S3Error {
    match extensions.get::<MayList>() {
        Some(MayList(true)) => s3_error!(NoSuchKey, "The specified key does not exist."),
        _ => s3_error!(AccessDenied, "Access Denied"),
    }
}
