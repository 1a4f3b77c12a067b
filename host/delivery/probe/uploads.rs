//! Uploads that are begun and aborted: as deliveries make them, with and without what the profile
//! adds to them, and where none may be.

use std::sync::Arc;

use bytes::Bytes;

use super::{Check, Finding, LeftUpload, Outcome, Probe};
use crate::config::{Customer, Encryption};
use crate::delivery::bucket::{Bucket, Part};
use crate::delivery::contents::Contents;
use crate::delivery::failure::denied;
use crate::delivery::failure::paste;
use crate::delivery::policy;
use crate::delivery::session::Session;
use crate::domain::{AccountId, Failure, Layer, Retry, shell_word};

const MEDIA_TYPE: &str = "application/octet-stream";
/// What the one part holds, should anybody ever read it.
const CONTENTS: &[u8] = b"consign preflight";

/// What the profile adds to each upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extra {
    Encryption,
    StorageClass,
    Acl,
    Tags,
}

impl Extra {
    fn of(customer: &Customer) -> Vec<Self> {
        let has = [
            (Extra::Encryption, customer.encryption != Encryption::Bucket),
            (Extra::StorageClass, customer.storage_class.is_some()),
            (Extra::Acl, customer.acl.is_some()),
            (Extra::Tags, !customer.tags.is_empty()),
        ];
        has.into_iter().filter_map(|(extra, has)| has.then_some(extra)).collect()
    }

    fn check(self) -> Check {
        match self {
            Extra::Encryption => Check::Encryption,
            Extra::StorageClass => Check::StorageClass,
            Extra::Acl => Check::Acl,
            Extra::Tags => Check::Tags,
        }
    }

    fn told(self, customer: &Customer) -> String {
        match self {
            Extra::Encryption => match &customer.encryption {
                Encryption::Kms { key: Some(key) } => format!("KMS key {key}"),
                Encryption::Kms { key: None } => "KMS, the account's default key".to_owned(),
                Encryption::S3 | Encryption::Bucket => "AES256".to_owned(),
            },
            Extra::StorageClass => customer.storage_class.clone().unwrap_or_default(),
            Extra::Acl => customer.acl.clone().unwrap_or_default(),
            Extra::Tags => customer.tags.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        }
    }

    fn taken_off(self, customer: &mut Customer) {
        match self {
            Extra::Encryption => customer.encryption = Encryption::Bucket,
            Extra::StorageClass => customer.storage_class = None,
            Extra::Acl => customer.acl = None,
            Extra::Tags => customer.tags.clear(),
        }
    }

    /// What S3 does not say, and trying has found.
    fn blamed(self, failure: Failure, customer: &Customer) -> Failure {
        if failure.layer != Layer::RolePolicy {
            return failure;
        }
        let (layer, remedy) = match self {
            Extra::Encryption if customer.encryption != Encryption::S3 => {
                let (layer, _, remedy) = denied::kms(&failure.message, customer);
                (layer, remedy)
            }
            Extra::Encryption => (
                Layer::Bucket,
                "ask the customer which encryption the bucket's policy wants, and set encryption".to_owned(),
            ),
            Extra::StorageClass => {
                let remedy =
                    "ask the customer which storage classes the bucket's policy lets in, or remove storage_class";
                (Layer::Bucket, remedy.to_owned())
            }
            Extra::Acl => {
                let what = format!("remove acl from customer '{}', or have the role allow it", customer.name);
                (Layer::Acl, paste(&what, &policy::objects(customer)))
            }
            Extra::Tags => (Layer::RolePolicy, denied::role_statement(customer)),
        };
        Failure { layer, remedy, ..failure }
    }
}

/// What is looked at here for this customer.
pub(super) fn checks(customer: &Customer) -> Vec<Check> {
    let mut checks = vec![Check::Region, Check::Owner, Check::Write];
    checks.extend(Extra::of(customer).into_iter().map(Extra::check));
    checks.extend([Check::Outside, Check::NothingLeft]);
    checks
}

/// An upload that stays, and why.
pub(super) type Left = (LeftUpload, Failure);

/// One upload in the prefix, begun, filled and aborted.
pub(super) async fn one(bucket: &Bucket) -> (Result<(), Failure>, Option<Left>) {
    let key = bucket.customer.prefix.probe();
    let upload_id = match bucket.create(&key, MEDIA_TYPE).await {
        Ok(created) => created.upload_id,
        Err(failure) => return (Err(failure), None),
    };
    let part = Part { key: &key, upload_id: &upload_id, number: 1, offset: 0 };
    let filled = bucket.part(part, Contents::in_memory(Bytes::from_static(CONTENTS))).await.map(drop);
    let aborted = bucket.abort(key.as_str(), &upload_id).await;
    (filled, aborted.err().map(|failure| (left(bucket, key.as_str(), upload_id), failure)))
}

