//! What is packaged, as far as it can be judged without installing it;
//! `make test-systemd` does that.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CONSIGN: &str = env!("CARGO_BIN_EXE_consign");

/// Above this the build fails. It is 1.1 with systemd 252.
const EXPOSURE_MAX: &str = "20";

fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// None where there is no systemd-analyze, which is said also if the test's output is not shown.
fn systemd_analyze(args: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(args).output() {
        Ok(output) => Some(output),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: systemd-analyze cannot be run ({error})");
            None
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Unknown keys and values are only warnings, which is why any is a failure.
#[test]
fn unit_is_understood_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let unit = fs::read_to_string(checkout("packaging/consign.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/bin/consign run\n"));
    let path = dir.path().join("consign.service");
    fs::write(&path, unit.replace("/usr/bin/consign", CONSIGN)).unwrap();
    let Some(verified) = systemd_analyze(&["verify", "--man=no", path.to_str().unwrap()]) else { return };
    assert!(verified.status.success() && verified.stderr.is_empty(), "{}", text(&verified.stderr));
    // That a warning would be seen:
    fs::write(&path, unit.replace("/usr/bin/consign", CONSIGN).replace("ProtectClock=", "ProtectClocks=")).unwrap();
    let verified = systemd_analyze(&["verify", "--man=no", path.to_str().unwrap()]).unwrap();
    assert!(text(&verified.stderr).contains("ProtectClocks"), "{}", text(&verified.stderr));
}

#[test]
fn unit_gives_the_service_little() {
    let path = checkout("packaging/consign.service");
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let args = ["security", "--no-pager", "--offline=yes", &threshold, path.to_str().unwrap()];
    let Some(judged) = systemd_analyze(&args) else { return };
    assert!(judged.status.success() && judged.stderr.is_empty(), "{}\n{}", text(&judged.stdout), text(&judged.stderr));
}

/// Each line of the unit has its word in the documentation.
#[test]
fn unit_is_documented_line_by_line() {
    let unit = fs::read_to_string(checkout("packaging/consign.service")).unwrap();
    let document = fs::read_to_string(checkout("docs/service.md")).unwrap();
    let keys = unit.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let missing: Vec<&str> = keys.map(|(key, _)| key).filter(|key| !document.contains(&format!("`{key}"))).collect();
    assert!(missing.is_empty(), "docs/service.md does not say what {missing:?} are for");
}

/// `make test-systemd` itself: what it takes for a reason to skip.
#[test]
fn tests_under_a_real_systemd_are_skipped_only_where_they_cannot_run() {
    let mut python = Command::new("python3");
    python.args(["-B", "-m", "unittest", "test_run"]).current_dir(checkout("tests/systemd"));
    let tested = python.output().unwrap();
    assert!(tested.status.success(), "{}", text(&tested.stderr));
    assert!(text(&tested.stderr).contains("Ran 2 tests"), "{}", text(&tested.stderr));
}

#[test]
fn shipped_configuration_is_good_and_delivers_nothing() {
    let path = checkout("packaging/consign.toml");
    let checked = Command::new(CONSIGN).arg("--config").arg(&path).arg("check").output().unwrap();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains("the configuration is good: 0 shares"), "{}", text(&checked.stdout));
    assert!(text(&checked.stderr).contains("nothing will be delivered"), "{}", text(&checked.stderr));
    // As the unit does it, so that a start does not fill the journal.
    let quiet = Command::new(CONSIGN).arg("--config").arg(&path).args(["check", "--quiet"]).output().unwrap();
    assert_eq!((text(&quiet.stdout), quiet.stderr), ("", checked.stderr));
}

/// The commands that `--help` names.
fn commands() -> Vec<String> {
    let help = Command::new(CONSIGN).arg("--help").output().unwrap();
    let commands = text(&help.stdout).split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    // A name is indented by two, its description by more.
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    let names: Vec<String> = names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert!(names.len() > 5 && names.contains(&"run".to_owned()), "{names:?}");
    names
}

#[test]
fn every_command_has_its_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("man");
    let made = Command::new(CONSIGN).args(["man", "--out"]).arg(&out).output().unwrap();
    assert!(made.status.success() && made.stderr.is_empty(), "{}", text(&made.stderr));
    let whole = fs::read_to_string(out.join("consign.1")).unwrap();
    assert!(whole.contains(".TH consign 1") && whole.contains("consign.toml"), "{whole}");
    for command in commands().into_iter().filter(|command| command != "help") {
        let page = fs::read_to_string(out.join(format!("consign-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && whole.contains(&format!("{command}(1)")), "{command}: {page}");
    }
    assert!(out.join("consign-plugin-inspect.1").exists());
    assert!(!out.join("consign-man.1").exists(), "it is for packagers alone");
}

#[test]
fn shells_complete_every_command() {
    let commands = commands();
    for shell in ["bash", "zsh", "fish"] {
        let made = Command::new(CONSIGN).args(["completions", shell]).output().unwrap();
        assert!(made.status.success() && made.stderr.is_empty(), "{}", text(&made.stderr));
        let missing: Vec<_> =
            commands.iter().filter(|command| !text(&made.stdout).contains(command.as_str())).collect();
        assert!(missing.is_empty(), "{shell} does not complete {missing:?}");
    }
    // What the shell itself says of it, for the one that is everywhere.
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("consign.bash");
    fs::write(&script, Command::new(CONSIGN).args(["completions", "bash"]).output().unwrap().stdout).unwrap();
    let ask =
        r#"source "$0"; COMP_WORDS=(consign pl); COMP_CWORD=1; _consign consign pl consign; echo "${COMPREPLY[@]}""#;
    let asked = Command::new("bash").args(["-c", ask]).arg(&script).output().unwrap();
    assert_eq!((text(&asked.stdout), text(&asked.stderr)), ("plugin\n", ""));
}
