//! The policies of a data share, in one place: what a customer is given to set up,
//! what a remedy offers for pasting and what narrows a session are the same statements.
//!
//! Pure: a profile in, JSON out.

use serde_json::{Value, json};

use crate::config::{Customer, Encryption};
use crate::domain::Principal;

/// Days after which a bucket may end uploads that nobody completed: within a day consign
/// reads an upload that is gone as one that was completed, and it tries for a week to
/// abort what it left behind.
pub const UNFINISHED_DAYS: u32 = 7;

/// Of a role's trust policy, without blanks (IAM User Guide, "IAM and AWS STS quotas").
const TRUST_CHARS_USUAL: usize = 2048;

/// What a session of the customer's role may do at most. The bucket's own default may be a KMS key.
pub fn session(customer: &Customer) -> Value {
    let mut statements = vec![objects(customer)];
    if customer.encryption != Encryption::S3 {
        statements.push(kms(customer));
    }
    document(statements)
}

/// The same for what is tried without the profile's encryption, and so with whichever the bucket has.
pub fn session_for_any_key(customer: &Customer) -> Value {
    session(&Customer { encryption: Encryption::Bucket, ..customer.clone() })
}

/// The permissions that the customer's role needs, no more.
pub fn permissions(customer: &Customer) -> Value {
    let mut statements = vec![objects(customer)];
    if matches!(customer.encryption, Encryption::Kms { .. }) {
        statements.push(kms(customer));
    }
    document(statements)
}

/// The statement about objects under the prefix. Creating, filling and
/// completing an upload all count as `s3:PutObject`.
pub fn objects(customer: &Customer) -> Value {
    json!({ "Effect": "Allow", "Action": actions(customer), "Resource": objects_arn(customer) })
}

/// The statement about the key: part of multipart uploads is reading back what
/// was encrypted (S3 User Guide, "Protecting data using SSE-KMS", multipart).
/// `kms:ViaService` limits it to what S3 does with it.
pub fn kms(customer: &Customer) -> Value {
    let key = match &customer.encryption {
        Encryption::Kms { key: Some(key) } if key.starts_with("arn:") && key.contains(":key/") => key.clone(),
        // A bare id is one of the account that asks (S3 API Reference, CreateMultipartUpload).
        Encryption::Kms { key: Some(id) } if !id.starts_with("arn:") && !id.starts_with("alias/") => {
            let (role, region) = (&customer.role_arn, &customer.region);
            format!("arn:{}:kms:{region}:{}:key/{id}", role.partition(), role.account_id())
        }
        // Aliases are no resources for a policy.
        _ => ANY_KEY.to_owned(),
    };
    json!({
        "Effect": "Allow",
        "Action": KEY_ACTIONS,
        "Resource": key,
        "Condition": via_s3(customer),
    })
}

/// Whether the role's permissions name no key, so that whoever knows its ARN can make them narrower.
pub fn is_for_any_key(customer: &Customer) -> bool {
    matches!(customer.encryption, Encryption::Kms { .. }) && kms(customer)["Resource"] == ANY_KEY
}

/// For the policy of the key itself, where that does not leave it to IAM.
pub fn of_key(customer: &Customer) -> Value {
    json!({
        "Sid": statement_id(customer),
        "Effect": "Allow",
        "Principal": { "AWS": customer.role_arn.as_str() },
        "Action": KEY_ACTIONS,
        // In a key's policy this is the key.
        "Resource": "*",
        "Condition": via_s3(customer),
    })
}

/// Who may assume the role: whom `[aws] principal` names, or else the account of the
/// `caller` that STS named. While the external ID changes, the earlier and the next do. A role
/// of several profiles has one trust policy, so it is the same for each of them: for one without
/// an external ID, too, as soon as another has one.
pub fn trust(customer: &Customer, caller: Option<&str>) -> Value {
    let partition = customer.role_arn.partition();
    let principal = customer.trusts.clone().or_else(|| caller.and_then(Principal::of_caller));
    let principal = match principal {
        Some(principal) => principal.arn(partition),
        None => format!("arn:{partition}:iam::<the vendor's account id>:root"),
    };
    let mut statement = json!({ "Effect": "Allow", "Principal": { "AWS": principal }, "Action": "sts:AssumeRole" });
    if customer.role_asks() {
        let ids = customer.external_ids_of_role();
        let ids: Vec<&str> = ids.iter().map(|id| id.as_str()).collect();
        statement["Condition"] = external_ids(if let [only] = ids[..] { json!(only) } else { json!(ids) });
    }
    document(vec![statement])
}

