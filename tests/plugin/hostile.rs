//! Every way to misbehave that `tests/guests/hostile` knows ends as documented
//! in `docs/limits.md`, with the host and other runs unharmed, in the daemon's
//! process and in one of its own.

use std::time::{Duration, Instant};

use consign::domain::{Failure, Layer, Retry};
use consign::limits::Limits;
use consign::plugin::{Cause, Failed, Formatted, Job, PluginError, format};
use futures::stream;
use tokio::sync::mpsc;

use super::support::{Delivered, Guest, guest, host, hostile, job, name, numbers, run, run_async, runtime};

fn job_of(behaviour: &str) -> Job {
    job(&format!(r#"{{"behaviour":"{behaviour}"}}"#), numbers(0..1).schema())
}

fn outcome(behaviour: &str, limits: impl FnOnce(&mut Limits)) -> (Result<Formatted, Failed>, Delivered) {
    let mut job = job_of(behaviour);
    limits(&mut job.limits);
    let outcome = run(hostile(), job, vec![numbers(0..3), numbers(3..5), numbers(5..6)]);
    // Whatever has happened, the next run on the same host is not touched by it.
    let (after, delivered) = run(hostile(), job_of("none"), vec![numbers(0..3)]);
    assert_eq!((after.unwrap().rows, delivered.objects["0"].as_slice()), (3, b"well done".as_slice()));
    outcome
}

/// The run ends for this cause, with a message that holds `text`.
#[track_caller]
fn ends(behaviour: &str, cause: Cause, text: &str, limits: impl FnOnce(&mut Limits)) -> Failed {
    let failed = outcome(behaviour, limits).0.unwrap_err();
    assert_eq!(failed.cause, cause, "{failed:?}");
    assert!(failed.message.contains(text), "{failed:?}");
    let failure = Failure::from(failed.clone());
    assert_eq!(failure.layer, Layer::Plugin);
    assert!(failure.message.starts_with(&format!("hostile: {}", failed.message)), "{failure:?}");
    failed
}

/// The run goes well and its object `x` holds this.
#[track_caller]
fn writes(behaviour: &str) -> String {
    writes_for(job_of(behaviour))
}

#[track_caller]
fn writes_for(job: Job) -> String {
    let (result, delivered) = run(hostile(), job, vec![numbers(0..3)]);
    result.unwrap();
    String::from_utf8(delivered.objects["x"].clone()).unwrap()
}

fn as_they_are(_: &mut Limits) {}

#[test]
fn hostile_endless_loop() {
    let began = Instant::now();
    let failed = ends("endless_loop", Cause::CpuTime, "used up its 200ms of CPU time", |limits| {
        limits.cpu_time = Duration::from_millis(200);
    });
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(failed.batch_number, 1);
    assert!(failed.frames.iter().any(|frame| frame.contains("endless_loop")), "{failed:?}");
    assert_eq!(Failure::from(failed).retry, Retry::Never);
}

/// The budget of CPU time is far away, and nothing is awaited: only the look at
/// the clock while the guest computes can end it.
#[test]
fn an_endless_loop_ends_at_the_wall_time_too() {
    ends("endless_loop", Cause::WallTime, "was not done after 2s", |limits| {
        limits.wall_time = Duration::from_secs(2);
    });
}

#[test]
fn hostile_memory_bomb() {
    let failed = ends("memory_bomb", Cause::Memory, "its limit is 32.0 MiB", |limits| limits.memory_bytes = 32 << 20);
    assert!(failed.frames.iter().any(|frame| frame.contains("memory_bomb")), "{failed:?}");
}

#[test]
fn hostile_stack_bomb() {
    let failed = ends("stack_bomb", Cause::Stack, "used up its stack", as_they_are);
    assert!(failed.frames.len() <= 20 && failed.frames[0].contains("stack_bomb"), "{failed:?}");
}

#[test]
fn hostile_deep_recursion() {
    ends("deep_recursion", Cause::Stack, "used up its stack", as_they_are);
    let limits = Limits { stack_bytes: 32 << 20, ..Limits::default() };
    run(Guest::load("hostile", &limits), job_of("deep_recursion"), vec![numbers(0..1)]).0.unwrap();
}

/// The stack is the engine's, so each size has an engine of its own.
#[test]
fn the_stack_may_be_small_or_large() {
    for stack_bytes in [64 << 10, 8 << 20] {
        let limits = Limits { stack_bytes, ..Limits::default() };
        let failed = run(Guest::load("hostile", &limits), job_of("stack_bomb"), vec![numbers(0..1)]).0.unwrap_err();
        assert_eq!(failed.cause, Cause::Stack);
    }
}

#[test]
fn hostile_output_flood() {
    ends("output_flood", Cause::Output, "more than 20.0 MiB of output", |limits| limits.output_bytes = 20 << 20);
}

#[test]
fn hostile_object_flood() {
    ends("object_flood", Cause::Objects, "began more than 100 objects", |limits| limits.objects = 100);
}

#[test]
fn hostile_open_object_flood() {
    ends("open_object_flood", Cause::Objects, "began more than 200 objects", |limits| limits.objects = 200);
}

#[test]
fn hostile_log_flood() {
    ends("log_flood", Cause::Logs, "more than 1000 log lines", |limits| limits.log_lines = 1000);
}

#[test]
fn hostile_stderr_flood() {
    let failed = ends("stderr_flood", Cause::Logs, "more than 1000 log lines", |limits| limits.log_lines = 1000);
    assert_eq!(failed.stderr_tail.last().unwrap(), "line 1000");
}

#[test]
fn hostile_log_injection() {
    let failed = ends("log_injection", Cause::Panic, "end", as_they_are);
    let long = failed.stderr_tail.iter().find(|line| line.starts_with('y')).unwrap();
    assert_eq!(long.len(), 4096 + " …(cut)".len());
}

#[test]
fn hostile_panic() {
    let failed = ends("panic", Cause::Panic, "the guest gives up on batch 0", as_they_are);
    assert!(failed.message.starts_with("panicked at "), "{failed:?}");
    assert!(failed.stderr_tail.iter().any(|line| line.contains("the guest gives up")), "{failed:?}");
    assert!(!failed.frames.is_empty());
}

#[test]
fn hostile_exit() {
    ends("exit", Cause::Exit, "called exit(0)", as_they_are);
}

#[test]
fn hostile_abort() {
    ends("abort", Cause::Trap, "unreachable", as_they_are);
}

#[test]
fn hostile_trap_midway() {
    let (result, delivered) = outcome("trap_midway", as_they_are);
    let failed = result.unwrap_err();
    assert_eq!((failed.cause, failed.batch_number), (Cause::Trap, 3));
    assert!(Failure::from(failed).message.contains("(at batch 3)"));
    assert_eq!(delivered.objects.keys().collect::<Vec<_>>(), ["0", "1"]);
}

#[test]
fn hostile_name_parent() {
    ends("name_parent", Cause::ObjectName, r#""../x", which has a path separator"#, as_they_are);
}

#[test]
fn hostile_name_absolute() {
    ends("name_absolute", Cause::ObjectName, "path separator", as_they_are);
}

#[test]
fn hostile_name_escape() {
    ends("name_escape", Cause::ObjectName, "path separator", as_they_are);
}

#[test]
fn hostile_name_nul() {
    ends("name_nul", Cause::ObjectName, r#""a\0b", which has a control"#, as_they_are);
}

#[test]
fn hostile_name_long() {
    let failed = ends("name_long", Cause::ObjectName, "has 2048 bytes", as_they_are);
    assert!(failed.message.len() < 300);
}

#[test]
fn hostile_name_empty() {
    ends("name_empty", Cause::ObjectName, "has 0 bytes", as_they_are);
}

#[test]
fn hostile_name_manifest() {
    ends("name_manifest", Cause::ObjectName, "kept for consign's manifest", as_they_are);
}

#[test]
fn hostile_name_twice() {
    ends("name_twice", Cause::ObjectName, r#"two objects "same""#, as_they_are);
}

#[test]
fn hostile_media_type_header() {
    ends("media_type_header", Cause::Protocol, "media type", as_they_are);
}

#[test]
fn hostile_object_unfinished() {
    ends("object_unfinished", Cause::Protocol, r#"ended without finishing object "0""#, as_they_are);
}

#[test]
fn hostile_object_dropped() {
    ends("object_dropped", Cause::Protocol, r#"ended without finishing object "0""#, as_they_are);
}

#[test]
fn hostile_write_after_finish() {
    ends("write_after_finish", Cause::Protocol, r#"wrote to object "x" after finishing it"#, as_they_are);
}

#[test]
fn hostile_finish_twice() {
    ends("finish_twice", Cause::Protocol, r#"finished object "x" after finishing it"#, as_they_are);
}

#[test]
fn hostile_sink_kept() {
    ends("sink_kept", Cause::Protocol, "kept a batch or a sink", as_they_are);
}

#[test]
fn hostile_batch_kept() {
    ends("batch_kept", Cause::Protocol, "kept a batch or a sink", as_they_are);
}

#[test]
fn hostile_handle_forged() {
    ends("handle_forged", Cause::Protocol, "misused a handle", as_they_are);
}

#[test]
fn hostile_huge_write() {
    ends("huge_write", Cause::Call, "more bytes in one call", as_they_are);
}

#[test]
fn hostile_huge_name() {
    ends("huge_name", Cause::Call, "more bytes in one call", as_they_are);
}

#[test]
fn hostile_sleep() {
    let began = Instant::now();
    let failed = ends("sleep", Cause::WallTime, "waiting included", |limits| limits.wall_time = Duration::from_secs(2));
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(Failure::from(failed).retry, Retry::Later);
}

#[test]
fn hostile_sleep_pieces() {
    ends("sleep_pieces", Cause::WallTime, "waiting included", |limits| limits.wall_time = Duration::from_secs(2));
}

#[test]
fn hostile_file_open() {
    assert!(writes("file_open").starts_with("Err("));
}

#[test]
fn hostile_file_create() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let options = format!(r#"{{"behaviour":"file_create","path":"{}"}}"#, path.display());
    let wrote = writes_for(job(&options, numbers(0..1).schema()));
    assert!(wrote.starts_with("Err("), "{wrote}");
    assert!(!path.exists());
}

#[test]
fn hostile_env_read() {
    assert_eq!(writes("env_read"), "env 0 args 0 stdin Some(0)");
}

#[test]
fn hostile_clock_read() {
    let read = writes("clock_read");
    assert!(read.starts_with("1704164645000000000 "), "{read}");
    assert_eq!(read, writes("clock_read"));
}

#[test]
fn hostile_random_read() {
    let read = writes("random_read");
    assert_eq!(read, writes("random_read"));
    let mut other = job_of("random_read");
    other.facts.iter_mut().find(|(key, _)| key == "customer").unwrap().1 = "globex".into();
    let (_, delivered) = run(hostile(), other, vec![numbers(0..1)]);
    assert_ne!(read.as_bytes(), delivered.objects["x"]);
}

#[test]
fn hostile_says_invalid_options() {
    let failed = ends("says_invalid_options", Cause::InvalidOptions, "no such option", as_they_are);
    assert_eq!(failed.batch_number, 0);
}

#[test]
fn hostile_says_unsupported() {
    ends("says_unsupported", Cause::Unsupported, "no such type", as_they_are);
}

#[test]
fn hostile_says_quota() {
    ends("says_quota", Cause::Quota, "too many rows", as_they_are);
}

#[test]
fn hostile_says_retryable() {
    let failed = ends("says_retryable", Cause::Retryable, "try again", as_they_are);
    assert_eq!(Failure::from(failed).retry, Retry::Later);
}

#[test]
fn hostile_says_other() {
    let failed = ends("says_other", Cause::Other, "something else", as_they_are);
    assert_eq!(Failure::from(failed).retry, Retry::Never);
}

#[test]
fn hostile_says_forged() {
    let failed = ends("says_forged", Cause::Other, r"wrong\nerror: FORGED \u{1b}[2J\u{202e}yyy", as_they_are);
    assert!(failed.message.ends_with(" …(cut)") && failed.message.len() < 4_200, "{}", failed.message.len());
    let found = hostile().check(r#"{"behaviour":"says_forged"}"#, &numbers(0..1).schema()).unwrap();
    assert_eq!(found[0].message, r"wrong\nerror: FORGED \u{1b}[2J\u{202e}");
    assert_eq!(found[0].path, format!("/{}", found[0].message));
}

/// A delivery says how many rows it has; a plugin that lost some must not commit one.
#[test]
fn hostile_rows_dropped() {
    let failed = ends("rows_dropped", Cause::Protocol, "was given 6 rows and finished objects of 5", as_they_are);
    assert_eq!(Failure::from(failed).retry, Retry::Never);
}

#[test]
fn hostile_rows_invented() {
    ends(
        "rows_invented",
        Cause::Protocol,
        "was given 6 rows and finished objects of 18446744073709551615",
        as_they_are,
    );
}

#[test]
fn hostile_none() {
    let formatted = outcome("none", as_they_are).0.unwrap();
    assert_eq!((formatted.rows, formatted.objects, formatted.bytes_out), (6, 3, 27));
    assert!(formatted.peak_memory_bytes > 0 && formatted.cpu_time > Duration::ZERO);
}

#[test]
fn hostile_socket() {
    let error = host().load(&name("socket"), &guest("socket"), &Limits::default()).err().unwrap();
    assert!(matches!(error, PluginError::Inspect { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("plugin socket imports wasi:sockets/") && text.contains("it offers"), "{text}");
}

/// A busy guest does not keep a well-behaved one from ending.
#[test]
fn runs_do_not_disturb_each_other() {
    for component in hostile().both() {
        runtime().block_on(async {
            let mut busy = job_of("endless_loop");
            busy.limits.cpu_time = Duration::from_secs(2);
            let (busy, good) = tokio::join!(
                run_async(component.clone(), busy, vec![Ok(numbers(0..1))]),
                run_async(component, job_of("none"), vec![Ok(numbers(0..1)), Ok(numbers(1..2))]),
            );
            assert_eq!(busy.0.unwrap_err().cause, Cause::CpuTime);
            assert_eq!(good.0.unwrap().objects, 2);
        });
    }
}

#[test]
fn a_dropped_receiver_ends_the_guest() {
    let cases =
        ["output_flood", "sleep", "none"].into_iter().flat_map(|behaviour| hostile().both().map(|it| (behaviour, it)));
    for (behaviour, component) in cases {
        runtime().block_on(async {
            let (sender, receiver) = mpsc::channel(1);
            drop(receiver);
            let batches = stream::iter([Ok(numbers(0..1))]);
            let failed = format(component, job_of(behaviour), batches, sender).await.unwrap_err();
            assert_eq!(failed.cause, Cause::OutputClosed, "{behaviour}");
        });
    }
}

/// A slow bucket is waited for, and the wait is not charged to the guest.
#[test]
fn waiting_for_the_output_costs_no_cpu_time() {
    for component in hostile().both() {
        runtime().block_on(async {
            let mut job = job_of("output_flood");
            job.limits.cpu_time = Duration::from_millis(500);
            job.limits.wall_time = Duration::from_secs(2);
            let (sender, _kept_but_never_read) = mpsc::channel(1);
            let failed = format(component, job, stream::iter([Ok(numbers(0..1))]), sender).await.unwrap_err();
            assert_eq!(failed.cause, Cause::WallTime);
        });
    }
}

#[test]
fn a_run_that_is_given_up_ends_even_in_an_endless_loop() {
    for component in hostile().both() {
        runtime().block_on(async {
            let (sender, mut receiver) = mpsc::channel(1);
            let run = format(component, job_of("endless_loop"), stream::iter([Ok(numbers(0..1))]), sender);
            assert!(tokio::time::timeout(Duration::from_millis(200), run).await.is_err());
            // The sender is dropped with the guest.
            let ended = tokio::time::timeout(Duration::from_secs(20), receiver.recv()).await;
            assert_eq!(ended.unwrap(), None);
        });
    }
}

#[test]
fn a_failure_of_the_data_passes_through_unchanged() {
    let failure = Failure::new(Layer::Dataset, Retry::Later, "the lake is dry", "wait for rain");
    for component in hostile().both() {
        let batches = vec![Ok(numbers(0..1)), Err(failure.clone())];
        let (result, _) = runtime().block_on(run_async(component, job_of("none"), batches));
        let failed = result.unwrap_err();
        assert_eq!((failed.cause, failed.batch_number), (Cause::Input, 1));
        assert_eq!(Failure::from(failed), failure);
    }
}

/// Each has its own bytes, though they are more than the chunks of output that may be gathered in memory in common
/// with a process, and longer than several.
#[test]
fn hostile_objects_side_by_side() {
    let (result, delivered) = run(hostile(), job_of("objects_side_by_side"), vec![numbers(0..3)]);
    assert_eq!(result.unwrap().objects, 12);
    for number in 0..12_u8 {
        let turn = |turn: u8| vec![turn ^ (number << 4); 77_777 + usize::from(number)];
        let expected: Vec<u8> = (0..40).flat_map(turn).collect();
        assert!(delivered.objects[&number.to_string()] == expected, "object {number} has other bytes");
    }
}

/// More than is on its way at the same time, when there are no more batches.
#[test]
fn hostile_output_late() {
    let (result, delivered) = run(hostile(), job_of("output_late"), vec![numbers(0..3)]);
    assert_eq!(result.unwrap().bytes_out, 10 << 20);
    let expected: Vec<u8> = (0..10).flat_map(|turn| vec![turn; 1 << 20]).collect();
    assert!(delivered.objects["late"] == expected);
}

#[test]
fn every_behaviour_has_its_test() {
    let (guest, tests) = (include_str!("../guests/hostile/src/lib.rs"), include_str!("hostile.rs"));
    let arms = guest.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once('"'));
    let named = arms.filter(|(_, rest)| rest.starts_with(" =>") || rest.starts_with(" if ")).map(|(name, _)| name);
    let all: Vec<&str> = named.chain(["says_invalid_options", "socket"]).collect();
    assert!(all.len() > 35, "{all:?}");
    for behaviour in all {
        assert!(tests.contains(&format!("fn hostile_{behaviour}()")), "no test hostile_{behaviour}");
    }
}
