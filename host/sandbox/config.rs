//! What a sandbox serves: accounts, their roles and buckets, and the one vendor identity.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::policy::Policy;
use crate::domain::Secret;

/// Account of the vendor identity.
pub const VENDOR_ACCOUNT: &str = "999999999999";
/// ARN of the vendor identity, an IAM user.
pub const VENDOR_ARN: &str = "arn:aws:iam::999999999999:user/consign";

/// A whole sandbox. [`SandboxConfig::load`] reads one from a file, [`SandboxConfig::for_customers`]
/// makes one for the customers of a configuration.
#[derive(Clone)]
pub struct SandboxConfig {
    /// Where objects live, as `DIR/<bucket>/<key>`. Made if missing.
    pub dir: PathBuf,
    /// A loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The keys of [`VENDOR_ARN`].
    pub vendor: KeyPair,
    /// What the vendor identity itself may do; everything unless said.
    pub vendor_policy: Policy,
    /// The shortest session STS grants, in seconds. AWS says 900; less lets a test see expiry.
    pub session_seconds_min: u32,
    pub accounts: Vec<Account>,
}

/// A long-lived access key.
#[derive(Clone)]
pub struct KeyPair {
    pub access_key_id: String,
    pub secret_access_key: Secret,
}

/// One AWS account of a customer (or, with [`VENDOR_ACCOUNT`], of the vendor).
#[derive(Clone)]
pub struct Account {
    /// Twelve digits.
    pub id: String,
    /// Keys of the account's root, who may do everything in its own buckets.
    pub root: Option<KeyPair>,
    pub roles: Vec<Role>,
    pub buckets: Vec<Bucket>,
    pub keys: Vec<Key>,
}

/// A KMS key.
#[derive(Clone)]
pub struct Key {
    pub id: String,
    pub region: String,
    /// Its other name, without the `alias/`.
    pub alias: Option<String>,
    /// The key policy; without one it is the usual one, which leaves it to IAM in its own account.
    pub policy: Option<Policy>,
    pub enabled: bool,
}

#[derive(Clone)]
pub struct Role {
    /// `/`, or like `/team/`: a part of the ARN, not of the name.
    pub path: String,
    pub name: String,
    pub trust: Trust,
    /// The permissions policy.
    pub policy: Policy,
    /// Longest session, in seconds: 43200 at most.
    pub session_seconds_max: u32,
}

/// Who may assume a role.
#[derive(Clone)]
pub struct Trust {
    /// An account id, the ARN of an account's root (both: anyone in it), or the ARN of a user or role.
    pub principal: String,
    /// The values of which `sts:ExternalId` has to have one; without any, any or none will do.
    pub external_ids: Vec<String>,
}

#[derive(Clone)]
pub struct Bucket {
    pub name: String,
    pub region: String,
    /// The bucket policy; other accounts get in by it alone.
    pub policy: Option<Policy>,
    /// Whether ACLs work, as in a bucket whose object ownership is not "bucket owner enforced".
    pub acl_enabled: bool,
    /// The KMS key for what says nothing of its encryption, as uploads name it.
    pub kms_key: Option<String>,
}

impl SandboxConfig {
    /// Everything wrong with the values, one sentence each.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !self.listen.ip().is_loopback() {
            found.push(format!("listen: {} is not a loopback address; use 127.0.0.1:PORT", self.listen));
        }
        if !(1..=43_200).contains(&self.session_seconds_min) {
            found.push(format!("session_seconds_min: {} is not between 1 and 43200", self.session_seconds_min));
        }
        let mut names = Names::default();
        check_keys("vendor", &self.vendor, &mut names, &mut found);
        for account in &self.accounts {
            account.check(self.session_seconds_min, &mut names, &mut found);
        }
        found
    }
}

impl Account {
    fn check(&self, session_seconds_min: u32, names: &mut Names, found: &mut Vec<String>) {
        let place = format!("account {:?}", self.id);
        if self.id.len() != 12 || !self.id.bytes().all(|b| b.is_ascii_digit()) {
            found.push(format!("{place}: an account id has twelve digits"));
        }
        if !names.accounts.insert(self.id.clone()) {
            found.push(format!("{place}: listed twice; put all its roles and buckets in one entry"));
        }
        if let Some(root) = &self.root {
            check_keys(&format!("{place}, root"), root, names, found);
        }
        let mut roles = BTreeSet::new();
        for role in &self.roles {
            let place = format!("{place}, role {:?}", role.name);
            if !roles.insert(&role.name) {
                found.push(format!("{place}: listed twice; role names are unique in an account"));
            }
            role.check(&place, session_seconds_min, found);
        }
        for key in &self.keys {
            if key.id.is_empty() || !key.id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                found.push(format!("{place}, key {:?}: a key's id is letters, digits and hyphens", key.id));
            }
            if key.policy.as_ref().is_some_and(|policy| !policy.names_principals()) {
                let id = &key.id;
                found.push(format!(
                    "{place}, key {id:?}: a statement of its policy has no Principal; say whom it is about"
                ));
            }
        }
        for bucket in &self.buckets {
            let place = format!("{place}, bucket {:?}", bucket.name);
            if !names.buckets.insert(bucket.name.clone()) {
                found.push(format!("{place}: listed twice; bucket names are unique over all accounts"));
            }
            bucket.check(&place, found);
        }
    }
}

