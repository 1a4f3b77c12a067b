//! The sandbox's own file.

use consign::config::Problem;
use consign::sandbox::{SandboxConfig, SandboxError};

fn load(text: &str) -> Result<(SandboxConfig, Vec<Problem>), SandboxError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sandbox.toml");
    std::fs::write(&path, text).unwrap();
    SandboxConfig::load(&path)
}

#[test]
fn the_documents_own_example_is_read() {
    let text = include_str!("../../docs/sandbox.md");
    let example = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let (config, warnings) = load(example).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let account = &config.accounts[0];
    assert_eq!((config.accounts.len(), account.roles.len(), account.buckets.len()), (2, 1, 1));
    assert_eq!((config.listen.port(), account.roles[0].path.as_str()), (5580, "/"));
    assert_eq!(account.roles[0].trust.external_ids, ["c0ns1gn-7f0c2b9e"]);
    assert!(account.buckets[0].policy.is_some() && account.root.is_some());
}

#[test]
fn every_mistake_is_told_at_once() {
    let text = r#"
        listen = "0.0.0.0:0"
        vendor = { access_key_id = "ASIATEMPORARY", secret_access_key = "", sesion = 1 }
        [[accounts]]
        id = "12"
        buckets = [{ name = "Bad_Name" }, { name = "acme-data", region = "Ireland" }]
        [[accounts]]
        id = 123456789012
        [[accounts.roles]]
        name = "consign"
        path = "team"
        session_seconds_max = 90000
        policy = '{ "Statement": [{ "Effect": "Allow" }] }'
        trust = { external_id = ["ok"] }
        [[accounts]]
        [[accounts]]
        id = "123456789012"
        roles = [{ name = "a", path = "team", trust = { principal = "me" }, policy = { Statement = [] } }]
        "#;
    let Err(SandboxError::File(errors)) = load(text) else { panic!("loaded") };
    let told = errors.to_string();
    for problem in [
        "the sandbox has no `dir`",
        "is not a loopback address",
        "unknown key `sesion`",
        "begins like a temporary key",
        "secret_access_key is empty",
        "12 digits",
        "`Bad_Name`",
        "`Ireland`",
        "`id` is an integer, not a string",
        "`session_seconds_max` is 90000, which is out of range",
        "statement 0 has no Action",
        "`trust` has no `principal`",
        "`accounts` has no `id`",
        r#"path "team" is no path"#,
        r#"trust principal "me" is neither an account id nor an ARN"#,
    ] {
        assert!(told.contains(problem), "no {problem:?} in {told}");
    }
    let missing = errors.problems().iter().find(|problem| problem.message == "`accounts` has no `id`").unwrap();
    assert_eq!(missing.location.line(), 15, "{told}");
}

/// AWS takes such a policy without a word, and it allows nothing.
#[test]
fn an_action_that_is_none_is_noticed() {
    let text = r#"
        dir = "x"
        vendor = { access_key_id = "AKIA", secret_access_key = "x" }
        vendor_policy = '{ "Statement": { "Effect": "Allow", "Action": ["s3:PutObjct", "kms:*"], "Resource": "*" } }'
        "#;
    let warnings = load(text).unwrap().1;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0].message, "`vendor_policy` names the unknown action `s3:PutObjct`");
    assert_eq!((warnings[0].help.as_str(), warnings[0].location.line()), ("did you mean `s3:PutObject`?", 4));
}

#[test]
fn a_file_that_is_not_there_is_told_apart() {
    let gone = SandboxConfig::load("/nowhere/sandbox.toml".as_ref());
    assert!(matches!(gone, Err(SandboxError::Unreadable { .. })));
    assert!(matches!(load("dir = "), Err(SandboxError::File(_))));
}
