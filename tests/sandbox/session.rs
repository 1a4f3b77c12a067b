//! The session that consign opens can do less than the role it is of.
//!
//! Its credentials are taken from STS's answer by a proxy, and then used for
//! what consign itself never does.

use std::sync::{Arc, Mutex};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use consign::sandbox::Policy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::raw::{Keys, client};
use super::world::*;

/// Passes bytes on unchanged and keeps what the server said.
pub async fn proxy(to: std::net::SocketAddr) -> (url::Url, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(to).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let told = told.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    told.lock().unwrap().extend(&buffer[..count]);
                    to_client.write_all(&buffer[..count]).await.unwrap();
                }
            });
        }
    });
    (url, heard)
}

/// Those of the session that STS has granted.
pub fn granted(heard: &Mutex<Vec<u8>>) -> Keys {
    let answer = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
    let element = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>")).unwrap();
        rest.split_once('<').unwrap().0.to_owned()
    };
    Keys { id: element("AccessKeyId"), secret: element("SecretAccessKey"), token: Some(element("SessionToken")) }
}

pub fn code<T: std::fmt::Debug, E, R>(result: Result<T, SdkError<E, R>>) -> String
where
    SdkError<E, R>: ProvideErrorMetadata,
{
    result.unwrap_err().code().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn it_writes_under_the_prefix_and_can_do_nothing_else() {
    // The role itself may do everything.
    let mut scene = Scene::with(|config| config.accounts[0].roles[0].policy = Policy::allow_all()).await;
    let (url, heard) = proxy(scene.sandbox.address()).await;
    scene.aws.sts_endpoint_url = Some(url);
    scene.deliver(object(0, "a.csv", b"1,2\n")).await.unwrap();
    let keys = granted(&heard);
    let s3 = client(&scene, &keys);
    let put = |bucket: &str, key: &str| s3.put_object().bucket(bucket).key(key).body(b"x".to_vec().into()).send();

    put(BUCKET, "uploads/us/other.csv").await.unwrap();
    for key in ["outside.csv", "uploads/other.csv", "uploads/usa/a.csv", "uploads/us", "Uploads/us/a.csv"] {
        assert_eq!(code(put(BUCKET, key).await), "AccessDenied", "{key}");
    }
    assert_eq!(code(put("acme-private", "uploads/us/a.csv").await), "AccessDenied");
    let own = format!("{FOLDER}a.csv");
    assert_eq!(code(s3.get_object().bucket(BUCKET).key(&own).send().await), "AccessDenied");
    assert_eq!(code(s3.delete_object().bucket(BUCKET).key(&own).send().await), "AccessDenied");
    assert_eq!(code(s3.list_objects_v2().bucket(BUCKET).send().await), "AccessDenied");
    assert_eq!(code(s3.list_multipart_uploads().bucket(BUCKET).send().await), "AccessDenied");
    let elsewhere = s3.create_multipart_upload().bucket(BUCKET).key("uploads/usa/a.csv").send().await;
    assert_eq!(code(elsewhere), "AccessDenied");
    assert_eq!(scene.keys().len(), 3);

    // Neither the key alone nor a changed token is a session.
    for token in [None, Some("forged".to_owned())] {
        let forged = client(&scene, &Keys { token, ..keys.clone() });
        let sent = forged.put_object().bucket(BUCKET).key("uploads/us/b.csv").body(b"x".to_vec().into()).send().await;
        assert!(sent.is_err());
    }
    assert_eq!(scene.keys().len(), 3);
}
