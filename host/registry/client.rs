//! The few requests of the OCI Distribution Specification that a pull is made of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures::lock::Mutex;
use reqwest::header::{ACCEPT, AUTHORIZATION};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url, redirect};

use super::access::{Challenge, Login, hidden};
use super::docker::{self, Found};
use super::error::RegistryError;
use super::layout::{self, Artifact, ImageManifest, MANIFEST_BYTES_MAX, SIMPLE_SIGNING, Signature};
use crate::config::{Config, Environment, Registry};
use crate::domain::{ContentDigest, OciReference};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// All of one plugin, however slowly it comes.
const PULL_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Signatures of one plugin that are looked at.
const SIGNATURES_MAX: usize = 50;

const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// Registries as they are configured.
pub struct Registries {
    http: Client,
    settings: BTreeMap<String, Registry>,
    docker_dir: Option<PathBuf>,
    /// How each repository lets us in, once it is known.
    access: Mutex<BTreeMap<String, String>>,
}

/// A repository, and how it is spoken to.
pub(super) struct Repository<'a> {
    reference: &'a OciReference,
    base: Url,
    is_plain: bool,
}

impl Registries {
    pub fn new(config: &Config) -> Result<Self, RegistryError> {
        Self::with(config.registries.clone(), config.docker_dir.clone())
    }

    /// As they are to somebody who has only logged in by other programs.
    pub fn without_config(environment: &Environment) -> Result<Self, RegistryError> {
        Self::with(BTreeMap::new(), environment.docker_dir())
    }

    fn with(settings: BTreeMap<String, Registry>, docker_dir: Option<PathBuf>) -> Result<Self, RegistryError> {
        let http = Client::builder()
            .user_agent(concat!("consign/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .redirect(redirect::Policy::custom(follow))
            .build()
            .map_err(RegistryError::Client)?;
        Ok(Self { http, settings, docker_dir, access: Mutex::default() })
    }

    /// What a reference names now, or what has this manifest. Its signatures are
    /// asked for if they matter.
    pub async fn pull(
        &self,
        reference: &OciReference,
        pinned: Option<&ContentDigest>,
        with_signatures: bool,
    ) -> Result<Artifact, RegistryError> {
        let slow = |_| RegistryError::Slow { reference: reference.clone(), limit: PULL_TIMEOUT };
        let pull = self.pull_at_leisure(reference, pinned, with_signatures);
        tokio::time::timeout(PULL_TIMEOUT, pull).await.map_err(slow)?
    }

    async fn pull_at_leisure(
        &self,
        reference: &OciReference,
        pinned: Option<&ContentDigest>,
        with_signatures: bool,
    ) -> Result<Artifact, RegistryError> {
        let repository = self.repository(reference)?;
        let expected = pinned.or(reference.digest());
        let wanted = expected.map_or_else(|| reference.wanted(), ToString::to_string);
        let missing = || RegistryError::Missing { reference: reference.to_string() };
        let manifest = self.manifest(&repository, &wanted).await?.ok_or_else(missing)?;
        if let Some(expected) = expected {
            repository.is(expected, &manifest)?;
        }
        let not = |why| RegistryError::NotAPlugin { reference: reference.clone(), why };
        let (digest, bytes) = ImageManifest::read(&manifest).and_then(|manifest| manifest.component()).map_err(not)?;
        let component = self.blob(&repository, &digest, bytes).await?;
        let signatures = match with_signatures {
            true => self.signatures(&repository, &ContentDigest::of(&manifest)).await?,
            false => Vec::new(),
        };
        Ok(Artifact { manifest, component, signatures })
    }

    /// Those that cosign keeps under a tag beside what is signed.
    async fn signatures(
        &self,
        repository: &Repository<'_>,
        signed: &ContentDigest,
    ) -> Result<Vec<Signature>, RegistryError> {
        let tag = format!("sha256-{}.sig", signed.digits());
        let Some(manifest) = self.manifest(repository, &tag).await? else { return Ok(Vec::new()) };
        let Ok(manifest) = ImageManifest::read(&manifest) else { return Ok(Vec::new()) };
        let mut signatures = Vec::new();
        for layer in manifest.layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING).take(SIGNATURES_MAX) {
            let signature = layer.annotations.get(SIGNATURE_ANNOTATION);
            let (Some(signature), Ok(digest)) = (signature, ContentDigest::parse(&layer.digest)) else { continue };
            let payload = self.blob(repository, &digest, layer.size.min(MANIFEST_BYTES_MAX)).await?;
            if let Ok(payload) = String::from_utf8(payload) {
                signatures.push(Signature { payload, signature: signature.clone() });
            }
        }
        Ok(signatures)
    }

    /// None: there is none of this tag or digest.
    async fn manifest(&self, repository: &Repository<'_>, wanted: &str) -> Result<Option<Vec<u8>>, RegistryError> {
        let what = format!("the manifest {wanted}");
        let answer = self.get(repository, &format!("manifests/{wanted}"), &what, layout::ACCEPT).await?;
        match answer {
            Some(answer) => Ok(Some(repository.body(answer, &what, MANIFEST_BYTES_MAX).await?)),
            None => Ok(None),
        }
    }

    /// Content of this digest, and at most of this size.
    async fn blob(
        &self,
        repository: &Repository<'_>,
        digest: &ContentDigest,
        bytes: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let what = format!("the blob {digest}");
        let missing = || RegistryError::Missing { reference: format!("{what} of {}", repository.name()) };
        let answer = self.get(repository, &format!("blobs/{digest}"), &what, "*/*").await?.ok_or_else(missing)?;
        let body = repository.body(answer, &what, bytes).await?;
        repository.is(digest, &body)?;
        Ok(body)
    }

    /// An answer of 200; None for one of 404.
    async fn get(
        &self,
        repository: &Repository<'_>,
        path: &str,
        what: &str,
        accept: &str,
    ) -> Result<Option<Response>, RegistryError> {
        let url = repository.at(path)?;
        let answer = self.send(repository, |http| http.get(url.clone()).header(ACCEPT, accept)).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(repository.status(answer, what).await),
        }
    }

