//! The binary in directories of its own, and children that end with their test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::ports;

/// How long a command may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// How long the daemon may take to do something that is due.
pub const SOON: Duration = Duration::from_secs(60);

pub const MANIFEST: &str = "_manifest.json";

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Ended with `code`, or the test fails with all that was printed.
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// stdout, which is one JSON value and nothing else.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    pub fn out_says(self, phrases: &[&str]) -> Self {
        says(&self.stdout, phrases);
        self
    }

    pub fn err_says(self, phrases: &[&str]) -> Self {
        says(&self.stderr, phrases);
        self
    }
}

/// Every phrase is in the text.
pub fn says(text: &str, phrases: &[&str]) {
    for phrase in phrases {
        assert!(text.contains(phrase), "`{phrase}` is not in\n{text}");
    }
}

/// A child that is killed at the latest when the test ends, however it ends.
pub struct Running(Child);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let mut ended = None;
        until("a child ends", patience, || {
            ended = self.0.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either may fail because the child has ended, and then all is well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// SIGSTOP has reached all of it.
pub fn is_stopped(process: &Running) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default()).all(|stat| {
        // The state comes after the name, which is in parentheses.
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    })
}

/// Ends a daemon as the service manager does; it ends well.
pub fn stop(mut daemon: Running) {
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(SOON).code(), Some(0));
}

/// Asks until the answer is yes.
pub fn until(what: &str, patience: Duration, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < patience, "{what}: not within {patience:?}");
        sleep(Duration::from_millis(10));
    }
}

/// Compiled plugins of those who only try them, kept for all tests.
pub const AUTHOR_CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/author-cache");

/// The binary in `dir`, with the sandbox's keys and nothing else in its environment.
pub fn command(dir: &Path, args: &[&str]) -> Command {
    command_under(&[], dir, args)
}

/// The same, started by another program.
fn command_under(wrapper: &[String], dir: &Path, args: &[&str]) -> Command {
    let mut words = wrapper.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_consign")]);
    let mut command = Command::new(words.next().unwrap());
    command
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .env("XDG_CACHE_HOME", AUTHOR_CACHE)
        .env("CONSIGN_DEMO_ACCESS_KEY_ID", "AKIACONSIGNSANDBOX00")
        .env("CONSIGN_DEMO_SECRET_ACCESS_KEY", "consign-sandbox-secret")
        .args(words)
        .args(args);
    command
}

/// Runs the binary in `dir` to its end.
pub fn consign(dir: &Path, args: &[&str]) -> Ran {
    let [mut stdout, mut stderr] = [(); 2].map(|()| tempfile::tempfile().unwrap());
    let mut command = command(dir, args);
    command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    let status = Running::start(&mut command).wait(PATIENCE);
    let code = status.code().unwrap_or_else(|| panic!("{args:?}: {status}"));
    Ran { code, stdout: printed(&mut stdout), stderr: printed(&mut stderr) }
}

fn printed(file: &mut File) -> String {
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// A file of the checkout.
pub fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every field of the answer is in `docs/cli.md`.
pub fn documented(answer: &Value) {
    let document = fs::read_to_string(checkout("docs/cli.md")).unwrap();
    let (_, section) = document.split_once("\n## What the answers hold\n").unwrap();
    let quoted = section.split('`').skip(1).step_by(2);
    let words: BTreeSet<&str> =
        quoted.flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_')).collect();
    let mut left = vec![answer];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(list) => left.extend(list),
            Value::Object(fields) => {
                for (name, value) in fields {
                    assert!(words.contains(name.as_str()), "docs/cli.md does not tell of `{name}`: {answer:#}");
                    // What is in that is told in docs/delivery.md.
                    left.extend(Some(value).filter(|_| name != "manifest"));
                }
            }
            _ => {}
        }
    }
}

/// The vendor's side of a sandbox.
const AWS: &str = r#"[aws]
region = "us-east-1"
endpoint_url = "@ENDPOINT@"
access_key_id = { env = "CONSIGN_DEMO_ACCESS_KEY_ID" }
secret_access_key = { env = "CONSIGN_DEMO_SECRET_ACCESS_KEY" }
"#;

/// The `number`-th customer, with a role, an external ID and a bucket of its own.
pub fn customer(name: &str, number: u8, region: &str, carriers: &str) -> String {
    format!(
        r#"[customers.{name}]
role_arn = "arn:aws:iam::1000000000{number:02}:role/flight-data"
external_id = "test-{number}f-{name}"
bucket = "{name}-data"
region = "{region}"
prefix = "in/"
params = {{ carrier = {carriers} }}
"#
    )
}

