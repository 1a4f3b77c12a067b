//! Whether the files of a configuration have changed.

use std::fs;

use consign::config::{Config, Environment, Watched};

#[test]
fn a_change_of_any_file_is_seen_and_a_new_one_too() {
    let dir = tempfile::tempdir().unwrap();
    let main = dir.path().join("consign.toml");
    fs::write(&main, "include = [\"more/*.toml\"]\n").unwrap();
    fs::create_dir(dir.path().join("more")).unwrap();
    let (config, _) = Config::survey(&main, &Environment::default()).unwrap();
    let watched = Watched::of(&main, &config);
    let mut last = watched.look();
    assert_eq!(watched.look(), last);
    let more = dir.path().join("more/a.toml");
    let changes: [&dyn Fn(); 4] = [
        &|| fs::write(&more, "").unwrap(),
        &|| fs::write(&more, "[ledger]\n").unwrap(),
        &|| fs::write(&main, "include = [ \"more/*.toml\" ]\n").unwrap(),
        &|| fs::remove_file(&more).unwrap(),
    ];
    for (number, change) in changes.iter().enumerate() {
        change();
        let look = watched.look();
        assert_ne!(look, last, "change {number}");
        last = look;
    }
}