fn left(bucket: &Bucket, key: &str, upload_id: String) -> LeftUpload {
    LeftUpload { bucket: bucket.customer.bucket.to_string(), key: key.to_owned(), upload_id }
}

/// All that is tried in one customer's bucket.
pub(super) struct Uploads<'a> {
    probe: &'a Probe,
    customer: &'a Arc<Customer>,
    bucket: Bucket,
    /// The same under a session that is good for any key.
    any_key: Option<Bucket>,
    found: Vec<Finding>,
    left: Vec<Left>,
    /// A request to begin one got no answer, be it that another one was made then.
    unsure: bool,
}

impl<'a> Uploads<'a> {
    pub(super) fn new(probe: &'a Probe, customer: &'a Arc<Customer>, session: Arc<Session>) -> Self {
        let bucket = Bucket::under(&probe.vendor, customer, session);
        Self { probe, customer, bucket, any_key: None, found: Vec::new(), left: Vec::new(), unsure: false }
    }

    pub(super) async fn look(&mut self) {
        match self.inside(&[]).await {
            Ok(()) => {
                self.region_is_right();
                self.owner_is_right().await;
                self.written("");
                self.extras_taken(&[]);
            }
            Err(failure) => self.explain(failure).await,
        }
        self.outside().await;
    }

    pub(super) fn end(mut self) -> (Vec<Finding>, Vec<LeftUpload>) {
        self.found.push(self.nothing_left());
        (self.found, self.left.into_iter().map(|(left, _)| left).collect())
    }

    fn region_is_right(&mut self) {
        self.found.push(Finding::ok(Check::Region, self.customer.region.as_str()));
    }

    fn written(&mut self, but: &str) {
        let key = self.customer.prefix.probe();
        self.found.push(Finding::ok(Check::Write, format!("{key} was begun, filled and aborted{but}")));
    }

    fn extras_taken(&mut self, but: &[Extra]) {
        for extra in Extra::of(self.customer).into_iter().filter(|extra| !but.contains(extra)) {
            self.found.push(Finding::ok(extra.check(), extra.told(self.customer)));
        }
    }

    fn not_tried(&mut self, checks: &[Check], why: &str) {
        self.found.extend(checks.iter().map(|check| Finding::not_tried(*check, why)));
    }

    fn extras_not_tried(&mut self, why: &str) {
        let extras: Vec<Check> = Extra::of(self.customer).into_iter().map(Extra::check).collect();
        self.not_tried(&extras, why);
    }

    /// An upload as the profile wants it, but for these. One that could not be aborted is a
    /// finding of its own.
    async fn inside(&mut self, but: &[Extra]) -> Result<(), Failure> {
        let bucket = self.bucket_but(but);
        let (tried, left) = one(&bucket).await;
        self.left.extend(left);
        self.unsure |= !bucket.doubtful().is_empty();
        tried.inspect_err(|failure| self.unsure |= failure.layer == Layer::Network)
    }

    /// Without the profile's encryption it is the bucket's, for which the profile's session may have no right.
    fn bucket_but(&mut self, but: &[Extra]) -> Bucket {
        let (profile, probe, customer) = (self.but(but), self.probe, self.customer);
        let policy = but.contains(&Extra::Encryption).then(|| policy::session_for_any_key(customer).ok()).flatten();
        let bucket = match policy {
            Some(policy) => self.any_key.get_or_insert_with(|| {
                Bucket::under(&probe.vendor, customer, probe.vendor.session_of(super::request(customer, Some(policy))))
            }),
            None => &mut self.bucket,
        };
        bucket.profiled(profile)
    }

    /// Begins and aborts one of any key. Whether it was refused.
    async fn bare(&mut self, bucket: &Bucket, key: &str, owner: Option<&str>) -> Result<(), Failure> {
        let created = bucket.begin(key, MEDIA_TYPE, owner).await;
        self.unsure |= !bucket.doubtful().is_empty();
        let upload_id = created.inspect_err(|failure| self.unsure |= failure.layer == Layer::Network)?.upload_id;
        if let Err(failure) = bucket.end(key, &upload_id, owner).await {
            self.left.push((left(bucket, key, upload_id), failure));
        }
        Ok(())
    }

    /// What kept the upload of the whole profile from being tried to its end.
    async fn explain(&mut self, failure: Failure) {
        match failure.layer {
            Layer::Region => {
                self.found.push(Finding::failed(Check::Region, failure));
                self.not_tried(&[Check::Owner, Check::Write], "the region is wrong");
                return self.extras_not_tried("the region is wrong");
            }
            Layer::Bucket if failure.message.contains("NoSuchBucket") => {
                self.found.push(Finding::failed(Check::Write, failure));
                self.not_tried(&[Check::Region, Check::Owner], "there is no such bucket");
                return self.extras_not_tried("there is no such bucket");
            }
            _ if !is_refusal(&failure) => {
                self.found.push(Finding::failed(Check::Write, failure));
                self.not_tried(&[Check::Region, Check::Owner], "S3 did not answer");
                return self.extras_not_tried("S3 did not answer");
            }
            _ => self.region_is_right(),
        }
        if self.is_anothers().await {
            self.found.push(Finding::failed(Check::Owner, self.another_owner()));
            self.not_tried(&[Check::Write], "the bucket is another account's");
            return self.extras_not_tried("the bucket is another account's");
        }
        self.blame(failure).await;
    }

