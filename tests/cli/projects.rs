//! Projects of plugins, from `plugin new` to what a customer gets: the commands of
//! docs/plugins.md.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::world::{Ran, World, checkout, command, customer, says};
use crate::support::needs::not_tested;

/// Where the programs that build plugins are: of the checkout's `.venv`, of npm,
/// of the machine.
fn tools() -> String {
    let npm = std::env::var("CONSIGN_TEST_NPM").unwrap_or_default();
    let path = std::env::var("PATH").unwrap();
    format!("{}:{npm}:{path}", checkout(".venv/bin").display())
}

fn is_there(program: &str) -> bool {
    let there = tools().split(':').any(|folder| !folder.is_empty() && Path::new(folder).join(program).exists());
    if !there {
        not_tested(&format!("there is no {program}; `make test` gets it"));
    }
    there
}

/// A folder in which somebody makes plugins.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with(&tools(), args)
    }

    fn run_with(&self, path: &str, args: &[&str]) -> Ran {
        let mut command = command(self.0.path(), &[&["plugin"], args].concat());
        let home = std::env::var("HOME").unwrap();
        let of_home = |name: &str, folder: &str| std::env::var(name).unwrap_or_else(|_| format!("{home}/{folder}"));
        command
            .env("PATH", path)
            .env("CARGO_HOME", of_home("CARGO_HOME", ".cargo"))
            .env("RUSTUP_HOME", of_home("RUSTUP_HOME", ".rustup"))
            // Dependencies and zig's libc are compiled once, not once a project. What
            // is the project's is elsewhere: with one folder for both an object was gone once.
            .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("projects"))
            .env("ZIG_GLOBAL_CACHE_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("zig"))
            .env("ZIG_LOCAL_CACHE_DIR", self.path("zig"));
        // The checkout's, for which `make setup` has got the target.
        if let Ok(toolchain) = std::env::var("RUSTUP_TOOLCHAIN") {
            command.env("RUSTUP_TOOLCHAIN", toolchain);
        }
        ran(&mut command)
    }
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// Makes a project, builds it and runs its cases.
fn made(bench: &Bench, language: &str) {
    bench.run(&["new", "mine", "--lang", language]).ended(0).out_says(&["cd mine", "consign plugin build"]);
    let built =
        bench.run(&["build", "mine"]).ended(0).out_says(&["mine/mine.wasm", "name        mine 1.0.0", "sha256"]);
    assert!(!built.stderr.contains("warning"), "{}", built.stderr);
    assert!(bench.path("mine/mine.wasm").is_file());
    let tested = bench.run(&["test", "mine"]).ended(0);
    says(&tested.stdout, &["first", "split", "numbered", "refused"]);
    bench.run(&["conformance", "mine", "column-names"]).ended(0).out_says(&["pass  column-names"]);
}

