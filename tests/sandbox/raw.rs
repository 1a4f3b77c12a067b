//! The sandbox's own rules for parts and conditions, by the AWS SDK.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;

use super::world::*;

#[derive(Clone)]
pub struct Keys {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

pub fn client(scene: &Scene, keys: &Keys) -> Client {
    client_at(scene.sandbox.endpoint().as_str(), "eu-west-1", keys)
}

/// Of any server.
pub fn client_at(endpoint: &str, region: &'static str, keys: &Keys) -> Client {
    let credentials = Credentials::new(&keys.id, &keys.secret, keys.token.clone(), None, "test");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(credentials)
        .region(Region::new(region))
        .force_path_style(true)
        .endpoint_url(endpoint.trim_end_matches('/'));
    Client::from_conf(config.build())
}

/// The customer's root, who may do everything in its buckets.
fn root(scene: &Scene) -> Client {
    client(scene, &Keys { id: "AKIAROOT".into(), secret: "rootsecret".into(), token: None })
}

fn code<T: std::fmt::Debug, E, R>(result: Result<T, SdkError<E, R>>) -> String
where
    SdkError<E, R>: ProvideErrorMetadata,
{
    result.unwrap_err().code().unwrap_or_default().to_owned()
}

/// An upload with parts of these sizes.
async fn upload(s3: &Client, key: &str, sizes: &[usize]) -> (String, Vec<CompletedPart>) {
    let created = s3
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .checksum_algorithm(ChecksumAlgorithm::Crc64Nvme)
        .checksum_type(ChecksumType::FullObject)
        .send()
        .await
        .unwrap();
    let id = created.upload_id().unwrap().to_owned();
    let mut parts = Vec::new();
    for (number, size) in (1..).zip(sizes) {
        let body = vec![number as u8; *size];
        let sum = crc64nvme(&body);
        let part = s3.upload_part().bucket(BUCKET).key(key).upload_id(&id).part_number(number);
        let sent = part.checksum_crc64_nvme(&sum).body(body.into()).send().await.unwrap();
        assert_eq!(sent.checksum_crc64_nvme(), Some(&*sum));
        parts.push(CompletedPart::builder().part_number(number).e_tag(sent.e_tag().unwrap()).build());
    }
    (id, parts)
}

async fn complete(s3: &Client, key: &str, id: &str, parts: Vec<CompletedPart>) -> Result<String, String> {
    let list = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let sent = s3.complete_multipart_upload().bucket(BUCKET).key(key).upload_id(id).multipart_upload(list);
    match sent.if_none_match("*").send().await {
        Ok(done) => Ok(done.checksum_crc64_nvme().unwrap_or_default().to_owned()),
        Err(error) => Err(error.code().unwrap_or_default().to_owned()),
    }
}

#[tokio::test]
async fn parts_are_large_in_order_and_the_ones_that_were_sent() {
    let scene = Scene::start().await;
    let s3 = root(&scene);
    let refused = |code: &str| Err(code.to_owned());
    let (id, parts) = upload(&s3, "small", &[MIB, MIB]).await;
    assert_eq!(complete(&s3, "small", &id, parts).await, refused("EntityTooSmall"));

    let (id, parts) = upload(&s3, "k", &[5 * MIB, 5 * MIB, 3]).await;
    let reversed = parts.iter().rev().cloned().collect();
    assert_eq!(complete(&s3, "k", &id, reversed).await, refused("InvalidPartOrder"));
    let mut wrong = parts.clone();
    wrong[1] = CompletedPart::builder().part_number(2).e_tag("0".repeat(32)).build();
    assert_eq!(complete(&s3, "k", &id, wrong).await, refused("InvalidPart"));
    let mut unsent = parts.clone();
    unsent.push(CompletedPart::builder().part_number(4).e_tag("0".repeat(32)).build());
    assert_eq!(complete(&s3, "k", &id, unsent).await, refused("InvalidPart"));
    assert_eq!(complete(&s3, "other-key", &id, parts.clone()).await, refused("NoSuchUpload"));
    assert_eq!(scene.keys(), [] as [String; 0]);

    let whole: Vec<u8> = [vec![1; 5 * MIB], vec![2; 5 * MIB], vec![3; 3]].concat();
    assert_eq!(complete(&s3, "k", &id, parts).await, Ok(crc64nvme(&whole)));
    assert!(scene.contents("k") == whole);
}

#[tokio::test]
async fn bytes_that_are_not_what_was_declared_are_refused() {
    let scene = Scene::start().await;
    let s3 = root(&scene);
    let sent =
        s3.put_object().bucket(BUCKET).key("k").checksum_crc64_nvme(crc64nvme(b"other")).body(b"x".to_vec().into());
    assert_eq!(code(sent.send().await), "BadDigest");
    let sent = s3.put_object().bucket(BUCKET).key("k").body(b"x".to_vec().into());
    assert_eq!(code(sent.customize().interceptor(Tamper).send().await), "XAmzContentSHA256Mismatch");
    assert_eq!(scene.keys(), [] as [String; 0]);
}

/// Sends another byte than the one that was signed.
#[derive(Debug)]
struct Tamper;

impl Intercept for Tamper {
    fn name(&self) -> &'static str {
        "Tamper"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *context.request_mut().body_mut() = SdkBody::from("y");
        Ok(())
    }
}

