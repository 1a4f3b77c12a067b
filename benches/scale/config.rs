//! Many shares in one configuration: reading it, checking it, running it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use consign::config::{Config, Environment};

use super::{Target, row};

const CONSIGN: &str = env!("CARGO_BIN_EXE_consign");
const IDLE: Duration = Duration::from_secs(30);

/// `USER_HZ`, which programs see as 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// When a share fires that is not due while it is looked at: a few dozen schedules.
pub fn never(n: usize) -> String {
    let (minute, hour) = (n % 6 * 10, n / 6 % 10);
    format!("schedule = \"{minute} {hour} 1 1 *\"\ntimezone = \"America/New_York\"\n")
}

/// A configuration of so many shares, which fire as `when` says.
pub fn write(dir: &Path, shares: usize, when: &dyn Fn(usize) -> String) {
    let customers = shares.div_ceil(10);
    let state = "[daemon]\nstate_dir = \"state\"\ncache_dir = \"cache\"\n";
    let main = format!(
        "include = [\"customers.d/*.toml\", \"shares.d/*.toml\"]\n{state}[aws]\nregion = \"us-east-1\"\n\
         endpoint_url = \"http://127.0.0.1:1\"\naccess_key_id = {{ env = \"KEY\" }}\n\
         secret_access_key = {{ env = \"SECRET\" }}\n[datasets.orders]\ntables.orders = \"orders.csv\"\n\
         tenant_column = \"customer_id\"\n"
    );
    fs::write(dir.join("consign.toml"), main).expect("the configuration");
    fs::write(dir.join("orders.csv"), "customer_id,amount\n1,2\n").expect("a table");
    let write = |folder: &str, count: usize, one: &dyn Fn(usize) -> String| {
        fs::create_dir_all(dir.join(folder)).expect("a folder");
        for first in (0..count).step_by(1_000) {
            let text: String = (first..count.min(first + 1_000)).map(one).collect();
            fs::write(dir.join(folder).join(format!("{first:06}.toml")), text).expect("a file");
        }
    };
    write("customers.d", customers, &|n| {
        format!(
            "[customers.customer-{n:05}]\nrole_arn = \"arn:aws:iam::{:012}:role/consign-delivery\"\n\
             external_id = \"bench-{n:08}-7f0c\"\nbucket = \"bench-{n:05}\"\nregion = \"eu-west-1\"\n\
             prefix = \"in/\"\nparams = {{ customer_id = {n} }}\n",
            100_000_000_000 + n
        )
    });
    write("shares.d", shares, &|n| {
        format!(
            "[shares.share-{n:06}]\n{}\
             dataset = \"orders\"\nplugin = \"csv\"\noptions = {{ delimiter = \";\" }}\ncompression = \"gzip\"\n\
             to = {{ customers = [\"customer-{:05}\"] }}\n",
            when(n),
            n / 10
        )
    });
}

/// More keys of the daemon.
pub fn add_to_daemon(dir: &Path, keys: &str) {
    let path = dir.join("consign.toml");
    let text = fs::read_to_string(&path).expect("the configuration");
    fs::write(path, text.replace("[daemon]\n", &format!("[daemon]\n{keys}"))).expect("the configuration");
}

