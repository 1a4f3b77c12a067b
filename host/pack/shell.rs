//! A script of AWS CLI commands, which may be run again.

use serde_json::Value;

use super::{KMS_POLICY_NAME, POLICY_NAME, Pack, quote};
use crate::policy::{ascii, lifecycle, pretty, rule_name, statement_id};

pub(super) fn script(pack: &Pack<'_>) -> String {
    let mut text = head(pack);
    text.push_str(&role(pack));
    text.push_str(&kms_policy(pack));
    if pack.is_bucket_elsewhere() {
        text.push_str(&format!(
            "\n# The bucket belongs to account {}. There, add this statement to the bucket's policy:\n#\n#   {}\n",
            pack.customer.bucket_owner,
            super::indented(&pretty(&pack.bucket_policy()), 4).replace('\n', "\n#").replace("#    ", "#   ")
        ));
    } else {
        text.push_str(&bucket(pack));
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
    if pack.kms_policy().is_some() {
        text.push_str("#   KMS_KEY_ARN=arn:...   if the bucket encrypts with a KMS key by default\n");
    }
    if !pack.is_bucket_elsewhere() {
        text.push_str(
            "#   BUCKET_POLICY=yes     if the bucket has to let the role in; only for one without a policy\n\
             #   LIFECYCLE=no          leaves out the rule by which S3 removes unfinished uploads\n",
        );
    }
    text.push_str("set -eu\n");
    text.push_str(&format!(
        "\naccount=$(aws sts get-caller-identity --query Account --output text)\nif [ \"$account\" != {account} ]; then\n    \
         echo \"these are the rights of account $account, and {} is needed\" >&2\n    exit 1\nfi\n",
        pack.account(),
        account = quote::shell(&pack.account()),
    ));
    text
}

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
        "\n# Who may take on the role.\ntrust_policy={}\n\n# What it may do.\npermissions={}\n\n\
         if aws iam get-role --role-name {name} >/dev/null 2>&1; then\n    \
         aws iam update-assume-role-policy --role-name {name} --policy-document \"$trust_policy\"\n{updated}\
         else\n    aws iam create-role --role-name {name} --path {} \\\n        --assume-role-policy-document \
         \"$trust_policy\"{created} >/dev/null\nfi\n\
         aws iam put-role-policy --role-name {name} --policy-name {POLICY_NAME} --policy-document \"$permissions\"\n",
        json(&pack.trust),
        json(&pack.permissions),
        quote::shell(&pack.role_path()),
    )
}

fn kms_policy(pack: &Pack<'_>) -> String {
    let Some(mut policy) = pack.kms_policy() else { return String::new() };
    policy["Statement"][0]["Resource"] = KEY.into();
    let quoted = json(&policy);
    let (before, after) = quoted.split_once(KEY).unwrap_or((&quoted, ""));
    format!(
        "\n# The bucket's own key, if it has one.\nif [ -n \"${{KMS_KEY_ARN:-}}\" ]; then\n    case $KMS_KEY_ARN in\n    *[!A-Za-z0-9:/_-]*) \
         echo \"KMS_KEY_ARN is not the ARN of a key\" >&2; exit 1 ;;\n    esac\n    kms_policy={before}'\"$KMS_KEY_ARN\"'{after}\n    \
         aws iam put-role-policy --role-name {} --policy-name {KMS_POLICY_NAME} --policy-document \"$kms_policy\"\nfi\n",
        quote::shell(pack.role_name()),
    )
}

/// What stands for the key until the text is whole.
const KEY: &str = "@KMS_KEY_ARN@";

/// Both calls would replace what is there, so that has to be seen to be nothing first.
fn bucket(pack: &Pack<'_>) -> String {
    let customer = pack.customer;
    format!(
        "\n# If the bucket has to let the role in.\nbucket_policy={}\nif [ \"${{BUCKET_POLICY:-no}}\" = yes ]; then\n{}fi\n\
         \n# S3 removes uploads that nobody completes.\nlifecycle={}\nif [ \"${{LIFECYCLE:-yes}}\" = yes ]; then\n{}fi\n",
        json(&pack.bucket_policy()),
        // A policy comes as a string in JSON.
        put_unless_there(
            pack,
            "policy",
            &format!("\"{}\\\"", statement_id(customer)),
            "NoSuchBucketPolicy",
            "--policy \"$bucket_policy\""
        ),
        json(&lifecycle(customer)),
        put_unless_there(
            pack,
            "lifecycle-configuration",
            &format!("\"{}\"", rule_name(customer)),
            "NoSuchLifecycleConfiguration",
            "--lifecycle-configuration \"$lifecycle\""
        ),
    )
}

/// `own` is what shows that ours is there, `none` what S3 says where there is nothing.
fn put_unless_there(pack: &Pack<'_>, what: &str, own: &str, none: &str, argument: &str) -> String {
    let customer = pack.customer;
    let bucket = format!(
        "--bucket {} --expected-bucket-owner {}",
        quote::shell(customer.bucket.as_str()),
        quote::shell(customer.bucket_owner.as_str())
    );
    let variable = argument.rsplit(' ').next().unwrap_or_default();
    format!(
        "    if there=$(aws s3api get-bucket-{what} {bucket} --output json 2>&1); then\n        case $there in\n        *{}*) ;;\n        \
         *)\n            echo 'The bucket has one already. Please add this to it by hand:' >&2\n            \
         printf '%s\\n' {variable} >&2 ;;\n        esac\n    else\n        case $there in\n        *{none}*)\n            \
         aws s3api put-bucket-{what} {bucket} \\\n                {argument} >/dev/null ;;\n        *)\n            \
         printf '%s\\n' \"$there\" >&2\n            exit 1 ;;\n        esac\n    fi\n",
        quote::shell(own)
    )
}

/// On lines of its own, in ASCII, between quotes.
fn json(value: &Value) -> String {
    quote::shell(&ascii(&format!("{value:#}")))
}