#[tokio::test]
async fn an_upload_ends_once() {
    let scene = Scene::start().await;
    let s3 = root(&scene);
    let (id, parts) = upload(&s3, "k", &[3]).await;
    assert_eq!(scene.sandbox.uploads(BUCKET).len(), 1);
    s3.abort_multipart_upload().bucket(BUCKET).key("k").upload_id(&id).send().await.unwrap();
    assert_eq!(scene.sandbox.uploads(BUCKET).len(), 0);
    let again = s3.abort_multipart_upload().bucket(BUCKET).key("k").upload_id(&id).send().await;
    assert_eq!(code(again), "NoSuchUpload");
    assert_eq!(complete(&s3, "k", &id, parts).await, Err("NoSuchUpload".into()));
    let part = s3.upload_part().bucket(BUCKET).key("k").upload_id(&id).part_number(2).body(b"x".to_vec().into());
    assert_eq!(code(part.send().await), "NoSuchUpload");
}

#[tokio::test]
async fn what_is_there_is_not_overwritten_on_condition() {
    let scene = Scene::start().await;
    let s3 = root(&scene);
    let put =
        |text: &'static [u8]| s3.put_object().bucket(BUCKET).key("k").if_none_match("*").body(text.to_vec().into());
    put(b"first").send().await.unwrap();
    assert_eq!(code(put(b"second").send().await), "PreconditionFailed");
    let (id, parts) = upload(&s3, "k", &[3]).await;
    assert_eq!(complete(&s3, "k", &id, parts).await, Err("PreconditionFailed".into()));
    assert_eq!(scene.contents("k"), b"first");
}

/// Not even whether a key is there.
#[tokio::test]
async fn another_customers_root_sees_nothing() {
    let scene = Scene::start().await;
    root(&scene).put_object().bucket(BUCKET).key("k").body(b"x".to_vec().into()).send().await.unwrap();
    let other = client(&scene, &Keys { id: "AKIAOTHER".into(), secret: "othersecret".into(), token: None });
    assert_eq!(code(other.get_object().bucket(BUCKET).key("k").send().await), "AccessDenied");
    assert_eq!(code(other.get_object().bucket(BUCKET).key("gone").send().await), "AccessDenied");
    assert_eq!(code(other.delete_object().bucket(BUCKET).key("k").send().await), "AccessDenied");
    assert_eq!(code(other.list_objects_v2().bucket(BUCKET).send().await), "AccessDenied");
    assert_eq!(scene.keys(), ["k"]);
}