    /// The answer to a request, which is made again with a login if that is asked for.
    pub(super) async fn send(
        &self,
        repository: &Repository<'_>,
        request: impl Fn(&Client) -> RequestBuilder,
    ) -> Result<Response, RegistryError> {
        let ask = async |authorization: Option<&String>| {
            let request = match authorization.and_then(|text| hidden(text)) {
                Some(value) => request(&self.http).header(AUTHORIZATION, value),
                None => request(&self.http),
            };
            request.send().await.map_err(|source| repository.silent(source))
        };
        let known = self.access.lock().await.get(&repository.name()).cloned();
        let mut answer = ask(known.as_ref()).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            let challenge = Challenge::of(answer.headers())
                .map_err(|why| RegistryError::Challenge { registry: repository.registry(), why })?;
            let authorization = self.authorization(repository, challenge).await?;
            answer = ask(Some(&authorization)).await?;
            if answer.status().is_success() {
                self.access.lock().await.insert(repository.name(), authorization);
            }
        }
        match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.denied(repository)),
            _ => Ok(answer),
        }
    }

    /// What to say to a registry that asks for this.
    async fn authorization(&self, repository: &Repository<'_>, challenge: Challenge) -> Result<String, RegistryError> {
        let login = self.login(repository)?.0;
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return login.map(|login| login.basic()).ok_or_else(|| self.denied(repository));
        };
        let refused = |why: &str| RegistryError::Challenge { registry: repository.registry(), why: why.to_owned() };
        let mut url = Url::parse(&realm).map_err(|_| refused("its tokens are at an address that is none"))?;
        if url.scheme() != "https" && !repository.is_plain {
            return Err(refused("its tokens are got without TLS"));
        }
        let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", repository.reference.repository()));
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", &service);
        }
        url.query_pairs_mut().append_pair("scope", &scope);
        let request = match login.and_then(|login| hidden(&login.basic())) {
            Some(basic) => self.http.get(url).header(AUTHORIZATION, basic),
            None => self.http.get(url),
        };
        let answer = request.send().await.map_err(|source| repository.silent(source))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied(repository)),
            _ => return Err(repository.status(answer, "a token").await),
        }
        let body = repository.body(answer, "a token", MANIFEST_BYTES_MAX).await?;
        let token: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let token = token["token"].as_str().or(token["access_token"].as_str());
        token.map(|token| format!("Bearer {token}")).ok_or_else(|| refused("it gives no token"))
    }

    /// Who to be, and what is worth knowing if that is nobody.
    fn login(&self, repository: &Repository<'_>) -> Result<(Option<Login>, Option<String>), RegistryError> {
        let registry = repository.reference.registry();
        if let Some(login) = self.settings.get(registry).and_then(|registry| registry.login.as_ref()) {
            let password = login.password().map_err(|why| RegistryError::Login {
                registry: registry.to_owned(),
                why: format!("its password {why}"),
            })?;
            return Ok((Some(Login { username: login.username.clone(), password }), None));
        }
        Ok(match docker::login(self.docker_dir.as_deref(), registry) {
            Found::Login { username, password } => (Some(Login { username, password }), None),
            Found::Nothing(why) => (None, why),
        })
    }

    fn denied(&self, repository: &Repository<'_>) -> RegistryError {
        let registry = repository.registry();
        let (login, note) = match self.login(repository) {
            Ok(found) => found,
            Err(error) => return error,
        };
        let ask =
            format!("give `username` and `password` in `[registries.\"{registry}\"]`, or `docker login {registry}`");
        let (who, remedy) = match login {
            Some(login) => (login.username, "correct the password, or let it read the repository".to_owned()),
            None => ("anybody without a login".to_owned(), note.map_or(ask.clone(), |note| format!("{ask} ({note})"))),
        };
        RegistryError::Denied { registry, repository: repository.reference.repository().to_owned(), who, remedy }
    }

    pub(super) fn repository<'a>(&self, reference: &'a OciReference) -> Result<Repository<'a>, RegistryError> {
        let registry = reference.registry();
        let is_plain =
            self.settings.get(registry).and_then(|registry| registry.insecure).unwrap_or(is_loopback(registry));
        let scheme = if is_plain { "http" } else { "https" };
        // The name that everybody writes is not that of the server.
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let base = Url::parse(&format!("{scheme}://{host}/v2/{}/", reference.repository()));
        let base = base.map_err(|_| RegistryError::Missing { reference: reference.to_string() })?;
        Ok(Repository { reference, base, is_plain })
    }
}