    /// The upload is refused because of the owner that is expected, and of nothing else.
    async fn is_anothers(&mut self) -> bool {
        let (bucket, key) = (self.bucket.profiled(self.but(&[])), self.customer.prefix.probe());
        let owner = self.customer.bucket_owner.as_str().to_owned();
        // What begins with the right owner was refused later.
        let is_refused = self.bare(&bucket, key.as_str(), Some(&owner)).await.is_err();
        is_refused && self.bare(&bucket, key.as_str(), None).await.is_ok()
    }

    fn another_owner(&self) -> Failure {
        let Customer { name, bucket, bucket_owner, .. } = &**self.customer;
        let message = format!(
            "bucket '{bucket}' is not account {bucket_owner}'s: an upload is refused that expects it to be, and taken otherwise"
        );
        let remedy = format!(
            "ask the customer whose bucket it is. If it is theirs, set bucket_owner to its account for customer '{name}'; if not, the \
             bucket was deleted, and somebody else has its name now"
        );
        Failure::new(Layer::Owner, Retry::Never, message, remedy)
    }

    /// AWS refuses another owner than the right one; what stands in for it may not look.
    async fn owner_is_right(&mut self) {
        let owner = self.customer.bucket_owner.clone();
        if self.probe.vendor.aws().endpoint_url.is_some() && self.takes_any_owner().await {
            let (message, remedy) = (
                "the store behind endpoint_url does not look at x-amz-expected-bucket-owner",
                "nothing tells there whose bucket it is; AWS does",
            );
            return self.found.push(Finding::warning(Check::Owner, Layer::Owner, message, remedy));
        }
        self.found.push(Finding::ok(Check::Owner, format!("account {owner}")));
    }

    async fn takes_any_owner(&mut self) -> bool {
        let (bucket, key) = (self.bucket.profiled(self.but(&[])), self.customer.prefix.probe());
        let wrong = ["999999999999", "888888888888"].into_iter().find(|id| self.customer.bucket_owner.as_str() != *id);
        let Some(wrong) = wrong.and_then(|id| AccountId::parse(id).ok()) else { return false };
        self.bare(&bucket, key.as_str(), Some(wrong.as_str())).await.is_ok()
    }

    /// Finds out which of what the profile adds is refused, if it is any of that.
    async fn blame(&mut self, failure: Failure) {
        let extras = Extra::of(self.customer);
        for extra in &extras {
            if self.inside(&[*extra]).await.is_ok() {
                self.written(&format!(", without the profile's {}", extra.check().as_str()));
                self.extras_taken(&[*extra]);
                let failure = extra.blamed(failure, self.customer);
                return self.found.push(Finding::failed(extra.check(), failure));
            }
        }
        if let Err(failure) = self.inside(&extras).await {
            self.found.push(Finding::failed(Check::Write, failure));
            let owner = "the upload is refused, whoever the bucket belongs to";
            self.not_tried(&[Check::Owner], owner);
            return self.extras_not_tried("nothing can be written");
        }
        self.written(", without what the profile adds");
        for extra in &extras {
            let others: Vec<Extra> = extras.iter().copied().filter(|other| other != extra).collect();
            let finding = match self.inside(&others).await {
                Ok(()) => Finding::ok(extra.check(), extra.told(self.customer)),
                Err(failure) => Finding::failed(extra.check(), extra.blamed(failure, self.customer)),
            };
            self.found.push(finding);
        }
    }

    fn but(&self, extras: &[Extra]) -> Customer {
        let mut customer = Customer::clone(self.customer);
        extras.iter().for_each(|extra| extra.taken_off(&mut customer));
        customer
    }

    /// Whether the role alone, without consign's session policy, keeps to the prefix.
    async fn outside(&mut self) {
        let keys = self.customer.prefix.outside();
        let is_first = |finding: &&Finding| matches!(finding.check, Check::Region | Check::Owner | Check::Write);
        let mut failed = self.found.iter().filter(is_first).filter(|finding| finding.outcome == Outcome::Failed);
        let why = match failed.next() {
            _ if keys.is_empty() => {
                return self.found.push(Finding::left_out(Check::Outside, "the prefix is the whole bucket"));
            }
            Some(Finding { layer: Some(Layer::RolePolicy | Layer::Kms | Layer::Acl), .. }) | None => {
                self.probe.stopped()
            }
            Some(_) => Some("nothing can be written at all"),
        };
        if let Some(why) = why {
            return self.not_tried(&[Check::Outside], why);
        }
        let session = self.probe.vendor.session_of(super::request(self.customer, None));
        let finding = self.outside_at(&keys, session).await;
        self.found.push(finding);
    }

