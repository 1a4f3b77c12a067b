//! Processes of plugins that were taken over: what they say is held against the protocol,
//! and none of it keeps the daemon waiting for longer than the plugin may take.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use consign::domain::Failure;
use consign::limits::{Isolation, Limits};
use consign::plugin::{Cause, Failed, Job, PluginHost};

use crate::support::needs::not_tested;

use super::support::{guest, job, name, numbers, run_in};

/// The first of them is consign's own, which answers `describe`.
const IMPOSTOR: &str = r#"
import os, socket, struct, sys, time

def frame(kind, payload):
    return struct.pack("<BI", kind, len(payload)) + payload

def lent(object, length, slot):
    return frame(5, struct.pack("<QQB", object, length, slot))

described = os.path.join(os.path.dirname(sys.argv[0]), "described")
if BEHAVIOUR != "trickle" and not os.path.exists(described):
    open(described, "w").close()
    os.execv(CONSIGN, sys.argv)
daemon = socket.socket(fileno=0)
create = frame(16, b'[0,"x","text/plain"]')
said = {
    "no such slot": lent(0, 1, 8),
    "too long": lent(0, (512 << 10) + 1, 0),
    "empty": create + lent(0, 0, 0),
    "freed none": frame(6, b"\0"),
    "freed too many": frame(6, b"\4"),
    "began too much": frame(21, b"2"),
    "began nothing": frame(21, b"0"),
    "unknown": frame(17, b"\0\0\0\0bytes"),
    "flood": create,
}.get(BEHAVIOUR, b"")
daemon.sendall(said)
while BEHAVIOUR == "flood":
    daemon.sendall(1000 * lent(0, 1, 0))
while BEHAVIOUR == "trickle":
    daemon.sendall(frame(20, bytes(1 << 20))[:6] if said == b"" else b" ")
    said = b"begun"
    time.sleep(0.2)
time.sleep(3600)
"#;

/// A host whose processes behave so; None where there is no Python.
fn host(dir: &Path, behaviour: &str) -> Option<PluginHost> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv/bin/python");
    if !python.exists() {
        not_tested("no .venv (make setup)");
        return None;
    }
    let script = dir.join("consign");
    let (python, consign) = (python.display(), env!("CARGO_BIN_EXE_consign"));
    let text = format!("#!{python}\nBEHAVIOUR = {behaviour:?}\nCONSIGN = {consign:?}\n{IMPOSTOR}");
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(PluginHost::new(dir).unwrap().with_worker(&script))
}

/// For those who are to be out of time.
const SOON: Duration = Duration::from_secs(1);
/// For those who are not: Python starts within it, however busy the machine is.
const LATE: Duration = Duration::from_secs(60);

fn limits(wall_time: Duration) -> Limits {
    Limits { wall_time, ..Limits::default() }
}

/// How a run of such a process ends that may take so long.
fn ends(behaviour: &str, wall_time: Duration) -> Option<Failed> {
    let dir = tempfile::tempdir().unwrap();
    let host = host(dir.path(), behaviour)?;
    let component = host.load_in(Isolation::Process, &name("echo"), &guest("echo"), &Limits::default()).unwrap();
    let job = Job { limits: limits(wall_time), ..job("{}", numbers(0..1).schema()) };
    Some(run_in(component, job, vec![numbers(0..1)]).0.unwrap_err())
}

#[test]
fn what_a_process_says_against_the_protocol_ends_its_run() {
    for (behaviour, told) in [
        ("no such slot", "its process sent a chunk that is in no slot"),
        ("too long", "its process sent a chunk that is in no slot"),
        ("empty", "its process sent a chunk that is in no slot"),
        ("freed none", "its process freed what it was not sent"),
        ("freed too many", "its process freed what it was not sent"),
        ("began too much", "its process began a batch that it was not sent"),
        ("began nothing", "its process began a batch that it was not sent"),
        ("unknown", "its process sent a frame of the unknown kind 17"),
    ] {
        let Some(failed) = ends(behaviour, LATE) else { return };
        assert_eq!((failed.cause, failed.message.as_str()), (Cause::Protocol, told), "{behaviour}");
    }
}

#[test]
fn a_process_that_says_nothing_or_never_ends_is_ended() {
    for behaviour in ["nothing", "flood"] {
        let Some(failed) = ends(behaviour, SOON) else { return };
        assert_eq!(failed.cause, Cause::WallTime, "{behaviour}: {failed:?}");
    }
}

/// However often a byte of it comes.
#[test]
fn an_answer_that_never_ends_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let Some(host) = host(dir.path(), "trickle") else { return };
    let refused = host.load_in(Isolation::Process, &name("echo"), &guest("echo"), &limits(SOON)).err().unwrap();
    let chain = Failure::chain(&refused);
    assert!(chain.contains("did not answer in time"), "{chain}");
}