/// A configuration for [`World::new`]: these customers, and a share of the demo's
/// flights as JSON lines with these further keys.
pub fn flights(customers: &str, share: &str, keys: &str) -> String {
    format!(
        r#"@AWS@
{customers}
[datasets.flights]
tables.flights = "@FLIGHTS@"
tenant_column = "carrier"
[shares.{share}]
dataset = "flights"
plugin = "jsonl"
{keys}
"#
    )
}

/// A directory with a `consign.toml`, gone with the test.
pub struct World {
    dir: tempfile::TempDir,
    config: String,
    /// Of its daemon and its sandbox, besides the usual.
    environment: Vec<(String, String)>,
}

impl World {
    /// `config` may hold `@FLIGHTS@`, the demo's data, and `@AWS@`, the sandbox's
    /// keys and its endpoint, which is nobody's until there is one. Compiled plugins are kept for all
    /// tests, because compiling takes seconds.
    pub fn new(config: &str) -> Self {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-cache");
        // `check` and dry runs use a cache that is there, and make none.
        fs::create_dir_all(&cache).unwrap();
        let daemon = format!("[daemon]\nstate_dir = \"state\"\ncache_dir = \"{}\"\n", cache.display());
        let flights = checkout("config/demo/flights.parquet");
        let config =
            format!("{daemon}{}", config.replace("@AWS@", AWS).replace("@FLIGHTS@", flights.to_str().unwrap()));
        let world = Self { dir: tempfile::tempdir().unwrap(), config, environment: Vec::new() };
        world.configure("http://127.0.0.1:1", "", "");
        world
    }

    /// The same directory with another configuration.
    pub fn with(self, config: &str) -> Self {
        let other = Self::new(config);
        let world = Self { dir: self.dir, config: other.config, environment: self.environment };
        world.configure("http://127.0.0.1:1", "", "");
        world
    }

    /// Sets a variable for its daemon and its sandbox.
    pub fn set(&mut self, variable: &str, value: &str) {
        self.environment.push((variable.to_owned(), value.to_owned()));
    }

    /// What was set.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).unwrap();
    }

    /// Writes the configuration with an endpoint, and with `new` in the place of `old`.
    pub fn configure(&self, endpoint: &str, old: &str, new: &str) {
        let text = self.config.replace("@ENDPOINT@", endpoint);
        assert!(text.contains(old));
        self.write("consign.toml", if old.is_empty() { text } else { text.replace(old, new) });
    }

    /// Gives it a cache of its own, `cache`, in the place of that of all tests.
    pub fn own_cache(&self) {
        let text = self.text();
        let cache = text.lines().find(|line| line.starts_with("cache_dir")).unwrap();
        self.write("consign.toml", text.replace(cache, "cache_dir = \"cache\""));
        fs::create_dir(self.path("cache")).unwrap();
    }

    /// The configuration as it is now.
    pub fn text(&self) -> String {
        fs::read_to_string(self.path("consign.toml")).unwrap()
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        consign(self.dir(), &[&["--config", "consign.toml"], args].concat())
    }

    /// What its daemons have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap()
    }

    /// The daemon; what it logs is in `daemon.log`.
    pub fn daemon(&self) -> Running {
        self.start(&[], &["run"], &[])
    }

    /// Any command, started by another program and with more in its environment;
    /// what it logs is in `daemon.log`.
    pub fn start(&self, wrapper: &[String], args: &[&str], environment: &[(&str, &str)]) -> Running {
        self.start_with("consign.toml", wrapper, args, environment)
    }

    /// The same with another configuration.
    pub fn start_with(&self, config: &str, wrapper: &[String], args: &[&str], environment: &[(&str, &str)]) -> Running {
        let log = File::options().append(true).create(true).open(self.path("daemon.log")).unwrap();
        let args = [&["--config", config], args].concat();
        let mut command = command_under(wrapper, self.dir(), &args);
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).envs(environment.iter().copied());
        Running::start(command.stdout(Stdio::null()).stderr(log))
    }

    /// S3 and STS for the configuration's customers, objects in `buckets`; the
    /// configuration then names it.
    pub fn sandbox(&self) -> Running {
        let (sandbox, endpoint) = self.sandbox_on("consign.toml", &ports::address());
        self.configure(&endpoint, "", "");
        sandbox
    }

    /// The same at the endpoint that the configuration names.
    pub fn sandbox_again(&self) -> Running {
        self.sandbox_on("consign.toml", &self.listens()).0
    }

    /// What the configuration names as S3 and STS.
    pub fn endpoint(&self) -> String {
        let text = self.text();
        let (_, rest) = text.split_once("endpoint_url = \"").unwrap();
        rest.split('"').next().unwrap().trim_end_matches('/').to_owned()
    }

    /// S3 and STS as they would be if customers had set up what the configuration says with
    /// these texts replaced: it itself is another one. At the endpoint that it names, if any.
    pub fn sandbox_of(&self, but: &[(&str, &str)]) -> Running {
        let mut served = self.text();
        for (old, new) in but {
            assert!(served.contains(old), "{old}");
            served = served.replace(old, new);
        }
        self.write("served.toml", served);
        let listen = self.listens();
        let nobodys = listen == "127.0.0.1:1";
        let (sandbox, endpoint) = self.sandbox_on("served.toml", &if nobodys { ports::address() } else { listen });
        if nobodys {
            self.configure(&endpoint, "", "");
        }
        sandbox
    }

    /// Where the configuration's endpoint is.
    fn listens(&self) -> String {
        self.endpoint().trim_start_matches("http://").to_owned()
    }

    fn sandbox_on(&self, config: &str, listen: &str) -> (Running, String) {
        let (said, log) = (self.path("sandbox.json"), self.path("sandbox.log"));
        let args = ["--config", config, "sandbox", "--dir", "buckets", "--listen", listen, "--json"];
        let mut command = command(self.dir(), &args);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        serving(&mut command, &said, &log)
    }

    pub fn runs(&self) -> Vec<Value> {
        self.run(&["history", "-n", "100000", "--json"]).ended(0).json().as_array().unwrap().clone()
    }
}

