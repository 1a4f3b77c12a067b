//! A Terraform module for the account of the role.

use serde_json::Value;

use super::{Pack, quote};
use crate::policy::{UNFINISHED_DAYS, pretty, rule_name};

pub(super) fn module(pack: &Pack<'_>) -> String {
    let mut parts = vec![head(pack)];
    parts.extend(variables(pack));
    parts.push(locals(pack));
    parts.push(role(pack));
    if pack.kms_policy().is_some() {
        parts.push(kms_policy(pack));
    }
    if !pack.is_bucket_elsewhere() {
        parts.push(bucket(pack));
    }
    parts.push(format!(
        "output \"{}\" {{\n  description = \"Send us this\"\n  value       = {}\n}}\n",
        label(pack, "role_arn"),
        of_role(pack, "arn", pack.customer.role_arn.as_str())
    ));
    parts.join("\n")
}

/// An attribute of the role, which `there` is where the role is made elsewhere.
fn of_role(pack: &Pack<'_>, attribute: &str, there: &str) -> String {
    let (delivery, there) = (label(pack, "delivery"), quote::terraform(there));
    match pack.is_role_shared() {
        true => format!("var.{} ? aws_iam_role.{delivery}[0].{attribute} : {there}", label(pack, "make_role")),
        false => format!("aws_iam_role.{delivery}.{attribute}"),
    }
}

/// Labels are the whole module's, in which several of these files may be.
fn label(pack: &Pack<'_>, what: &str) -> String {
    format!("consign_{}_{what}", pack.customer.name)
}

fn head(pack: &Pack<'_>) -> String {
    let mut text = format!(
        "# Lets {} deliver into\n# {}\n# For account {}, region {}. Needs the provider hashicorp/aws, 4.0 or later.\n",
        quote::plain(&pack.principal),
        quote::plain(&pack.place()),
        pack.account(),
        pack.customer.region
    );
    let leave_role = format!("{} = false", label(pack, "make_role"));
    let lifecycle = pack.is_bucket_elsewhere().then_some("To the lifecycle rules of that bucket");
    text.push_str(&pack.by_hand(lifecycle, Some(&leave_role)));
    text
}

fn variables(pack: &Pack<'_>) -> Vec<String> {
    let mut variables = Vec::new();
    if pack.is_role_shared() {
        variables.push(variable(
            &label(pack, "make_role"),
            "Make the role; false for all but one of those whose role it is, and after that one",
            "bool",
            "true",
        ));
    }
    if pack.kms_policy().is_some() {
        variables.push(variable(
            &label(pack, "kms_key_arn"),
            "ARN of the KMS key that the bucket encrypts with by default; empty for SSE-S3",
            "string",
            "\"\"",
        ));
    }
    if !pack.is_bucket_elsewhere() {
        variables.push(variable(
            &label(pack, "bucket_policy"),
            "Give the bucket a policy for the role; mostly not needed, and it replaces the one that the bucket has",
            "bool",
            "false",
        ));
        variables.push(variable(
            &label(pack, "lifecycle"),
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
    let mut policies = vec![("trust_policy", pack.trust.clone()), ("permissions", pack.permissions.clone())];
    policies.extend(pack.kms_policy().map(|policy| ("kms_policy", policy)));
    if !pack.is_bucket_elsewhere() {
        policies.push(("bucket_policy", pack.bucket_policy()));
    }
    let policies: Vec<String> =
        policies.iter().map(|(name, policy)| format!("  {} = {}", label(pack, name), here(policy))).collect();
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
        ("assume_role_policy", format!("local.{}", label(pack, "trust_policy"))),
    ];
    if pack.is_role_shared() {
        attributes.insert(0, ("count", format!("var.{} ? 1 : 0", label(pack, "make_role"))));
    }
    attributes.extend(pack.session_seconds_max().map(|seconds| ("max_session_duration", seconds.to_string())));
    // As `terraform fmt` has it.
    let width = attributes.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let attributes: String = attributes.iter().map(|(name, value)| format!("  {name:width$} = {value}\n")).collect();
    let (delivery, permissions, name) = (label(pack, "delivery"), label(pack, "permissions"), pack.policy_name());
    let role = of_role(pack, "id", pack.role_name());
    format!(
        "resource \"aws_iam_role\" \"{delivery}\" {{\n{attributes}}}\n\n\
         resource \"aws_iam_role_policy\" \"{delivery}\" {{\n  name   = \"{name}\"\n  role   = {role}\n  \
         policy = local.{permissions}\n}}\n"
    )
}

/// The key in the place of the star, which is the only resource there.
fn kms_policy(pack: &Pack<'_>) -> String {
    let (policy, key) = (label(pack, "kms_policy"), label(pack, "kms_key_arn"));
    let role = of_role(pack, "id", pack.role_name());
    format!(
        "resource \"aws_iam_role_policy\" \"{}\" {{\n  count  = var.{key} == \"\" ? 0 : 1\n  name   = \
         \"{}\"\n  role   = {role}\n  policy = replace(local.{policy}, \"\\\"*\\\"\", \
         jsonencode(var.{key}))\n}}\n",
        label(pack, "kms"),
        pack.kms_policy_name(),
    )
}

fn bucket(pack: &Pack<'_>) -> String {
    let customer = pack.customer;
    let name = quote::terraform(customer.bucket.as_str());
    let (delivery, policy, lifecycle) =
        (label(pack, "delivery"), label(pack, "bucket_policy"), label(pack, "lifecycle"));
    format!(
        "resource \"aws_s3_bucket_policy\" \"{delivery}\" {{\n  count      = var.{policy} ? 1 : 0\n  bucket     = {name}\n  \
         policy     = local.{policy}\n  depends_on = [aws_iam_role.{delivery}]\n}}\n\n\
         resource \"aws_s3_bucket_lifecycle_configuration\" \"{delivery}\" {{\n  count  = var.{lifecycle} ? 1 : 0\n  bucket = \
         {name}\n\n  rule {{\n    id     = {}\n    status = \"Enabled\"\n\n    filter {{\n      prefix = {}\n    \
         }}\n\n    abort_incomplete_multipart_upload {{\n      days_after_initiation = {UNFINISHED_DAYS}\n    }}\n  }}\n}}\n",
        quote::terraform(&rule_name(customer)),
        quote::terraform(customer.prefix.as_str()),
    )
}
