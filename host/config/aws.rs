//! `[aws]`

use url::Url;

use super::credentials::Credentials;
use super::environment::Environment;
use super::model::Aws;
use super::regions;
use super::report::Problems;
use super::section::Section;
use super::shape::{Kind, Shape, TEXT, default, optional};
use crate::domain::{Invalid, Principal, Region};

const HTTP: Kind = Kind::Text("^https?://");
pub(crate) const REGION: Kind = Kind::Text("^[a-z]+(-[a-z]+)+-[0-9]{1,2}$");
const MINUTE_MS: u64 = 60_000;
const SECRET_DOC: &str = "Never written here: a reference to an environment variable (`{ env = \"NAME\" }`) or to a \
    file in systemd's credentials directory (`{ credential = \"NAME\" }`).";

pub(crate) static AWS: Shape = Shape {
    noun: "aws",
    doc: "The vendor's side of S3 and STS.",
    keys: &[
        default(
            "region",
            REGION,
            "that of `AWS_REGION`, `AWS_DEFAULT_REGION` or the profile, else `us-east-1`",
            r#""eu-west-1""#,
            "Region of the vendor's own buckets, and of STS where a customer's account has it switched off near its bucket.",
        ),
        default(
            "endpoint_url",
            HTTP,
            "AWS",
            r#""http://127.0.0.1:9000""#,
            "Another S3 and STS than AWS's, such as `consign sandbox`.",
        ),
        default("sts_endpoint_url", HTTP, "as `endpoint_url`", r#""https://sts.example.com""#, "Only STS elsewhere."),
        default(
            "path_style",
            Kind::Bool,
            "true with `endpoint_url`, otherwise false",
            "true",
            "Buckets in the path (`http://host/bucket/key`) rather than in the host's name.",
        ),
        optional("profile", TEXT, r#""vendor""#, "A profile of the shared AWS config files. Not with `access_key_id`."),
        default(
            "access_key_id",
            Kind::Secret,
            "the AWS SDK's chain: environment, profile, web identity, container, instance",
            r#"{ env = "VENDOR_KEY_ID" }"#,
            "The vendor's own access key, together with `secret_access_key`. A reference, as there.",
        ),
        optional("secret_access_key", Kind::Secret, r#"{ credential = "aws-secret" }"#, SECRET_DOC),
        optional(
            "session_token",
            Kind::Secret,
            r#"{ env = "VENDOR_SESSION_TOKEN" }"#,
            "For temporary keys. A reference, as for `secret_access_key`.",
        ),
        default(
            "principal",
            Kind::Text("^([0-9]{12}|arn:aws[a-z-]*:iam::[0-9]{12}:(root|(role|user)/.+))$"),
            "the account of whoever consign runs as, asked of STS",
            r#""111122223333""#,
            "Whom the trust policies name that customers are given: the vendor's account, or the ARN of a role or user of \
             it. A trust policy keeps a role's internal id, so that a role which is deleted and made anew locks out every \
             customer: the account is the safe choice.",
        ),
        default(
            "session_duration",
            Kind::Duration(15 * MINUTE_MS, 12 * 60 * MINUTE_MS),
            r#""1h""#,
            r#""1h""#,
            "Length of an assumed session, 15 minutes to 12 hours, and no longer than the role allows. A role assumed \
             from a role (role chaining) gets at most 1 hour. Sessions are renewed while uploads run.",
        ),
        default(
            "attempt_timeout",
            Kind::Duration(100, 60 * MINUTE_MS),
            r#""60s""#,
            r#""60s""#,
            "One request without an answer is given up after this.",
        ),
        default(
            "operation_timeout",
            Kind::Duration(100, 12 * 60 * MINUTE_MS),
            r#""5min""#,
            r#""5min""#,
            "One operation, its retries included. Not shorter than `attempt_timeout`.",
        ),
        default("part_concurrency", Kind::Int(1, 64), "4", "4", "Parts of one object on their way at the same time."),
        default(
            "part_size",
            Kind::Size(5 << 20, 5 << 30),
            r#""8 MiB""#,
            r#""8 MiB""#,
            "Smallest part of a multipart upload, 5 MiB to 5 GiB. It grows with the object, so that 10,000 parts \
             suffice. What is larger than 8 MiB waits in a file below `cache_dir`.",
        ),
    ],
    synonyms: &[
        ("vendor_arn", "principal"),
        ("account", "principal"),
        ("endpoint", "endpoint_url"),
        ("timeout", "operation_timeout"),
        ("force_path_style", "path_style"),
    ],
};

pub(crate) fn read(section: Option<Section<'_>>, env: &Environment, problems: &mut Problems) -> Aws {
    let mut aws = Aws::default();
    let Some(section) = section else { return aws };
    aws.region = section.parse("region", Region::parse, problems);
    aws.endpoint_url = section.parse("endpoint_url", endpoint, problems);
    aws.sts_endpoint_url = section.parse("sts_endpoint_url", endpoint, problems);
    if let Some(region) = aws.region.as_ref().filter(|_| !section.has("endpoint_url")) {
        regions::check_known(region, section.span("region"), problems);
    }
    aws.path_style = section.bool("path_style").unwrap_or(aws.endpoint_url.is_some());
    aws.credentials = credentials(&section, env, problems);
    aws.profile = section.text("profile").map(str::to_owned);
    aws.principal = section.parse("principal", Principal::parse, problems);
    aws.session_duration = section.duration("session_duration").unwrap_or(aws.session_duration);
    aws.attempt_timeout = section.duration("attempt_timeout").unwrap_or(aws.attempt_timeout);
    aws.operation_timeout = section.duration("operation_timeout").unwrap_or(aws.operation_timeout);
    aws.part_concurrency = section.int("part_concurrency").unwrap_or(aws.part_concurrency);
    aws.part_bytes = section.size("part_size").unwrap_or(aws.part_bytes);
    if aws.operation_timeout < aws.attempt_timeout {
        let key = if section.has("operation_timeout") { "operation_timeout" } else { "attempt_timeout" };
        let message = format!(
            "`operation_timeout` ({}) is shorter than `attempt_timeout` ({})",
            humantime::format_duration(aws.operation_timeout),
            humantime::format_duration(aws.attempt_timeout)
        );
        problems.error(section.span(key), message, "an operation is several attempts; give it more time than one");
    }
    aws
}

fn credentials(section: &Section<'_>, env: &Environment, problems: &mut Problems) -> Option<Credentials> {
    for (one, other) in [
        ("access_key_id", "secret_access_key"),
        ("secret_access_key", "access_key_id"),
        ("session_token", "access_key_id"),
    ] {
        if section.has(one) && !section.has(other) {
            let help = format!("add `{other} = {{ env = \"AWS_{}\" }}`", other.to_uppercase());
            problems.error(section.key_span(one), format!("`{one}` is given without `{other}`"), help);
        }
    }
    if section.has("profile") && section.has("access_key_id") {
        let message = "`profile` and `access_key_id` both say who the vendor is";
        problems.error(section.key_span("profile"), message, "keep one of them");
    }
    Credentials::read(section, env)
}

fn endpoint(text: &str) -> Result<Url, Invalid> {
    const HELP: &str = "write for example \"http://127.0.0.1:9000\"";
    let url = Url::parse(text).map_err(|error| Invalid::new(format!("is not a URL ({error}); {HELP}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(Invalid::new(format!("is not an http or https URL; {HELP}")));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(Invalid::new(format!("has more than a host, a port and a path; {HELP}")));
    }
    Ok(url)
}