/// What to say of a trust policy that IAM takes only where the account has had its quota raised, and what to do.
pub fn too_long(customer: &Customer) -> Option<(String, String)> {
    // Of some account: all are of one length.
    let trust = trust(customer, Some("arn:aws:iam::000000000000:root"));
    // IAM counts no blanks.
    let chars = trust.to_string().len();
    (chars > TRUST_CHARS_USUAL).then(|| {
        let role = &customer.role_arn;
        let message =
            format!("the trust policy of {role} has {chars} characters, IAM takes {TRUST_CHARS_USUAL} unless it is asked for more");
        let help = "give some of its profiles a role of their own, or have the customer ask AWS for more (Service Quotas, IAM, \
                    \"Role trust policy length\")";
        (message, help.to_owned())
    })
}

/// Whom the trust policy lets in besides: nobody is to put that in place unawares. Empty for
/// the only profile of its role.
pub fn also_trusts(customer: &Customer) -> String {
    let told = |others| format!(" (with the external IDs of {others} too, which have the same role)");
    others_of_role(customer).map(told).unwrap_or_default()
}

/// The other profiles of its role, a few by name.
pub fn others_of_role(customer: &Customer) -> Option<String> {
    const NAMED: usize = 5;
    let named: Vec<String> = customer.others_of_role().take(NAMED).map(|other| format!("'{}'", other.name)).collect();
    let more = customer.others_of_role().count().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!named.is_empty()).then(|| named.join(", ") + &more)
}

/// What the vendor's own identity needs.
pub fn assume(customer: &Customer) -> Value {
    json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": customer.role_arn.as_str() })
}

/// The bucket's side, for buckets that do not leave it to the role.
pub fn bucket(customer: &Customer) -> Value {
    json!({
        "Effect": "Allow",
        "Principal": { "AWS": customer.role_arn.as_str() },
        "Action": actions(customer),
        "Resource": objects_arn(customer),
    })
}

/// The bucket's rule that ends uploads which nobody completes. Their parts are
/// invisible, and cost money.
pub fn lifecycle(customer: &Customer) -> Value {
    json!({ "Rules": [{
        "ID": rule_name(customer),
        "Status": "Enabled",
        "Filter": { "Prefix": customer.prefix.as_str() },
        "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": UNFINISHED_DAYS },
    }] })
}

/// Of the lifecycle rule. A bucket may have several customers, and several vendors.
pub fn rule_name(customer: &Customer) -> String {
    format!("consign-{}", customer.name)
}

/// Of statements in policies that hold others too: letters and digits alone. `acme-eu` and
/// `acme_eu` are two customers.
pub fn statement_id(customer: &Customer) -> String {
    let name = customer.name.as_str().replace('_', "-u-");
    let words = name.split('-');
    let words = words.map(|word| word[..word.len().min(1)].to_ascii_uppercase() + word.get(1..).unwrap_or(""));
    format!("Consign{}", words.collect::<String>())
}

pub fn document(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// On lines of its own, in the characters that IAM takes.
pub fn pretty(policy: &Value) -> String {
    ascii(&format!("{policy:#}"))
}

/// JSON with everything that is not ASCII as `\uXXXX`. It can only be within strings.
pub fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c < '\u{7f}' {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

const ANY_KEY: &str = "*";

const KEY_ACTIONS: [&str; 2] = ["kms:GenerateDataKey", "kms:Decrypt"];

fn via_s3(customer: &Customer) -> Value {
    let via = |domain: &str| format!("s3.{}.{domain}", customer.region);
    let services = match domains(customer.role_arn.partition()) {
        [only] => json!(via(only)),
        several => json!(several.iter().map(|domain| via(domain)).collect::<Vec<_>>()),
    };
    json!({ "StringEquals": { "kms:ViaService": services } })
}

/// What a service's name may end in. Which of the two `kms:ViaService` has outside `aws`, `aws-us-gov` and `aws-cn`
/// is not documented; either names S3 of that region alone. A partition's own is the one that aws-sdk-s3 1.157 has.
fn domains(partition: &str) -> &'static [&'static str] {
    match partition {
        "aws-cn" => &["amazonaws.com.cn"],
        "aws-eusc" => &["amazonaws.com", "amazonaws.eu"],
        "aws-iso" => &["amazonaws.com", "c2s.ic.gov"],
        "aws-iso-b" => &["amazonaws.com", "sc2s.sgov.gov"],
        "aws-iso-e" => &["amazonaws.com", "cloud.adc-e.uk"],
        "aws-iso-f" => &["amazonaws.com", "csp.hci.ic.gov"],
        _ => &["amazonaws.com"],
    }
}

fn external_ids(ids: Value) -> Value {
    json!({ "StringEquals": { "sts:ExternalId": ids } })
}

fn actions(customer: &Customer) -> Vec<&'static str> {
    let mut actions = vec!["s3:PutObject", "s3:AbortMultipartUpload"];
    if customer.acl.is_some() {
        actions.push("s3:PutObjectAcl");
    }
    if !customer.tags.is_empty() {
        actions.push("s3:PutObjectTagging");
    }
    actions
}