/// What the component imports of WASI.
fn wasi(bench: &Bench) -> Vec<String> {
    let said = bench.run(&["inspect", "mine", "--json"]).ended(0).json();
    let imports = said["imports"].as_array().unwrap().iter();
    let names = imports.map(|import| import["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("wasi:")).collect()
}

#[test]
fn a_new_plugin_in_rust_builds_passes_and_delivers() {
    let bench = Bench::new();
    made(&bench, "rust");
    let lock = fs::read_to_string(bench.path("mine/Cargo.lock")).unwrap();
    assert!(!lock.contains("name = \"wasmtime\""), "cargo leaves out what the project does not use");
    delivers(&bench);
}

/// docs/plugins.md, "Deliver with it".
fn delivers(bench: &Bench) {
    let config = format!(
        r#"@AWS@
{}
[datasets.orders]
tables.orders = {{ path = "orders.csv", columns = {{ amount = "decimal(12, 2)" }} }}
[plugins.mine]
path = "mine/mine.wasm"
[shares.orders]
schedule = "@daily"
dataset = "orders"
plugin = "mine"
options = {{ delimiter = "|" }}
to = {{ all = true }}
"#,
        customer("acme", 1, "eu-west-1", "\"WN\"")
    );
    let world = World::new(&config);
    fs::create_dir(world.path("mine")).unwrap();
    fs::copy(bench.path("mine/mine.wasm"), world.path("mine/mine.wasm")).unwrap();
    world.write("orders.csv", "id,name,amount\n1,\"a|b\",9.90\n2,,-0.05\n");
    let _sandbox = world.sandbox();
    world.run(&["check"]).ended(0);
    world.run(&["send", "orders"]).ended(0);
    let found = super::world::files(&world.path("buckets"));
    let (key, _) = found.iter().find(|(key, _)| key.ends_with(".txt")).unwrap();
    let text = fs::read_to_string(world.path("buckets").join(key)).unwrap();
    assert_eq!(text, "1|a\\|b|9.90\n2|\\N|-0.05\n");
}

#[test]
fn a_new_plugin_in_c_builds_and_passes() {
    if !is_there("python3") {
        return;
    }
    let bench = Bench::new();
    made(&bench, "c");
    assert_eq!(wasi(&bench), Vec::<String>::new());
    // What is printed goes into the log, through what consign offers of WASI.
    let source = bench.path("mine/src/plugin.c");
    let text = fs::read_to_string(&source).unwrap().replace(
        "    rows_finish(&copy->rows, sink);",
        "    fprintf(stderr, \"finished\\n\");\n    rows_finish(&copy->rows, sink);",
    );
    fs::write(&source, format!("#include <stdio.h>\n{text}")).unwrap();
    bench.run(&["build", "mine"]).ended(0);
    assert!(wasi(&bench).iter().any(|name| name.starts_with("wasi:cli/stderr@")));
    bench.run(&["test", "mine"]).ended(0);
    // What the compiler says is shown, and the component of before stays.
    fs::write(&source, format!("{text}\nint broken(void) {{ return missing; }}\n")).unwrap();
    let failed = bench.run(&["build", "mine"]).ended(1);
    says(&failed.stderr, &["error: use of undeclared identifier 'missing'", "ended with", "what it said is above"]);
    bench.run(&["test", "mine"]).ended(0);
}

#[test]
fn a_new_plugin_in_python_builds_and_passes() {
    if !is_there("componentize-py") {
        return;
    }
    let bench = Bench::new();
    made(&bench, "python");
    assert_eq!(wasi(&bench), Vec::<String>::new());
}

/// docs/plugins.md: what `requirements.txt` names is installed into `.venv` and gets into the component.
#[test]
fn a_plugin_in_python_has_the_packages_of_its_environment() {
    if !is_there("componentize-py") {
        return;
    }
    let bench = Bench::new();
    bench.run(&["new", "mine", "--lang", "python"]).ended(0);
    let found = tools().split(':').map(|folder| Path::new(folder).join("componentize-py")).find(|path| path.exists());
    fs::create_dir_all(bench.path("mine/.venv/bin")).unwrap();
    symlink(found.unwrap(), bench.path("mine/.venv/bin/componentize-py")).unwrap();
    // As pip leaves it.
    let packages = bench.path("mine/.venv/lib/python3.11/site-packages");
    fs::create_dir_all(packages.join("tiny")).unwrap();
    fs::write(packages.join("tiny/__init__.py"), "VERSION = \"4.7.11\"\n").unwrap();
    let source = bench.path("mine/src/plugin.py");
    let text = fs::read_to_string(&source).unwrap();
    assert!(text.contains("VERSION = \"1.0.0\"\n"));
    fs::write(&source, text.replace("VERSION = \"1.0.0\"\n", "from tiny import VERSION\n")).unwrap();
    bench.run(&["build", "mine"]).ended(0).out_says(&["name        mine 4.7.11"]);
}

#[test]
fn a_new_plugin_in_javascript_builds_and_passes() {
    if !is_there("node") || !is_there("componentize-js") {
        return;
    }
    let bench = Bench::new();
    made(&bench, "javascript");
    assert_eq!(wasi(&bench), Vec::<String>::new());
}

#[test]
fn what_is_missing_is_said_with_how_to_get_it() {
    let bench = Bench::new();
    let wanted = [
        ("rust", "install Rust as https://rustup.rs says"),
        ("python", "python3 -m venv .venv; .venv/bin/pip install -r requirements.txt"),
        ("javascript", "npm install"),
        ("c", "python3 -m venv .venv; .venv/bin/pip install -r requirements.txt"),
    ];
    for (language, get) in wanted {
        bench.run(&["new", language, "--lang", language]).ended(0);
        let failed = bench.run_with("/nowhere", &["build", language]).ended(1);
        says(&failed.stderr, &["is not there", get]);
    }
    // With a file in the place of a build, it is loaded as it is.
    let other = bench.path("rust/plugin.toml");
    fs::write(&other, "language = \"zig\"\ncomponent = \"mine.wasm\"\n").unwrap();
    bench.run(&["build", "rust"]).ended(1).err_says(&["consign does not build \"zig\"", "rust/mine.wasm"]);
}

#[test]
fn a_new_project_overwrites_nothing() {
    let bench = Bench::new();
    fs::create_dir(bench.path("mine")).unwrap();
    fs::write(bench.path("mine/README.md"), "mine").unwrap();
    bench.run(&["new", "mine", "--lang", "c"]).ended(1).err_says(&["mine is there and is not empty", "--dir"]);
    assert_eq!(fs::read_dir(bench.path("mine")).unwrap().count(), 1);
    let said = bench.run(&["new", "mine", "--lang", "c", "--dir", "other", "--json"]).ended(0).json();
    assert_eq!((said["name"].as_str(), said["dir"].as_str()), (Some("mine"), Some("other")));
    assert!(bench.path("other/src/plugin.c").is_file());
    bench.run(&["new", "7up", "--lang", "c"]).ended(2).err_says(&["begins with no letter"]);
    bench.run(&["new", "Mine", "--lang", "c"]).ended(2).err_says(&["the name 'Mine'"]);
    bench.run(&["new", "mine", "--lang", "cobol"]).ended(2).err_says(&["rust", "python", "javascript"]);
}
