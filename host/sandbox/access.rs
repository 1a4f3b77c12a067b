//! May this caller do that to this bucket or object?

use std::collections::BTreeMap;

use http::HeaderMap;
use s3s::access::{S3Access, S3AccessContext};
use s3s::path::S3Path;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::Shared;
use super::config::{Account, Bucket, Key};
use super::identity::Caller;
use super::journal::Draft;
use super::policy::{Question, Verdict};

/// Whether the caller may list the bucket, which decides what a missing key looks like.
#[derive(Clone, Copy)]
pub(super) struct MayList(pub bool);

#[async_trait::async_trait]
impl S3Access for Shared {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = cx.s3_op().name().to_owned();
        let operation = operation.as_str();
        if let Some(draft) = cx.extensions_mut().get::<Draft>() {
            draft.set_operation(operation);
        }
        let Some(caller) = cx.extensions_mut().get::<Caller>().cloned() else {
            return Err(s3_error!(AccessDenied, "Access Denied"));
        };
        let Some(action) = action_of(operation) else {
            return Err(s3_error!(NotImplemented, "The sandbox does not implement {operation}."));
        };
        let (name, key) = match cx.s3_path() {
            S3Path::Root => return Err(s3_error!(NotImplemented, "The sandbox does not implement {operation}.")),
            S3Path::Bucket { bucket } => (bucket.to_string(), None),
            S3Path::Object { bucket, key } => (bucket.to_string(), Some(key.to_string())),
        };
        let Some((account, bucket)) = self.bucket(&name) else {
            return Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"));
        };
        check_owner(cx.headers(), account)?;

        let request = Request { caller: &caller, account, bucket, context: context(cx, &caller, account) };
        let resource = match &key {
            Some(key) => format!("arn:aws:s3:::{name}/{key}"),
            None => format!("arn:aws:s3:::{name}"),
        };
        let initiated = match action {
            "s3:AbortMultipartUpload" | "s3:ListMultipartUploadParts" => self.has_initiated(cx, &caller, &name, &key),
            _ => false,
        };
        request.allow(action, &resource, initiated)?;
        if matches!(operation, "PutObject" | "CreateMultipartUpload") {
            request.allow_extras(cx.headers(), &resource)?;
            check_acl(cx.headers(), bucket)?;
        }
        if let Some(key) = self.kms_key(cx, &caller, bucket, &key) {
            request.allow_kms(&key, operation)?;
        }
        let may_list = request.ask("s3:ListBucket", &format!("arn:aws:s3:::{name}")) == Verdict::Allowed;
        cx.extensions_mut().insert(MayList(may_list));
        Ok(())
    }
}

impl Shared {
    /// The key by which the object is encrypted, if it is one that the sandbox has.
    fn kms_key(
        &self,
        cx: &S3AccessContext<'_>,
        caller: &Caller,
        bucket: &Bucket,
        key: &Option<String>,
    ) -> Option<UsedKey<'_>> {
        let header = |name: &str| cx.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (encryption, named) = match upload_id(cx) {
            None => (header("x-amz-server-side-encryption"), header("x-amz-server-side-encryption-aws-kms-key-id")),
            Some(id) => {
                let upload = self.store.upload(&bucket.name, key.as_ref()?, &id)?;
                (upload.attributes.encryption, upload.attributes.kms_key_id)
            }
        };
        let wanted = if encryption.is_some() { named? } else { bucket.kms_key.clone()? };
        let asks = (caller.account.as_str(), bucket.region.as_str());
        self.config.accounts.iter().find_map(|account| {
            let key = account.keys.iter().find(|key| key.is_called(&wanted, &account.id, asks))?;
            Some(UsedKey { arn: key.arn(&account.id), owner: &account.id, key })
        })
    }

    /// Whoever began an upload may list its parts and abort it, without being granted either; and
    /// learns that an upload is gone if it may write there.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html#mpuAndPermissions>
    fn has_initiated(&self, cx: &S3AccessContext<'_>, caller: &Caller, bucket: &str, key: &Option<String>) -> bool {
        let Some(key) = key else { return false };
        match upload_id(cx).and_then(|id| self.store.upload(bucket, key, &id)) {
            Some(upload) => upload.initiator == caller.principal,
            None => {
                let resource = format!("arn:aws:s3:::{bucket}/{key}");
                let context = BTreeMap::new();
                let question = Question { action: "s3:PutObject", resource: &resource, context: &context };
                caller.ask(&question) == Verdict::Allowed
            }
        }
    }
}

fn upload_id(cx: &S3AccessContext<'_>) -> Option<String> {
    let query = cx.uri().query().unwrap_or_default();
    let id = url::form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "uploadId");
    id.map(|(_, id)| id.into_owned())
}

struct UsedKey<'a> {
    arn: String,
    /// The account that it is in.
    owner: &'a str,
    key: &'a Key,
}

struct Request<'a> {
    caller: &'a Caller,
    account: &'a Account,
    bucket: &'a Bucket,
    context: BTreeMap<String, String>,
}

