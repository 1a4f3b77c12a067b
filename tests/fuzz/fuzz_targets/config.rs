//! Configuration: whatever is in the file, it is read or refused with places that are
//! in the file, and never in secret's words.
#![no_main]

use std::cell::RefCell;
use std::path::PathBuf;

use consign::config::{Config, Environment};
use libfuzzer_sys::{Corpus, fuzz_target};

/// In memory: a file for each input is most of the time otherwise.
fn path() -> PathBuf {
    thread_local! {
        static DIR: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
    }
    DIR.with(|dir| {
        let mut dir = dir.borrow_mut();
        let dir = dir.get_or_insert_with(|| {
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder for the file")
        });
        dir.path().join("consign.toml")
    })
}

fuzz_target!(|bytes: &[u8]| -> Corpus {
    // Other files are another machine's matter.
    if bytes.windows(7).any(|word| word == b"include") {
        return Corpus::Reject;
    }
    let path = path();
    std::fs::write(&path, bytes).expect("the file");
    let env = Environment::from_pairs([("VENDOR_SECRET", "kept-very-secret")]);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
    let (problems, read) = match Config::survey(&path, &env) {
        Ok((_, problems)) => (problems, true),
        Err(problems) => (problems, false),
    };
    for problem in problems.problems() {
        assert!(!problem.message.trim().is_empty());
        let said = problem.to_json();
        if let Some(line) = said["line"].as_u64() {
            assert!(line >= 1 && line as usize <= lines, "line {line} of {lines}: {said}");
        }
    }
    let text = problems.render(false);
    assert!(!text.contains("kept-very-secret"));
    assert_eq!(text.is_empty(), problems.is_empty());
    // The two ways of reading agree.
    let whole = Config::load(&path, &env);
    assert_eq!(whole.is_ok(), read && !problems.has_errors());
    Corpus::Keep
});