/// A sandbox that this starts, once it says in `said` where it is, and its endpoint.
pub fn serving(command: &mut Command, said: &Path, log: &Path) -> (Running, String) {
    command.stdout(File::create(said).unwrap()).stderr(File::create(log).unwrap());
    let mut sandbox = Running::start(command);
    let mut text = String::new();
    until("the sandbox says where it is", SOON, || {
        assert!(sandbox.is_running(), "{}", fs::read_to_string(log).unwrap());
        text = fs::read_to_string(said).unwrap();
        text.ends_with('\n')
    });
    let said: Value = serde_json::from_str(&text).unwrap();
    (sandbox, said["endpoint"].as_str().unwrap().to_owned())
}

/// A run of `consign demo`, which all tests look at.
pub struct Demo {
    pub dir: PathBuf,
    pub said: Value,
}

/// The demo of this process, run at the first call.
pub fn demo() -> &'static Demo {
    static DEMO: OnceLock<Demo> = OnceLock::new();
    DEMO.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-demo");
        fs::create_dir_all(&all).unwrap();
        for earlier in fs::read_dir(&all).unwrap().map(|entry| entry.unwrap()) {
            if !Path::new("/proc").join(earlier.file_name()).exists() {
                fs::remove_dir_all(earlier.path()).unwrap();
            }
        }
        let dir = all.join(std::process::id().to_string());
        fs::create_dir_all(&dir).unwrap();
        let said = consign(&dir, &["demo", "--dir", dir.to_str().unwrap(), "--json"]).ended(0).json();
        Demo { dir, said }
    })
}

/// Paths below `dir` of all files, with size, content and time of change. What
/// the sandbox keeps for itself is left out.
pub fn files(dir: &Path) -> BTreeMap<String, (u64, String, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()).filter(|path| !path.ends_with(".sandbox")) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let changed = fs::metadata(&path).unwrap().modified().unwrap();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            found.insert(name, (bytes.len() as u64, crc64nvme(&bytes), changed));
        }
    }
    found
}

/// As S3 shows it.
pub fn crc64nvme(bytes: &[u8]) -> String {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes);
    base64::engine::general_purpose::STANDARD.encode(sum.to_be_bytes())
}

/// Checks every object that the manifests below `bucket` name against its file,
/// that no file is named by none, and returns the manifests by their keys.
pub fn manifests(bucket: &Path) -> BTreeMap<String, Value> {
    let files = files(bucket);
    let mut manifests = BTreeMap::new();
    let mut named = Vec::new();
    for key in files.keys().filter(|key| key.ends_with(MANIFEST)) {
        let manifest: Value = serde_json::from_slice(&fs::read(bucket.join(key)).unwrap()).unwrap();
        let mut rows = 0;
        for object in manifest["objects"].as_array().unwrap() {
            let name = object["key"].as_str().unwrap();
            let (bytes, sum, _) = files.get(name).unwrap_or_else(|| panic!("{key} names {name}, which is not there"));
            assert_eq!(object["bytes"], *bytes, "{name}");
            assert_eq!(object["checksum_crc64nvme"], **sum, "{name}");
            assert_eq!(Path::new(name).parent(), Path::new(key).parent());
            rows += object["rows"].as_u64().unwrap();
            named.push(name.to_owned());
        }
        assert_eq!(manifest["rows"], rows, "{key}");
        named.push(key.clone());
        let marker = key.replace(MANIFEST, "_SUCCESS");
        named.extend(files.contains_key(&marker).then_some(marker));
        manifests.insert(key.clone(), manifest);
    }
    named.sort();
    assert_eq!(named, files.keys().cloned().collect::<Vec<_>>(), "named by manifests, and there");
    manifests
}
