//! A script of AWS CLI commands, which may be run again.

use serde_json::{Value, json};

use super::{Pack, quote};
use crate::policy::{ascii, lifecycle, rule_name, statement_id};

pub(super) fn script(pack: &Pack<'_>) -> String {
    let mut text = head(pack);
    text.push_str(&role(pack));
    text.push_str(&kms_policy(pack));
    if !pack.is_bucket_elsewhere() {
        text.push_str(&bucket_policy(pack));
        text.push_str(&unfinished(pack));
    }
    text.push_str(&format!(
        "\necho 'Done. Send us the ARN of the role:'\naws iam get-role --role-name {} --query Role.Arn --output text\n",
        quote::shell(pack.role_name())
    ));
    text
}

fn head(pack: &Pack<'_>) -> String {
    let mut text = format!(
        "#!/bin/sh\n# Lets {} deliver into\n# {}\n# Needs the AWS CLI with the rights of account {}. It may be run again.\n#\n",
        quote::plain(&pack.principal),
        quote::plain(&pack.place()),
        pack.account()
    );
    text.push_str("#   REPLACE_TRUST=yes     if the role is there, and its trust policy may be replaced\n");
    if pack.kms_policy().is_some() {
        text.push_str("#   KMS_KEY_ARN=arn:...   if the bucket encrypts with a KMS key by default\n");
    }
    if !pack.is_bucket_elsewhere() {
        text.push_str(
            "#   BUCKET_POLICY=yes     if the bucket has to let the role in; only for one without a policy\n\
             #   LIFECYCLE=no          leaves out the rule by which S3 removes unfinished uploads\n",
        );
    }
    text.push_str(&pack.by_hand(pack.is_bucket_elsewhere().then_some("To the lifecycle rules of that bucket"), None));
    text.push_str("set -eu\n\n# What is the same but for blanks is the same.\nsqueezed() { printf '%s' \"$1\" | tr -d ' \\t\\r\\n'; }\n");
    text.push_str(&format!(
        "\naccount=$(aws sts get-caller-identity --query Account --output text)\nif [ \"$account\" != {account} ]; then\n    \
         echo \"these are the rights of account $account, and {} is needed\" >&2\n    exit 1\nfi\n",
        pack.account(),
        account = quote::shell(&pack.account()),
    ));
    text
}

/// A role that is there may have been trusting somebody for years.
fn role(pack: &Pack<'_>) -> String {
    let name = quote::shell(pack.role_name());
    let longer = pack.session_seconds_max().map(|seconds| format!(" --max-session-duration {seconds}"));
    let (created, updated) = match &longer {
        Some(longer) => {
            (format!(" \\\n       {longer}"), format!("    aws iam update-role --role-name {name}{longer}\n"))
        }
        None => (String::new(), String::new()),
    };
    format!(
        r#"
# Who may take on the role.
trust_policy={trust}

# What it may do.
permissions={permissions}

if there=$(aws iam get-role --role-name {name} --query Role.AssumeRolePolicyDocument --output json 2>&1); then
    case $(squeezed "$there") in
    *"$(squeezed "$trust_policy")"*) ;;
    *)
        if [ "${{REPLACE_TRUST:-no}}" != yes ]; then
            printf '%s\n' 'The role is there already, with this trust policy:' "$there" '' \
                'It has to be the following one. REPLACE_TRUST=yes replaces it, and locks out whom the other lets in:' \
                "$trust_policy" >&2
            exit 1
        fi
        aws iam update-assume-role-policy --role-name {name} --policy-document "$trust_policy" ;;
    esac
{updated}else
    case $there in
    *NoSuchEntity*) ;;
    *)
        printf '%s\n' "$there" >&2
        exit 1 ;;
    esac
    aws iam create-role --role-name {name} --path {path} \
        --assume-role-policy-document "$trust_policy"{created} >/dev/null
fi
aws iam put-role-policy --role-name {name} --policy-name {policy} --policy-document "$permissions"
"#,
        trust = quoted(&pack.trust),
        permissions = quoted(&pack.permissions),
        path = quote::shell(&pack.role_path()),
        policy = pack.policy_name(),
    )
}

