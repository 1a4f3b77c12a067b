//! Lists of objects, uploads and parts, in pages.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use s3s::dto::*;
use s3s::{S3Result, s3_error};

use super::answer::{set_checksums, timestamp};
use super::store::{StoredObject, StoredUpload};

/// S3's limit to one page of anything.
const PAGE_MAX: i32 = 1000;

pub(super) fn objects(stored: Vec<StoredObject>, input: ListObjectsV2Input) -> S3Result<ListObjectsV2Output> {
    let limit = page_size(input.max_keys)?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let delimiter = input.delimiter.clone().filter(|delimiter| !delimiter.is_empty());
    let encode = encoder(input.encoding_type.as_ref());
    let after = match &input.continuation_token {
        Some(token) => Some(read_token(token)?),
        None => input.start_after.clone(),
    };

    let mut contents = Vec::new();
    let mut folders: Vec<String> = Vec::new();
    let mut last = None;
    let mut is_truncated = false;
    for object in stored {
        let Some(rest) = object.key.strip_prefix(&prefix) else { continue };
        let folder = delimiter.as_ref().and_then(|delimiter| {
            rest.find(delimiter.as_str()).map(|at| object.key[..prefix.len() + at + delimiter.len()].to_owned())
        });
        let name = folder.as_ref().unwrap_or(&object.key);
        // A page that ended with a folder goes on after everything in it.
        let seen = after.as_ref().is_some_and(|after| name <= after || (folder.is_none() && object.key <= *after));
        if seen || folder.as_ref().is_some_and(|folder| folders.last() == Some(folder)) {
            continue;
        }
        if contents.len() + folders.len() == limit {
            is_truncated = limit > 0;
            break;
        }
        last = Some(name.clone());
        match folder {
            Some(folder) => folders.push(folder),
            None => contents.push(listed(object, &encode)),
        }
    }
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(encode(&prefix)),
        delimiter: input.delimiter,
        encoding_type: input.encoding_type,
        start_after: input.start_after,
        continuation_token: input.continuation_token,
        max_keys: i32::try_from(limit).ok(),
        key_count: i32::try_from(contents.len() + folders.len()).ok(),
        next_continuation_token: last.filter(|_| is_truncated).map(|key| BASE64_STANDARD.encode(key)),
        is_truncated: Some(is_truncated),
        contents: Some(contents),
        common_prefixes: Some(folders.iter().map(|folder| CommonPrefix { prefix: Some(encode(folder)) }).collect()),
        ..Default::default()
    })
}

pub(super) fn uploads(
    mut stored: Vec<StoredUpload>,
    input: ListMultipartUploadsInput,
) -> S3Result<ListMultipartUploadsOutput> {
    let limit = page_size(input.max_uploads)?;
    if input.delimiter.as_ref().is_some_and(|delimiter| !delimiter.is_empty()) {
        return Err(s3_error!(NotImplemented, "The sandbox lists uploads without a delimiter only."));
    }
    let prefix = input.prefix.clone().unwrap_or_default();
    let key_marker = input.key_marker.clone().unwrap_or_default();
    let encode = encoder(input.encoding_type.as_ref());
    // Of one key, S3 lists the oldest first; identifiers begin with the time they were made at.
    stored.sort_by(|a, b| (&a.key, &a.id).cmp(&(&b.key, &b.id)));
    let after = |upload: &StoredUpload| match &input.upload_id_marker {
        Some(id) if !id.is_empty() => (&upload.key, &upload.id) > (&key_marker, id),
        _ => upload.key > key_marker,
    };
    let mut left = stored.into_iter().filter(|upload| upload.key.starts_with(&prefix) && after(upload)).peekable();
    let page: Vec<StoredUpload> = left.by_ref().take(limit).collect();
    let last = page.last().filter(|_| left.peek().is_some());
    Ok(ListMultipartUploadsOutput {
        bucket: Some(input.bucket),
        prefix: Some(encode(&prefix)),
        key_marker: input.key_marker,
        upload_id_marker: input.upload_id_marker,
        encoding_type: input.encoding_type,
        max_uploads: i32::try_from(limit).ok(),
        is_truncated: Some(last.is_some()),
        next_key_marker: last.map(|upload| encode(&upload.key)),
        next_upload_id_marker: last.map(|upload| upload.id.clone()),
        uploads: Some(
            page.iter()
                .map(|upload| MultipartUpload {
                    key: Some(encode(&upload.key)),
                    upload_id: Some(upload.id.clone()),
                    initiated: Some(timestamp(upload.initiated)),
                    initiator: Some(Initiator { id: Some(upload.initiator.clone()), ..Default::default() }),
                    storage_class: upload.attributes.storage_class.clone().map(Into::into),
                    checksum_algorithm: upload.checksum.map(|(a, _)| ChecksumAlgorithm::from_static(a.name())),
                    checksum_type: upload.checksum.map(|(_, c)| ChecksumType::from_static(c.name())),
                    ..Default::default()
                })
                .collect(),
        ),
        ..Default::default()
    })
}

