//! One customer's bucket under one run's session: the four calls that a delivery
//! makes there, each with the expected owner.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_runtime::auth::PayloadSigningOverride;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::{
    BeforeTransmitInterceptorContextMut, BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, ObjectCannedAcl, ServerSideEncryption,
    StorageClass,
};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use chrono::TimeDelta;
use url::form_urlencoded;

use super::contents::Contents;
use super::failure::{Fault, Operation, diagnose};
use super::parts;
use super::session::Session;
use super::store::{Created, Stored};
use super::vendor::Vendor;
use crate::clock::{Instant, ahead_from};
use crate::config::{Customer, Encryption};
use crate::domain::{Failure, Leaves, ObjectKey, RunId, SealedObject, SealedPart};

/// S3 User Guide, "Configuring a bucket lifecycle configuration to delete
/// incomplete multipart uploads": one day at least. Before that, an upload that
/// is gone was completed.
const UPLOAD_LIVES: TimeDelta = TimeDelta::hours(24);

pub(super) struct Bucket {
    pub(super) vendor: Vendor,
    pub(super) customer: Arc<Customer>,
    /// None for one that only tries.
    pub(super) run: Option<RunId>,
    session: Arc<Session>,
    client: Client,
    /// Keys of which there may be an upload that nobody was told of.
    doubtful: Mutex<BTreeSet<String>>,
}

/// How a completion is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completing {
    /// Only where nothing is yet.
    pub(super) if_none_match: bool,
    /// It may have been asked for before, and carried out.
    pub(super) in_doubt: bool,
}

impl Bucket {
    pub(super) fn new(vendor: &Vendor, customer: &Arc<Customer>, run: RunId) -> Result<Self, Failure> {
        Ok(Self { run: Some(run), ..Self::under(vendor, customer, vendor.session(customer, run)?) })
    }

    /// The same for what is stored already, by whichever key of KMS.
    pub(super) fn stored(vendor: &Vendor, customer: &Arc<Customer>, run: RunId) -> Result<Self, Failure> {
        let session = vendor.session_for_any_key(customer, run)?;
        Ok(Self { run: Some(run), ..Self::under(vendor, customer, session) })
    }

    /// Under a session that is there already.
    pub(super) fn under(vendor: &Vendor, customer: &Arc<Customer>, session: Arc<Session>) -> Self {
        let client = vendor.s3(customer, session.clone());
        let (vendor, customer) = (vendor.clone(), customer.clone());
        Self { vendor, customer, run: None, session, client, doubtful: Mutex::default() }
    }

    /// The same bucket for another profile.
    pub(super) fn profiled(&self, customer: Customer) -> Self {
        let (vendor, session, client) = (self.vendor.clone(), self.session.clone(), self.client.clone());
        Self { vendor, customer: Arc::new(customer), run: self.run, session, client, doubtful: Mutex::default() }
    }

    /// Assumes the role now, so that a refusal comes before the data is read.
    pub(super) async fn open(&self) -> Result<(), Failure> {
        self.session.credentials().await.map(drop)
    }

    pub(super) async fn create(&self, key: &ObjectKey, media_type: &str) -> Result<Created, Failure> {
        self.begin(key.as_str(), media_type, Some(self.customer.bucket_owner.as_str())).await
    }

    /// Of any key, and of a bucket of this owner or of whoever's: for what is only tried.
    pub(super) async fn begin(&self, key: &str, media_type: &str, owner: Option<&str>) -> Result<Created, Failure> {
        let (created, attempts) = (self.vendor.clock().now(), Attempts::default());
        let answer = self
            .call(|| {
                let request = self
                    .client
                    .create_multipart_upload()
                    .bucket(self.customer.bucket.as_str())
                    .key(key)
                    .set_expected_bucket_owner(owner.map(str::to_owned))
                    .content_type(media_type)
                    .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
                    .checksum_type(ChecksumType::FullObject);
                self.as_profiled(request).customize().interceptor(attempts.clone()).send()
            })
            .await;
        if attempts.may_have_acted_besides(answer.is_ok()) {
            self.doubtful.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        }
        let answer = answer.map_err(|fault| self.failure(&fault, Operation::CreateUpload, key))?;
        let Some(id) = answer.upload_id().filter(|id| !id.is_empty()) else {
            let fault = Fault::garbled("the answer has no upload id");
            return Err(self.failure(&fault, Operation::CreateUpload, key));
        };
        // S3 says which kind of checksum it will check; compatible stores may know
        // none, or only that of each part.
        let full_checksum = answer.checksum_type() == Some(&ChecksumType::FullObject);
        Ok(Created { upload_id: id.to_owned(), created, full_checksum })
    }

