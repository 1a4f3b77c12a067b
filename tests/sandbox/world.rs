//! A sandbox, a customer in it, and deliveries to that customer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use consign::clock::Clock;
use consign::config::{Aws, Compression, Customer, Encryption, StaticCredentials};
use consign::delivery::{Committed, Delivery, DeliverySpec, Target, Vendor};
use consign::domain::{
    AccountId, BucketName, CustomerName, CustomerPrefix, ExternalId, Failure, Interval, KeyTemplate, LeafName,
    Manifest, ManifestInterval, ManifestObject, ObjectKey, OutputEvent, Region, RoleArn, RunId, SealedObject, Secret,
    ShareName, UploadJournal,
};
use consign::sandbox::{Account, Bucket, KeyPair, Policy, Role, Sandbox, SandboxConfig, Trust, VENDOR_ARN};
use tempfile::TempDir;

pub const ACCOUNT: &str = "123456789012";
pub const OTHER_ACCOUNT: &str = "210987654321";
pub const BUCKET: &str = "acme-data";
pub const FOLDER: &str = "uploads/us/orders/2024-05-01/060000Z/";
pub const MANIFEST: &str = "uploads/us/orders/2024-05-01/060000Z/_manifest.json";
pub const MIB: usize = 1 << 20;

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
        let aws = aws(&sandbox);
        Self { _dir: dir, sandbox, aws, customer: customer() }
    }

    pub async fn vendor(&self) -> Vendor {
        Vendor::new(&self.aws, Clock::system()).await.unwrap()
    }

    pub async fn begin(&self, journal: &Arc<Journal>) -> Result<(Delivery, RunId), Failure> {
        let run = RunId::new(Clock::system().now());
        let target = Target::bucket(&self.vendor().await, &Arc::new(self.customer.clone()), run)?;
        Ok((Delivery::begin(target, spec(), journal.clone()).await?, run))
    }

    /// Begin, accept, seal, complete, manifest; aborts where it fails.
    pub async fn deliver(&self, events: Vec<OutputEvent>) -> Result<Committed, Failure> {
        let (mut delivery, run) = self.begin(&Arc::default()).await?;
        for event in events {
            if let Err(failure) = delivery.accept(event).await {
                let _ = delivery.abort().await;
                return Err(failure);
            }
        }
        let completed = delivery.seal().await?.complete().await?;
        let manifest = manifest(&self.customer, run, completed.objects());
        completed.manifest(&manifest).await
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

fn config(dir: &TempDir) -> SandboxConfig {
    let keys = |id: &str, secret: &str| KeyPair { access_key_id: id.into(), secret_access_key: Secret::new(secret) };
    let bucket =
        |name: &str| Bucket { name: name.into(), region: "eu-west-1".into(), policy: None, acl_enabled: false };
    let role = Role {
        name: "consign-delivery".into(),
        trust: Trust { principal: VENDOR_ARN.into(), external_id: Some("c0ns1gn-7f0c".into()) },
        policy: Policy::write_only(BUCKET, "uploads/us"),
        session_seconds_max: 3600,
    };
    let account = |id: &str, root: KeyPair, roles: Vec<Role>, buckets: Vec<Bucket>| Account {
        id: id.into(),
        root: Some(root),
        roles,
        buckets,
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

fn aws(sandbox: &Sandbox) -> Aws {
    Aws {
        region: None,
        endpoint_url: Some(sandbox.endpoint()),
        sts_endpoint_url: None,
        path_style: true,
        credentials: Some(StaticCredentials {
            access_key_id: Secret::new("AKIAVENDOR"),
            secret_access_key: Secret::new("vendorsecret"),
            session_token: None,
        }),
        profile: None,
        session_duration: Duration::from_secs(3600),
        attempt_timeout: Duration::from_secs(30),
        operation_timeout: Duration::from_secs(60),
        part_concurrency: 4,
        part_bytes: 5 << 20,
    }
}

pub fn customer() -> Customer {
    Customer {
        name: CustomerName::parse("acme").unwrap(),
        role_arn: RoleArn::parse("arn:aws:iam::123456789012:role/consign-delivery").unwrap(),
        external_id: Some(ExternalId::parse("c0ns1gn-7f0c").unwrap()),
        bucket: BucketName::parse(BUCKET).unwrap(),
        bucket_owner: AccountId::parse(ACCOUNT).unwrap(),
        region: Region::parse("eu-west-1").unwrap(),
        prefix: CustomerPrefix::parse("uploads/us").unwrap(),
        groups: Vec::new(),
        params: BTreeMap::new(),
        encryption: Encryption::Bucket,
        storage_class: None,
        acl: None,
        tags: BTreeMap::new(),
    }
}

pub fn spec() -> DeliverySpec {
    let at = "2024-05-01T06:00:00Z".parse().unwrap();
    DeliverySpec {
        share: ShareName::parse("orders").unwrap(),
        slot: at,
        interval: Interval { start: "2024-04-30T06:00:00Z".parse().unwrap(), end: at },
        template: KeyTemplate::default(),
        compression: Compression::None,
        spill_dir: std::env::temp_dir(),
    }
}

pub fn create(object: u32, name: &str) -> OutputEvent {
    OutputEvent::Create { object, name: LeafName::parse(name).unwrap(), media_type: "text/csv".into() }
}

pub fn bytes(object: u32, bytes: &[u8]) -> OutputEvent {
    OutputEvent::Bytes { object, bytes: bytes.to_vec().into() }
}

/// One object with these contents, start to end.
pub fn object(object: u32, name: &str, contents: &[u8]) -> Vec<OutputEvent> {
    vec![create(object, name), bytes(object, contents), OutputEvent::Finish { object, rows: 1 }]
}

/// Bytes that are not the same all over.
pub fn noise(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

pub fn manifest(customer: &Customer, run: RunId, delivered: &[ManifestObject]) -> Manifest {
    let spec = spec();
    Manifest {
        manifest_version: 1,
        share: spec.share,
        slot: spec.slot,
        interval: ManifestInterval { start: spec.interval.start, end: spec.interval.end },
        customer: customer.name.clone(),
        run,
        rows: 1,
        objects: delivered.to_vec(),
        schema: Vec::new(),
        plugin: None,
        consign_version: "0".into(),
        started: spec.slot,
        finished: spec.slot,
    }
}

/// Remembers what it was told.
#[derive(Default)]
pub struct Journal {
    pub uploads: Mutex<Vec<String>>,
    pub aborted: Mutex<Vec<String>>,
}

#[async_trait]
impl UploadJournal for Journal {
    async fn upload_created(&self, _: &ObjectKey, upload_id: &str) -> Result<(), Failure> {
        self.uploads.lock().unwrap().push(upload_id.into());
        Ok(())
    }

    async fn upload_aborted(&self, upload_id: &str) -> Result<(), Failure> {
        self.aborted.lock().unwrap().push(upload_id.into());
        Ok(())
    }

    async fn drafted(&self, _: &Manifest) -> Result<(), Failure> {
        Ok(())
    }

    async fn sealed(&self, _: &[SealedObject]) -> Result<(), Failure> {
        Ok(())
    }
}

/// CRC-64/NVME, bit by bit as its specification has it; base64 of its 8 bytes, as S3 shows it.
pub fn crc64nvme(bytes: &[u8]) -> String {
    use base64::Engine as _;
    let sum = !bytes.iter().fold(!0_u64, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc, _| (crc >> 1) ^ (0x9a6c_9329_ac4b_c9b5 & (crc & 1).wrapping_neg()))
    });
    base64::prelude::BASE64_STANDARD.encode(sum.to_be_bytes())
}