pub(super) fn parts(upload: StoredUpload, input: ListPartsInput) -> S3Result<ListPartsOutput> {
    let limit = page_size(input.max_parts)?;
    let marker = input.part_number_marker.unwrap_or_default();
    let mut left = upload.parts.into_values().filter(|part| part.number > marker).peekable();
    let page: Vec<_> = left.by_ref().take(limit).collect();
    let listed = page.iter().map(|part| {
        let mut listed = Part {
            part_number: Some(part.number),
            size: i64::try_from(part.size_bytes).ok(),
            e_tag: Some(ETag::Strong(part.etag.clone())),
            last_modified: Some(timestamp(part.modified)),
            ..Default::default()
        };
        let mut sums = part.checksums.clone();
        sums.retain(|algorithm, _| upload.checksum.is_some_and(|(wanted, _)| wanted == *algorithm));
        set_checksums!(listed, sums);
        listed
    });
    let parts = listed.collect();
    let is_truncated = left.peek().is_some();
    Ok(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        part_number_marker: input.part_number_marker,
        next_part_number_marker: page.last().filter(|_| is_truncated).map(|part| part.number),
        max_parts: i32::try_from(limit).ok(),
        is_truncated: Some(is_truncated),
        parts: Some(parts),
        initiator: Some(Initiator { id: Some(upload.initiator), ..Default::default() }),
        storage_class: upload.attributes.storage_class.map(Into::into),
        checksum_algorithm: upload.checksum.map(|(a, _)| ChecksumAlgorithm::from_static(a.name())),
        checksum_type: upload.checksum.map(|(_, c)| ChecksumType::from_static(c.name())),
        ..Default::default()
    })
}

fn listed(object: StoredObject, encode: &impl Fn(&str) -> String) -> Object {
    let algorithms = object.checksums.keys().map(|algorithm| ChecksumAlgorithm::from_static(algorithm.name()));
    Object {
        key: Some(encode(&object.key)),
        size: i64::try_from(object.size_bytes).ok(),
        checksum_algorithm: Some(algorithms.collect()),
        checksum_type: Some(ChecksumType::from_static(object.coverage.name())),
        e_tag: Some(ETag::Strong(object.etag)),
        last_modified: Some(timestamp(object.modified)),
        storage_class: Some(object.attributes.storage_class.unwrap_or_else(|| "STANDARD".to_owned()).into()),
        ..Default::default()
    }
}

fn page_size(asked: Option<i32>) -> S3Result<usize> {
    let asked = asked.unwrap_or(PAGE_MAX);
    usize::try_from(asked.min(PAGE_MAX))
        .map_err(|_| s3_error!(InvalidArgument, "Argument maxKeys must be an integer between 0 and 2147483647"))
}

fn read_token(token: &str) -> S3Result<String> {
    let bytes = BASE64_STANDARD.decode(token).ok();
    let key = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    key.ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}

/// XML cannot carry every key, so clients may ask for them URL-encoded.
fn encoder(wanted: Option<&EncodingType>) -> impl Fn(&str) -> String + use<> {
    let is_url = wanted.is_some_and(|wanted| wanted.as_str() == "url");
    move |text| {
        if !is_url {
            return text.to_owned();
        }
        let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        encoded.replace('+', "%20").replace("%2F", "/")
    }
}
