//! What a customer is handed to set up its side: the role, its policies, what its
//! bucket and its key need, in the form that the customer likes best.
//!
//! Pure text, of the statements of [`crate::policy`]. Every value is written by the
//! rules of the format that it goes into ([`quote`]), because prefixes and names of
//! keys are the customer's, and what is in here is run with the rights of whoever
//! runs it.

mod cloudformation;
mod letter;
mod quote;
mod shell;
mod terraform;

use serde_json::{Value, json};

use crate::config::{Customer, Encryption};
use crate::domain::Principal;
use crate::policy;

/// Everything that one customer needs.
pub struct Pack<'a> {
    customer: &'a Customer,
    /// As the trust policy has it.
    principal: String,
    is_account: bool,
    /// The longest session that is asked for, in seconds.
    session_seconds: u64,
    trust: Value,
    permissions: Value,
}

/// What it is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Markdown,
    CloudFormation,
    Terraform,
    Cli,
}

/// What a role's sessions last unless its owner says otherwise (IAM User Guide,
/// "Update the maximum session duration for a role").
const SESSION_SECONDS_USUAL: u64 = 3600;

impl<'a> Pack<'a> {
    /// `principal` is whom the role is to trust.
    pub fn new(customer: &'a Customer, principal: &Principal, session_seconds: u64) -> Self {
        let trusting = Customer { trusts: Some(principal.clone()), ..customer.clone() };
        Self {
            customer,
            principal: principal.arn(customer.role_arn.partition()),
            is_account: principal.is_account(),
            session_seconds,
            trust: policy::trust(&trusting, None),
            permissions: policy::permissions(customer),
        }
    }

    pub fn write(&self, format: Format) -> String {
        match format {
            Format::Text => letter::text(self),
            Format::Markdown => letter::markdown(self),
            Format::CloudFormation => cloudformation::template(self),
            Format::Terraform => terraform::module(self),
            Format::Cli => shell::script(self),
        }
    }

    /// The name of a file for it.
    pub fn file_name(&self, format: Format) -> String {
        let customer = &self.customer.name;
        match format {
            Format::Text => "instructions.txt".into(),
            Format::Markdown => "README.md".into(),
            Format::CloudFormation => format!("consign-{customer}.yaml"),
            Format::Terraform => format!("consign-{customer}.tf"),
            Format::Cli => "setup.sh".into(),
        }
    }

    /// The policies alone, each with a name for its file.
    pub fn policies(&self) -> Vec<(&'static str, Value)> {
        let mut all = vec![
            ("trust-policy.json", self.trust.clone()),
            ("permissions-policy.json", self.permissions.clone()),
            ("bucket-policy.json", self.bucket_policy()),
            ("lifecycle.json", policy::lifecycle(self.customer)),
        ];
        all.extend(self.kms_policy().map(|policy| ("kms-policy.json", policy)));
        all.extend(self.key_statement().map(|statement| ("kms-key-statement.json", statement)));
        all
    }

    pub fn to_json(&self) -> Value {
        let customer = self.customer;
        json!({
            "customer": customer.name,
            "role_arn": customer.role_arn.as_str(),
            "account": customer.role_arn.account_id().as_str(),
            "principal": self.principal,
            "external_id": customer.external_id.as_ref().map(|id| id.as_str()),
            "next_external_id": customer.next_external_id.as_ref().map(|id| id.as_str()),
            "bucket": customer.bucket.as_str(),
            "bucket_owner": customer.bucket_owner.as_str(),
            "region": customer.region.as_str(),
            "prefix": customer.prefix.as_str(),
            "trust_policy": self.trust,
            "permissions_policy": self.permissions,
            "kms_policy": self.kms_policy(),
            "kms_key_statement": self.key_statement(),
            "bucket_policy": self.bucket_policy(),
            "bucket_policy_required": self.is_bucket_elsewhere(),
            "lifecycle": policy::lifecycle(customer),
        })
    }

    /// Of the role's inline policies. It may have those of other profiles, too.
    fn policy_name(&self) -> String {
        format!("consign-delivery-{}", self.customer.name)
    }

    fn kms_policy_name(&self) -> String {
        format!("consign-kms-{}", self.customer.name)
    }

