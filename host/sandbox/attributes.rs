//! What a request says about an object in its headers.

use http::HeaderMap;
use s3s::{S3Result, s3_error};

use super::store::Attributes;

impl Attributes {
    /// Reads what `PutObject` and `CreateMultipartUpload` have in common.
    pub(super) fn of(headers: &HeaderMap) -> S3Result<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if headers.contains_key("x-amz-server-side-encryption-customer-algorithm") {
            return Err(s3_error!(
                NotImplemented,
                "The sandbox does not implement keys provided by the customer (SSE-C)."
            ));
        }
        let encryption = text("x-amz-server-side-encryption");
        if encryption.as_deref().is_some_and(|name| !["AES256", "aws:kms", "aws:kms:dsse"].contains(&name)) {
            return Err(s3_error!(InvalidArgument, "The encryption method specified is not supported"));
        }
        let kms_key_id = text("x-amz-server-side-encryption-aws-kms-key-id");
        if kms_key_id.is_some() && encryption.as_deref().is_none_or(|name| name == "AES256") {
            let message = "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms";
            return Err(s3_error!(InvalidArgument, "{message}"));
        }
        let storage_class = text("x-amz-storage-class");
        if storage_class.as_deref().is_some_and(|name| !STORAGE_CLASSES.contains(&name)) {
            return Err(s3_error!(InvalidStorageClass, "The storage class you specified is not valid"));
        }
        let tagging = text("x-amz-tagging").unwrap_or_default();
        let tags: Vec<_> = url::form_urlencoded::parse(tagging.as_bytes()).into_owned().collect();
        check_tags(&tags)?;
        let chunked = |name: &String| name != "aws-chunked";
        let meta = headers.iter().filter_map(|(name, value)| {
            Some((name.as_str().strip_prefix("x-amz-meta-")?.to_owned(), value.to_str().ok()?.to_owned()))
        });
        Ok(Self {
            media_type: text("content-type"),
            content_encoding: text("content-encoding").map(|name| name.replace("aws-chunked,", "")).filter(chunked),
            content_disposition: text("content-disposition"),
            content_language: text("content-language"),
            cache_control: text("cache-control"),
            metadata: meta.collect(),
            tags,
            storage_class,
            encryption,
            kms_key_id,
            acl: text("x-amz-acl"),
        })
    }
}

const STORAGE_CLASSES: [&str; 9] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "GLACIER_IR",
    "EXPRESS_ONEZONE",
];

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-tagging.html>
pub(super) fn check_tags(tags: &[(String, String)]) -> S3Result<()> {
    if tags.len() > 10 {
        return Err(s3_error!(InvalidTag, "Object tags cannot be greater than 10"));
    }
    let fits =
        |(key, value): &(String, String)| (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256;
    if !tags.iter().all(fits) {
        return Err(s3_error!(InvalidTag, "The TagKey or TagValue you have provided is invalid"));
    }
    Ok(())
}