    pub(super) async fn part(&self, part: Part<'_>, contents: Contents) -> Result<SealedPart, Failure> {
        self.send_part(part, contents)
            .await
            .map_err(|fault| self.failure(&fault, Operation::UploadPart, part.key.as_str()))
    }

    async fn send_part(&self, part: Part<'_>, contents: Contents) -> Result<SealedPart, Fault> {
        let usual = self.vendor.aws().part_bytes.max(1);
        let weight = u32::try_from(contents.len().div_ceil(usual)).unwrap_or(u32::MAX).max(1);
        let checksum = contents.checksum.base64();
        let answer = self
            .call(|| {
                let request = self
                    .client
                    .upload_part()
                    .bucket(self.customer.bucket.as_str())
                    .key(part.key.as_str())
                    .upload_id(part.upload_id)
                    .part_number(i32::try_from(part.number).unwrap_or(i32::MAX))
                    .expected_bucket_owner(self.customer.bucket_owner.as_str())
                    .checksum_crc64_nvme(&checksum)
                    .body(contents.body())
                    .customize();
                let request = match contents.sha256() {
                    _ if !self.vendor.signs_payload() => request.disable_payload_signing(),
                    Some(sha256) => request.interceptor(SignedBy(sha256.to_owned())),
                    None => request,
                };
                let timeouts = self.vendor.timeouts(weight);
                request.config_override(aws_sdk_s3::Config::builder().timeout_config(timeouts)).send()
            })
            .await?;
        let Some(etag) = answer.e_tag() else { return Err(Fault::garbled("the answer has no ETag")) };
        Ok(SealedPart { etag: etag.to_owned(), checksum_crc64nvme: checksum })
    }

    /// Makes the object visible.
    ///
    /// A reply can be lost after the store has acted. Asking again then finds the
    /// upload gone, and that is the proof: an upload id disappears only by completion, by an
    /// abort, which nobody asks for while that is in doubt, or by a lifecycle rule after
    /// a day. No right to read is needed for it. Without a request in doubt it proves the
    /// opposite (`docs/decisions/0022-what-an-answer-proves.md`).
    pub(super) async fn complete(&self, object: &SealedObject, how: Completing) -> Result<Stored, Incomplete> {
        let attempts = Attempts::default();
        let timeouts = self.vendor.timeouts(parts::completion_weight(object.parts.len()));
        let patient = aws_sdk_s3::Config::builder().timeout_config(timeouts);
        let answer = self
            .call(|| {
                let request = self.completion(object);
                let request = if how.if_none_match { request.if_none_match("*") } else { request };
                request.customize().interceptor(attempts.clone()).config_override(patient.clone()).send()
            })
            .await;
        let fault = match answer {
            Ok(answer) => {
                let said = answer.checksum_crc64_nvme().filter(|_| object.full_checksum);
                if said.is_some_and(|said| said != object.checksum_crc64nvme) {
                    let fault =
                        Fault::garbled("the store has another checksum of the whole object than the one that was sent");
                    let failure = self.failure(&fault, Operation::CompleteUpload, &object.key);
                    let failure = Failure { leaves: Leaves::Torn, ..failure };
                    return Err(Incomplete { failure, in_doubt: false, why: Why::Spoiled });
                }
                let etag = answer.e_tag().unwrap_or_default().trim_matches('"').to_owned();
                return Ok(Stored { etag });
            }
            Err(fault) => fault,
        };
        let in_doubt = how.in_doubt || attempts.may_have_acted();
        if fault.no_such_upload() && in_doubt && self.is_young(object.created) {
            return Ok(Stored { etag: String::new() });
        }
        let failure = self.failure(&fault, Operation::CompleteUpload, &object.key);
        Err(Incomplete { failure, in_doubt, why: Why::of(&fault) })
    }

