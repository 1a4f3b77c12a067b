//! What code would try that has broken out of WebAssembly: to see that it gets nothing.

use std::ffi::CStr;
use std::io;

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

/// All of them, one after the other.
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
    (answer < 0).then(|| {
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EPERM) => "EPERM".into(),
            Some(libc::EACCES) => "EACCES".into(),
            _ => error.to_string(),
        }
    })
}