fn objects_arn(customer: &Customer) -> String {
    format!("arn:{}:s3:::{}/{}*", customer.role_arn.partition(), customer.bucket, customer.prefix)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::domain::{AccountId, BucketName, CustomerName, CustomerPrefix, ExternalId, Region, RoleArn};

    fn customer(partition: &str, region: &str) -> Customer {
        Customer {
            name: CustomerName::parse("acme").unwrap(),
            role_arn: RoleArn::parse(&format!("arn:{partition}:iam::123456789012:role/consign-delivery")).unwrap(),
            external_id: Some(ExternalId::parse("c0ns1gn-7f0c2b9e").unwrap()),
            next_external_id: None,
            sharers: Arc::default(),
            trusts: None,
            bucket: BucketName::parse("acme-data").unwrap(),
            bucket_owner: AccountId::parse("123456789012").unwrap(),
            region: Region::parse(region).unwrap(),
            prefix: CustomerPrefix::parse("uploads/").unwrap(),
            groups: Vec::new(),
            params: BTreeMap::new(),
            encryption: Encryption::Kms { key: None },
            storage_class: None,
            acl: None,
            tags: BTreeMap::new(),
        }
    }

    /// What AWS does not say is right either way.
    #[test]
    fn a_key_is_used_through_s3_alone_in_every_partition() {
        for (partition, region, services) in [
            ("aws", "eu-west-1", json!("s3.eu-west-1.amazonaws.com")),
            ("aws-us-gov", "us-gov-west-1", json!("s3.us-gov-west-1.amazonaws.com")),
            ("aws-cn", "cn-north-1", json!("s3.cn-north-1.amazonaws.com.cn")),
            (
                "aws-eusc",
                "eusc-de-east-1",
                json!(["s3.eusc-de-east-1.amazonaws.com", "s3.eusc-de-east-1.amazonaws.eu"]),
            ),
            ("aws-iso", "us-iso-east-1", json!(["s3.us-iso-east-1.amazonaws.com", "s3.us-iso-east-1.c2s.ic.gov"])),
            (
                "aws-iso-b",
                "us-isob-east-1",
                json!(["s3.us-isob-east-1.amazonaws.com", "s3.us-isob-east-1.sc2s.sgov.gov"]),
            ),
            (
                "aws-iso-e",
                "eu-isoe-west-1",
                json!(["s3.eu-isoe-west-1.amazonaws.com", "s3.eu-isoe-west-1.cloud.adc-e.uk"]),
            ),
            (
                "aws-iso-f",
                "us-isof-south-1",
                json!(["s3.us-isof-south-1.amazonaws.com", "s3.us-isof-south-1.csp.hci.ic.gov"]),
            ),
        ] {
            let customer = customer(partition, region);
            for statement in [&session(&customer)["Statement"][1], &kms(&customer), &of_key(&customer)] {
                assert_eq!(statement["Condition"], json!({ "StringEquals": { "kms:ViaService": services } }));
            }
            assert!(session(&customer).to_string().len() < 1000);
        }
    }

    #[test]
    fn any_text_is_the_same_text_in_ascii() {
        let value = json!({ "Resource": "arn:aws:s3:::b/数据/é/\u{7f}/🦀/\"\\/*" });
        let text = ascii(&value.to_string());
        assert!(text.contains(r"b/\u6570\u636e/\u00e9/\u007f/\ud83e\udd80/"), "{text}");
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
