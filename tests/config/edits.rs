//! The configuration as it would be.

use consign::config::{Config, Edits, Environment};

#[test]
fn files_are_read_as_they_would_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("c.d")).unwrap();
    let profile = |name: &str| {
        format!(
            "[customers.{name}]\nrole_arn = \"arn:aws:iam::123456789012:role/{name}\"\nexternal_id = \"id-{name}\"\n\
             bucket = \"{name}-data\"\nregion = \"eu-west-1\"\n"
        )
    };
    std::fs::write(path("consign.toml"), "include = [\"c.d/*.toml\"]\n").unwrap();
    std::fs::write(path("c.d/a.toml"), profile("a")).unwrap();
    std::fs::write(path("c.d/b.toml"), profile("b")).unwrap();
    let mut edits = Edits::default();
    edits.remove(&path("c.d/a.toml"));
    edits.set(&path("c.d/b.toml"), profile("b2"));
    edits.set(&path("c.d/c.toml"), profile("c"));
    edits.set(&path("elsewhere.toml"), profile("d"));
    let names = |edits: &Edits| {
        let (config, found) = Config::survey_with(&path("consign.toml"), &Environment::default(), edits).unwrap();
        assert!(found.is_empty(), "{found}");
        assert!(config.includes(&path("c.d/x.toml")) && !config.includes(&path("x.toml")));
        config.customers.keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&edits), ["b2", "c"]);
    assert_eq!(names(&Edits::default()), ["a", "b"]);
}
