//! Who asks a running daemon: nonsense, silence, strangers, and many at once.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::process::Signal;
use serde_json::json;

use super::admin::{daemon, in_state, say, world};
use super::world::{self, Running, SOON, says, stop, until};
use crate::support::needs::not_tested;

/// Whoever has the socket has no power over the deliveries.
#[test]
fn admin_nonsense_does_not_disturb_deliveries() {
    let world = world("* * * * * *", "\"AS\"", "overlap = \"allow\"");
    let _sandbox = world.sandbox();
    let daemon = daemon(&world);
    until("a slot is delivered", SOON, || !in_state(&world, "succeeded").is_empty());
    let silent: Vec<UnixStream> =
        (0..8).map(|_| UnixStream::connect(world.path("state/consign.sock")).unwrap()).collect();
    let mut half = UnixStream::connect(world.path("state/consign.sock")).unwrap();
    half.write_all(b"{\"version\":").unwrap();
    let long = vec![b'x'; 1 << 20];
    let garbage: [&[u8]; 9] = [
        b"\0\xff\xfe",
        b"GET / HTTP/1.1",
        b"[]",
        b"{\"version\":1}",
        b"{\"version\":1,\"consign\":\"0.1.0\",\"ask\":\"nonsense\"}",
        b"{\"version\":1,\"consign\":\"0.1.0\",\"ask\":{\"pause\":{\"share\":7}}}",
        b"{\"version\":1,\"consign\":\"0.1.0\",\"ask\":{\"cancel\":{\"run\":\"\",\"customers\":[]}}}",
        b"nul",
        &long,
    ];
    let mut said = Vec::new();
    for number in 0..1000 {
        let line = say(&world, garbage[number % garbage.len()]);
        assert!(line.contains("\"error\""), "{line}");
        said.push(line);
    }
    says(&said[4], &["that is no request", "nonsense"]);
    says(&said[8], &["longer than 65536 bytes"]);
    let other = say(&world, b"{\"version\":2,\"consign\":\"9.9.9\",\"later\":true}");
    says(&other, &["consign 9.9.9 asks in version 2", "speaks version 1"]);
    // All this time, every second.
    drop(half);
    let slots = || {
        let mut slots: Vec<DateTime<Utc>> =
            world.runs().iter().map(|run| run["slot"].as_str().unwrap().parse().unwrap()).collect();
        slots.sort_unstable();
        slots
    };
    let known = slots().len();
    until("more slots are delivered", SOON, || in_state(&world, "succeeded").len() > known);
    stop(daemon);
    drop(silent);
    assert!(slots().windows(2).all(|pair| (pair[1] - pair[0]).num_seconds() == 1), "{:?}", slots());
    assert!(in_state(&world, "failed").is_empty());
}

/// More callers than there are places are turned away, and told so; a silent one
/// has its place for ten seconds.
#[test]
fn admin_silent_callers_lose_their_places() {
    let world = world("0 6 1 1 *", "\"AS\"", "");
    let daemon = daemon(&world);
    let mut silent: Vec<UnixStream> =
        (0..16).map(|_| UnixStream::connect(world.path("state/consign.sock")).unwrap()).collect();
    until("all places are taken", SOON, || {
        let ran = world.run(&["status"]);
        ran.code == 1 && ran.stderr.contains("too many ask at the same time")
    });
    until("there is room again", SOON, || world.run(&["status"]).code == 0);
    let mut told = String::new();
    silent[0].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    silent[0].read_to_string(&mut told).unwrap();
    says(&told, &["no line came within 10 s"]);
    stop(daemon);
}

