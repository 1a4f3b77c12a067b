//! Policies: the one that narrows consign's own sessions, and those that a
//! remedy offers for pasting.

use serde_json::{Value, json};

use crate::config::{Customer, Encryption};
use crate::domain::{Failure, Layer, Retry};

/// STS API Reference, AssumeRole, `Policy`: at most 2,048 characters, none above U+00FF.
const SESSION_POLICY_CHARS_MAX: usize = 2048;

/// What a session of the customer's role may do at most: write and abort under
/// the customer's prefix. The effective rights are those of the role *and* of
/// this policy, so it can only take away.
pub(super) fn session(customer: &Customer) -> Result<String, Failure> {
    narrowing(customer, role(customer))
}

/// The same for a session that looks for uploads which nobody knows of.
pub(super) fn listing_session(customer: &Customer) -> Result<String, Failure> {
    let mut policy = role(customer);
    let bucket = format!("arn:{}:s3:::{}", customer.role_arn.partition(), customer.bucket);
    if let Some(Value::Array(statements)) = policy.get_mut("Statement") {
        statements.push(json!({ "Effect": "Allow", "Action": "s3:ListBucketMultipartUploads", "Resource": bucket }));
    }
    narrowing(customer, policy)
}

fn narrowing(customer: &Customer, policy: Value) -> Result<String, Failure> {
    let policy = ascii(&policy.to_string());
    let length = policy.len();
    if length > SESSION_POLICY_CHARS_MAX {
        return Err(Failure::new(
            Layer::Config,
            Retry::Never,
            format!(
                "the session policy for customer '{}' has {length} characters, STS takes at most {SESSION_POLICY_CHARS_MAX}",
                customer.name
            ),
            format!(
                "shorten the prefix '{}' by {}; what is not ASCII in it counts as 6 characters (\\uXXXX), or 12",
                customer.prefix,
                length - SESSION_POLICY_CHARS_MAX
            ),
        ));
    }
    Ok(policy)
}

/// The permissions that the customer's role needs, no more.
pub(super) fn role(customer: &Customer) -> Value {
    let mut statements = vec![objects(customer)];
    statements.extend(kms(customer));
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// The statement about objects under the prefix. Creating, filling and
/// completing an upload all count as `s3:PutObject`.
pub(super) fn objects(customer: &Customer) -> Value {
    json!({ "Effect": "Allow", "Action": actions(customer), "Resource": objects_arn(customer) })
}

/// The statement about the key: part of multipart uploads is reading back what
/// was encrypted (S3 User Guide, "Protecting data using SSE-KMS", multipart).
/// Present unless SSE-S3 is asked for, because the bucket's own default may be a
/// KMS key; `kms:ViaService` limits it to what S3 does with it.
pub(super) fn kms(customer: &Customer) -> Option<Value> {
    let key = match &customer.encryption {
        Encryption::S3 => return None,
        Encryption::Kms { key: Some(key) } if key.starts_with("arn:") && key.contains(":key/") => key.clone(),
        // Aliases are no resources for a policy, and a bare id says no account.
        Encryption::Kms { .. } | Encryption::Bucket => "*".to_owned(),
    };
    let domain = if customer.role_arn.partition() == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    Some(json!({
        "Effect": "Allow",
        "Action": ["kms:GenerateDataKey", "kms:Decrypt"],
        "Resource": key,
        "Condition": { "StringEquals": { "kms:ViaService": format!("s3.{}.{domain}", customer.region) } },
    }))
}

/// Who may assume the role. `vendor` is the ARN that STS named, when it did.
pub(super) fn trust(customer: &Customer, vendor: Option<&str>) -> Value {
    let principal = vendor
        .map(principal)
        .unwrap_or_else(|| format!("arn:{}:iam::<the vendor's account id>:root", customer.role_arn.partition()));
    let mut statement = json!({ "Effect": "Allow", "Principal": { "AWS": principal }, "Action": "sts:AssumeRole" });
    if let Some(id) = &customer.external_id {
        statement["Condition"] = json!({ "StringEquals": { "sts:ExternalId": id.as_str() } });
    }
    json!({ "Version": "2012-10-17", "Statement": [statement] })
}

/// What the vendor's own identity needs.
pub(super) fn assume(customer: &Customer) -> Value {
    json!({ "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": customer.role_arn.as_str() })
}

/// The bucket's side, for buckets that do not leave it to the role.
pub(super) fn bucket(customer: &Customer) -> Value {
    json!({
        "Effect": "Allow",
        "Principal": { "AWS": customer.role_arn.as_str() },
        "Action": actions(customer),
        "Resource": objects_arn(customer),
    })
}

/// The rule that ends uploads which nobody completes: S3 User Guide, "Configuring a bucket
/// lifecycle configuration to delete incomplete multipart uploads". Longer than what is
/// sealed may take to be completed.
pub(super) fn lifecycle(customer: &Customer) -> Value {
    json!({ "Rules": [{
        "ID": "end-unfinished-uploads",
        "Status": "Enabled",
        "Filter": { "Prefix": customer.prefix.as_str() },
        "AbortIncompleteMultipartUpload": { "DaysAfterInitiation": 7 },
    }] })
}

/// For a remedy: on lines of its own, in the characters that IAM takes.
pub(super) fn pretty(policy: &Value) -> String {
    ascii(&format!("{policy:#}"))
}

/// JSON with everything that is not ASCII as `\uXXXX`. It can only be within strings.
fn ascii(json: &str) -> String {
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

/// A trust policy names roles, not their sessions.
fn principal(caller: &str) -> String {
    let parts: Vec<&str> = caller.splitn(6, ':').collect();
    let [_, partition, "sts", _, account, resource] = parts[..] else { return caller.to_owned() };
    match resource.strip_prefix("assumed-role/").and_then(|rest| rest.split('/').next()) {
        Some(role) => format!("arn:{partition}:iam::{account}:role/{role}"),
        None => caller.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_the_same_text_in_ascii() {
        let value = json!({ "Resource": "arn:aws:s3:::b/数据/é/\u{7f}/🦀/\"\\/*" });
        let text = ascii(&value.to_string());
        assert!(text.contains(r"b/\u6570\u636e/\u00e9/\u007f/\ud83e\udd80/"), "{text}");
        assert!(text.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_session_becomes_the_role_it_is_of() {
        assert_eq!(
            principal("arn:aws:sts::111122223333:assumed-role/app/i-0abc"),
            "arn:aws:iam::111122223333:role/app"
        );
        assert_eq!(principal("arn:aws:iam::111122223333:user/u"), "arn:aws:iam::111122223333:user/u");
    }
}