    /// Whether no lifecycle rule can have ended an upload of this age. One that a clock ahead of today's
    /// has dated may be of any.
    pub(super) fn is_young(&self, created: Instant) -> bool {
        let now = self.vendor.clock().now();
        created <= ahead_from(now) && now - created < UPLOAD_LIVES
    }

    /// One that is gone already is no error, and proves nothing: the request may have been made twice.
    pub(super) async fn abort(&self, key: &str, upload_id: &str) -> Result<(), Failure> {
        self.end(key, upload_id, Some(self.customer.bucket_owner.as_str())).await
    }

    /// Aborts an upload as [`Bucket::begin`] began it.
    pub(super) async fn end(&self, key: &str, upload_id: &str, owner: Option<&str>) -> Result<(), Failure> {
        let answer = self
            .call(|| {
                self.client
                    .abort_multipart_upload()
                    .bucket(self.customer.bucket.as_str())
                    .key(key)
                    .upload_id(upload_id)
                    .set_expected_bucket_owner(owner.map(str::to_owned))
                    .send()
            })
            .await;
        match answer {
            Ok(_) => Ok(()),
            Err(fault) if fault.no_such_upload() => Ok(()),
            Err(fault) => Err(self.failure(&fault, Operation::AbortUpload, key)),
        }
    }

    /// Keys whose creation was answered late or not at all. They are told once.
    pub(super) fn doubtful(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.doubtful.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the profile wants of each object.
    fn as_profiled(&self, request: CreateMultipartUploadFluentBuilder) -> CreateMultipartUploadFluentBuilder {
        let customer = &self.customer;
        let tags = (!customer.tags.is_empty()).then(|| {
            let pairs = form_urlencoded::Serializer::new(String::new()).extend_pairs(customer.tags.iter()).finish();
            // A space is never '+' here: that is a letter that tags can have.
            pairs.replace('+', "%20")
        });
        let request = request
            .set_storage_class(customer.storage_class.as_deref().map(StorageClass::from))
            .set_acl(customer.acl.as_deref().map(ObjectCannedAcl::from))
            .set_tagging(tags);
        match &customer.encryption {
            Encryption::Bucket => request,
            Encryption::S3 => request.server_side_encryption(ServerSideEncryption::Aes256),
            Encryption::Kms { key } => {
                request.server_side_encryption(ServerSideEncryption::AwsKms).set_ssekms_key_id(key.clone())
            }
        }
    }

    fn completion(&self, object: &SealedObject) -> CompleteMultipartUploadFluentBuilder {
        let parts = (1..).zip(&object.parts).map(|(number, part)| {
            CompletedPart::builder()
                .part_number(number)
                .e_tag(&part.etag)
                .checksum_crc64_nvme(&part.checksum_crc64nvme)
                .build()
        });
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(self.customer.bucket.as_str())
            .key(&object.key)
            .upload_id(&object.upload_id)
            .expected_bucket_owner(self.customer.bucket_owner.as_str())
            .mpu_object_size(i64::try_from(object.bytes).unwrap_or(i64::MAX))
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build());
        if !object.full_checksum {
            return request;
        }
        request.checksum_type(ChecksumType::FullObject).checksum_crc64_nvme(&object.checksum_crc64nvme)
    }

