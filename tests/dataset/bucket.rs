//! Datasets in the vendor's own bucket, read from consign's sandbox.

use std::sync::Arc;

use consign::clock::Clock;
use consign::config::{FileDataset, TableDataset};
use consign::dataset::{Datasets, Kind, Request, VendorKeys, VendorStore};
use consign::domain::{CustomerName, DatasetName, Failure, Layer, Retry, Secret};
use consign::sandbox::{Account, Bucket, KeyPair, Policy, Sandbox, SandboxConfig, VENDOR_ACCOUNT};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

use super::world::*;

struct Lake {
    _dir: TempDir,
    sandbox: Sandbox,
    spill: TempDir,
}

impl Lake {
    /// A bucket `lake` of the vendor's with four objects.
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lake =
            Bucket { name: "lake".into(), region: "eu-west-1".into(), policy: None, acl_enabled: false, kms_key: None };
        let config = SandboxConfig {
            dir: dir.path().to_owned(),
            listen: ([127, 0, 0, 1], 0).into(),
            vendor: KeyPair { access_key_id: "AKIAVENDOR".into(), secret_access_key: Secret::new("vendorsecret") },
            vendor_policy: Policy::allow_all(),
            session_seconds_min: 900,
            accounts: vec![Account {
                id: VENDOR_ACCOUNT.into(),
                root: None,
                roles: Vec::new(),
                buckets: vec![lake],
                keys: Vec::new(),
            }],
        };
        let sandbox = Sandbox::start(config, Clock::system()).await.unwrap();
        let store = AmazonS3Builder::new()
            .with_bucket_name("lake")
            .with_region("eu-west-1")
            .with_endpoint(sandbox.endpoint().as_str().trim_end_matches('/'))
            .with_allow_http(true)
            .with_access_key_id("AKIAVENDOR")
            .with_secret_access_key("vendorsecret")
            .build()
            .unwrap();
        let batch = orders();
        let objects = [
            ("orders/customer=acme/a b.parquet", parquet(&batch.slice(0, 1))),
            ("orders/customer=globex/c.parquet", parquet(&batch.slice(1, 1))),
            ("orders/_SUCCESS", Vec::new()),
            ("flat/a.csv", csv(&batch)),
            ("flat/a.ndjson", ndjson(&batch)),
            ("flat/a.csv.zst", zstd::encode_all(csv(&batch).as_slice(), 1).unwrap()),
            ("reports/2024/acme/a.pdf", b"acme".to_vec()),
            ("reports/2024/globex/g.pdf", b"globex".to_vec()),
            ("flat/cut.parquet", parquet(&batch)[..100].to_vec()),
        ];
        for (key, bytes) in objects {
            // The partition column is not in the files.
            let bytes = match key.split_once("customer=") {
                Some((_, rest)) => {
                    let row = if rest.starts_with("acme") { 0 } else { 1 };
                    parquet(&batch.slice(row, 1).project(&[0, 2]).unwrap())
                }
                None => bytes,
            };
            let store: &dyn ObjectStore = &store;
            store.put(&Path::from(key), bytes.into()).await.unwrap();
        }
        Self { _dir: dir, sandbox, spill: tempfile::tempdir().unwrap() }
    }

    fn datasets(&self, secret: &str) -> Datasets {
        self.datasets_in("eu-west-1", secret)
    }

    fn datasets_in(&self, region: &str, secret: &str) -> Datasets {
        let keys = VendorKeys { access_key_id: Secret::new("AKIAVENDOR"), secret: Secret::new(secret), token: None };
        let vendor = VendorStore {
            endpoint: Some(self.sandbox.endpoint()),
            region: region.into(),
            path_style: true,
            credentials: Arc::new(keys),
        };
        Datasets::new(64 << 20, self.spill.path(), vendor).unwrap()
    }

    async fn failure(&self, secret: &str, dataset: &TableDataset) -> (Kind, Failure) {
        let params = params(&[]);
        let request = Request { interval: interval(), params: &params };
        let Err(error) = self.datasets(secret).plan(dataset, &request).await else { panic!("planned") };
        (error.kind, error.into())
    }
}

fn at(path: &str) -> TableDataset {
    dataset(vec![("t", table(path))], "")
}