    async fn outside_at(&mut self, keys: &[String], session: Arc<Session>) -> Finding {
        let whole = Bucket::under(&self.probe.vendor, self.customer, session);
        // A role may allow ACL, tags or a key in the prefix alone, and objects anywhere.
        let extras = Extra::of(self.customer);
        let plain = (!extras.is_empty()).then(|| whole.profiled(self.but(&extras)));
        let (mut taken, mut unsaid) = (Vec::new(), None);
        for key in keys {
            let mut tried = self.bare(&whole, key, Some(self.customer.bucket_owner.as_str())).await;
            if let (Err(failure), Some(plain)) = (&tried, &plain)
                && is_refusal(failure)
            {
                tried = self.bare(plain, key, Some(self.customer.bucket_owner.as_str())).await;
            }
            match tried {
                Ok(()) => taken.push(format!("'{key}'")),
                // Who lets nobody write there, and not what is wrong with the upload.
                Err(failure) if matches!(failure.layer, Layer::RolePolicy | Layer::Bucket) => {}
                Err(failure) if is_refusal(&failure) => unsaid = unsaid.or(Some(failure.message)),
                Err(failure) if taken.is_empty() => return Finding::not_tried(Check::Outside, failure.message),
                Err(_) => break,
            }
        }
        if taken.is_empty() {
            return match unsaid {
                // It would say the same again, and no delivery writes there.
                Some(why) => Finding::left_out(Check::Outside, why),
                None => Finding::ok(Check::Outside, "refused, as it should be"),
            };
        }
        let message = format!(
            "the role may write outside of '{}' too: {} would have been taken. consign's own sessions may not",
            self.customer.prefix,
            taken.join(", ")
        );
        let beside = crate::policy::others_of_role(self.customer)
            .map(|others| format!(", beside what {others} need, which have the same role"))
            .unwrap_or_default();
        let key = match self.customer.encryption {
            Encryption::Bucket => "; a policy for the KMS key that the bucket encrypts with stays",
            Encryption::S3 | Encryption::Kms { .. } => "",
        };
        let remedy = paste(
            &format!(
                "ask the customer to make this the policy of {}, in the place of a wider one{beside}{key}",
                self.customer.role_arn
            ),
            &crate::policy::permissions(self.customer),
        );
        Finding::warning(Check::Outside, Layer::RolePolicy, message, remedy)
    }

    fn nothing_left(&self) -> Finding {
        let check = Check::NothingLeft;
        let rule = policy::lifecycle(self.customer);
        let rule = paste("or this rule of the bucket's lifecycle, which ends what others leave too", &rule);
        if let Some((_, failure)) = self.left.first() {
            let uploads: Vec<String> =
                self.left.iter().map(|(left, _)| format!("upload {} of '{}'", left.upload_id, left.key)).collect();
            let message = format!(
                "{} stays in bucket '{}', invisible and without an end: {}",
                uploads.join(", "),
                self.customer.bucket,
                failure.message
            );
            let commands: Vec<String> = self.left.iter().map(|(left, _)| self.abort_by_hand(left)).collect();
            let remedy = format!("ask the customer to end it:\n{}\n{rule}", commands.join("\n"));
            return Finding::failed(check, Failure { message, remedy, ..failure.clone() });
        }
        if self.unsure {
            let message = "whether S3 has begun one more upload is not known, because it did not answer each request";
            return Finding::warning(check, Layer::Network, message, format!("nothing of it is visible; {rule}"));
        }
        Finding::ok(check, "every upload was aborted")
    }

    /// To be pasted into a shell, and keys are the customer's words.
    fn abort_by_hand(&self, left: &LeftUpload) -> String {
        let Customer { region, bucket_owner, .. } = &**self.customer;
        let values = [
            ("region", region.as_str()),
            ("bucket", &left.bucket),
            ("expected-bucket-owner", bucket_owner.as_str()),
            ("key", &left.key),
            ("upload-id", &left.upload_id),
        ];
        let values = values.map(|(name, value)| format!(" --{name} {}", shell_word(value)));
        format!("aws s3api abort-multipart-upload{}", values.concat())
    }
}

/// S3 has looked at it and said no.
fn is_refusal(failure: &Failure) -> bool {
    !matches!(failure.layer, Layer::Network | Layer::Clock | Layer::Region | Layer::TrustPolicy | Layer::Ledger)
        && failure.retry == Retry::Never
}
