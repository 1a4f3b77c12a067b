//! The CNCF's registry as Debian packages it, on a free port and in a temporary
//! directory, gone when the test ends however it ends; and what `oras push` and
//! `cosign sign --key` do, in plain requests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::needs::not_tested;
use super::ports;

/// Who may log in to a registry that asks for it.
pub const USERNAME: &str = "robot";
pub const PASSWORD: &str = "consign-sandbox-secret";

/// The password as `htpasswd -B` writes it.
const HTPASSWD: &str = "robot:$2y$05$abcdefghijklmnopqrstuuO7CoSMbXYgac4NIt.V./lEn.skDjiTK\n";

pub struct Registry {
    server: Server,
    data: PathBuf,
    has_login: bool,
}

/// One process that serves what is in a directory.
pub struct Server {
    pub port: u16,
    /// Ends with our end of its standard input.
    shell: Child,
}

const PROGRAM: &str = "/usr/bin/docker-registry";

/// `sha256:` and the digits.
pub fn digest(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

impl Registry {
    /// None, and a line that says so: there is none on this machine.
    pub fn start() -> Option<Self> {
        Self::start_with(false)
    }

    /// One that lets only [`USERNAME`] in.
    pub fn start_with_login() -> Option<Self> {
        Self::start_with(true)
    }

    fn start_with(has_login: bool) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            not_tested(&format!("there is no {PROGRAM} (on Debian, apt-get install docker-registry)"));
            return None;
        }
        let data = tempfile::Builder::new().prefix("consign-registry-").tempdir().unwrap().keep();
        let shown = data.display();
        fs::write(data.join("htpasswd"), HTPASSWD).unwrap();
        let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {shown}/htpasswd\n");
        let server = Server::start(&data, if has_login { &auth } else { "" }, &format!("rm -rf '{shown}'"));
        Some(Self { server, data, has_login })
    }

    /// The same content over TLS.
    pub fn over_tls(&self, certificate: &Path, key: &Path) -> Server {
        let (certificate, key) = (certificate.display(), key.display());
        Server::start(&self.data, &format!("  tls:\n    certificate: {certificate}\n    key: {key}\n"), ":")
    }

    /// Host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.server.port)
    }

    /// Where the content of this digest is on its disk.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let digits = digest.strip_prefix("sha256:").unwrap();
        self.data.join("data/docker/registry/v2/blobs/sha256").join(&digits[..2]).join(digits).join("data")
    }

    /// Pushes a component in the layout of Wasm OCI artifacts; the digest of its manifest.
    pub fn push(&self, repository: &str, tag: &str, component: &[u8]) -> String {
        let config = json!({ "architecture": "wasm", "os": "wasip2", "layerDigests": [digest(component)] });
        let config = self.descriptor(repository, "application/vnd.wasm.config.v0+json", config.to_string().as_bytes());
        let layer = self.descriptor(repository, "application/wasm", component);
        self.push_manifest(repository, tag, &manifest(&config, &[layer]))
    }

    pub fn push_manifest(&self, repository: &str, tag: &str, manifest: &Value) -> String {
        let body = manifest.to_string();
        let kind = manifest["mediaType"].as_str().unwrap();
        let path = format!("/v2/{repository}/manifests/{tag}");
        assert_eq!(self.ask("PUT", &path, kind, body.as_bytes()).0, 201, "{body}");
        digest(body.as_bytes())
    }

    /// As `cosign sign --key` does, for what has this manifest.
    pub fn push_signature(&self, repository: &str, manifest_digest: &str, payload: &str, signature: &[u8]) {
        let mut layer =
            self.descriptor(repository, "application/vnd.dev.cosign.simplesigning.v1+json", payload.as_bytes());
        let signature = base64::engine::general_purpose::STANDARD.encode(signature);
        layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
        let config = self.descriptor(repository, "application/vnd.oci.image.config.v1+json", b"{}");
        let tag = format!("{}.sig", manifest_digest.replace(':', "-"));
        self.push_manifest(repository, &tag, &manifest(&config, &[layer]));
    }

    /// Pushes content, and describes it.
    pub fn descriptor(&self, repository: &str, media_type: &str, content: &[u8]) -> Value {
        let (status, location) = self.ask("POST", &format!("/v2/{repository}/blobs/uploads/"), "", b"");
        assert_eq!(status, 202);
        let path = location.split_once(&self.host()).map_or(location.as_str(), |(_, path)| path).to_owned();
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}digest={}", digest(content));
        assert_eq!(self.ask("PUT", &path, "application/octet-stream", content).0, 201);
        json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
    }

    /// One request; the status and the `Location` of its answer.
    fn ask(&self, method: &str, path: &str, content_type: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.server.port)).unwrap();
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{USERNAME}:{PASSWORD}"));
        let login = if self.has_login { format!("Authorization: Basic {login}\r\n") } else { String::new() };
        let kind = if content_type.is_empty() { String::new() } else { format!("Content-Type: {content_type}\r\n") };
        let (host, length) = (self.host(), body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{login}{kind}Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let location = answer.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap_or_default();
        (status, location.to_owned())
    }
}

impl Server {
    /// `more` is the end of its configuration, `after` a command for when it has ended.
    fn start(data: &Path, more: &str, after: &str) -> Self {
        let port = ports::free();
        let shown = data.display();
        let config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {shown}/data\nhttp:\n  addr: 127.0.0.1:{port}\n{more}"
        );
        fs::write(data.join(format!("{port}.yml")), config).unwrap();
        let script = format!(
            "{PROGRAM} serve '{shown}/{port}.yml' </dev/null >'{shown}/{port}.log' 2>&1 & pid=$!; read _; kill $pid; wait $pid; {after}"
        );
        let shell =
            Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { port, shell };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = fs::read_to_string(data.join(format!("{port}.log"))).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_secs(60), "no registry on port {port}: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

fn manifest(config: &Value, layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": layers,
    })
}
