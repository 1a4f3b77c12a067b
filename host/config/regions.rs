//! The regions of AWS, to notice a slip: a bucket's region is hard to guess from
//! the error that a wrong one ends in.

use super::report::{Problems, near};
use super::source::Span;
use crate::domain::{Region, RoleArn};

/// Region and partition, from the partitions that aws-sdk-s3 1.157 carries (July 2026).
const REGIONS: &[(&str, &str)] = &[
    ("af-south-1", "aws"),
    ("ap-east-1", "aws"),
    ("ap-east-2", "aws"),
    ("ap-northeast-1", "aws"),
    ("ap-northeast-2", "aws"),
    ("ap-northeast-3", "aws"),
    ("ap-south-1", "aws"),
    ("ap-south-2", "aws"),
    ("ap-southeast-1", "aws"),
    ("ap-southeast-2", "aws"),
    ("ap-southeast-3", "aws"),
    ("ap-southeast-4", "aws"),
    ("ap-southeast-5", "aws"),
    ("ap-southeast-6", "aws"),
    ("ap-southeast-7", "aws"),
    ("ca-central-1", "aws"),
    ("ca-west-1", "aws"),
    ("cn-north-1", "aws-cn"),
    ("cn-northwest-1", "aws-cn"),
    ("eu-central-1", "aws"),
    ("eu-central-2", "aws"),
    ("eu-isoe-west-1", "aws-iso-e"),
    ("eu-north-1", "aws"),
    ("eu-south-1", "aws"),
    ("eu-south-2", "aws"),
    ("eu-west-1", "aws"),
    ("eu-west-2", "aws"),
    ("eu-west-3", "aws"),
    ("eusc-de-east-1", "aws-eusc"),
    ("il-central-1", "aws"),
    ("me-central-1", "aws"),
    ("me-south-1", "aws"),
    ("mx-central-1", "aws"),
    ("sa-east-1", "aws"),
    ("us-east-1", "aws"),
    ("us-east-2", "aws"),
    ("us-gov-east-1", "aws-us-gov"),
    ("us-gov-west-1", "aws-us-gov"),
    ("us-iso-east-1", "aws-iso"),
    ("us-iso-west-1", "aws-iso"),
    ("us-isob-east-1", "aws-iso-b"),
    ("us-isob-west-1", "aws-iso-b"),
    ("us-isof-east-1", "aws-iso-f"),
    ("us-isof-south-1", "aws-iso-f"),
    ("us-west-1", "aws"),
    ("us-west-2", "aws"),
];

/// Warns of a region that AWS does not have: it may be newer than this consign,
/// so it is still taken.
pub(crate) fn check_known(region: &Region, span: Span, problems: &mut Problems) {
    let text = region.as_str();
    let names = || REGIONS.iter().map(|(name, _)| *name);
    if names().any(|name| name == text) {
        return;
    }
    // A number that the place does not have is a slip in the number.
    let place = text.trim_end_matches(|c: char| c.is_ascii_digit());
    let siblings: Vec<&str> =
        names().filter(|name| name.trim_end_matches(|c: char| c.is_ascii_digit()) == place).collect();
    let help = match near(text, names()) {
        _ if !siblings.is_empty() => format!("there are {}", super::report::listed(siblings)),
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "write the code of the bucket's region, such as \"eu-west-1\"".into(),
    };
    let message = format!("`{text}` is not a region that consign knows (as of July 2026)");
    problems.warn(span, message, help);
}

/// The partition of a region that consign knows.
pub(crate) fn known(region: &str) -> Option<&'static str> {
    REGIONS.iter().find(|(name, _)| *name == region).map(|(_, partition)| *partition)
}

/// The partition that a region is in, as far as that can be told by its name.
pub(crate) fn partition(region: &str) -> &'static str {
    known(region).unwrap_or_else(|| match region.split('-').next() {
        Some("cn") => "aws-cn",
        Some("eusc") => "aws-eusc",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    })
}

/// A role reaches buckets of its own partition only.
pub(crate) fn check_partition(region: &Region, role: &RoleArn, span: Span, problems: &mut Problems) {
    let text = region.as_str();
    // Of regions that nobody may know, nothing is guessed.
    if known(text).is_none() && text.contains("-iso") {
        return;
    }
    let partition = partition(text);
    if role.partition() != partition {
        let message =
            format!("region `{text}` is in the partition {partition}, but the role is in {}", role.partition());
        problems.error(span, message, "a role reaches the buckets of its own partition only");
    }
}
