//! What is packaged, as far as it can be judged without installing it;
//! `make test-systemd` does that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::needs::not_tested;

const CONSIGN: &str = env!("CARGO_BIN_EXE_consign");

/// Above this, in tenths, the build fails. It is 1.1 with systemd 252.
const EXPOSURE_MAX: &str = "15";

fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// None where there is no systemd-analyze.
fn systemd_analyze(args: &[&str]) -> Option<Output> {
    match Command::new("systemd-analyze").args(args).output() {
        Ok(output) => Some(output),
        Err(error) => {
            not_tested(&format!("systemd-analyze cannot be run (on Debian, apt-get install systemd): {error}"));
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

/// A file of the unit's folder is what `{ credential = "NAME" }` finds.
#[test]
fn unit_hands_over_the_files_of_a_folder() {
    let unit = fs::read_to_string(checkout("packaging/consign.service")).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("LoadCredential=")).expect("a LoadCredential=");
    let (id, folder) = line.split_once(':').unwrap();
    // Without a default of the same name a missing folder is an error (systemd.exec(5)).
    assert!(unit.contains(&format!("\nSetCredential={id}:")), "{unit}");
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("consign.toml");
    let credential = |key: &str, name: &str| format!("{key} = {{ credential = \"{name}\" }}\n");
    let keys = credential("access_key_id", "aws-key-id") + &credential("secret_access_key", "aws-secret");
    fs::write(&config, format!("[aws]\nregion = \"eu-west-1\"\n{keys}")).unwrap();
    // As systemd names them: the id, and the file's name after it.
    fs::write(dir.path().join(format!("{id}_aws-key-id")), "AKIA").unwrap();
    // And as a drop-in does.
    fs::write(dir.path().join("aws-secret"), "secret").unwrap();
    let told = || {
        let mut check = Command::new(CONSIGN);
        check.arg("--config").arg(&config).arg("check").env("CREDENTIALS_DIRECTORY", dir.path());
        text(&check.output().unwrap().stderr).to_owned()
    };
    assert!(!told().contains("credential") && !told().contains("aws-"), "{}", told());
    fs::remove_file(dir.path().join(format!("{id}_aws-key-id"))).unwrap();
    assert!(told().contains(&format!("{folder}/aws-key-id")), "{}", told());
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

/// The commands that `--help` names, of consign or of one of its commands.
fn commands(of: &[&str]) -> Vec<String> {
    let help = Command::new(CONSIGN).args(of).arg("--help").output().unwrap();
    let Some((_, commands)) = text(&help.stdout).split_once("Commands:\n") else { return Vec::new() };
    let commands = commands.split_once("\n\n").unwrap().0;
    // A name is indented by two, its description by more.
    let names = commands.lines().filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
    names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn every_command_has_its_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("man");
    let made = Command::new(CONSIGN).args(["man", "--out"]).arg(&out).output().unwrap();
    assert!(made.status.success() && made.stderr.is_empty(), "{}", text(&made.stderr));
    let whole = fs::read_to_string(out.join("consign.1")).unwrap();
    assert!(whole.contains(".TH consign 1") && whole.contains("consign.toml"), "{whole}");
    for command in commands(&[]).into_iter().filter(|command| command != "help") {
        let page = fs::read_to_string(out.join(format!("consign-{command}.1"))).unwrap();
        assert!(page.contains(".SH SYNOPSIS") && whole.contains(&format!("{command}(1)")), "{command}: {page}");
    }
    let mut nested = 0;
    for command in commands(&[]).into_iter().filter(|command| command != "help") {
        for nested_in_it in commands(&[&command]).into_iter().filter(|command| command != "help") {
            let page = fs::read_to_string(out.join(format!("consign-{command}-{nested_in_it}.1"))).unwrap();
            assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH DESCRIPTION"), "{page}");
            nested += 1;
        }
    }
    assert!(nested >= 4 && out.join("consign-ledger-backup.1").exists(), "{nested} pages of nested commands");
    assert!(!out.join("consign-man.1").exists(), "it is for packagers alone");
}

/// The shell itself finds no fault with it.
fn reads(shell: &str, script: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("consign");
    fs::write(&path, script).unwrap();
    match Command::new(shell).arg("-n").arg(&path).env("HOME", dir.path()).output() {
        Ok(read) => assert!(read.status.success() && read.stderr.is_empty(), "{shell}: {}", text(&read.stderr)),
        Err(error) => not_tested(&format!("{shell} cannot be run (on Debian, apt-get install {shell}): {error}")),
    }
}

#[test]
fn shells_complete_every_command() {
    let commands = commands(&[]);
    assert!(commands.len() > 5 && commands.contains(&"run".to_owned()), "{commands:?}");
    for shell in ["bash", "zsh", "fish"] {
        let made = Command::new(CONSIGN).args(["completions", shell]).output().unwrap();
        assert!(made.status.success() && made.stderr.is_empty(), "{}", text(&made.stderr));
        let missing: Vec<_> =
            commands.iter().filter(|command| !text(&made.stdout).contains(command.as_str())).collect();
        assert!(missing.is_empty(), "{shell} does not complete {missing:?}");
        reads(shell, &made.stdout);
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
