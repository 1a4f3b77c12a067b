//! Between consign, the real binary, and an S3 and STS server: a proxy that lets
//! things go wrong as it is told, and keeps the history.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use regex::bytes::Regex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::wire::{Answer, Behind, Call, Event, Fault, Front, Script, Seen, pass_on};

/// What every row and every file of a customer has in it.
pub fn canary(customer: &str) -> String {
    format!("canary:{customer};")
}

/// Whose canaries are in there, one name for each time.
pub fn canaries(bytes: &[u8]) -> Vec<String> {
    static CANARY: LazyLock<Regex> = LazyLock::new(|| Regex::new("canary:([a-z0-9-]+);").unwrap());
    CANARY.captures_iter(bytes).map(|found| String::from_utf8_lossy(&found[1]).into_owned()).collect()
}

/// What every row has in it that is of a slot, by the slot's second.
pub fn stamp(second: i64) -> String {
    format!("slot:{second};")
}

/// Of which slots rows are in there, in the ledger's way.
pub fn stamps(bytes: &[u8]) -> Vec<i64> {
    static STAMP: LazyLock<Regex> = LazyLock::new(|| Regex::new("slot:([0-9]+);").unwrap());
    let second = |found: &[u8]| std::str::from_utf8(found).unwrap().parse::<i64>().unwrap();
    STAMP.captures_iter(bytes).map(|found| second(&found[1]) * 1_000_000).collect()
}

/// Larger bodies are not kept.
const KEPT_MAX: usize = 1 << 16;

/// At a port of its own, until it is dropped.
pub struct Proxy {
    pub endpoint: String,
    front: Arc<Front<Server>>,
    over: Arc<Notify>,
}

struct Server {
    at: SocketAddr,
    /// Who may be killed.
    processes: Mutex<Vec<u32>>,
    kills: AtomicUsize,
}

impl Behind for Server {
    async fn carry_out(&self, seen: &Seen) -> io::Result<Answer> {
        pass_on(self.at, seen).await
    }

    /// Of a large part only the canaries.
    fn keep(&self, seen: &Seen) -> Seen {
        let mut kept = seen.clone();
        if seen.call == Call::Part && seen.body.len() > KEPT_MAX {
            let mut found = canaries(&seen.body);
            found.sort();
            found.dedup();
            kept.body = found.iter().map(|name| canary(name)).collect::<String>().into();
        }
        kept
    }

    fn kill(&self, port: u16) {
        let mut processes = self.processes.lock().unwrap();
        processes.retain(|process| fs::exists(format!("/proc/{process}/fd")).unwrap_or_default());
        // The kernel's table is read piece by piece, and what changes meanwhile can hide a line of it.
        let asks = (0..20).find_map(|_| {
            let sockets = sockets(port);
            processes.iter().find(|process| has_one(**process, &sockets))
        });
        // On a busy machine it may have hung up by now.
        let asks = asks.or_else(|| processes.first().filter(|_| processes.len() == 1));
        if let Some(asks) = asks {
            let pid = Pid::from_raw(i32::try_from(*asks).unwrap()).unwrap();
            if kill_process(pid, Signal::KILL).is_ok() {
                self.kills.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Proxy {
    /// `behind` as in `http://127.0.0.1:9000`.
    pub fn start(behind: &str) -> Self {
        let at = behind.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        let server = Server { at, processes: Mutex::default(), kills: AtomicUsize::new(0) };
        let front = Front::new(server, Box::new(|_, _| None));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let over = Arc::new(Notify::new());
        let (serving, ends) = (front.clone(), over.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serving.serve(TcpListener::from_std(listener).unwrap()) => {}
                    () = ends.notified() => {}
                }
            });
        });
        Self { endpoint, front, over }
    }

    /// From now on this goes wrong.
    pub fn obey(&self, script: impl FnMut(&Seen, usize) -> Option<Fault> + Send + 'static) {
        let script: Script = Box::new(script);
        self.front.obey(script);
    }

    /// From now on nothing goes wrong.
    pub fn heal(&self) {
        self.obey(|_, _| None);
    }

    /// A process that dies when a fault says that who asked does.
    pub fn may_kill(&self, process: u32) {
        self.front.behind.processes.lock().unwrap().push(process);
    }

    /// How many died by it.
    pub fn kills(&self) -> usize {
        self.front.behind.kills.load(Ordering::Relaxed)
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.front.load().0
    }

    /// How many of these came.
    pub fn asked(&self, which: impl Fn(&Seen) -> bool) -> usize {
        self.front.events().iter().filter(|event| which(&event.seen)).count()
    }

    /// All that happened, when nothing is on its way any more.
    pub fn history(&self) -> Vec<Event> {
        let began = Instant::now();
        while self.front.load().1 > 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "the server behind the proxy does not answer");
            thread::sleep(Duration::from_millis(10));
        }
        self.front.events()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.notify_one();
    }
}

/// TCP connections from a port of this machine: one that has ended may have had the same.
fn sockets(port: u16) -> Vec<String> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(" 0100007F:{port:04X} ");
    let lines = table.lines().filter(|line| line.contains(&local));
    lines.filter_map(|line| Some(format!("socket:[{}]", line.split_whitespace().nth(9)?))).collect()
}

fn has_one(process: u32, sockets: &[String]) -> bool {
    let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
    links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
}
