//! ministack (PyPI, MIT): an S3, STS and IAM server that enforces policies. One
//! per test process, on a free port, gone when the process ends however it ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use url::form_urlencoded;

use super::ports;

const VERSION: &str = "1.5.33";

/// The account that root is of, and that every user and role below is in.
pub const ACCOUNT: &str = "000000000000";
/// The root key of another account is its number.
pub const OTHER_ACCOUNT: &str = "222222222222";

/// A running server.
pub struct Ministack {
    port: u16,
    /// Ends with our end of its standard input.
    _server: Child,
}

/// An answer: status and body.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Ministack {
    /// The server of this process, started at the first call.
    pub fn shared() -> &'static Ministack {
        static SERVER: OnceLock<Ministack> = OnceLock::new();
        SERVER.get_or_init(Ministack::start)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Calls IAM as root of the account and returns the answer's text.
    pub fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> String {
        let pairs = [("Action", action), ("Version", "2010-05-08")];
        let body =
            form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).extend_pairs(parameters).finish();
        let answer = self.call("root", "iam", "POST", "/", body.as_bytes());
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 200, "{action}: {text}");
        text
    }

    /// A user with these permissions; returns its access key and secret.
    pub fn user(&self, name: &str, policy: &str) -> (String, String) {
        self.iam("CreateUser", &[("UserName", name)]);
        self.iam("PutUserPolicy", &[("UserName", name), ("PolicyName", "p"), ("PolicyDocument", policy)]);
        let text = self.iam("CreateAccessKey", &[("UserName", name)]);
        (element(&text, "AccessKeyId"), element(&text, "SecretAccessKey"))
    }

    /// A role; returns its ARN.
    pub fn role(&self, name: &str, trust: &str, policy: &str) -> String {
        let text = self.iam("CreateRole", &[("RoleName", name), ("AssumeRolePolicyDocument", trust)]);
        self.iam("PutRolePolicy", &[("RoleName", name), ("PolicyName", "p"), ("PolicyDocument", policy)]);
        element(&text, "Arn")
    }

    /// Calls S3 as root of an account (its number, or `root`).
    pub fn s3(&self, account: &str, method: &str, path: &str, body: &[u8]) -> Answer {
        self.call(account, "s3", method, path, body)
    }

    /// The server does not check root's signature, so that this needs no signer.
    fn call(&self, key: &str, service: &str, method: &str, path: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nX-Amz-Date: 20300101T000000Z\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential={key}/20300101/us-east-1/{service}/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature=00\r\n\r\n",
            self.port,
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("an HTTP answer");
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        assert!(!head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
        Answer { status, body: answer[end + 4..].to_vec() }
    }

    fn start() -> Ministack {
        let program = installed();
        let port = ports::free();
        // The shell outlives neither our pipe nor the server it started.
        let server = Command::new("sh")
            .args(["-c", "\"$0\" </dev/null >/dev/null 2>&1 & pid=$!; cat >/dev/null; kill $pid"])
            .arg(program)
            .env("AUTH", "true")
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("AWS_ACCESS_KEY_ID", "root")
            .env("AWS_SECRET_ACCESS_KEY", "rootsecret")
            .stdin(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "ministack does not answer on port {port}");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ministack { port, _server: server }
    }
}

/// The text of the first element of that name.
pub fn element(xml: &str, name: &str) -> String {
    let text = xml.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once("</"));
    text.unwrap_or_else(|| panic!("no <{name}> in {xml}")).0.to_owned()
}

/// The program, installed into the checkout's virtual environment when it is missing.
fn installed() -> PathBuf {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv");
    let program = venv.join("bin/ministack");
    let marker = venv.join(format!(".ministack-{VERSION}"));
    if !marker.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        run(Command::new(venv.join("bin/pip")).args(["install", "--quiet", &format!("ministack=={VERSION}")]));
        std::fs::write(marker, "").unwrap();
    }
    program
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}; python3 with venv is needed"));
    assert!(status.success(), "{command:?}: {status}");
}
