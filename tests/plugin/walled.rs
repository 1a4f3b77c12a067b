//! Plugins in processes of their own: what such a process can do, what becomes of a
//! run whose process ends, and that nothing is left of it.

use std::path::Path;
use std::time::Duration;

use consign::domain::{Failure, Layer, Retry};
use consign::limits::{Isolation, Limits};
use consign::plugin::{Cause, PluginHost, format};
use futures::{StreamExt as _, stream};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;

use super::support::{guest, hostile, job, name, numbers, run_in, runtime};

/// The processes that this one started and that run as workers.
fn workers() -> Vec<(Pid, String)> {
    let mine = std::process::id();
    let children = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: i32 = entry.unwrap().file_name().to_str()?.parse().ok()?;
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let parent = read("status")?.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok())?;
        let command = read("cmdline")?;
        (parent == mine && command.contains("plugin-worker")).then_some((Pid::from_raw(pid)?, command))
    });
    children.collect()
}

#[test]
fn what_breaks_out_of_webassembly_gets_nothing() {
    let (wall, attempts) = hostile().walled.try_wall().unwrap();
    assert!(wall.seccomp);
    assert!(attempts.len() >= 20);
    for attempt in attempts {
        let refused = attempt.refused.unwrap_or("it is possible".into());
        assert!(["EPERM", "EACCES"].contains(&refused.as_str()), "{}: {refused}", attempt.what);
    }
}

#[test]
fn a_plugin_in_this_process_has_no_wall_to_try() {
    assert_eq!(hostile().within.try_wall().unwrap_err().cause, Cause::Host);
}

/// Whoever ends the process ends that run alone, which is worth another try.
#[test]
fn a_killed_worker_fails_only_its_run() {
    // Of its own, so that its worker is known from the others' by its stack.
    let limits = Limits { stack_bytes: 1_234_567, ..Limits::default() };
    let component = super::support::Guest::load("hostile", &limits).walled;
    runtime().block_on(async {
        let started = || workers().into_iter().filter(|(_, command)| command.contains("1234567")).collect::<Vec<_>>();
        let asked = started();
        let (sender, _receiver) = mpsc::channel(1);
        let endless = job(r#"{"behaviour":"endless_loop"}"#, numbers(0..1).schema());
        let run = tokio::spawn(format(component.clone(), endless, stream::iter([Ok(numbers(0..1))]), sender));
        let pid = loop {
            if let Some((pid, _)) = started().into_iter().find(|worker| !asked.contains(worker)) {
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
    let well = job(r#"{"behaviour":"none"}"#, numbers(0..1).schema());
    assert_eq!(run_in(component, well, vec![numbers(0..3)]).0.unwrap().rows, 3);
}

#[test]
fn a_run_that_is_given_up_leaves_no_process() {
    let limits = Limits { stack_bytes: 1_234_568, ..Limits::default() };
    let component = super::support::Guest::load("hostile", &limits).walled;
    let there = || workers().iter().filter(|(_, command)| command.contains("1234568")).count();
    let asked = there();
    runtime().block_on(async {
        let (sender, mut receiver) = mpsc::channel(1);
        let endless = job(r#"{"behaviour":"endless_loop"}"#, numbers(0..1).schema());
        let run = format(component, endless, stream::iter([Ok(numbers(0..1))]), sender);
        assert!(tokio::time::timeout(Duration::from_millis(300), run).await.is_err());
        assert_eq!(receiver.recv().await, None);
        assert!(there() <= asked);
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
        let well = job(r#"{"behaviour":"none"}"#, numbers(0..1).schema());
        assert_eq!(format(hostile().walled, well, Box::pin(rows), sender).await.unwrap().rows, 4);
    });
}

/// `check` is answered again after its worker has ended for want of questions.
#[test]
fn a_worker_that_has_ended_is_replaced() {
    let limits = Limits { stack_bytes: 1_234_569, ..Limits::default() };
    let component = super::support::Guest::load("hostile", &limits).walled;
    let check = || component.check(r#"{"behaviour":"none"}"#, &numbers(0..1).schema()).unwrap();
    let there = || workers().into_iter().filter(|(_, command)| command.contains("1234569")).collect::<Vec<_>>();
    check();
    let first = there();
    check();
    assert_eq!(there(), first, "one worker answers all");
    for (pid, _) in first {
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