/// `consign run`, which is killed at the latest when this is dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Waits until it is ready.
    pub fn start(dir: &Path) -> Self {
        let log = dir.join("daemon.log");
        let out = File::create(&log).expect("a log");
        let child = consign(dir, &["run"]).stdout(Stdio::null()).stderr(out).spawn().expect("consign run");
        let mut daemon = Self { child, log };
        while !daemon.text().contains("consign is ready") {
            daemon.assert_running();
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    pub fn assert_running(&mut self) {
        assert!(self.child.try_wait().expect("the daemon").is_none(), "{}", self.text());
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Either may fail because it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn environment() -> Environment {
    Environment::from_pairs([("KEY", "AKIACONSIGNSANDBOX00"), ("SECRET", "consign-sandbox-secret")])
}

/// In a process of its own.
pub fn load(path: &Path) {
    let started = Instant::now();
    let config = Config::load(path, &environment()).unwrap_or_else(|errors| panic!("{errors}"));
    println!("{} {}", started.elapsed().as_secs_f64(), config.shares.len());
    let status = fs::read_to_string("/proc/self/status").expect("its status");
    println!("{}", peak_kb(&status));
}

pub fn read(dir: &Path, shares: usize) {
    let mut files: Vec<PathBuf> = vec![dir.join("consign.toml")];
    for folder in ["customers.d", "shares.d"] {
        files.extend(fs::read_dir(dir.join(folder)).expect("a folder").map(|entry| entry.expect("a file").path()));
    }
    let started = Instant::now();
    let mut bytes = 0;
    for file in &files {
        let text = fs::read_to_string(file).expect("a file");
        bytes += text.len();
        std::hint::black_box(toml::from_str::<toml::Table>(&text).expect("TOML"));
    }
    let bare = started.elapsed().as_secs_f64();
    let child = Command::new(std::env::current_exe().expect("this program"))
        .env("CONSIGN_BENCH_LOAD", dir.join("consign.toml"))
        .output()
        .expect("a process that loads");
    let said = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
    let mut words = said.split_whitespace().map(|word| word.parse::<f64>().expect("a number"));
    let mut next = || words.next().expect("three numbers");
    let (seconds, loaded, peak) = (next(), next(), next());
    assert_eq!(loaded as usize, shares);
    row(&format!("bare TOML parser, {} files, {:.1} MB", files.len(), bytes as f64 / 1e6), bare, "s", Target::None);
    row(&format!("configuration of {shares} shares, time"), seconds, "s", Target::Under(2.0));
    row("  against the bare parser", seconds / bare, "times", Target::None);
    row("  peak memory", peak / 1e3, "MB", Target::Under(200.0));
    check(dir, "`consign check` of it", 0, Target::None);
}

/// The same with one mistake in each share.
pub fn errors(dir: &Path, shares: usize) {
    let wrong = [
        ("an unknown key", "plugin = ", "colour = 1\nplugin = "),
        ("a misspelt customer", "[\"customer-", "[\"customr-"),
    ];
    for (what, right, wrong) in wrong {
        let all = fs::read_dir(dir.join("shares.d")).expect("a folder").map(|entry| entry.expect("a file").path());
        let texts: Vec<(PathBuf, String)> =
            all.map(|path| (path.clone(), fs::read_to_string(path).expect("a file"))).collect();
        for (path, text) in &texts {
            fs::write(path, text.replace(right, wrong)).expect("a file");
        }
        check(dir, &format!("`consign check` of {shares} shares, each with {what}"), 3, Target::Under(30.0));
        for (path, text) in &texts {
            fs::write(path, text).expect("a file");
        }
    }
}

fn check(dir: &Path, figure: &str, exit: i32, target: Target) {
    let started = Instant::now();
    let (out, errors) = (Stdio::null(), if exit == 0 { Stdio::inherit() } else { Stdio::null() });
    let mut check = consign(dir, &["check", "--quiet"]).stdout(out).stderr(errors).spawn().expect("consign check");
    let peak = watch(&mut check, exit);
    row(&format!("{figure}, time"), started.elapsed().as_secs_f64(), "s", target);
    row("  peak memory", peak as f64 / 1e3, "MB", Target::None);
}

fn consign(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(CONSIGN);
    command.args(["--config", "consign.toml"]).args(args).current_dir(dir);
    command.env("KEY", "AKIACONSIGNSANDBOX00").env("SECRET", "consign-sandbox-secret");
    command
}

/// Polls the child's own high-water mark until it ends as it should.
fn watch(child: &mut Child, exit: i32) -> u64 {
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        peak = peak.max(peak_kb(&status));
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            assert_eq!(status.code(), Some(exit), "see above");
            return peak;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn peak_kb(status: &str) -> u64 {
    let mark = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    mark.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

pub fn idle(dir: &Path) {
    let started = Instant::now();
    let daemon = Daemon::start(dir);
    row("`consign run` of it, from start to ready", started.elapsed().as_secs_f64(), "s", Target::None);
    // What comes right after the start is not idleness.
    std::thread::sleep(Duration::from_secs(10));
    let before = cpu_seconds(daemon.child.id());
    std::thread::sleep(IDLE);
    let percent = (cpu_seconds(daemon.child.id()) - before) / IDLE.as_secs_f64() * 100.0;
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.child.id())).expect("its status");
    row(&format!("  CPU time while nothing is due, over {} s", IDLE.as_secs()), percent, "%", Target::Under(1.0));
    row("  peak memory", peak_kb(&status) as f64 / 1e3, "MB", Target::None);
}

/// User and system time so far: proc_pid_stat(5), fields 14 and 15.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}
