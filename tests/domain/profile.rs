//! Parts of a profile, each against AWS's rule.

use consign::domain::{
    AccountId, BucketName, CustomerName, CustomerPrefix, ExternalId, Invalid, Region, RoleArn, RunId, TableName,
};

/// Every good text is taken, every bad one refused for a reason that has these words.
fn table<T>(rule: impl Fn(&str) -> Result<T, Invalid>, good: &[&str], bad: &[(&str, &str)]) {
    for text in good {
        if let Err(why) = rule(text) {
            panic!("{text:?} is refused: it {why}");
        }
    }
    for (text, words) in bad {
        match rule(text) {
            Ok(_) => panic!("{text:?} is taken"),
            Err(why) => assert!(why.to_string().contains(words), "{text:?} {why}"),
        }
    }
}

#[test]
fn accounts() {
    let bad =
        [("", "account id"), ("12345678901", "12 digits"), ("1234567890123", "account"), ("١٢٣٤٥٦٧٨٩٠١٢", "account")];
    table(AccountId::parse, &["123456789012", "000000000000"], &bad);
}

#[test]
fn role_arns() {
    let good = [
        "arn:aws:iam::123456789012:role/consign",
        "arn:aws-cn:iam::123456789012:role/consign",
        "arn:aws-us-gov:iam::123456789012:role/some/path/consign.delivery@x=y,z+1_2-3",
    ];
    let long = format!("arn:aws:iam::123456789012:role/{}", "x".repeat(65));
    let bad = [
        ("", "not a role ARN"),
        ("arn:aws:iam::123456789012", "not a role ARN"),
        ("arn:aws:iam:eu-west-1:123456789012:role/x", "not an IAM ARN"),
        ("arn:aws:sts::123456789012:assumed-role/x/y", "not an IAM ARN"),
        ("ARN:aws:iam::123456789012:role/x", "not an IAM ARN"),
        ("arn:awesome:iam::123456789012:role/x", "not an IAM ARN"),
        ("arn:aws:iam::1234:role/x", "account"),
        ("arn:aws:iam::123456789012:user/x", "names no role"),
        ("arn:aws:iam::123456789012:root", "names no role"),
        ("arn:aws:iam::123456789012:role/", "role name"),
        ("arn:aws:iam::123456789012:role/x/", "role name"),
        ("arn:aws:iam::123456789012:role//x", "role name"),
        ("arn:aws:iam::123456789012:role/*", "role name"),
        ("arn:aws:iam::123456789012:role/a b", "role name"),
        ("arn:aws:iam::123456789012:role/a:b", "role name"),
        (long.as_str(), "role name"),
    ];
    table(RoleArn::parse, &good, &bad);
    let role = RoleArn::parse(good[2]).unwrap();
    assert_eq!((role.account_id().as_str(), role.partition()), ("123456789012", "aws-us-gov"));
}

#[test]
fn external_ids() {
    let long = "x".repeat(1225);
    let bad =
        [("", "empty"), ("x", "2 to 1224"), (long.as_str(), "2 to 1224"), ("a b", "character"), ("é1", "character")];
    table(ExternalId::parse, &["12", "c0ns1gn-7f0c", "a_b+c=d,e.f@g:h/i-j", &long[..1224]], &bad);
}

#[test]
fn buckets() {
    let long = "x".repeat(64);
    let bad = [
        ("", "3 to 63"),
        ("ab", "3 to 63"),
        (long.as_str(), "3 to 63"),
        ("Acme", "character"),
        ("acme_data", "character"),
        ("-acme", "begin and end"),
        ("acme.", "begin and end"),
        ("a..b", "two periods"),
        ("192.168.5.4", "IP address"),
        ("xn--acme", "reserves"),
        ("sthree-acme", "reserves"),
        ("amzn-s3-demo-bucket", "reserves"),
        ("acme-s3alias", "reserves"),
        ("acme--ol-s3", "reserves"),
        ("acme.mrap", "reserves"),
        ("acme--x-s3", "reserves"),
        ("acme--table-s3", "reserves"),
        ("acme-*", "wildcard"),
        ("acme$", "wildcard"),
        ("arn:aws:s3:::acme", "name alone"),
        ("s3://acme", "name alone"),
        ("acme/path", "name alone"),
        ("acmé", "character"),
    ];
    table(BucketName::parse, &["abc", "acme-data", "acme.data.eu", "1acme1", &long[..63]], &bad);
}

#[test]
fn regions() {
    let bad = [
        ("", "not a region code"),
        ("eu-west", "region code"),
        ("eu-west-1a", "region code"),
        ("EU-WEST-1", "region code"),
        ("eu-west-+1", "region code"),
        ("eu--1", "region code"),
        ("west-1", "region code"),
        ("eu-west-1 ", "region code"),
        ("eu-west-123", "region code"),
    ];
    table(Region::parse, &["eu-west-1", "us-gov-west-1", "ap-southeast-10", "us-isob-east-1"], &bad);
}

#[test]
fn prefixes() {
    let good = ["", "a", "a/", "uploads/your team/ü", "a/b.c/..d/e..", "...", "uploads/{x}"];
    let long = "x".repeat(513);
    let bad = [
        ("/", "leading"),
        ("/a", "leading"),
        ("a//b", "empty segment"),
        ("a//", "empty segment"),
        ("..", "path step '..'"),
        ("a/../b", "path step '..'"),
        ("./a", "path step '.'"),
        ("a/./", "path step '.'"),
        ("a*", "'*'"),
        ("a?", "'?'"),
        ("${aws:username}", "'$'"),
        ("a\\b", "'\\'"),
        ("a\0b", "U+0000"),
        ("a\nb", "U+000A"),
        ("a\u{202e}b", "U+202E"),
        ("a\u{feff}", "U+FEFF"),
        (long.as_str(), "at most 512"),
    ];
    table(CustomerPrefix::parse, &good, &bad);
    assert_eq!(CustomerPrefix::parse("cust1").unwrap().as_str(), "cust1/");
}

#[test]
fn prefixes_overlap_by_folder_only() {
    let overlap = |a, b| CustomerPrefix::parse(a).unwrap().overlaps(&CustomerPrefix::parse(b).unwrap());
    assert!(overlap("", "anything") && overlap("a", "a/") && overlap("a/b", "a"));
    assert!(!overlap("cust1", "cust10") && !overlap("a/b", "a/c"));
}

#[test]
fn names() {
    let long = "x".repeat(64);
    let bad = [
        ("", "empty"),
        ("Acme", "a-z"),
        ("-a", "a-z"),
        ("a.b", "a-z"),
        ("a/b", "a-z"),
        (long.as_str(), "63"),
        ("é", "a-z"),
    ];
    table(CustomerName::parse, &["a", "1a", "acme-data_2", &long[..63]], &bad);
    table(TableName::parse, &["orders", "o_1"], &[("1o", "a-z"), ("o-1", "a-z"), ("", "empty"), ("_o", "a-z")]);
}

#[test]
fn run_ids_are_read_back() {
    let now = chrono::DateTime::parse_from_rfc3339("2026-01-31T06:00:00Z").unwrap().to_utc();
    let run = RunId::new(now);
    assert_eq!(RunId::parse(&run.to_string()).unwrap(), run);
    assert!(RunId::new(now + chrono::TimeDelta::milliseconds(1)) > run);
    assert!(RunId::parse("7").is_err());
}
