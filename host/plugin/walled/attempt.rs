//! What code would try that has broken out of WebAssembly: to see that it gets nothing.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use libc::{c_long, c_ulong};
use serde::{Deserialize, Serialize};

/// One try, made in a worker that is confined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub what: String,
    /// The kernel's answer; None where it succeeded.
    pub refused: Option<String>,
}

const NONE: c_ulong = 0;

/// What a worker shares with the machine unless it has its own, and what that is called.
const NAMESPACES: [(&str, &str); 6] = [
    ("net", "share the machine's network"),
    ("user", "share the machine's users"),
    ("ipc", "share the machine's System V IPC"),
    ("mnt", "share the machine's mounts"),
    ("uts", "share the machine's host name"),
    ("cgroup", "share the machine's control groups"),
];

/// What is outside of a worker, for it to try.
#[derive(Serialize, Deserialize)]
pub struct Outside {
    /// Somebody listens there, on loopback.
    port: u16,
    /// An abstract socket that somebody listens on.
    socket: String,
    /// The daemon's, by their names in `/proc`.
    namespaces: BTreeMap<String, u64>,
}

/// Who listens outside, until this is dropped.
pub struct Listening {
    outside: Outside,
    who: (TcpListener, UnixListener),
}

impl Listening {
    pub fn start() -> io::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let number = port.local_addr()?.port();
        // Nobody else has a socket of this name while this process has the port.
        let name = format!("consign-attempt-{}-{number}", std::process::id());
        let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        let inode = |(name, _): (&str, &str)| Ok((name.to_owned(), namespace(name)?));
        let namespaces = NAMESPACES.into_iter().map(inode).collect::<io::Result<_>>()?;
        Ok(Self { outside: Outside { port: number, socket: name, namespaces }, who: (port, socket) })
    }

    /// What to tell the worker, and what is to be kept meanwhile.
    pub fn split(self) -> (Outside, (TcpListener, UnixListener)) {
        (self.outside, self.who)
    }
}

fn namespace(name: &str) -> io::Result<u64> {
    Ok(fs::metadata(format!("/proc/self/ns/{name}"))?.ino())
}

/// What does no harm where it succeeds, so that it can be tried where system calls are not
/// filtered: to see what each of the other layers holds.
pub fn without_filter(outside: &Outside) -> Vec<Attempt> {
    let parent = std::os::unix::process::parent_id();
    let file = std::env::temp_dir().join(format!("consign-attempt-{}", std::process::id()));
    let said = |what: &str, tried: io::Result<()>| Attempt {
        what: what.into(),
        refused: tried.err().map(|error| told(&error)),
    };
    let socket = || UnixStream::connect_addr(&SocketAddr::from_abstract_name(&outside.socket)?).map(drop);
    let called = |what: &str, call, [a, b, c]: [c_ulong; 3]| Attempt {
        what: what.into(),
        refused: refused(call, [a, b, c, NONE, NONE, NONE]),
    };
    let mut attempts = vec![
        said("read a file", File::open("/etc/passwd").map(drop)),
        said("read the daemon's environment", File::open(format!("/proc/{parent}/environ")).map(drop)),
        said("make a file", File::create(&file).map(drop)),
        said("remove a file", fs::remove_file(&file)),
        said("reach a port", TcpStream::connect((Ipv4Addr::LOCALHOST, outside.port)).map(drop)),
        said("reach an abstract socket", socket()),
        called("signal the daemon", libc::SYS_kill, [parent.into(), NONE, NONE]),
        called("look into the daemon", libc::SYS_kcmp, [parent.into(), parent.into(), KCMP_VM]),
    ];
    attempts.extend(NAMESPACES.iter().map(|(name, what)| {
        let refused = match namespace(name) {
            Ok(inode) if outside.namespaces.get(*name) == Some(&inode) => None,
            Ok(_) => Some("it has its own".into()),
            Err(error) => Some(told(&error)),
        };
        Attempt { what: (*what).into(), refused }
    }));
    attempts
}

/// Whether two processes have the same memory: who may not look into them is not told.
const KCMP_VM: c_ulong = 1;