    /// Makes a request, and once more with a new session if the session's token has expired.
    async fn call<T, E, F, R>(&self, request: F) -> Result<T, Fault>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        F: Fn() -> R,
        R: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        self.open().await.map_err(Fault::known)?;
        let session = self.session.number();
        let fault = match request().await {
            Ok(answer) => return Ok(answer),
            Err(error) => Fault::of(&error),
        };
        if !fault.wants_new_session() {
            return Err(fault);
        }
        self.session.renew(session).await.map_err(Fault::known)?;
        request().await.map_err(|error| Fault::of(&error))
    }

    pub(super) fn failure(&self, fault: &Fault, operation: Operation, key: &str) -> Failure {
        diagnose(fault, operation, key, &self.customer)
    }
}

/// Which part of which upload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    pub(super) key: &'a ObjectKey,
    pub(super) upload_id: &'a str,
    pub(super) number: u32,
    pub(super) offset: u64,
}

/// Why an object was not made visible.
#[derive(Debug)]
pub(super) struct Incomplete {
    pub(super) failure: Failure,
    /// The store may have completed it all the same: whether the upload is still there tells.
    pub(super) in_doubt: bool,
    pub(super) why: Why,
}

/// What the last answer says, if there was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// There is an object of this key already.
    Exists,
    /// Somebody wrote the same key at that moment: the upload has to be made anew.
    Contended,
    /// Its upload is gone, and it was no request of ours that completed it.
    Gone,
    /// It has become something else than what was sent.
    Spoiled,
    Other,
}

impl Why {
    fn of(fault: &Fault) -> Self {
        match fault {
            fault if fault.precondition_failed() => Why::Exists,
            fault if fault.concurrent_write() => Why::Contended,
            fault if fault.no_such_upload() => Why::Gone,
            _ => Why::Other,
        }
    }
}

impl From<Failure> for Incomplete {
    fn from(failure: Failure) -> Self {
        Self { failure, in_doubt: false, why: Why::Other }
    }
}

/// Signs a request by the hash that its body is known to have. The SDK signs a body
/// that is not in memory as one that may be anything.
#[derive(Debug)]
struct SignedBy(String);

impl Intercept for SignedBy {
    fn name(&self) -> &'static str {
        "SignedBy"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.0.clone()));
        Ok(())
    }
}

const CODE: &str = "<Code>";
const SLOW_DOWN: &str = "<Code>SlowDown</Code>";
const NO_SUCH_UPLOAD: &str = "<Code>NoSuchUpload</Code>";
const PRECONDITION_FAILED: &str = "<Code>PreconditionFailed</Code>";

/// Counts the attempts whose outcome nobody knows, which an SDK error does not tell.
#[derive(Clone, Debug, Default)]
struct Attempts {
    begun: Arc<AtomicU32>,
    refused: Arc<AtomicU32>,
}

impl Attempts {
    /// Whether some attempt may have been carried out although it seemed to fail.
    fn may_have_acted(&self) -> bool {
        self.may_have_acted_besides(false)
    }

    /// The same of all others than the one that was answered, if one was.
    fn may_have_acted_besides(&self, answered: bool) -> bool {
        self.begun.load(Ordering::Relaxed) > self.refused.load(Ordering::Relaxed) + u32::from(answered)
    }
}

impl Intercept for Attempts {
    fn name(&self) -> &'static str {
        "Attempts"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Not called for attempts that time out.
    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let is_refused = context.response().is_some_and(|response| {
            let (status, body) = (response.status().as_u16(), response.body().bytes());
            let says = |what| body.is_some_and(|body| String::from_utf8_lossy(body).contains(what));
            // 501 says that the store knows no such request, SlowDown that S3 has not looked at it. What names no error,
            // and any other 503, may be of somebody in between, who has passed it on.
            // What says so in a 200 has looked, and done nothing.
            (matches!(status, 300..=499 | 501) && says(CODE))
                || (status == 503 && says(SLOW_DOWN))
                || (status == 200 && (says(NO_SUCH_UPLOAD) || says(PRECONDITION_FAILED)))
        });
        self.refused.fetch_add(u32::from(is_refused), Ordering::Relaxed);
        Ok(())
    }
}
