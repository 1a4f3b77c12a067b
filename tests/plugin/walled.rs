//! Plugins in processes of their own: what such a process can do, what becomes of a
//! run whose process ends, and that nothing is left of it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Decimal128Array, RecordBatch, StringArray};
use consign::domain::{Failure, Layer, Retry};
use consign::limits::{Isolation, Limits};
use consign::plugin::{Attempt, Cause, Component, Job, PluginHost, WallLayer, format};
use futures::{StreamExt as _, stream};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;

use crate::support::needs::not_tested;

use super::support::{Guest, echo, guest, hostile, job, name, numbers, run_in, runtime};

/// A plugin whose workers are known from the others' by their stack.
struct Own {
    component: Component,
    stack_bytes: usize,
}

impl Own {
    fn new(stack_bytes: usize) -> Self {
        let limits = Limits { stack_bytes, ..Limits::default() };
        Self { component: Guest::load("hostile", &limits).walled, stack_bytes }
    }

    /// Its processes that this one has started and that are there.
    fn workers(&self) -> Vec<Pid> {
        let mine = std::process::id();
        let wanted = format!("plugin-worker\0{}\0", self.stack_bytes);
        let children = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid: i32 = entry.unwrap().file_name().to_str()?.parse().ok()?;
            let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
            let status = read("status")?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok())?;
            (parent == mine && read("cmdline")?.contains(&wanted)).then_some(Pid::from_raw(pid)?)
        });
        children.collect()
    }
}

fn job_of(behaviour: &str) -> Job {
    job(&format!(r#"{{"behaviour":"{behaviour}"}}"#), numbers(0..1).schema())
}

/// The newest of Landlock's versions that the kernel has; 0 for none.
fn landlock() -> i64 {
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: by this flag it makes nothing and reads nothing.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0_usize, VERSION) };
    version.max(0)
}

