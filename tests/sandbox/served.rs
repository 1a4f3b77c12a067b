//! The sandbox that is made for the customers of a configuration, and its directory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use consign::clock::Clock;
use consign::config::{Aws, Config, Customer, Environment};
use consign::domain::{CustomerName, ExternalId, Failure, Layer, Secret};
use consign::sandbox::{KeyPair, Sandbox, SandboxConfig, SandboxError};

use super::world::*;
use crate::delivery::world;

fn for_customers(dir: &Path, text: &str) -> (Config, Result<SandboxConfig, SandboxError>) {
    let path = dir.join("consign.toml");
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path, &Environment::from_pairs([] as [(&str, &str); 0])).unwrap();
    let vendor = KeyPair { access_key_id: "AKIAVENDOR".into(), secret_access_key: Secret::new("vendorsecret") };
    let made = SandboxConfig::for_customers(&config, vendor, dir.join("buckets"), ([127, 0, 0, 1], 0).into());
    (config, made)
}

async fn start(config: &SandboxConfig) -> Result<Sandbox, SandboxError> {
    Sandbox::start(config.clone(), Clock::system()).await
}

async fn deliver(sandbox: &Sandbox, customer: Customer, session_duration: Duration) -> Result<(), Failure> {
    let aws = Aws { session_duration, ..world::aws(sandbox.endpoint().as_str()) };
    let vendor = world::vendor(&aws).await;
    world::deliver(&vendor, &Arc::new(customer), object(0, "a.csv", b"1,2\n")).await.map(drop)
}

const ACME: &str = r#"
    [customers.acme]
    role_arn = "arn:aws:iam::123456789012:role/team/x/consign"
    external_id = "acme-0001"
    bucket = "acme-data"
    region = "eu-west-1"
    prefix = "uploads/us"
    "#;

/// One role for two customers, with a path; a bucket in another account than the role; long sessions.
#[tokio::test]
async fn every_profile_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        r#"{ACME}
        [customers.globex]
        role_arn = "arn:aws:iam::123456789012:role/team/x/consign"
        external_id = "globex-0001"
        bucket = "globex-data"
        region = "us-east-1"
        prefix = "in"
        tags = {{ from = "us" }}

        [customers.initech]
        role_arn = "arn:aws:iam::123456789012:role/initech"
        external_id = "initech-0001"
        bucket = "initech-data"
        bucket_owner = "210987654321"
        region = "eu-central-1"
        prefix = "in"
        acl = "bucket-owner-full-control"

        [aws]
        session_duration = "2h"
        "#
    );
    let (config, made) = for_customers(dir.path(), &text);
    let sandbox = start(&made.unwrap()).await.unwrap();
    let customer = |name: &str| Customer::clone(&config.customers[&CustomerName::parse(name).unwrap()]);
    let long = config.aws.session_duration;
    for name in ["acme", "globex", "initech"] {
        deliver(&sandbox, customer(name), long).await.unwrap();
        assert_eq!(sandbox.list(&format!("{name}-data")).len(), 2, "{name}");
    }
    // And no more than that.
    let mut wrong = customer("acme");
    wrong.external_id = Some(ExternalId::parse("initech-0001").unwrap());
    assert_eq!(deliver(&sandbox, wrong, long).await.unwrap_err().layer, Layer::TrustPolicy);
    let mut wrong = customer("acme");
    wrong.role_arn = customer("initech").role_arn;
    wrong.external_id = customer("initech").external_id;
    assert_eq!(deliver(&sandbox, wrong, long).await.unwrap_err().layer, Layer::RolePolicy);
    let mut wrong = customer("initech");
    wrong.bucket_owner = customer("acme").bucket_owner;
    deliver(&sandbox, wrong, long).await.unwrap_err();
    let longer = deliver(&sandbox, customer("acme"), Duration::from_secs(3 * 3600)).await.unwrap_err();
    assert_eq!(longer.layer, Layer::RolePolicy, "{longer:?}");
}

#[test]
fn profiles_that_cannot_be_served_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        r#"{ACME}
        [customers.far]
        role_arn = "arn:aws-cn:iam::123456789012:role/consign"
        external_id = "far-0001"
        bucket = "far-data"
        region = "cn-north-1"
        prefix = "in"
        "#
    );
    let (_, made) = for_customers(dir.path(), &text);
    let Err(SandboxError::Config(problems)) = made else { panic!("served") };
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems.iter().any(|problem| problem.contains("customer far") && problem.contains("partition")));
}

/// Conditional writes hold within one process alone, and a start clears away what is half-written.
#[tokio::test]
async fn a_directory_has_one_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let config = for_customers(dir.path(), ACME).1.unwrap();
    let first = start(&config).await.unwrap();
    let half_written = config.dir.join(".sandbox/tmp/half");
    std::fs::write(&half_written, "x").unwrap();
    let Err(SandboxError::Held { dir, holder }) = start(&config).await else { panic!("started twice") };
    assert_eq!((dir, holder), (config.dir.clone(), format!("process {}", std::process::id())));
    assert!(half_written.exists());
    first.shutdown().await;
    start(&config).await.unwrap();
    assert!(!half_written.exists());
}

/// What is beside the objects says where their bytes are, but not outside of the directory.
#[tokio::test]
async fn a_sidecar_cannot_lead_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let (config, made) = for_customers(dir.path(), ACME);
    let made = made.unwrap();
    let sandbox = start(&made).await.unwrap();
    let acme = Customer::clone(config.customers.values().next().unwrap());
    deliver(&sandbox, acme, Duration::from_secs(3600)).await.unwrap();
    sandbox.shutdown().await;
    let sidecar =
        std::fs::read_dir(made.dir.join(".sandbox/objects/acme-data")).unwrap().next().unwrap().unwrap().path();
    let mut read: serde_json::Value = serde_json::from_slice(&std::fs::read(&sidecar).unwrap()).unwrap();
    for path in ["../../consign.toml", "/etc/passwd", "a/../../b"] {
        read["path"] = path.into();
        std::fs::write(&sidecar, read.to_string()).unwrap();
        let Err(SandboxError::Dir { source, .. }) = start(&made).await else { panic!("{path}") };
        assert!(source.to_string().contains("leads elsewhere"), "{source}");
    }
}