impl Key {
    pub(super) fn arn(&self, account: &str) -> String {
        format!("arn:aws:kms:{}:{account}:key/{}", self.region, self.id)
    }

    /// Whether `name` means this key of `account`. Without an ARN it is one in the account of who asks, where the bucket is.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html>
    pub(super) fn is_called(&self, name: &str, account: &str, (asks, region): (&str, &str)) -> bool {
        let alias = self.alias.as_ref().map(|alias| format!("alias/{alias}"));
        let is_short = name == self.id || alias.as_deref() == Some(name);
        let is_alias = alias.is_some_and(|alias| format!("arn:aws:kms:{}:{account}:{alias}", self.region) == name);
        name == self.arn(account) || is_alias || (is_short && asks == account && region == self.region)
    }
}

impl Role {
    /// As in `RoleArn`.
    pub(super) fn arn(&self, account: &str) -> String {
        format!("arn:aws:iam::{account}:role{}{}", self.path, self.name)
    }

    fn check(&self, place: &str, session_seconds_min: u32, found: &mut Vec<String>) {
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(is_name_char) {
            found.push(format!("{place}: a role name is 1 to 64 of letters, digits and _+=,.@-"));
        }
        let steps = self.path.strip_prefix('/').and_then(|path| path.strip_suffix('/'));
        let is_path = |steps: &str| steps.split('/').all(|step| !step.is_empty() && step.chars().all(is_name_char));
        if self.path != "/" && !steps.is_some_and(is_path) {
            found.push(format!("{place}: path {:?} is no path; write one like /team/", self.path));
        }
        if !(session_seconds_min..=43_200).contains(&self.session_seconds_max) {
            found.push(format!(
                "{place}: session_seconds_max {} is not between {session_seconds_min} and 43200",
                self.session_seconds_max
            ));
        }
        let principal = &self.trust.principal;
        let is_account = principal.len() == 12 && principal.bytes().all(|b| b.is_ascii_digit());
        if !is_account && !principal.starts_with("arn:aws:") {
            found.push(format!("{place}: trust principal {principal:?} is neither an account id nor an ARN"));
        }
        if !self.trust.external_ids.iter().all(|id| is_external_id(id)) {
            found.push(format!("{place}: an external ID is 2 to 1224 of letters, digits and _+=,.@:/-"));
        }
    }
}

impl Bucket {
    fn check(&self, place: &str, found: &mut Vec<String>) {
        if !s3s::path::check_bucket_name(&self.name) {
            found.push(format!("{place}: not a bucket name; use 3 to 63 of a-z, 0-9, dot and hyphen"));
        }
        if self.region.is_empty()
            || !self.region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            found.push(format!("{place}: {:?} is not a region; write one like eu-central-1", self.region));
        }
        if self.policy.as_ref().is_some_and(|policy| !policy.names_principals()) {
            found.push(format!("{place}: a statement of the bucket policy has no Principal; say whom it is about"));
        }
    }
}

/// `[\w+=,.@-]`, the characters of role and session names.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
pub(super) fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

/// 2 to 1224 of `[\w+=,.@:/-]`, from the same page.
pub(super) fn is_external_id(text: &str) -> bool {
    (2..=1224).contains(&text.len()) && text.chars().all(|c| is_name_char(c) || ":/".contains(c))
}

#[derive(Default)]
struct Names {
    accounts: BTreeSet<String>,
    buckets: BTreeSet<String>,
    keys: BTreeSet<String>,
}

fn check_keys(place: &str, keys: &KeyPair, names: &mut Names, found: &mut Vec<String>) {
    let id = &keys.access_key_id;
    if id.len() < 3 || id.len() > 128 || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        found.push(format!("{place}: access_key_id {id:?} is not 3 to 128 letters, digits, _ or -"));
    }
    if id.starts_with("ASIA") {
        found.push(format!("{place}: access_key_id {id:?} begins like a temporary key; use another than ASIA"));
    }
    if !names.keys.insert(id.clone()) {
        found.push(format!("{place}: access_key_id {id:?} is used twice"));
    }
    if keys.secret_access_key.reveal().is_empty() {
        found.push(format!("{place}: secret_access_key is empty"));
    }
}
