//! A plugin that misbehaves in the way its options name:
//! `{"behaviour":"endless_loop"}`, some with a `"path"` after it. `tests/plugin/hostile.rs` has one test for
//! each arm of `write`, and a test that none is missing.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

wit_bindgen::generate!({ path: "../../../wit/v1", world: "consign:format/format-plugin" });

use consign::format::data::Batch;
use consign::format::output::{Object, Sink};
use consign::format::run::{Level, log};
use consign::format::types::{Description, Diagnostic, Error, Field, Severity};
use exports::consign::format::formatter::{Formatter, Guest, GuestFormatter};

/// Begins a line of its own and clears a terminal.
const FORGED: &str = "wrong\nerror: FORGED \u{1b}[2J\u{202e}";

struct Hostile;

struct Open {
    behaviour: String,
    path: String,
    batches: Cell<u32>,
    kept: Cell<Option<Object>>,
}

export!(Hostile);

impl Guest for Hostile {
    type Formatter = Open;

    fn describe() -> Description {
        Description {
            name: "hostile".into(),
            version: "1.0.0".into(),
            extension: "txt".into(),
            media_type: "text/plain".into(),
            options_schema: "{}".into(),
        }
    }

    fn check(options: String, _: Vec<Field>) -> Vec<Diagnostic> {
        if !options.contains("says_forged") {
            return Vec::new();
        }
        vec![Diagnostic { severity: Severity::Error, path: format!("/{FORGED}"), message: FORGED.into() }]
    }
}

impl GuestFormatter for Open {
    fn open(options: String, _: Vec<Field>) -> Result<Formatter, Error> {
        let value = |n: usize| options.split('"').nth(4 * n + 3).unwrap_or_default().to_owned();
        let [behaviour, path] = [value(0), value(1)];
        if behaviour == "says_invalid_options" {
            return Err(Error::InvalidOptions("no such option".into()));
        }
        Ok(Formatter::new(Open { behaviour, path, batches: Cell::new(0), kept: Cell::new(None) }))
    }

