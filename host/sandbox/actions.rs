//! Actions that are probably misspelt: AWS takes them without a word, and they allow nothing.

use super::policy::glob;
use crate::config::near;

/// Of S3 and STS, those that people write into the policies of roles and buckets.
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>
const ACTIONS: [&str; 62] = [
    "s3:AbortMultipartUpload",
    "s3:BypassGovernanceRetention",
    "s3:CreateBucket",
    "s3:DeleteBucket",
    "s3:DeleteBucketPolicy",
    "s3:DeleteObject",
    "s3:DeleteObjectTagging",
    "s3:DeleteObjectVersion",
    "s3:DeleteObjectVersionTagging",
    "s3:GetAccelerateConfiguration",
    "s3:GetBucketAcl",
    "s3:GetBucketCORS",
    "s3:GetBucketLocation",
    "s3:GetBucketLogging",
    "s3:GetBucketNotification",
    "s3:GetBucketObjectLockConfiguration",
    "s3:GetBucketOwnershipControls",
    "s3:GetBucketPolicy",
    "s3:GetBucketPolicyStatus",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetBucketRequestPayment",
    "s3:GetBucketTagging",
    "s3:GetBucketVersioning",
    "s3:GetBucketWebsite",
    "s3:GetEncryptionConfiguration",
    "s3:GetLifecycleConfiguration",
    "s3:GetObject",
    "s3:GetObjectAcl",
    "s3:GetObjectAttributes",
    "s3:GetObjectLegalHold",
    "s3:GetObjectRetention",
    "s3:GetObjectTagging",
    "s3:GetObjectVersion",
    "s3:GetObjectVersionAcl",
    "s3:GetObjectVersionAttributes",
    "s3:GetObjectVersionTagging",
    "s3:ListAllMyBuckets",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:ListBucketVersions",
    "s3:ListMultipartUploadParts",
    "s3:PutBucketAcl",
    "s3:PutBucketPolicy",
    "s3:PutBucketTagging",
    "s3:PutBucketVersioning",
    "s3:PutEncryptionConfiguration",
    "s3:PutLifecycleConfiguration",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:PutObjectLegalHold",
    "s3:PutObjectRetention",
    "s3:PutObjectTagging",
    "s3:PutObjectVersionAcl",
    "s3:PutObjectVersionTagging",
    "s3:ReplicateObject",
    "s3:RestoreObject",
    "sts:AssumeRole",
    "sts:AssumeRoleWithSAML",
    "sts:AssumeRoleWithWebIdentity",
    "sts:GetCallerIdentity",
    "sts:SetSourceIdentity",
    "sts:TagSession",
];

/// What to write instead of an action that is none, if that can be guessed; nothing for one that is.
pub(super) fn misspelt(action: &str) -> Option<String> {
    let lower = action.to_ascii_lowercase();
    let fits = |known: &&str| glob(&lower, &known.to_ascii_lowercase());
    let ours = lower.starts_with("s3:") || lower.starts_with("sts:") || !lower.contains(':');
    if !ours || ACTIONS.iter().any(fits) {
        return None;
    }
    let prefixed = format!("s3:{action}");
    let wanted = if action.contains(':') { action } else { &prefixed };
    Some(match near(wanted, ACTIONS) {
        Some(known) => format!("did you mean `{known}`?"),
        None => "it allows and denies nothing here".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::misspelt;

    #[test]
    fn only_what_is_no_action_is_noticed() {
        for action in ["s3:PutObject", "S3:putobject", "s3:Get*", "*", "s3:*", "kms:GenerateDataKey", "sts:AssumeRole"]
        {
            assert_eq!(misspelt(action), None, "{action}");
        }
        for (action, said) in [
            ("s3:PutObjct", "did you mean `s3:PutObject`?"),
            ("PutObject", "did you mean `s3:PutObject`?"),
            ("s3:GetObjects", "did you mean `s3:GetObject`?"),
            ("s3:Puts*", "nothing here"),
        ] {
            assert!(misspelt(action).unwrap().contains(said), "{action}");
        }
    }
}