impl Repository<'_> {
    fn registry(&self) -> String {
        self.reference.registry().to_owned()
    }

    fn name(&self) -> String {
        format!("{}/{}", self.reference.registry(), self.reference.repository())
    }

    pub(super) fn at(&self, path: &str) -> Result<Url, RegistryError> {
        // `./`, because a digest looks like a scheme.
        self.base
            .join(&format!("./{path}"))
            .map_err(|_| RegistryError::Missing { reference: self.reference.to_string() })
    }

    fn silent(&self, source: reqwest::Error) -> RegistryError {
        // A redirect's URL may be signed.
        RegistryError::Network { registry: self.registry(), source: source.without_url() }
    }

    pub(super) async fn status(&self, answer: Response, what: &str) -> RegistryError {
        let status = answer.status();
        let body = self.body(answer, what, 64 << 10).await.unwrap_or_default();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let said = body["errors"][0]["message"].as_str().map(|said| said.chars().take(200).collect::<String>());
        let said = said.map(|said| format!(": {}", said.escape_debug())).unwrap_or_default();
        RegistryError::Status { registry: self.registry(), status, what: what.to_owned(), said }
    }

    /// The whole of an answer, as far as it may go.
    async fn body(&self, mut answer: Response, what: &str, max: u64) -> Result<Vec<u8>, RegistryError> {
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|source| self.silent(source))? {
            if (body.len() + piece.len()) as u64 > max {
                return Err(RegistryError::TooLarge { registry: self.registry(), what: what.to_owned(), max });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn is(&self, expected: &ContentDigest, content: &[u8]) -> Result<(), RegistryError> {
        let found = ContentDigest::of(content);
        if found == *expected {
            return Ok(());
        }
        Err(RegistryError::Changed { registry: self.registry(), expected: expected.clone(), found })
    }
}

/// Blobs are often behind another address; never behind one without TLS, if the registry has it.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let loses_tls = attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
    match attempt.previous().len() {
        _ if loses_tls => attempt.error("the registry leads away from TLS"),
        0..=5 => attempt.follow(),
        _ => attempt.error("the registry leads from one address to the next"),
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