    fn write(&self, batch: &Batch, sink: &Sink) -> Result<(), Error> {
        let number = self.batches.replace(self.batches.get() + 1);
        let whole = |name: &str, text: &str| {
            let object = sink.create(name, "text/plain");
            object.write(text.as_bytes());
            object.finish(batch.rows().into());
        };
        match self.behaviour.as_str() {
            "endless_loop" => endless_loop(),
            "memory_bomb" => memory_bomb(),
            "stack_bomb" => _ = black_box(stack_bomb(1)),
            "deep_recursion" => whole(&number.to_string(), &deep_recursion(black_box(100_000)).to_string()),
            "output_flood" => {
                let object = sink.create("flood", "text/plain");
                let bytes = vec![0; 1 << 20];
                loop {
                    object.write(&bytes);
                }
            }
            "object_flood" => (0..).for_each(|i: u64| whole(&i.to_string(), "")),
            "open_object_flood" => {
                let bytes = vec![0; 500 << 10];
                let write = |i: u64| {
                    let object = sink.create(&i.to_string(), "text/plain");
                    object.write(&bytes);
                    std::mem::forget(object);
                };
                (0..).for_each(write);
            }
            "log_flood" => (0..).for_each(|i: u64| log(Level::Info, &format!("line {i}"))),
            "stderr_flood" => (0..).for_each(|i: u64| eprintln!("line {i}")),
            "panic" => panic!("the guest gives up on batch {number}"),
            "exit" => std::process::exit(0),
            "abort" => std::process::abort(),
            "trap_midway" if number == 2 => std::process::abort(),
            "trap_midway" => whole(&number.to_string(), "whole"),
            "name_parent" => whole("../x", ""),
            "name_absolute" => whole("/x", ""),
            "name_escape" => whole("a/../../b", ""),
            "name_nul" => whole("a\0b", ""),
            "name_long" => whole(&"x".repeat(2048), ""),
            "name_empty" => whole("", ""),
            "name_manifest" => whole("_manifest.json", ""),
            "name_twice" => ["same", "same"].into_iter().for_each(|name| whole(name, "")),
            "media_type_header" => sink.create("x", "text/plain\r\nx-amz-acl: public-read").finish(0),
            "object_unfinished" => self.kept.set(Some(sink.create(&number.to_string(), "text/plain"))),
            "object_dropped" => drop(sink.create(&number.to_string(), "text/plain")),
            "write_after_finish" => {
                let object = sink.create("x", "text/plain");
                object.finish(0);
                object.write(b"late");
            }
            "finish_twice" => {
                let object = sink.create("x", "text/plain");
                object.finish(0);
                object.finish(0);
            }
            "sink_kept" => _ = sink.take_handle(),
            "batch_kept" => _ = batch.take_handle(),
            "handle_forged" => drop(unsafe { Object::from_handle(4711) }),
            "huge_write" => {
                let object = sink.create("x", "text/plain");
                object.write(&vec![0; (16 << 20) + 1]);
                object.finish(0);
            }
            "huge_name" => whole(&"x".repeat(17 << 20), ""),
            "sleep" => std::thread::sleep(Duration::from_secs(3600)),
            "sleep_pieces" => (0..).for_each(|_: u64| std::thread::sleep(Duration::from_millis(5))),
            "file_open" => whole("x", &format!("{:?}", std::fs::read("/etc/passwd").map_err(|e| e.kind()))),
            "file_create" => whole("x", &format!("{:?}", std::fs::write(&self.path, "x").map_err(|e| e.kind()))),
            "env_read" => {
                let (env, args) = (std::env::vars().count(), std::env::args().count());
                let mut line = String::new();
                let stdin = std::io::stdin().read_line(&mut line).ok();
                whole("x", &format!("env {env} args {args} stdin {stdin:?}"));
            }
            "clock_read" => {
                let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let begin = Instant::now();
                whole("x", &format!("{} {:?}", wall.as_nanos(), begin.elapsed()));
            }
            "random_read" => {
                use std::hash::{BuildHasher, RandomState};
                whole("x", &format!("{:x}", RandomState::new().hash_one(1)));
            }
            "says_unsupported" => return Err(Error::Unsupported("no such type".into())),
            "says_quota" => return Err(Error::Quota("too many rows".into())),
            "says_retryable" => return Err(Error::Retryable("try again".into())),
            "says_other" => return Err(Error::Other("something else".into())),
            "says_forged" => return Err(Error::Other(FORGED.to_owned() + &"y".repeat(10_000))),
            "rows_dropped" if number == 2 => {}
            "rows_dropped" => whole(&number.to_string(), "whole"),
            "rows_invented" => {
                whole(&number.to_string(), "whole");
                sink.create(&format!("more-{number}"), "text/plain").finish(u64::MAX);
            }
            "log_injection" => {
                log(Level::Warn, "a\nFORGED line \u{1b}[2J");
                eprintln!("{}", "y".repeat(10_000));
                panic!("end");
            }
            "objects_side_by_side" => {
                let objects: Vec<Object> = (0..12).map(|i| sink.create(&i.to_string(), "text/plain")).collect();
                for turn in 0..40_u8 {
                    objects
                        .iter()
                        .zip(0..)
                        .for_each(|(object, i)| object.write(&vec![turn ^ (i << 4); 77_777 + usize::from(i)]));
                }
                objects
                    .into_iter()
                    .zip(0..)
                    .for_each(|(object, i)| object.finish(if i == 0 { batch.rows().into() } else { 0 }));
            }
            "output_late" => {}
            "none" => whole(&number.to_string(), "well done"),
            other => return Err(Error::InvalidOptions(format!("no behaviour {other:?}"))),
        }
        Ok(())
    }

    fn finish(&self, sink: &Sink) -> Result<(), Error> {
        if self.behaviour == "output_late" {
            let object = sink.create("late", "text/plain");
            let mut bytes = vec![0; 1 << 20];
            for turn in 0..10 {
                bytes.fill(turn);
                object.write(&bytes);
            }
            object.finish(3);
        }
        Ok(())
    }
}

#[inline(never)]
fn endless_loop() {
    loop {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

#[inline(never)]
fn memory_bomb() {
    let mut all = Vec::new();
    loop {
        all.push(vec![1_u8; 1 << 20]);
        black_box(&all);
    }
}

static COUNT: AtomicU64 = AtomicU64::new(0);

#[inline(never)]
fn stack_bomb(n: u64) -> u64 {
    if COUNT.fetch_add(1, Ordering::Relaxed) == u64::MAX {
        return n;
    }
    stack_bomb(n + 1).wrapping_mul(3) ^ n
}

/// Wants more than the usual stack, and comes to its end.
#[inline(never)]
fn deep_recursion(n: u64) -> u64 {
    if n == 0 {
        return COUNT.fetch_add(1, Ordering::Relaxed);
    }
    deep_recursion(n - 1).wrapping_mul(3) ^ n
}