#[tokio::test]
async fn objects_are_read_like_files() {
    let lake = Lake::start().await;
    let datasets = lake.datasets("vendorsecret");
    for key in [
        "s3://lake/flat/a.csv",
        "s3://lake/flat/a.ndjson",
        "s3://lake/flat/*.csv",
        "s3://lake/**/a.ndjson",
        "s3://lake/flat/a.csv.zst",
    ] {
        let rows = rows(&datasets, &at(key), &params(&[])).await.unwrap();
        assert_eq!(rows, json(&[orders()]), "{key}");
    }
    let mut source = table("s3://lake/orders/");
    source.partitions = vec!["customer".into()];
    let parted = confined(dataset(vec![("t", source)], ""), "customer");
    for (customer, id) in [("acme", 1), ("globex", 2)] {
        let rows = rows(&datasets, &parted, &params(&[("customer", text(customer))])).await.unwrap();
        assert_eq!(ids(&rows), [id]);
        assert_eq!(rows[0]["customer"], customer);
    }
    assert!(lake.sandbox.journal().iter().all(|entry| entry.status < 300), "{:?}", lake.sandbox.journal());
}

#[tokio::test]
async fn objects_that_are_missing_or_cut_off() {
    let lake = Lake::start().await;
    let (kind, failure) = lake.failure("vendorsecret", &at("s3://lake/flat/gone.parquet")).await;
    assert_eq!((kind, failure.layer, failure.retry), (Kind::Missing, Layer::Dataset, Retry::Later));
    assert!(failure.message.contains("nothing is at s3://lake/flat/gone.parquet"), "{failure:?}");
    let (kind, failure) = lake.failure("vendorsecret", &at("s3://lake/flat/cut.parquet")).await;
    assert_eq!((kind, failure.layer), (Kind::Data, Layer::Dataset), "{failure:?}");
    assert!(failure.message.contains("file s3://lake/flat/cut.parquet: malformed Parquet"), "{failure:?}");
    for path in ["s3://other-lake/a.parquet", "s3://other-lake/*.parquet"] {
        let (kind, failure) = lake.failure("vendorsecret", &at(path)).await;
        assert_eq!(kind, Kind::Missing, "{failure:?}");
    }
}

#[tokio::test]
async fn refused_credentials_are_the_vendors_identity() {
    let lake = Lake::start().await;
    for path in ["s3://lake/flat/a.csv", "s3://lake/flat/*.csv"] {
        let (kind, failure) = lake.failure("wrongsecret", &at(path)).await;
        assert_eq!((kind, failure.layer, failure.retry), (Kind::Access, Layer::Identity, Retry::Later), "{failure:?}");
        assert!(failure.remedy.contains("s3:GetObject"), "{failure:?}");
        assert!(!failure.message.contains("wrongsecret"), "{failure:?}");
    }
}

/// A wildcard in a folder's name is no wildcard; the configuration refuses it.
#[tokio::test]
async fn a_folder_with_a_wildcard_has_not_all_folders() {
    let lake = Lake::start().await;
    for path in ["s3://lake/fl*/", "s3://lake/*/", "s3://lake/[f]lat/"] {
        let (kind, failure) = lake.failure("vendorsecret", &at(path)).await;
        assert_eq!(kind, Kind::Missing, "{failure:?}");
    }
    let datasets = lake.datasets("vendorsecret");
    let customer = CustomerName::parse("acme").unwrap();
    let find = async |files: &str| {
        let dataset = FileDataset { name: DatasetName::parse("reports").unwrap(), files: files.into() };
        let team = params(&[("team", text("*"))]);
        datasets.files(&dataset, &customer, &team).await
    };
    for files in ["s3://lake/reports/*/{customer}/", "s3://lake/reports/{param.team}/"] {
        assert_eq!(find(files).await.map(|found| found.len()).unwrap_err().kind, Kind::Missing, "{files}");
    }
    for files in ["s3://lake/reports/*/{customer}/**/*", "s3://lake/reports/2024/{customer}/"] {
        let names: Vec<String> = find(files).await.unwrap().iter().map(|file| file.name.as_str().to_owned()).collect();
        assert_eq!(names, ["a.pdf"], "{files}");
    }
}

#[tokio::test]
async fn a_bucket_in_another_region_is_the_configurations() {
    let lake = Lake::start().await;
    for region in ["us-east-1", "us-west-2"] {
        for path in ["s3://lake/flat/a.csv", "s3://lake/flat/*.csv", "s3://lake/orders/"] {
            let params = params(&[]);
            let request = Request { interval: interval(), params: &params };
            let planned = lake.datasets_in(region, "vendorsecret").plan(&at(path), &request).await;
            let Err(error) = planned else { panic!("planned") };
            assert_eq!(error.kind, Kind::Config, "{region}: {error:?}");
            assert!(error.remedy.contains("`[aws] region`"), "{error:?}");
        }
    }
}