    /// What is left to be done by hand, as comments. `lifecycle`: why the rule is; None where it is set.
    /// `leave_role`: what has this form leave a role alone that is there; None where it looks by itself.
    fn by_hand(&self, lifecycle: Option<&str>, leave_role: Option<&str>) -> String {
        let mut notes: Vec<(String, Option<Value>)> = Vec::new();
        if let Some(others) = policy::others_of_role(self.customer) {
            let mut says = format!(
                "The role is that of {others} too: its trust policy has the external IDs of all.\nMake the role once, and give \
                 it the policies of each."
            );
            if let Some(leave_role) = leave_role {
                says.push_str(&format!(
                    " Where the role is there, {leave_role} has it get\nthis one's policies alone; its trust policy has to be the \
                     one below all the same."
                ));
            }
            notes.push((says, None));
        }
        if self.is_bucket_elsewhere() {
            let owner = &self.customer.bucket_owner;
            let says =
                format!("The bucket belongs to account {owner}. There, add this statement to the bucket's policy:");
            notes.push((says, Some(self.bucket_policy())));
            notes.extend(self.whose_objects().map(|says| (says.replace(". ", ".\n"), None)));
        }
        if let Some(why) = lifecycle {
            notes.push((format!("{why}, please add this rule by hand:"), Some(policy::lifecycle(self.customer))));
        }
        if let Some(statement) = self.key_statement() {
            let says = "Only if the policy of the KMS key does not leave it to IAM, add this statement to that:";
            notes.push((says.to_owned(), Some(statement)));
        }
        let paste = |value: Value| format!("\n\n  {}", indented(&policy::pretty(&value), 2));
        let text = notes.into_iter().map(|(says, value)| format!("\n{says}{}", value.map(paste).unwrap_or_default()));
        let text: Vec<String> = text.collect();
        let lines = text.iter().flat_map(|note| note.split('\n'));
        lines.map(|line| format!("# {line}").trim_end().to_owned() + "\n").collect()
    }

    /// Several profiles have it, and each its pack: only one of these may make it.
    fn is_role_shared(&self) -> bool {
        self.customer.others_of_role().next().is_some()
    }

    fn role_name(&self) -> &str {
        self.customer.role_arn.as_str().rsplit('/').next().unwrap_or_default()
    }

    /// Of the role, as IAM has it: `/`, or `/team/`.
    fn role_path(&self) -> String {
        let path = self.customer.role_arn.as_str().split_once(":role/").map_or("", |(_, path)| path);
        path.rsplit_once('/').map_or("/".to_owned(), |(path, _)| format!("/{path}/"))
    }

    fn account(&self) -> String {
        self.customer.role_arn.account_id().as_str().to_owned()
    }

    /// `s3://BUCKET/PREFIX`.
    fn place(&self) -> String {
        format!("s3://{}/{}", self.customer.bucket, self.customer.prefix)
    }

    /// The role alone is not enough then.
    fn is_bucket_elsewhere(&self) -> bool {
        self.customer.bucket_owner != self.customer.role_arn.account_id()
    }

    /// Where what is written may belong to another account than the bucket (S3 User Guide, "Controlling ownership
    /// of objects").
    fn whose_objects(&self) -> Option<&'static str> {
        (self.is_bucket_elsewhere() && self.customer.acl.is_none()).then_some(
            "What we write belongs to that account only if the bucket has ACLs disabled (Object Ownership: bucket owner \
             enforced), as buckets have since April 2023 unless told otherwise. If it has them enabled, tell us: then we \
             hand each object over by the ACL bucket-owner-full-control.",
        )
    }

    fn session_seconds_max(&self) -> Option<u64> {
        Some(self.session_seconds).filter(|seconds| *seconds > SESSION_SECONDS_USUAL)
    }

    fn bucket_policy(&self) -> Value {
        let mut statement = json!({ "Sid": policy::statement_id(self.customer) });
        if let (Some(named), Value::Object(rest)) = (statement.as_object_mut(), policy::bucket(self.customer)) {
            named.extend(rest);
        }
        policy::document(vec![statement])
    }

    /// Only where the profile leaves encryption to the bucket, whose default may be a key
    /// of KMS: to be added then.
    fn kms_policy(&self) -> Option<Value> {
        let is_the_buckets = self.customer.encryption == Encryption::Bucket;
        is_the_buckets.then(|| policy::document(vec![policy::kms(self.customer)]))
    }

    /// For the policy of a key of one's own. That of `aws/s3` cannot be changed, and need not be.
    fn key_statement(&self) -> Option<Value> {
        let may_be_own = !matches!(self.customer.encryption, Encryption::S3 | Encryption::Kms { key: None });
        may_be_own.then(|| policy::of_key(self.customer))
    }
}

/// Indents every line but the first.
fn indented(text: &str, by: usize) -> String {
    text.replace('\n', &format!("\n{}", " ".repeat(by)))
}
