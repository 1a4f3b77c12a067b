//! A plugin into a registry: two blobs, and the manifest that names them.

use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{StatusCode, Url};
use serde_json::json;

use super::client::{Registries, Repository};
use super::error::RegistryError;
use super::layout::{MANIFEST, WASM};
use crate::domain::{ContentDigest, OciReference};

const CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// What is said of a component beside it.
pub struct About<'a> {
    pub name: &'a str,
    pub version: &'a str,
}

impl Registries {
    /// Pushes a component under the reference's tag; the digest of its manifest.
    /// The same component gives the same digest, whoever pushes it and when.
    pub async fn push(
        &self,
        reference: &OciReference,
        component: &[u8],
        about: About<'_>,
    ) -> Result<ContentDigest, RegistryError> {
        let repository = self.repository(reference)?;
        let layer = ContentDigest::of(component);
        let config = json!({ "architecture": "wasm", "os": "wasip2", "layerDigests": [layer.to_string()] }).to_string();
        self.put_blob(&repository, &layer, component).await?;
        let config_digest = ContentDigest::of(config.as_bytes());
        self.put_blob(&repository, &config_digest, config.as_bytes()).await?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": config_digest.to_string(), "size": config.len() },
            "layers": [{ "mediaType": WASM, "digest": layer.to_string(), "size": component.len() }],
            "annotations": {
                "org.opencontainers.image.title": about.name,
                "org.opencontainers.image.version": about.version,
            },
        })
        .to_string();
        let (digest, url) =
            (ContentDigest::of(manifest.as_bytes()), repository.at(&format!("manifests/{}", reference.wanted()))?);
        let body = bytes::Bytes::from(manifest);
        let put =
            self.send(&repository, |http| http.put(url.clone()).header(CONTENT_TYPE, MANIFEST).body(body.clone()));
        let answer = put.await?;
        match answer.status() {
            StatusCode::CREATED => Ok(digest),
            _ => Err(repository.status(answer, "a place for the manifest").await),
        }
    }

    /// Content that is there already is not sent again.
    async fn put_blob(
        &self,
        repository: &Repository<'_>,
        digest: &ContentDigest,
        content: &[u8],
    ) -> Result<(), RegistryError> {
        let url = repository.at(&format!("blobs/{digest}"))?;
        if self.send(repository, |http| http.head(url.clone())).await?.status() == StatusCode::OK {
            return Ok(());
        }
        let url = repository.at("blobs/uploads/")?;
        let answer = self.send(repository, |http| http.post(url.clone())).await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(repository.status(answer, "a place for a blob").await);
        }
        let place = answer.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let place = place.and_then(|place| url.join(place).ok()).filter(|place| is_same_host(place, &url));
        let Some(mut place) = place else {
            return Err(repository.status(answer, "a place for a blob, and named none at its own address").await);
        };
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let body = bytes::Bytes::copy_from_slice(content);
        let put = self.send(repository, |http| {
            http.put(place.clone()).header(CONTENT_TYPE, "application/octet-stream").body(body.clone())
        });
        let answer = put.await?;
        match answer.status() {
            StatusCode::CREATED => Ok(()),
            _ => Err(repository.status(answer, "a blob").await),
        }
    }
}

/// A login is for the registry, and for nobody whom it names.
fn is_same_host(place: &Url, url: &Url) -> bool {
    place.origin() == url.origin()
}