fn kms_policy(pack: &Pack<'_>) -> String {
    let Some(mut policy) = pack.kms_policy() else { return String::new() };
    policy["Statement"][0]["Resource"] = KEY.into();
    let quoted = quoted(&policy);
    let (before, after) = quoted.split_once(KEY).unwrap_or((&quoted, ""));
    format!(
        "\n# The bucket's own key, if it has one.\nif [ -n \"${{KMS_KEY_ARN:-}}\" ]; then\n    case $KMS_KEY_ARN in\n    *[!A-Za-z0-9:/_-]*) \
         echo \"KMS_KEY_ARN is not the ARN of a key\" >&2; exit 1 ;;\n    esac\n    kms_policy={before}'\"$KMS_KEY_ARN\"'{after}\n    \
         aws iam put-role-policy --role-name {} --policy-name {} --policy-document \"$kms_policy\"\nfi\n",
        quote::shell(pack.role_name()),
        pack.kms_policy_name(),
    )
}

/// What stands for the key until the text is whole.
const KEY: &str = "@KMS_KEY_ARN@";

/// The call would replace what is there, so that has to be seen to be nothing first.
fn bucket_policy(pack: &Pack<'_>) -> String {
    let policy = pack.bucket_policy();
    format!(
        r#"
# If the bucket has to let the role in.
bucket_policy={policy}
bucket_statement={statement}
if [ "${{BUCKET_POLICY:-no}}" = yes ]; then
    if there=$(aws s3api get-bucket-policy {bucket} --query Policy --output text 2>&1); then
        case $(squeezed "$there") in
        *"$(squeezed "$bucket_statement")"*) ;;
        *{sid}*)
            printf '%s\n' 'The bucket has a policy in which {id} is another statement.' \
                'Please make it this one by hand:' "$bucket_statement" >&2 ;;
        *)
            printf '%s\n' 'The bucket has a policy already. Please add this statement to it by hand:' \
                "$bucket_statement" >&2 ;;
        esac
    else
        case $there in
        *NoSuchBucketPolicy*)
            aws s3api put-bucket-policy {bucket} \
                --policy "$bucket_policy" >/dev/null ;;
        *)
            printf '%s\n' "$there" >&2
            exit 1 ;;
        esac
    fi
fi
"#,
        policy = quoted(&policy),
        statement = quoted(&policy["Statement"][0]),
        bucket = bucket(pack),
        id = statement_id(pack.customer),
        sid = quote::shell(&format!("\"{}\"", statement_id(pack.customer))),
    )
}

/// The same of the lifecycle rules. The AWS CLI tells them in an order of its own, so the rule is asked
/// for part by part.
fn unfinished(pack: &Pack<'_>) -> String {
    let rules = lifecycle(pack.customer);
    let rule = &rules["Rules"][0];
    let (id, prefix) = (rule_name(pack.customer), &rule["Filter"]["Prefix"]);
    let days = &rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"];
    format!(
        r#"
# S3 removes uploads that nobody completes.
lifecycle={lifecycle}
rule={parts}
if [ "${{LIFECYCLE:-yes}}" = yes ]; then
    if there=$(aws s3api get-bucket-lifecycle-configuration {bucket} --output json \
        --query "Rules[?ID=='{id}'].[Status, Filter.Prefix, AbortIncompleteMultipartUpload.DaysAfterInitiation]" 2>&1); then
        case $(squeezed "$there") in
        *"$(squeezed "$rule")"*) ;;
        *'[]'*)
            printf '%s\n' 'The bucket has lifecycle rules already. Please add this one to them by hand:' \
                "$lifecycle" >&2 ;;
        *)
            printf '%s\n' 'The rule {id} of the bucket is another one. Please make it this one by hand:' \
                "$lifecycle" >&2 ;;
        esac
    else
        case $there in
        *NoSuchLifecycleConfiguration*)
            aws s3api put-bucket-lifecycle-configuration {bucket} \
                --lifecycle-configuration "$lifecycle" >/dev/null ;;
        *)
            printf '%s\n' "$there" >&2
            exit 1 ;;
        esac
    fi
fi
"#,
        lifecycle = quoted(&rules),
        parts = quote::shell(&json!([[rule["Status"], prefix, days]]).to_string()),
        bucket = bucket(pack),
    )
}

fn bucket(pack: &Pack<'_>) -> String {
    let customer = pack.customer;
    let (name, owner) = (quote::shell(customer.bucket.as_str()), quote::shell(customer.bucket_owner.as_str()));
    format!("--bucket {name} --expected-bucket-owner {owner}")
}

/// On lines of its own, in ASCII, between quotes.
fn quoted(value: &Value) -> String {
    quote::shell(&ascii(&format!("{value:#}")))
}
