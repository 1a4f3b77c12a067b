//! Projects of plugins, from `plugin new` to what a customer gets: the commands of
//! docs/plugins.md.

mod guide;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::plugins::conformance::{CHECKS, outcomes};
use super::world::{AUTHOR_CACHE, Ran, checkout, command, says};
use crate::support::needs::not_tested;
use guide::Guide;

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
        self.environment(path, &mut command);
        ran(&mut command)
    }

    /// What the programs have that build plugins.
    fn environment(&self, path: &str, command: &mut Command) {
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
    }
}

fn ran(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// docs/plugins.md from its first command to what the customer gets, and all that the contract asks. The
/// plugin runs where it does by default: in processes of its own.
fn made(bench: &Bench, language: &str, conforms: &Conforms) {
    fs::create_dir(bench.path("bin")).unwrap();
    symlink(env!("CARGO_BIN_EXE_consign"), bench.path("bin/consign")).unwrap();
    let path = format!("{}:{}", bench.path("bin").display(), tools());
    let said = Guide::read().follow(&bench.path(""), language, |command| {
        command.env("HOME", bench.path("")).env("XDG_CACHE_HOME", AUTHOR_CACHE);
        bench.environment(&path, command);
    });
    says(
        &said,
        &["cd mine", "built       ./mine.wasm", "name        mine 1.0.0", "sha256", "4 cases passed, 0 failed"],
    );
    assert!(!said.contains("warning"), "{said}");
    conforms.hold(bench);
}

/// What a plugin does of all that is asked.
struct Conforms {
    /// Limits for `large`: with little memory, little is more than it.
    large: &'static [&'static str],
    /// A check that is known not to pass, how it ends and what is found.
    but: Option<(&'static str, &'static str, &'static str)>,
}

impl Conforms {
    const ALL: Self = Self { large: &["memory=16 MiB"], but: None };

    fn hold(&self, bench: &Bench) {
        let (most, last) = CHECKS.split_at(CHECKS.len() - 1);
        assert_eq!(last, ["large"]);
        let limits: Vec<&str> = self.large.iter().flat_map(|limit| ["--limits", *limit]).collect();
        for args in [most.to_vec(), [last, &limits].concat()] {
            let ran = bench.run(&[&["conformance", "mine", "--json"], &args[..]].concat());
            let said = ran.json();
            for ((check, outcome), told) in outcomes(&said).into_iter().zip(said["checks"].as_array().unwrap()) {
                match self.but.filter(|(but, ..)| *but == check) {
                    None => assert_eq!(outcome, "passed", "{check}: {said:#}"),
                    Some((_, ends, found)) => {
                        assert_eq!(outcome, ends, "{check}: {said:#}");
                        says(told["found"].as_str().unwrap(), &[found]);
                    }
                }
            }
        }
    }
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
    made(&bench, "rust", &Conforms::ALL);
    let lock = fs::read_to_string(bench.path("mine/Cargo.lock")).unwrap();
    assert!(!lock.contains("name = \"wasmtime\""), "cargo leaves out what the project does not use");
}

#[test]
fn a_new_plugin_in_c_builds_passes_and_delivers() {
    if !is_there("python3") {
        return;
    }
    let bench = Bench::new();
    made(&bench, "c", &Conforms { large: &["memory=32 MiB"], but: None });
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
fn a_new_plugin_in_python_builds_passes_and_delivers() {
    if !is_there("componentize-py") {
        return;
    }
    let bench = Bench::new();
    // componentize-py frees none of the bytes that are passed to `write`: docs/plugins.md, "Speed".
    let but = Some(("large", "failed", "of memory; its limit is 64.0 MiB"));
    made(&bench, "python", &Conforms { large: &["memory=64 MiB"], but });
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
fn a_new_plugin_in_javascript_builds_passes_and_delivers() {
    if !is_there("node") || !is_there("componentize-js") {
        return;
    }
    let bench = Bench::new();
    // Its interpreter has no use for so little memory that a minute would do to write more than it has.
    let but = Some(("large", "skipped", "in time: used up its 5s of CPU time"));
    made(&bench, "javascript", &Conforms { large: &["memory=256 MiB", "cpu_time=5s"], but });
    assert_eq!(wasi(&bench), Vec::<String>::new());
}

/// `--install` runs what it says it runs, in the project's folder, and takes what that got. The packages are
/// stand-ins from this machine, which hand on to the real tools; pip is the real one, npm a stand-in too.
#[test]
fn what_is_missing_is_got_when_asked_for() {
    if !is_there("componentize-py") || !is_there("componentize-js") {
        return;
    }
    let bench = Bench::new();
    let real =
        |tool: &str| tools().split(':').map(|folder| Path::new(folder).join(tool)).find(|path| path.exists()).unwrap();
    let program = |file: &str, text: String| {
        fs::create_dir_all(bench.path(file).parent().unwrap()).unwrap();
        fs::write(bench.path(file), text).unwrap();
        fs::set_permissions(bench.path(file), fs::Permissions::from_mode(0o755)).unwrap();
    };
    for (language, tool) in [("python", "componentize-py"), ("javascript", "componentize-js")] {
        bench.run(&["new", language, "--lang", language]).ended(0);
        program(&format!("real/{tool}"), format!("#!/bin/sh\nexec {} \"$@\"\n", real(tool).display()));
    }
    let wheel = wheel(&bench, "componentize-py");
    program(
        "bin/npm",
        "#!/bin/sh\n[ \"$*\" = install ] && [ -f package.json ] && mkdir -p node_modules/.bin && \
                        cp ../real/componentize-js node_modules/.bin/\n"
            .into(),
    );
    let all = tools();
    let has_none = |folder: &&str| {
        ["componentize-py", "componentize-js"].iter().all(|tool| !Path::new(folder).join(tool).exists())
    };
    let path =
        format!("{}:{}", bench.path("bin").display(), all.split(':').filter(has_none).collect::<Vec<_>>().join(":"));
    let build = |language: &str, more: &[&str]| {
        let mut command = command(&bench.path(""), &[&["plugin", "build", language], more].concat());
        bench.environment(&path, &mut command);
        // Of the machine's settings none: what is got is here.
        command.env("PIP_NO_INDEX", "1").env("PIP_FIND_LINKS", &wheel).env("PIP_DISABLE_PIP_VERSION_CHECK", "1");
        ran(&mut command)
    };
    for (language, got) in
        [("python", ".venv/bin/componentize-py"), ("javascript", "node_modules/.bin/componentize-js")]
    {
        build(language, &[]).ended(1).err_says(&["is not there; get it with `consign plugin build --install`"]);
        assert!(!bench.path(&format!("{language}/{got}")).exists());
        let built = build(language, &["--install"]).ended(0);
        let commands = match language {
            "python" => ["$ python3 -m venv .venv", "$ .venv/bin/pip install -r requirements.txt"].as_slice(),
            _ => &["$ npm install"],
        };
        says(&built.stderr, commands);
        says(&built.stderr, &[&format!("$ {got} ")]);
        says(&built.stdout, &[&format!("name        {language} 1.0.0")]);
        // What is there is not got again.
        let again = build(language, &["--install"]).ended(0);
        assert!(!again.stderr.contains(commands[0]), "{}", again.stderr);
    }
}

/// A folder with a wheel of the version that the template wants, whose program hands on to the real one.
fn wheel(bench: &Bench, package: &str) -> PathBuf {
    let wanted = fs::read_to_string(bench.path("python/requirements.txt")).unwrap();
    let version = wanted.trim().strip_prefix(&format!("{package}==")).unwrap();
    let stem = format!("{}-{version}", package.replace('-', "_"));
    let info = format!("{stem}.dist-info");
    let files = [
        (format!("{stem}.data/scripts/{package}"), fs::read_to_string(bench.path(&format!("real/{package}"))).unwrap()),
        (format!("{info}/METADATA"), format!("Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")),
        (
            format!("{info}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n".into(),
        ),
        (format!("{info}/RECORD"), String::new()),
    ];
    let folder = bench.path("wheels");
    for (file, text) in files {
        let file = folder.join("parts").join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        // For the one that is a program.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let made = Command::new("python3")
        .args(["-m", "zipfile", "-c", &format!("../{stem}-py3-none-any.whl"), &format!("{stem}.data"), &info])
        .current_dir(folder.join("parts"))
        .status();
    assert!(made.unwrap().success());
    folder
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