/// Whether somebody here may have namespaces of their own.
fn namespaces() -> bool {
    let all = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    let mut program = std::process::Command::new("true");
    let alone = move || {
        // SAFETY: it has no pointers, and is called in a child.
        if unsafe { libc::unshare(all) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: a system call may be made between fork and exec.
    unsafe { program.pre_exec(alone) }.status().is_ok_and(|status| status.success())
}

/// What of this is possible, and how the rest was refused.
fn answers(attempts: Vec<Attempt>) -> BTreeMap<String, String> {
    attempts.into_iter().map(|Attempt { what, refused }| (what, refused.unwrap_or("possible".into()))).collect()
}

/// All that the kernel has stands.
#[test]
fn what_breaks_out_of_webassembly_gets_nothing() {
    let (wall, attempts) = hostile().walled.try_wall().unwrap();
    assert!(wall.seccomp);
    let full = match landlock() {
        0 => "the kernel has none",
        1..=5 => "partial",
        _ => "full",
    };
    assert_eq!(wall.landlock, full);
    assert_eq!(wall.namespaces == "own", namespaces(), "{}", wall.namespaces);
    assert!(attempts.len() >= 20);
    for (what, answer) in answers(attempts) {
        assert!(["EPERM", "EACCES"].contains(&answer.as_str()), "{what}: {answer}");
    }
}

#[test]
fn the_filter_of_system_calls_holds_alone() {
    let (wall, attempts) = hostile().walled.try_layer(WallLayer::Seccomp).unwrap();
    assert_eq!((wall.seccomp, wall.landlock.as_str(), wall.namespaces.as_str()), (true, "left out", "left out"));
    assert!(attempts.len() >= 20);
    for (what, answer) in answers(attempts) {
        assert_eq!(answer, "EPERM", "{what}");
    }
}

/// Files, the daemon's memory; of newer kernels also ports, abstract sockets and signals.
#[test]
fn landlock_holds_alone() {
    let version = landlock();
    if version == 0 {
        return not_tested("the kernel has no Landlock");
    }
    let (wall, attempts) = hostile().walled.try_layer(WallLayer::Landlock).unwrap();
    assert_eq!((wall.seccomp, wall.namespaces.as_str()), (false, "left out"));
    let answers = answers(attempts);
    let mut wanted = vec![
        ("read a file", "EACCES"),
        ("read the daemon's environment", "EACCES"),
        ("make a file", "EACCES"),
        ("look into the daemon", "EPERM"),
    ];
    wanted.extend((version >= 4).then_some(("reach a port", "EACCES")));
    wanted.extend((version >= 6).then_some(("reach an abstract socket", "EPERM")));
    wanted.extend((version >= 6).then_some(("signal the daemon", "EPERM")));
    for (what, answer) in wanted {
        assert_eq!(answers[what], answer, "{what} of {answers:#?}");
    }
    assert_ne!(answers["remove a file"], "possible");
    assert_eq!(answers["share the machine's network"], "possible", "nothing else stands: {answers:#?}");
}

/// The network, and everything else that a machine has one of.
#[test]
fn namespaces_hold_alone() {
    if !namespaces() {
        return not_tested("nobody may have namespaces of their own here");
    }
    let (wall, attempts) = hostile().walled.try_layer(WallLayer::Namespaces).unwrap();
    let stands = (wall.seccomp, wall.landlock.as_str(), wall.namespaces.as_str());
    assert_eq!(stands, (false, "left out", "own"));
    let answers = answers(attempts);
    let own: Vec<_> = answers.iter().filter(|(what, _)| what.starts_with("share the machine's ")).collect();
    assert_eq!(own.len(), 6);
    assert!(own.iter().all(|(_, answer)| *answer == "it has its own"), "{answers:#?}");
    let elsewhere = [
        ("reach a port", "ENETUNREACH"),
        ("reach an abstract socket", "ECONNREFUSED"),
        ("look into the daemon", "EPERM"),
    ];
    for (what, answer) in elsewhere {
        assert_eq!(answers[what], answer, "{what} of {answers:#?}");
    }
    assert_eq!(answers["read a file"], "possible", "nothing else stands: {answers:#?}");
}

#[test]
fn a_plugin_in_this_process_has_no_wall_to_try() {
    assert_eq!(hostile().within.try_wall().unwrap_err().cause, Cause::Host);
    assert_eq!(hostile().within.try_layer(WallLayer::Landlock).unwrap_err().cause, Cause::Host);
}

/// What may be called for the sake of trying one layer does nothing else.
#[test]
fn nothing_of_a_plugin_runs_without_the_filter() {
    // Who starts the worker says what it is for; here it is a script between.
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("consign");
    let text = format!("#!/bin/sh\nexec {} \"$@\" landlock\n", env!("CARGO_BIN_EXE_consign"));
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let host = PluginHost::new(dir.path()).unwrap().with_worker(&script);
    let refused = host.load_in(Isolation::Process, &name("echo"), &guest("echo"), &Limits::default()).err().unwrap();
    let chain = Failure::chain(&refused);
    assert!(chain.contains("nothing else is done where system calls are not filtered"), "{chain}");
}

/// Whoever ends the process ends that run alone, which is worth another try.
#[test]
fn a_killed_worker_fails_only_its_run() {
    let own = Own::new(1_234_567);
    runtime().block_on(async {
        let asked = own.workers();
        let (sender, _receiver) = mpsc::channel(1);
        let batches = stream::iter([Ok(numbers(0..1))]);
        let run = tokio::spawn(format(own.component.clone(), job_of("endless_loop"), batches, sender));
        let pid = loop {
            if let Some(pid) = own.workers().into_iter().find(|worker| !asked.contains(worker)) {
                break pid;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        kill_process(pid, Signal::KILL).unwrap();
        let failed = run.await.unwrap().unwrap_err();
        assert_eq!((failed.cause, failed.message.as_str()), (Cause::Worker, "its process was ended by signal 9"));
        let failure = Failure::from(failed);
        assert_eq!((failure.layer, failure.retry), (Layer::Plugin, Retry::Later));
        assert!(failure.remedy.contains("journalctl -k"), "{failure:?}");
    });
    assert_eq!(run_in(own.component, job_of("none"), vec![numbers(0..3)]).0.unwrap().rows, 3);
}

#[test]
fn a_run_that_is_given_up_leaves_no_process() {
    let own = Own::new(1_234_568);
    let asked = own.workers().len();
    runtime().block_on(async {
        let (sender, mut receiver) = mpsc::channel(1);
        let batches = stream::iter([Ok(numbers(0..1))]);
        let run = format(own.component.clone(), job_of("endless_loop"), batches, sender);
        assert!(tokio::time::timeout(Duration::from_millis(300), run).await.is_err());
        assert_eq!(receiver.recv().await, None);
        assert!(own.workers().len() <= asked);
    });
}

/// A dataset may take longer for its next rows than a worker waits for a question.
#[test]
fn a_slow_dataset_is_waited_for() {
    let rows = stream::iter([0, 11]).then(|wait| async move {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        Ok(numbers(0..2))
    });
    runtime().block_on(async {
        let (sender, mut receiver) = mpsc::channel(1);
        tokio::spawn(async move { while receiver.recv().await.is_some() {} });
        assert_eq!(format(hostile().walled, job_of("none"), Box::pin(rows), sender).await.unwrap().rows, 4);
    });
}

/// Rows that do not fit into the memory in common go through the socket, in turn with others that do.
#[test]
fn rows_of_any_size_come_in_their_order() {
    let text = |(fill, bytes): (char, usize)| {
        let column: ArrayRef = Arc::new(StringArray::from(vec![fill.to_string().repeat(bytes)]));
        // Its values lie on boundaries of sixteen bytes, wherever the message begins.
        let wide: ArrayRef = Arc::new(Decimal128Array::from(vec![i128::MAX / 7 - bytes as i128]));
        RecordBatch::try_from_iter([("text", column), ("wide", wide)]).unwrap()
    };
    let (large, small) = (18 << 20, 100);
    let sizes = [large, small, 1 << 20, large, large, small, small, small, small, large, small];
    let batches: Vec<RecordBatch> = ('a'..).zip(sizes).map(text).collect();
    let limits = Limits { call_bytes: 64 << 20, memory_bytes: 1 << 30, ..Limits::default() };
    let [within, walled] = echo().both().map(|component| {
        let job = Job { limits: limits.clone(), ..job("{}", batches[0].schema()) };
        let (result, delivered) = run_in(component, job, batches.clone());
        assert_eq!(result.unwrap().rows, sizes.len() as u64);
        delivered.objects
    });
    assert_eq!(within.len(), sizes.len() + 1, "and the schema");
    assert!(within == walled);
}

/// `check` is answered again after its worker has ended for want of questions.
#[test]
fn a_worker_that_has_ended_is_replaced() {
    let own = Own::new(1_234_569);
    let check = || own.component.check(r#"{"behaviour":"none"}"#, &numbers(0..1).schema()).unwrap();
    check();
    let first = own.workers();
    check();
    assert_eq!(own.workers(), first, "one worker answers all");
    for pid in first {
        kill_process(pid, Signal::KILL).unwrap();
    }
    check();
}

#[test]
fn a_worker_that_cannot_be_started_is_told() {
    let cache = tempfile::tempdir().unwrap();
    let host = PluginHost::new(cache.path()).unwrap().with_worker(Path::new("/nonexistent/consign"));
    let refused = host.load_in(Isolation::Process, &name("echo"), &guest("echo"), &Limits::default()).err().unwrap();
    let chain = Failure::chain(&refused);
    assert!(chain.contains("cannot start a process for the plugin: No such file or directory"), "{chain}");
}