impl Request<'_> {
    fn ask(&self, action: &str, resource: &str) -> Verdict {
        self.caller.may(&self.account.id, self.bucket, &Question { action, resource, context: &self.context })
    }

    fn allow(&self, action: &str, resource: &str, unless_denied: bool) -> S3Result<()> {
        match self.ask(action, resource) {
            Verdict::Allowed => Ok(()),
            Verdict::Silent if unless_denied => Ok(()),
            verdict => Err(self.denied(action, resource, verdict)),
        }
    }

    /// Headers that need a permission of their own.
    fn allow_extras(&self, headers: &HeaderMap, resource: &str) -> S3Result<()> {
        if headers.keys().any(|name| name == "x-amz-acl" || name.as_str().starts_with("x-amz-grant-")) {
            self.allow("s3:PutObjectAcl", resource, false)?;
        }
        if headers.contains_key("x-amz-tagging") {
            self.allow("s3:PutObjectTagging", resource, false)?;
        }
        Ok(())
    }

    /// A part of an upload is read again when it completes, so that needs both.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html>
    fn allow_kms(&self, used: &UsedKey<'_>, operation: &str) -> S3Result<()> {
        let UsedKey { arn, owner, key } = used;
        let actions: &[&str] = match operation {
            "PutObject" | "CreateMultipartUpload" => &["kms:GenerateDataKey"],
            "UploadPart" | "CompleteMultipartUpload" => &["kms:GenerateDataKey", "kms:Decrypt"],
            _ => &[],
        };
        if !key.enabled && !actions.is_empty() {
            let code = S3ErrorCode::Custom("KMS.DisabledException".into());
            let mut error = S3Error::with_message(code, format!("{arn} is disabled."));
            error.set_status_code(http::StatusCode::BAD_REQUEST);
            return Err(error);
        }
        let mut context = self.context.clone();
        context.insert("kms:viaservice".to_owned(), format!("s3.{}.amazonaws.com", key.region));
        for action in actions {
            let question = Question { action, resource: arn, context: &context };
            match self.caller.may_use(owner, key.policy.as_ref(), &question) {
                Verdict::Allowed => {}
                verdict => return Err(self.denied(action, arn, verdict)),
            }
        }
        Ok(())
    }

    fn denied(&self, action: &str, resource: &str, verdict: Verdict) -> S3Error {
        if self.caller.account != self.account.id {
            // Nothing is told about another account's bucket.
            return s3_error!(AccessDenied, "Access Denied");
        }
        let because = match verdict {
            Verdict::Denied => "with an explicit deny in a policy".to_owned(),
            _ => format!("because no identity-based, session or resource-based policy allows the {action} action"),
        };
        let arn = &self.caller.arn;
        s3_error!(
            AccessDenied,
            "User: {arn} is not authorized to perform: {action} on resource: \"{resource}\" {because}"
        )
    }
}

fn action_of(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => "s3:PutObject",
        "AbortMultipartUpload" => "s3:AbortMultipartUpload",
        "ListParts" => "s3:ListMultipartUploadParts",
        "GetObject" | "HeadObject" => "s3:GetObject",
        "DeleteObject" => "s3:DeleteObject",
        "PutObjectTagging" => "s3:PutObjectTagging",
        "GetObjectTagging" => "s3:GetObjectTagging",
        "HeadBucket" | "ListObjectsV2" => "s3:ListBucket",
        "ListMultipartUploads" => "s3:ListBucketMultipartUploads",
        "GetBucketLocation" => "s3:GetBucketLocation",
        _ => return None,
    })
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html>
fn check_owner(headers: &HeaderMap, account: &Account) -> S3Result<()> {
    match headers.get("x-amz-expected-bucket-owner") {
        Some(expected) if expected.as_bytes() != account.id.as_bytes() => Err(s3_error!(AccessDenied, "Access Denied")),
        _ => Ok(()),
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html>
fn check_acl(headers: &HeaderMap, bucket: &Bucket) -> S3Result<()> {
    let grants = headers.keys().any(|name| name.as_str().starts_with("x-amz-grant-"));
    let acl = headers.get("x-amz-acl").map(|value| value.as_bytes());
    if !bucket.acl_enabled && (grants || acl.is_some_and(|acl| acl != b"bucket-owner-full-control")) {
        return Err(s3_error!(AccessControlListNotSupported, "The bucket does not allow ACLs"));
    }
    Ok(())
}

fn context(cx: &S3AccessContext<'_>, caller: &Caller, account: &Account) -> BTreeMap<String, String> {
    const HEADERS: [(&str, &str); 5] = [
        ("x-amz-acl", "s3:x-amz-acl"),
        ("x-amz-server-side-encryption", "s3:x-amz-server-side-encryption"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "s3:x-amz-server-side-encryption-aws-kms-key-id"),
        ("x-amz-storage-class", "s3:x-amz-storage-class"),
        ("if-none-match", "s3:if-none-match"),
    ];
    let mut context = BTreeMap::from([
        ("aws:principalarn".to_owned(), caller.principal.clone()),
        ("aws:principalaccount".to_owned(), caller.account.clone()),
        ("aws:resourceaccount".to_owned(), account.id.clone()),
        ("s3:resourceaccount".to_owned(), account.id.clone()),
        // Loopback stands in for HTTPS, so that the usual "deny without TLS" lets requests through.
        ("aws:securetransport".to_owned(), "true".to_owned()),
    ]);
    for (header, key) in HEADERS {
        if let Some(value) = cx.headers().get(header).and_then(|value| value.to_str().ok()) {
            context.insert(key.to_owned(), value.to_owned());
        }
    }
    // What makes an object to be seen, and what only stores for it.
    // <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes-enforce.html>
    let creates = match cx.s3_op().name() {
        "PutObject" | "CompleteMultipartUpload" => Some("true"),
        "CreateMultipartUpload" | "UploadPart" => Some("false"),
        _ => None,
    };
    if let Some(creates) = creates {
        context.insert("s3:objectcreationoperation".to_owned(), creates.to_owned());
    }
    // Of uploads S3 lists all or none: no condition narrows that to a prefix.
    // <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>
    if cx.s3_op().name() == "ListObjectsV2" {
        let query = cx.uri().query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if name == "prefix" || name == "delimiter" {
                context.insert(format!("s3:{name}"), value.into_owned());
            }
        }
    }
    context
}
