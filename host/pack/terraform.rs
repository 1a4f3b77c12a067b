//! A Terraform module for the account of the role.

use serde_json::Value;

use super::{KMS_POLICY_NAME, POLICY_NAME, Pack, quote};
use crate::policy::{UNFINISHED_DAYS, pretty, rule_name};

pub(super) fn module(pack: &Pack<'_>) -> String {
    let mut parts = vec![head(pack)];
    parts.extend(variables(pack));
    parts.push(locals(pack));
    parts.push(role(pack));
    if pack.kms_policy().is_some() {
        parts.push(kms_policy());
    }
    if !pack.is_bucket_elsewhere() {
        parts.push(bucket(pack));
    }
    parts.push(
        "output \"consign_role_arn\" {\n  description = \"Send us this\"\n  value       = aws_iam_role.consign.arn\n}\n".into(),
    );
    parts.join("\n")
}

fn head(pack: &Pack<'_>) -> String {
    let mut text = format!(
        "# Lets {} deliver into\n# {}\n# For account {}, region {}.\n",
        quote::plain(&pack.principal),
        quote::plain(&pack.place()),
        pack.account(),
        pack.customer.region
    );
    if pack.is_bucket_elsewhere() {
        text.push_str(&format!(
            "#\n# The bucket belongs to account {}. There, add this statement to the bucket's policy:\n#\n#   {}\n",
            pack.customer.bucket_owner,
            super::indented(&pretty(&pack.bucket_policy()), 4).replace('\n', "\n#").replace("#    ", "#   ")
        ));
    }
    text.push_str(
        "\nterraform {\n  required_providers {\n    aws = {\n      source  = \"hashicorp/aws\"\n      version = \">= 4.0\"\n    }\n  }\n}\n",
    );
    text
}

fn variables(pack: &Pack<'_>) -> Vec<String> {
    let mut variables = Vec::new();
    if pack.kms_policy().is_some() {
        variables.push(variable(
            "consign_kms_key_arn",
            "ARN of the KMS key that the bucket encrypts with by default; empty for SSE-S3",
            "string",
            "\"\"",
        ));
    }
    if !pack.is_bucket_elsewhere() {
        variables.push(variable(
            "consign_bucket_policy",
            "Give the bucket a policy for the role; mostly not needed, and it replaces the one that the bucket has",
            "bool",
            "false",
        ));
        variables.push(variable(
            "consign_lifecycle",
            "Have S3 remove unfinished uploads; only for a bucket without lifecycle rules, because it replaces all of them",
            "bool",
            "false",
        ));
    }
    variables
}

fn variable(name: &str, description: &str, kind: &str, default: &str) -> String {
    format!(
        "variable \"{name}\" {{\n  description = {}\n  type        = {kind}\n  default     = {default}\n}}\n",
        quote::terraform(description)
    )
}

/// The policies as they are, so that they can be compared with our instructions.
fn locals(pack: &Pack<'_>) -> String {
    let mut policies =
        vec![("consign_trust_policy", pack.trust.clone()), ("consign_permissions", pack.permissions.clone())];
    policies.extend(pack.kms_policy().map(|policy| ("consign_kms_policy", policy)));
    if !pack.is_bucket_elsewhere() {
        policies.push(("consign_bucket_policy", pack.bucket_policy()));
    }
    let policies: Vec<String> = policies.iter().map(|(name, policy)| format!("  {name} = {}", here(policy))).collect();
    // Apart, or `terraform fmt` would have their names of one width.
    format!("locals {{\n{}}}\n", policies.join("\n"))
}

/// A here-document. JSON has no line that could end it: where a line is not
/// punctuation, it begins with a quote.
fn here(policy: &Value) -> String {
    format!("<<-JSON\n    {}\n  JSON\n", super::indented(&quote::template(&pretty(policy)), 4))
}

fn role(pack: &Pack<'_>) -> String {
    let mut attributes = vec![
        ("name", quote::terraform(pack.role_name())),
        ("path", quote::terraform(&pack.role_path())),
        ("assume_role_policy", "local.consign_trust_policy".to_owned()),
    ];
    attributes.extend(pack.session_seconds_max().map(|seconds| ("max_session_duration", seconds.to_string())));
    // As `terraform fmt` has it.
    let width = attributes.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let attributes: String = attributes.iter().map(|(name, value)| format!("  {name:width$} = {value}\n")).collect();
    format!(
        "resource \"aws_iam_role\" \"consign\" {{\n{attributes}}}\n\n\
         resource \"aws_iam_role_policy\" \"consign\" {{\n  name   = \"{POLICY_NAME}\"\n  role   = aws_iam_role.consign.id\n  \
         policy = local.consign_permissions\n}}\n"
    )
}

/// The key in the place of the star, which is the only resource there.
fn kms_policy() -> String {
    format!(
        "resource \"aws_iam_role_policy\" \"consign_kms\" {{\n  count  = var.consign_kms_key_arn == \"\" ? 0 : 1\n  name   = \
         \"{KMS_POLICY_NAME}\"\n  role   = aws_iam_role.consign.id\n  policy = replace(local.consign_kms_policy, \"\\\"*\\\"\", \
         jsonencode(var.consign_kms_key_arn))\n}}\n"
    )
}

fn bucket(pack: &Pack<'_>) -> String {
    let customer = pack.customer;
    let name = quote::terraform(customer.bucket.as_str());
    format!(
        "resource \"aws_s3_bucket_policy\" \"consign\" {{\n  count      = var.consign_bucket_policy ? 1 : 0\n  bucket     = {name}\n  \
         policy     = local.consign_bucket_policy\n  depends_on = [aws_iam_role.consign]\n}}\n\n\
         resource \"aws_s3_bucket_lifecycle_configuration\" \"consign\" {{\n  count  = var.consign_lifecycle ? 1 : 0\n  bucket = \
         {name}\n\n  rule {{\n    id     = {}\n    status = \"Enabled\"\n\n    filter {{\n      prefix = {}\n    \
         }}\n\n    abort_incomplete_multipart_upload {{\n      days_after_initiation = {UNFINISHED_DAYS}\n    }}\n  }}\n}}\n",
        quote::terraform(&rule_name(customer)),
        quote::terraform(customer.prefix.as_str()),
    )
}
