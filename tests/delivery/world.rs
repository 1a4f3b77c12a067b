//! What every delivery test needs: a vendor, a customer, a journal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use consign::clock::Clock;
use consign::config::{Aws, Compression, Credentials, Customer, Encryption, StaticCredentials};
use consign::delivery::{Committed, Delivery, DeliverySpec, Left, Target, Vendor};
use consign::domain::{
    AccountId, BucketName, CustomerName, CustomerPrefix, Draft, ExternalId, Failure, Interval, KeyTemplate, Layer,
    LeafName, Manifest, ManifestInterval, Mode, ObjectKey, OutputEvent, Region, Retry, RoleArn, RunId, SealedObject,
    Secret, ShareName, UploadJournal,
};

pub const MIB: usize = 1 << 20;

pub fn aws(endpoint: &str) -> Aws {
    Aws {
        endpoint_url: Some(endpoint.parse().unwrap()),
        path_style: true,
        credentials: Some(Credentials::from(StaticCredentials {
            access_key_id: Secret::new("AKIAVENDOR"),
            secret_access_key: Secret::new("vendorsecret"),
            session_token: None,
        })),
        attempt_timeout: Duration::from_secs(10),
        operation_timeout: Duration::from_secs(60),
        part_bytes: 5 << 20,
        ..Aws::default()
    }
}

pub async fn vendor(aws: &Aws) -> Vendor {
    Vendor::new(aws, 1, Clock::system()).await.unwrap()
}

