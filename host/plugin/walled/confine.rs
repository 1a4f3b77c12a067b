//! What a worker gives up before a plugin's code runs in it: one layer behind the
//! other, so that a hole in one is not a way out.
//!
//! System calls are filtered, without which no plugin is run. The others are put up
//! where the kernel and the service manager allow: namespaces of its own (no network,
//! nobody's processes), Landlock (no file, no port, no signal to others), limits.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetError,
    RulesetStatus, Scope,
};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};
use serde::{Deserialize, Serialize};

/// The layers that stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wall {
    /// System calls are filtered.
    pub seccomp: bool,
    /// `full`, `partial` where the kernel is older than what is asked of it, or why there is none.
    pub landlock: String,
    /// `own`, or why there are none.
    pub namespaces: String,
}

/// One of the layers, which is to hold where the others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WallLayer {
    Seccomp,
    Landlock,
    Namespaces,
}

impl WallLayer {
    pub const ALL: [Self; 3] = [Self::Seccomp, Self::Landlock, Self::Namespaces];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seccomp => "seccomp",
            Self::Landlock => "landlock",
            Self::Namespaces => "namespaces",
        }
    }
}

/// Why a layer does not stand in a worker that is to try another one alone.
const LEFT_OUT: &str = "left out";

/// Confines what threads inherit, by all layers or `only` one; there is one thread yet.
pub fn process(only: Option<WallLayer>) -> Wall {
    let is_wanted = |layer| only.is_none_or(|only| only == layer);
    // Should memory be short, the kernel is to end a plugin before the daemon.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let namespaces = if is_wanted(WallLayer::Namespaces) { namespaces() } else { LEFT_OUT.into() };
    // None for processes: its own threads count, and are yet to come.
    for resource in [Resource::Core, Resource::Fsize, Resource::Memlock] {
        let _ = setrlimit(resource, Rlimit { current: Some(0), maximum: Some(0) });
    }
    // Neither another process nor /proc may look into the memory of this one.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let landlock = match is_wanted(WallLayer::Landlock).then(landlock) {
        Some(Ok(RulesetStatus::FullyEnforced)) => "full".into(),
        Some(Ok(RulesetStatus::PartiallyEnforced)) => "partial".into(),
        Some(Ok(RulesetStatus::NotEnforced)) => "the kernel has none".into(),
        Some(Err(error)) => error.to_string(),
        None => LEFT_OUT.into(),
    };
    Wall { seccomp: false, landlock, namespaces }
}

fn namespaces() -> String {
    let all = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    // SAFETY: files stay shared between threads, and there is one thread.
    match unsafe { unshare_unsafe(all) } {
        Ok(()) => "own".into(),
        Err(error) => error.to_string(),
    }
}

/// No file, no port, no socket or signal of others: nothing is allowed.
fn landlock() -> Result<RulesetStatus, RulesetError> {
    let newest = ABI::V6;
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// From here on no thread may call the kernel but to compute, to wait and to talk
/// through what is open.
pub fn calls(wall: &mut Wall) -> io::Result<()> {
    let pid = u64::from(std::process::id());
    let filter = filter(pid).map_err(io::Error::other)?;
    apply_filter_all_threads(&filter).map_err(io::Error::other)?;
    wall.seccomp = true;
    Ok(())
}

fn filter(pid: u64) -> Result<BpfProgram, seccompiler::BackendError> {
    const ALWAYS: [libc::c_long; 31] = [
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_recvfrom,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_ppoll,
        libc::SYS_close,
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_membarrier,
        libc::SYS_rseq,
        libc::SYS_set_robust_list,
        libc::SYS_clock_gettime,
        libc::SYS_clock_getres,
        libc::SYS_clock_nanosleep,
        libc::SYS_nanosleep,
        libc::SYS_restart_syscall,
        libc::SYS_sched_yield,
        libc::SYS_sched_getaffinity,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_getrandom,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let only = |argument, condition, value| -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, condition, value)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    // No new code: all that there is was loaded before.
    let executable = SeccompCmpOp::MaskedEq(u64::from(libc::PROT_EXEC.unsigned_abs()));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_mmap, only(2, executable.clone(), 0)?);
    rules.insert(libc::SYS_mprotect, only(2, executable, 0)?);
    // To whom its socket is connected, and to nobody else.
    let nowhere_else = SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(vec![nowhere_else])?]);
    // By which it aborts.
    rules.insert(libc::SYS_tgkill, only(0, SeccompCmpOp::Eq, pid)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_poll, Vec::new());
    // An error and not the end: the C library may try what it can do without.
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)?.try_into()
}
