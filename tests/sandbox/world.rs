//! A sandbox, a customer in it, and deliveries to that customer.

use std::sync::Arc;
use std::time::Duration;

use consign::clock::Clock;
use consign::config::{Aws, Compression, Customer};
use consign::delivery::{Committed, Delivery, Target, Vendor};
use consign::domain::{Failure, OutputEvent, RunId, Secret};
use consign::sandbox::{Account, Bucket, KeyPair, Policy, Role, Sandbox, SandboxConfig, Trust, VENDOR_ARN};
use tempfile::TempDir;

use crate::delivery::world;
pub use world::{FOLDER, Journal, MANIFEST, MIB, create, customer, manifest, object};

pub const ACCOUNT: &str = "123456789012";
pub const OTHER_ACCOUNT: &str = "210987654321";
pub const BUCKET: &str = "acme-data";

/// A running sandbox with the customer's account in it, and one that is not the customer's.
pub struct Scene {
    _dir: TempDir,
    pub sandbox: Sandbox,
    pub aws: Aws,
    pub customer: Customer,
}

impl Scene {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut SandboxConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir);
        change(&mut config);
        let sandbox = Sandbox::start(config, Clock::system()).await.unwrap();
        let aws = Aws { attempt_timeout: Duration::from_secs(30), ..world::aws(sandbox.endpoint().as_str()) };
        Self { _dir: dir, sandbox, aws, customer: customer() }
    }

    pub async fn vendor(&self) -> Vendor {
        world::vendor(&self.aws).await
    }

    pub async fn begin(&self, journal: &Arc<Journal>) -> Result<(Delivery, RunId), Failure> {
        let run = world::run_id();
        let target = Target::bucket(&self.vendor().await, &Arc::new(self.customer.clone()), run)?;
        Ok((Delivery::begin(target, world::spec(Compression::None), journal.clone()).await?, run))
    }

    /// Begin, accept, seal, complete, manifest; aborts where it fails.
    pub async fn deliver(&self, events: Vec<OutputEvent>) -> Result<Committed, Failure> {
        world::deliver(&self.vendor().await, &Arc::new(self.customer.clone()), events).await
    }

    /// The failure of a small delivery, which must leave nothing.
    pub async fn refused(&self) -> Failure {
        let failure = self.deliver(object(0, "a.csv", b"1,2\n")).await.unwrap_err();
        assert!(failure.message.contains("acme"), "names no customer: {failure:?}");
        assert_eq!(self.keys(), [] as [String; 0]);
        assert_eq!(self.sandbox.uploads(BUCKET).len(), 0);
        failure
    }

    pub fn keys(&self) -> Vec<String> {
        self.sandbox.list(BUCKET).into_iter().map(|object| object.key).collect()
    }

    pub fn contents(&self, key: &str) -> Vec<u8> {
        let object = self.sandbox.list(BUCKET).into_iter().find(|object| object.key == key).unwrap();
        std::fs::read(self.sandbox.file_of(BUCKET, &object)).unwrap()
    }

    /// Operations of this name, and the codes that answered them.
    pub fn answers(&self, operation: &str) -> Vec<(u16, Option<String>)> {
        let entries = self.sandbox.journal().into_iter().filter(|entry| entry.operation == operation);
        entries.map(|entry| (entry.status, entry.code)).collect()
    }
}

pub fn config(dir: &TempDir) -> SandboxConfig {
    let keys = |id: &str, secret: &str| KeyPair { access_key_id: id.into(), secret_access_key: Secret::new(secret) };
    let bucket = |name: &str| Bucket {
        name: name.into(),
        region: "eu-west-1".into(),
        policy: None,
        acl_enabled: false,
        kms_key: None,
    };
    let role = Role {
        path: "/".into(),
        name: "consign-delivery".into(),
        trust: Trust { principal: VENDOR_ARN.into(), external_ids: vec!["c0ns1gn-7f0c".into()] },
        policy: Policy::write_only(BUCKET, "uploads/us"),
        session_seconds_max: 3600,
    };
    let account = |id: &str, root: KeyPair, roles: Vec<Role>, buckets: Vec<Bucket>| Account {
        id: id.into(),
        root: Some(root),
        roles,
        buckets,
        keys: Vec::new(),
    };
    SandboxConfig {
        dir: dir.path().to_owned(),
        listen: ([127, 0, 0, 1], 0).into(),
        vendor: keys("AKIAVENDOR", "vendorsecret"),
        vendor_policy: Policy::allow_all(),
        session_seconds_min: 900,
        accounts: vec![
            account(ACCOUNT, keys("AKIAROOT", "rootsecret"), vec![role], vec![bucket(BUCKET), bucket("acme-private")]),
            account(OTHER_ACCOUNT, keys("AKIAOTHER", "othersecret"), Vec::new(), vec![bucket("other-data")]),
        ],
    }
}

pub fn bytes(object: u32, contents: &[u8]) -> OutputEvent {
    world::bytes(object, contents.to_vec())
}

/// Bytes that are not the same all over.
pub fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// CRC-64/NVME, bit by bit as its specification has it; base64 of its 8 bytes, as S3 shows it.
pub fn crc64nvme(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let sum = !bytes.iter().fold(!0_u64, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc, _| (crc >> 1) ^ (0x9a6c_9329_ac4b_c9b5 & (crc & 1).wrapping_neg()))
    });
    base64::prelude::BASE64_STANDARD.encode(sum.to_be_bytes())
}
