//! Loading: what is refused, what the cache does, what `check` says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use arrow::datatypes::Schema;
use consign::limits::Limits;
use consign::plugin::{CacheError, Diagnostic, PluginError, PluginHost, Severity};

use super::support::{echo, guest, host, name, numbers, run_in};

fn refused(bytes: &[u8]) -> String {
    let error = host().load(&name("odd"), bytes, &Limits::default()).err().unwrap();
    std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir.join("plugins")).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.extension().is_some_and(|e| e == extension)).collect()
}

#[test]
fn a_plugin_describes_itself() {
    let component = echo().within;
    let description = component.description();
    assert_eq!((description.name.as_str(), description.extension.as_str()), ("echo", "bin"));
    assert_eq!(component.digest().len(), 64);
}

#[test]
fn check_gives_every_finding() {
    assert_eq!(echo().check("{}", &numbers(0..1).schema()).unwrap(), []);
    let found = echo().check(r#"{"wrong":1}"#, &Schema::empty()).unwrap();
    let severities: Vec<Severity> = found.iter().map(|finding| finding.severity).collect();
    assert_eq!(severities, [Severity::Warning, Severity::Error]);
    let (path, message) = ("/wrong".into(), "is wrong".into());
    assert_eq!(found[1], Diagnostic { severity: Severity::Error, path, message });
}

/// `load` and `check` work on a thread of a runtime as well as on any other.
#[test]
fn check_may_be_called_inside_a_runtime() {
    super::support::runtime().block_on(async { echo().check("{}", &Schema::empty()).unwrap() });
}

#[test]
fn what_is_no_component_is_refused() {
    assert!(refused(b"").contains("the file is empty"));
    assert!(refused(b"PK\x03\x04").contains("does not begin with the WebAssembly header"));
    assert!(refused(b"(component)").contains("text format"));
    assert!(refused(b"\x7fELF....").contains("precompiled code"));
    assert!(refused(b"\0asm\x01\0\0\0").contains("core module"));
    assert!(refused(b"\0asm\x0d\0\x01\0garbage").contains("does not compile"));
}

#[test]
fn a_component_of_another_world_is_refused() {
    let text = refused(b"\0asm\x0d\0\x01\0");
    assert!(text.contains("does not export consign:format/formatter@1.0.0; it exports nothing and imports nothing"));
}

#[test]
fn a_truncated_component_is_refused() {
    let bytes = guest("echo");
    assert!(refused(&bytes[..bytes.len() / 2]).contains("does not compile"));
}

#[test]
fn the_cache_serves_the_second_load_and_survives_damage() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = guest("echo");
    let load = || PluginHost::new(dir.path()).unwrap().load(&name("echo"), &bytes, &Limits::default()).unwrap();
    load();
    let (code, sum) = (files(dir.path(), "cwasm"), files(dir.path(), "crc64"));
    assert_eq!((code.len(), sum.len()), (1, 1));
    let whole = fs::read(&code[0]).unwrap();
    let written = || fs::metadata(&code[0]).unwrap().modified().unwrap();
    let first = written();
    load();
    assert_eq!(written(), first, "the second load compiled again");

    let half = &whole[..whole.len() / 2];
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [half, flipped.as_slice(), b""] {
        fs::write(&code[0], damaged).unwrap();
        let (result, _) = run_in(load(), super::support::job("{}", numbers(0..1).schema()), vec![numbers(0..1)]);
        result.unwrap();
        assert_eq!(fs::read(&code[0]).unwrap().len(), whole.len());
    }
    fs::remove_file(&sum[0]).unwrap();
    load();
    assert!(sum[0].exists());
}

#[test]
fn the_cache_is_this_users_alone() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = guest("echo");
    PluginHost::new(dir.path()).unwrap().load(&name("echo"), &bytes, &Limits::default()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir.path().join("plugins")), 0o700);
    let code = files(dir.path(), "cwasm").remove(0);
    assert_eq!((mode(&code), mode(&files(dir.path(), "crc64")[0])), (0o600, 0o600));

    fs::set_permissions(&code, fs::Permissions::from_mode(0o666)).unwrap();
    let error = PluginHost::new(dir.path()).unwrap().load(&name("echo"), &bytes, &Limits::default()).err().unwrap();
    assert!(matches!(error, PluginError::Cache(CacheError::NotOurs { .. })), "{error}");
    assert!(error.to_string().contains("may be written by other users (mode 0666)"), "{error}");

    fs::remove_file(&code).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &code).unwrap();
    let error = PluginHost::new(dir.path()).unwrap().load(&name("echo"), &bytes, &Limits::default()).err().unwrap();
    assert!(error.to_string().contains("is a link"), "{error}");

    fs::set_permissions(dir.path().join("plugins"), fs::Permissions::from_mode(0o770)).unwrap();
    let error = PluginHost::new(dir.path()).err().unwrap();
    assert!(error.to_string().contains("mode 0770"), "{error}");
}

/// Who may write to it could put another cache in the place of this one.
#[test]
fn the_folder_of_the_cache_is_kept_from_others_too() {
    for (mode, refused) in [(0o777, true), (0o775, true), (0o1777, false), (0o755, false)] {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
        let opened = PluginHost::new(dir.path());
        let said = opened.as_ref().err().map(ToString::to_string).unwrap_or_default();
        assert_eq!(opened.is_err(), refused, "{mode:o}: {said}");
        assert_eq!(said.contains(&format!("(mode {mode:04o})")), refused, "{said}");
    }
}
