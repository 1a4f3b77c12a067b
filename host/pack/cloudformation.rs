//! A CloudFormation template for one stack in the account of the role.

use serde_json::Value;

use super::{Pack, quote};
use crate::policy::{UNFINISHED_DAYS, rule_name};

pub(super) fn template(pack: &Pack<'_>) -> String {
    let mut text = head(pack);
    text.push_str(&parameters(pack));
    text.push_str("\nResources:\n");
    text.push_str(&role(pack));
    text.push_str(&kms_policy(pack));
    if !pack.is_bucket_elsewhere() {
        text.push_str(&bucket(pack));
    }
    let arn = of_role(pack, "!GetAtt DeliveryRole.Arn", pack.customer.role_arn.as_str());
    text.push_str(&format!("\nOutputs:\n  RoleArn:\n    Description: \"Send us this\"\n    Value: {arn}\n"));
    text
}

/// Something of the role's, which `there` is where the role is made elsewhere.
fn of_role(pack: &Pack<'_>, made: &str, there: &str) -> String {
    match pack.is_role_shared() {
        true => format!("!If [MakesRole, {made}, {}]", quote::yaml(there)),
        false => made.to_owned(),
    }
}

fn role_name(pack: &Pack<'_>) -> String {
    of_role(pack, "!Ref DeliveryRole", pack.role_name())
}

fn head(pack: &Pack<'_>) -> String {
    let customer = pack.customer;
    let mut text = format!(
        "# Lets {} deliver into\n# {}\n# In account {}, region {}:\n#\n#   aws cloudformation deploy --stack-name {} \\\n\
         #     --template-file {} --capabilities CAPABILITY_NAMED_IAM --region {}\n",
        quote::plain(&pack.principal),
        quote::plain(&pack.place()),
        pack.account(),
        customer.region,
        stack_name(pack),
        pack.file_name(super::Format::CloudFormation),
        customer.region,
    );
    let lifecycle = match pack.is_bucket_elsewhere() {
        true => "To the lifecycle rules of that bucket",
        false => {
            "CloudFormation cannot change the lifecycle rules of a bucket that it has not made. To those of an existing one"
        }
    };
    text.push_str(&pack.by_hand(Some(lifecycle), Some("--parameter-overrides MakeRole=false")));
    let describes = format!("Lets a vendor deliver into {}", pack.place());
    let describes: String = quote::plain(&describes).chars().take(250).collect();
    text.push_str(&format!("\nAWSTemplateFormatVersion: \"2010-09-09\"\nDescription: {}\n", quote::yaml(&describes)));
    text
}

/// Letters, digits and hyphens alone (CloudFormation API Reference, CreateStack). Names of customers have
/// no capitals, so that `acme_eu` gets another one than `acme-eu`.
fn stack_name(pack: &Pack<'_>) -> String {
    format!("consign-{}", pack.customer.name.as_str().replace('_', "-U-"))
}

fn parameters(pack: &Pack<'_>) -> String {
    let mut parameters = String::new();
    let mut conditions = String::new();
    if pack.is_role_shared() {
        parameters.push_str(
            "  MakeRole:\n    Type: String\n    Default: \"true\"\n    AllowedValues: [\"true\", \"false\"]\n    Description: \
             \"Make the role; false for all but one of those whose role it is, and after that one\"\n",
        );
        conditions.push_str("  MakesRole: !Equals [!Ref MakeRole, \"true\"]\n");
    }
    if pack.kms_policy().is_some() {
        parameters.push_str(
            "  KmsKeyArn:\n    Type: String\n    Default: \"\"\n    Description: \"ARN of the KMS key that the bucket encrypts with by \
             default; empty for SSE-S3\"\n",
        );
        conditions.push_str("  HasKmsKey: !Not [!Equals [!Ref KmsKeyArn, \"\"]]\n");
    }
    if !pack.is_bucket_elsewhere() {
        parameters.push_str(
            "  CreateBucket:\n    Type: String\n    Default: \"false\"\n    AllowedValues: [\"true\", \"false\"]\n    Description: \
             \"Make the bucket too, private, with the lifecycle rule\"\n  \
             AddBucketPolicy:\n    Type: String\n    Default: \"false\"\n    AllowedValues: [\"true\", \"false\"]\n    Description: \
             \"Give the bucket a policy for the role; mostly not needed, and only for a bucket that has none\"\n",
        );
        conditions.push_str(
            "  MakesBucket: !Equals [!Ref CreateBucket, \"true\"]\n  AddsBucketPolicy: !Equals [!Ref AddBucketPolicy, \"true\"]\n",
        );
    }
    if parameters.is_empty() {
        return String::new();
    }
    format!("\nParameters:\n{parameters}\nConditions:\n{conditions}")
}

