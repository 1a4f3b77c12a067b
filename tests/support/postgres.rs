//! PostgreSQL as Debian packages it. One server per test process, on a free
//! port and in a temporary directory, gone when the process ends however it
//! ends. A schema for each test.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use consign::config::Database;

use super::needs::not_tested;
use super::ports;

/// Longer than a busy machine has a process wait: it does not run out before a test ends.
pub const LEASE: Duration = Duration::from_secs(120);

/// Short, so that a test can wait for one to run out.
pub const SHORT_LEASE: Duration = Duration::from_secs(2);

/// A running server.
pub struct Postgres {
    port: u16,
    programs: PathBuf,
    options: &'static str,
    data: PathBuf,
    /// Ends with our end of its standard input, and takes the directory with it.
    shell: Child,
}

impl Postgres {
    /// The server of this process, started at the first call. None, and a line
    /// that says so: there is no PostgreSQL on this machine.
    pub fn shared() -> Option<&'static Postgres> {
        static SERVER: OnceLock<Option<Postgres>> = OnceLock::new();
        SERVER.get_or_init(Postgres::start).as_ref()
    }

    /// One of its own, for a test that stops it. Nothing in it is of worth after a
    /// crash of the machine, so nothing is synced.
    pub fn start() -> Option<Postgres> {
        Self::start_with("-F")
    }

    /// One with these further options of `postgres`.
    pub fn start_with(options: &'static str) -> Option<Postgres> {
        let Some(programs) = programs() else {
            not_tested("no initdb in /usr/lib/postgresql or on PATH (on Debian, apt-get install postgresql)");
            return None;
        };
        let make = "initdb -U consign -A trust -E UTF8 --locale=C.UTF-8 --no-sync";
        Some(Self::made(programs, options, make, |_| {}))
    }

    /// A standby, with all that is here by now. It hears of nothing more, and reads until `pg_promote()`.
    pub fn standby(&self) -> Postgres {
        let make = format!("pg_basebackup -h 127.0.0.1 -p {} -U consign -c fast --no-sync", self.port);
        let is_standby = |data: &Path| fs::write(data.join("standby.signal"), "").unwrap();
        Self::made(self.programs.clone(), self.options, &make, is_standby)
    }

    /// One whose directory is what this command makes, and then is changed like that.
    fn made(programs: PathBuf, options: &'static str, make: &str, change: impl Fn(&Path)) -> Postgres {
        let data = tempfile::Builder::new().prefix("consign-postgres-").tempdir().unwrap().keep();
        let user = rustix::process::geteuid().is_root().then(user);
        if let Some(user) = &user {
            // Its parents need only be passable.
            fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
            chown(&data, Some(*user), Some(*user)).unwrap();
        }
        let run = prefix(user.as_ref());
        let make = format!("exec {run} '{}'/{make} -D '{}' >/dev/null", programs.display(), data.display());
        let made = Command::new("sh").args(["-c", &make]).current_dir("/").stdin(Stdio::null()).status().unwrap();
        assert!(made.success(), "{make}: {made}");
        change(&data);
        let port = ports::free();
        let server = Postgres { port, shell: shell(&programs, &data, port, options, &run), programs, options, data };
        server.wait();
        server
    }

    pub fn url(&self) -> String {
        format!("postgres://consign@127.0.0.1:{}/postgres", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The ledger in `schema`.
    pub fn database(&self, schema: &str) -> Database {
        Database::new(&self.url(), schema, LEASE)
    }

    /// Stops it as a restart of the machine does, and starts it again after `pause`.
    pub fn restart(&mut self, pause: Duration) {
        let keep = self.data.join("keep");
        fs::write(&keep, "").unwrap();
        drop(self.shell.stdin.take());
        self.shell.wait().unwrap();
        fs::remove_file(keep).unwrap();
        std::thread::sleep(pause);
        let user = rustix::process::geteuid().is_root().then(user);
        self.shell = shell(&self.programs, &self.data, self.port, self.options, &prefix(user.as_ref()));
        self.wait();
    }

    /// Has it speak TLS as `localhost`, with a certificate signed by an authority
    /// of its own; returns the authority's. None: there is no `openssl`.
    pub fn with_tls(&self, dir: &Path) -> Option<PathBuf> {
        let script = "set -e; request='openssl req -newkey rsa:2048 -nodes'; \
            $request -x509 -keyout ca.key -out ca.pem -subj '/CN=test authority' -addext basicConstraints=critical,CA:TRUE; \
            $request -keyout server.key -out server.csr -subj /CN=localhost; \
            printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' >extensions; \
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -out server.pem";
        if Command::new("openssl").arg("version").output().is_err() {
            not_tested("openssl is not installed (on Debian, apt-get install openssl)");
            return None;
        }
        let made = Command::new("sh").args(["-c", script]).current_dir(dir).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        for name in ["server.pem", "server.key"] {
            let file = self.data.join(name);
            fs::copy(dir.join(name), &file).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            if rustix::process::geteuid().is_root() {
                chown(&file, Some(user()), Some(user())).unwrap();
            }
        }
        for (key, value) in [("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key"), ("ssl", "on")] {
            self.psql(&format!("ALTER SYSTEM SET {key} = '{value}'"));
        }
        self.psql("SELECT pg_reload_conf()");
        Some(dir.join("ca.pem"))
    }

    /// What `psql` says.
    pub fn psql(&self, sql: &str) -> String {
        Self::ask(&self.url(), sql)
    }

    /// What `psql` says of the server at `url`.
    pub fn ask(url: &str, sql: &str) -> String {
        let mut psql = Command::new(programs().unwrap().join("psql"));
        let said = psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", sql]).output().unwrap();
        assert!(said.status.success(), "{sql}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap().trim().to_owned()
    }

    /// What `pg_dump` writes of a schema of the database at `url`.
    pub fn dump(url: &str, schema: &str, file: &Path) {
        let dump = Command::new(programs().unwrap().join("pg_dump"))
            .arg("--schema")
            .arg(schema)
            .arg("-f")
            .arg(file)
            .arg(url)
            .output();
        let dump = dump.unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    }

    /// Puts a schema back as it was dumped, in one step for who has it open.
    pub fn restore(url: &str, schema: &str, file: &Path) {
        let mut psql = Command::new(programs().unwrap().join("psql"));
        psql.args(["-Xq1", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", &format!("DROP SCHEMA {schema} CASCADE"), "-f"]);
        let said = psql.arg(file).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    fn wait(&self) {
        let started = Instant::now();
        let ready = || {
            let ready = self.programs.join("pg_isready");
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && Command::new(ready)
                    .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                    .status()
                    .is_ok_and(|status| status.success())
        };
        while !ready() {
            assert!(started.elapsed() < Duration::from_secs(60), "PostgreSQL does not answer on port {}", self.port);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
        let _ = fs::remove_dir_all(&self.data);
    }
}

/// The shell outlives neither our pipe nor the server it started.
fn shell(programs: &Path, data: &Path, port: u16, options: &str, run: &str) -> Child {
    let (postgres, data) = (programs.join("postgres"), data.display());
    let script = format!(
        "{run} '{}' -D '{data}' -p {port} -h 127.0.0.1 -k '' {options} -c max_connections=200 -c log_min_messages=fatal \
         </dev/null >/dev/null 2>&1 & pid=$!; read _; kill -INT $pid; wait $pid; \
         [ -e '{data}/keep' ] || rm -rf '{data}'",
        postgres.display()
    );
    Command::new("sh").args(["-c", &script]).current_dir("/").stdin(Stdio::piped()).spawn().expect("sh starts")
}

/// PostgreSQL refuses to be run by root.
fn prefix(user: Option<&u32>) -> String {
    user.map(|user| format!("setpriv --reuid={user} --regid={user} --clear-groups")).unwrap_or_default()
}

/// Of the user `postgres`, or `nobody`.
fn user() -> u32 {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let id =
        |name: &str| passwd.lines().find(|line| line.starts_with(&format!("{name}:")))?.split(':').nth(2)?.parse().ok();
    id("postgres").or_else(|| id("nobody")).unwrap()
}

/// The newest of Debian's, or what is on PATH.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<u32> = versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable();
    let debian = versions.iter().rev().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = debian.chain(std::env::split_paths(&path));
    all.find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}