/// Who asks is looked at, not only who may open the socket.
#[test]
fn admin_others_who_reach_the_socket_may_not_ask() {
    if !rustix::process::geteuid().is_root() {
        not_tested("only root can ask as somebody else");
        return;
    }
    let world = world("0 6 1 1 *", "\"AS\"", "");
    let daemon = daemon(&world);
    // As somebody with good intentions might leave them.
    let modes =
        [(world.dir().to_owned(), 0o755), (world.path("state"), 0o755), (world.path("state/consign.sock"), 0o666)];
    for (path, mode) in modes {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    // Where the tests' own may be, others may not look.
    // Copied by a process of its own: what this one has open to write, a child that another test begins has too, and
    // nobody can start it meanwhile.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_consign")).arg(world.path("consign")).status().unwrap();
    assert!(copied.success());
    let nobody = |args: &[&str]| {
        let mut command = Command::new(world.path("consign"));
        command.env_clear().current_dir(world.dir()).args(["--config", "consign.toml"]).args(args);
        command.uid(65_534).gid(65_534).output().unwrap()
    };
    for args in [["status", "--json"], ["pause", "tick"]] {
        let refused = nobody(&args);
        let text = String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{text}");
        says(&text, &["only root and the user that runs consign may ask"]);
        assert!(!text.contains("cannot reach consign"), "it was not let near the socket: {text}");
    }
    assert!(!world.run(&["status"]).ended(0).stdout.contains("paused"));
    stop(daemon);
}

/// A `send` that waits for the next try, and a `retry` from another terminal: neither takes the other's place.
#[test]
fn admin_two_who_wait_for_one_delivery_both_hear_how_it_ended() {
    let retry = "retry = { attempts = 9, backoff = \"1h\", max_backoff = \"1h\" }";
    let world = world("0 6 1 1 *", "\"AS\"", retry);
    drop(world.sandbox());
    let daemon = daemon(&world);
    let mut command = world::command(world.dir(), &["--config", "consign.toml", "send", "tick"]);
    let (said, errors) = (fs::File::create(world.path("send.out")), fs::File::create(world.path("send.err")));
    let mut first = Running::start(command.stdout(said.unwrap()).stderr(errors.unwrap()));
    until("it waits for its next try", SOON, || world.log().contains("to be tried again"));
    let run = in_state(&world, "running").remove(0);
    let _sandbox = world.sandbox_again();
    world.run(&["retry", &run]).ended(0).out_says(&["delivered"]);
    assert_eq!(first.wait(SOON).code(), Some(0), "{}", fs::read_to_string(world.path("send.err")).unwrap());
    says(&fs::read_to_string(world.path("send.out")).unwrap(), &["delivered"]);
    stop(daemon);
}

/// Who waits has a place as long as it listens, and none that a reload needs.
#[test]
fn admin_who_is_gone_does_not_keep_others_from_waiting() {
    let world = world("0 * * * *", "\"AS\"", "overlap = \"allow\"");
    let sandbox = world.sandbox();
    let daemon = daemon(&world);
    sandbox.signal(Signal::STOP);
    let wait = |hour: u32| {
        let at = format!("2024-01-{:02}T{:02}:00:00Z", 1 + hour / 24, hour % 24);
        let send = json!({ "send": { "share": "tick", "at": at, "customers": [], "wait": true } });
        let mut socket = UnixStream::connect(world.path("state/consign.sock")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        writeln!(socket, "{}", json!({ "version": 1, "consign": "0", "ask": send })).unwrap();
        let mut line = String::new();
        BufReader::new(&socket).read_line(&mut line).unwrap();
        (socket, line)
    };
    let waiting: Vec<(UnixStream, String)> = (0..64).map(wait).collect();
    assert!(waiting.iter().all(|(_, line)| line.contains("begun")), "{waiting:?}");
    says(&wait(64).1, &["64 callers wait already"]);
    world.run(&["reload", "--wait"]).ended(0);
    drop(waiting);
    let mut hour = 65;
    until("there is room for another one", SOON, || {
        hour += 1;
        wait(hour).1.contains("begun")
    });
    sandbox.signal(Signal::CONT);
    stop(daemon);
}