/// All of them, one after the other, in a worker whose system calls are filtered: nobody
/// else could do these and go on.
pub fn all() -> Vec<Attempt> {
    let parent = u64::from(std::os::unix::process::parent_id());
    let path = |path: &'static CStr| path.as_ptr() as c_ulong;
    let here = libc::AT_FDCWD as c_ulong;
    let (inet, unix) = (libc::AF_INET as c_ulong, libc::AF_UNIX as c_ulong);
    let stream = libc::SOCK_STREAM as c_ulong;
    let (size, executable) = (4096, (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as c_ulong);
    let private = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as c_ulong;
    let create = (libc::O_CREAT | libc::O_WRONLY) as c_ulong;
    let tries: [(&str, c_long, [c_ulong; 6]); 20] = [
        ("read a file", libc::SYS_openat, [here, path(c"/etc/passwd"), NONE, NONE, NONE, NONE]),
        ("read the daemon's environment", libc::SYS_openat, [here, path(c"/proc/1/environ"), NONE, NONE, NONE, NONE]),
        ("make a file", libc::SYS_openat, [here, path(c"/tmp/consign-attempt"), create, 0o600, NONE, NONE]),
        ("remove a file", libc::SYS_unlinkat, [here, path(c"/tmp/consign-attempt"), NONE, NONE, NONE, NONE]),
        ("make a network socket", libc::SYS_socket, [inet, stream, NONE, NONE, NONE, NONE]),
        ("make a local socket", libc::SYS_socket, [unix, stream, NONE, NONE, NONE, NONE]),
        ("connect the socket that it has", libc::SYS_connect, [NONE, NONE, NONE, NONE, NONE, NONE]),
        ("fork", libc::SYS_clone, [libc::SIGCHLD as c_ulong, NONE, NONE, NONE, NONE, NONE]),
        ("start a program", libc::SYS_execve, [path(c"/bin/true"), NONE, NONE, NONE, NONE, NONE]),
        ("trace the daemon", libc::SYS_ptrace, [libc::PTRACE_ATTACH as c_ulong, parent, NONE, NONE, NONE, NONE]),
        ("read the daemon's memory", libc::SYS_process_vm_readv, [parent, NONE, NONE, NONE, NONE, NONE]),
        ("signal the daemon", libc::SYS_kill, [parent, NONE, NONE, NONE, NONE, NONE]),
        ("signal a thread of the daemon", libc::SYS_tgkill, [parent, parent, NONE, NONE, NONE, NONE]),
        ("map memory to execute", libc::SYS_mmap, [NONE, size, executable, private, c_ulong::MAX, NONE]),
        ("become another user", libc::SYS_setuid, [NONE, NONE, NONE, NONE, NONE, NONE]),
        ("make namespaces", libc::SYS_unshare, [libc::CLONE_NEWUSER as c_ulong, NONE, NONE, NONE, NONE, NONE]),
        ("mount", libc::SYS_mount, [NONE, path(c"/"), NONE, NONE, NONE, NONE]),
        ("use io_uring", libc::SYS_io_uring_setup, [1, NONE, NONE, NONE, NONE, NONE]),
        ("load a BPF program", libc::SYS_bpf, [NONE, NONE, NONE, NONE, NONE, NONE]),
        ("pass an open file on", libc::SYS_sendmsg, [NONE, NONE, NONE, NONE, NONE, NONE]),
    ];
    tries
        .iter()
        .map(|(what, call, arguments)| Attempt { what: (*what).into(), refused: refused(*call, *arguments) })
        .collect()
}

/// What the kernel says, unless it does it.
fn refused(call: c_long, [a, b, c, d, e, f]: [c_ulong; 6]) -> Option<String> {
    // SAFETY: the pointers among the arguments are to constants; what would write or
    // change this process is not among the calls, or is what is to be refused.
    let answer = unsafe { libc::syscall(call, a, b, c, d, e, f) };
    (answer < 0).then(|| told(&io::Error::last_os_error()))
}

fn told(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) => "EPERM".into(),
        Some(libc::EACCES) => "EACCES".into(),
        Some(libc::ENETUNREACH) => "ENETUNREACH".into(),
        Some(libc::ECONNREFUSED) => "ECONNREFUSED".into(),
        _ => error.to_string(),
    }
}