pub fn customer() -> Customer {
    Customer {
        name: CustomerName::parse("acme").unwrap(),
        role_arn: RoleArn::parse("arn:aws:iam::123456789012:role/consign-delivery").unwrap(),
        external_id: Some(ExternalId::parse("c0ns1gn-7f0c").unwrap()),
        next_external_id: None,
        sharers: Arc::default(),
        trusts: None,
        bucket: BucketName::parse("acme-data").unwrap(),
        bucket_owner: AccountId::parse("123456789012").unwrap(),
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

pub fn run_id() -> RunId {
    RunId::new(Clock::system().now())
}

pub fn spec(compression: Compression) -> DeliverySpec {
    let at = "2024-05-01T06:00:00Z".parse().unwrap();
    DeliverySpec {
        share: ShareName::parse("orders").unwrap(),
        slot: at,
        interval: Interval { start: "2024-04-30T06:00:00Z".parse().unwrap(), end: at },
        template: KeyTemplate::default(),
        success_marker: false,
        latest_pointer: None,
        compression,
        in_pieces: false,
        spill_dir: std::env::temp_dir(),
    }
}

/// Where objects of [`spec`] are.
pub const FOLDER: &str = "uploads/us/orders/2024-05-01/060000Z/";
pub const MANIFEST: &str = "uploads/us/orders/2024-05-01/060000Z/_manifest.json";

pub fn create(object: u32, name: &str) -> OutputEvent {
    OutputEvent::Create { object, name: LeafName::parse(name).unwrap(), media_type: "text/csv".into() }
}

pub fn bytes(object: u32, bytes: impl Into<Bytes>) -> OutputEvent {
    OutputEvent::Bytes { object, bytes: bytes.into() }
}

pub fn finish(object: u32) -> OutputEvent {
    OutputEvent::Finish { object, rows: 1 }
}

/// One object with these contents, start to end.
pub fn object(object: u32, name: &str, contents: &[u8]) -> Vec<OutputEvent> {
    vec![create(object, name), bytes(object, contents.to_vec()), finish(object)]
}

pub fn manifest(customer: &Customer, run: RunId, delivered: &[consign::domain::ManifestObject]) -> Manifest {
    let spec = spec(Compression::None);
    Manifest {
        manifest_version: 1,
        share: spec.share,
        slot: spec.slot,
        interval: ManifestInterval { start: spec.interval.start, end: spec.interval.end },
        customer: customer.name.clone(),
        mode: Mode::Slot,
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

/// Delivers the events whole: begin, accept, seal, complete, manifest. Aborts where it fails.
pub async fn deliver(
    vendor: &Vendor,
    customer: &Arc<Customer>,
    events: Vec<OutputEvent>,
) -> Result<Committed, Failure> {
    let run = run_id();
    let target = Target::bucket(vendor, customer, run)?;
    deliver_to(target, customer, run, Arc::new(Journal::default()), events).await
}

pub async fn deliver_to(
    target: Target,
    customer: &Customer,
    run: RunId,
    journal: Arc<Journal>,
    events: Vec<OutputEvent>,
) -> Result<Committed, Failure> {
    deliver_as(target, customer, (run, Mode::Slot), journal, spec(Compression::None), events).await
}

pub async fn deliver_as(
    target: Target,
    customer: &Customer,
    (run, mode): (RunId, Mode),
    journal: Arc<Journal>,
    spec: DeliverySpec,
    events: Vec<OutputEvent>,
) -> Result<Committed, Failure> {
    let slot = spec.slot;
    let delivery = Delivery::begin(target, spec, journal).await?;
    for event in events {
        if let Err(failure) = delivery.accept(event).await {
            let _ = delivery.abort().await;
            return Err(failure);
        }
    }
    let completed = delivery.seal().await?.complete().await?;
    let manifest = Manifest { mode, slot, ..manifest(customer, run, completed.objects()) };
    completed.manifest(&manifest).await?.mark().await
}

/// Goes on with what an earlier try or process had sealed.
pub async fn resume_as(
    target: Target,
    customer: &Customer,
    (run, mode): (RunId, Mode),
    journal: &Arc<Journal>,
) -> Result<Committed, Failure> {
    let resumed = Delivery::resume(target, journal.clone(), std::env::temp_dir(), journal.left()).await?;
    let completed = resumed.complete().await?;
    let manifest = Manifest { mode, ..manifest(customer, run, completed.objects()) };
    completed.manifest(&manifest).await?.mark().await
}

/// Remembers what it was told.
#[derive(Default)]
pub struct Journal {
    pub uploads: Mutex<Vec<(String, String)>>,
    pub aborted: Mutex<Vec<String>>,
    pub sealed: Mutex<Option<Vec<SealedObject>>>,
    /// The upload that has become the manifest.
    pub manifested: Mutex<Option<String>>,
    /// The manifest may have been asked for.
    pub asked: Mutex<bool>,
    /// A later slot has been delivered.
    pub is_old: bool,
    /// Another process has taken over.
    pub is_fenced: bool,
}

impl Journal {
    /// The uploads that were created, sorted.
    pub fn upload_ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.uploads.lock().unwrap().iter().map(|(_, id)| id.clone()).collect();
        ids.sort();
        ids
    }

    /// What a later try or process finds of a sealed delivery.
    pub fn left(&self) -> Left {
        let (uploads, aborted) = (self.uploads.lock().unwrap().clone(), self.aborted.lock().unwrap().clone());
        let manifested = self.manifested.lock().unwrap().clone();
        let is_left = |id: &String| !aborted.contains(id) && Some(id) != manifested.as_ref();
        let manifests = uploads.into_iter().filter(|(key, id)| key == MANIFEST && is_left(id));
        let now = Clock::system().now();
        Left {
            objects: self.sealed.lock().unwrap().clone().unwrap(),
            manifest_key: MANIFEST.into(),
            manifest_uploads: manifests.map(|(_, id)| (id, now)).collect(),
            manifested: manifested.is_some(),
            unasked: !*self.asked.lock().unwrap(),
        }
    }

    /// The uploads that were aborted, sorted.
    pub fn aborted_ids(&self) -> Vec<String> {
        let mut ids = self.aborted.lock().unwrap().clone();
        ids.sort();
        ids
    }
}

#[async_trait]
impl UploadJournal for Journal {
    async fn upload_created(&self, key: &ObjectKey, upload_id: &str) -> Result<(), Failure> {
        self.uploads.lock().unwrap().push((key.as_str().into(), upload_id.into()));
        Ok(())
    }

    async fn upload_aborted(&self, upload_id: &str) -> Result<(), Failure> {
        self.aborted.lock().unwrap().push(upload_id.into());
        Ok(())
    }

    async fn drafted(&self, _: &Draft) -> Result<(), Failure> {
        Ok(())
    }

    async fn sealed(&self, objects: &[SealedObject]) -> Result<(), Failure> {
        *self.sealed.lock().unwrap() = Some(objects.to_vec());
        Ok(())
    }

    async fn completions(&self, objects: &[SealedObject]) -> Result<(), Failure> {
        let mut sealed = self.sealed.lock().unwrap();
        for object in objects {
            let kept = sealed.iter_mut().flatten().find(|kept| kept.key == object.key).unwrap();
            *kept = object.clone();
        }
        Ok(())
    }

    async fn manifest_is_next(&self) -> Result<(), Failure> {
        *self.asked.lock().unwrap() = true;
        Ok(())
    }

    async fn manifested(&self, upload_id: &str) -> Result<(), Failure> {
        *self.manifested.lock().unwrap() = Some(upload_id.into());
        Ok(())
    }

    async fn is_ours(&self) -> Result<(), Failure> {
        match self.is_fenced {
            true => Err(Failure::new(Layer::Ledger, Retry::Later, "another one has it", "")),
            false => Ok(()),
        }
    }

    async fn is_newest(&self) -> Result<bool, Failure> {
        Ok(!self.is_old)
    }
}

/// A directory of this test's own, gone with the value.
pub fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}