/// A policy within the role would go with it where that is made elsewhere.
fn role(pack: &Pack<'_>) -> String {
    let longer = pack.session_seconds_max().map(|seconds| format!("      MaxSessionDuration: {seconds}\n"));
    let is_shared = pack.is_role_shared();
    let role = format!(
        "  DeliveryRole:\n    Type: AWS::IAM::Role\n{}    Properties:\n      RoleName: {}\n      Path: {}\n{}      \
         AssumeRolePolicyDocument:{}\n",
        if is_shared { "    Condition: MakesRole\n" } else { "" },
        quote::yaml(pack.role_name()),
        quote::yaml(&pack.role_path()),
        longer.unwrap_or_default(),
        block(&pack.trust, 8),
    );
    let policy = match is_shared {
        true => format!(
            "  DeliveryPolicy:\n    Type: AWS::IAM::Policy\n    Properties:\n      Roles: [{}]\n      PolicyName: {}\n      \
             PolicyDocument:{}\n",
            role_name(pack),
            pack.policy_name(),
            block(&pack.permissions, 8),
        ),
        false => format!(
            "      Policies:\n        - PolicyName: {}\n          PolicyDocument:{}\n",
            pack.policy_name(),
            block(&pack.permissions, 12),
        ),
    };
    role + &policy
}

fn kms_policy(pack: &Pack<'_>) -> String {
    let Some(mut policy) = pack.kms_policy() else { return String::new() };
    // What stands there is for those who paste; here the key is known.
    policy["Statement"][0]["Resource"] = KEY.into();
    format!(
        "  KmsPolicy:\n    Type: AWS::IAM::Policy\n    Condition: HasKmsKey\n    Properties:\n      Roles: [{}]\n      PolicyName: {}\n      PolicyDocument:{}\n",
        role_name(pack),
        pack.kms_policy_name(),
        block(&policy, 8).replace(&quote::yaml(KEY), "!Ref KmsKeyArn"),
    )
}

/// What stands for the key until the text is whole.
const KEY: &str = "!Ref KmsKeyArn";

fn bucket(pack: &Pack<'_>) -> String {
    let customer = pack.customer;
    let name = quote::yaml(customer.bucket.as_str());
    format!(
        "  DeliveryBucket:\n    Type: AWS::S3::Bucket\n    Condition: MakesBucket\n    DeletionPolicy: Retain\n    \
         UpdateReplacePolicy: Retain\n    Properties:\n      BucketName: {name}\n      OwnershipControls:\n        Rules:\n          \
         - ObjectOwnership: BucketOwnerEnforced\n      PublicAccessBlockConfiguration:\n        BlockPublicAcls: true\n        \
         BlockPublicPolicy: true\n        IgnorePublicAcls: true\n        RestrictPublicBuckets: true\n      \
         LifecycleConfiguration:\n        Rules:\n          - Id: {}\n            Status: Enabled\n            \
         Prefix: {}\n            AbortIncompleteMultipartUpload:\n              DaysAfterInitiation: {UNFINISHED_DAYS}\n  \
         DeliveryBucketPolicy:\n    Type: AWS::S3::BucketPolicy\n    Condition: AddsBucketPolicy\n    DependsOn: {}\n    \
         Properties:\n      Bucket: {}\n      PolicyDocument:{}\n",
        quote::yaml(&rule_name(customer)),
        quote::yaml(customer.prefix.as_str()),
        if pack.is_role_shared() { "DeliveryPolicy" } else { "DeliveryRole" },
        format_args!("!If [MakesBucket, !Ref DeliveryBucket, {name}]"),
        block(&pack.bucket_policy(), 8),
    )
}

/// JSON as YAML in block style, from a line of its own on.
fn block(value: &Value, indent: usize) -> String {
    let spaces = " ".repeat(indent);
    match value {
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| {
                let key = if key.chars().all(|c| c.is_ascii_alphanumeric()) { key.clone() } else { quote::yaml(key) };
                format!("\n{spaces}{key}:{}", block(value, indent + 2))
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .map(|item| match block(item, indent + 2).strip_prefix(&format!("\n{spaces}  ")) {
                Some(first) => format!("\n{spaces}- {first}"),
                None => format!("\n{spaces}-{}", block(item, indent + 2)),
            })
            .collect(),
        Value::String(text) => format!(" {}", quote::yaml(text)),
        other => format!(" {other}"),
    }
}
