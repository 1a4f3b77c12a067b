//! Compiles the shipped formatters (and the demo's example) to WebAssembly
//! components, which `host/plugin/shipped.rs` carries in the binary, and lists the
//! templates of plugins, which `host/author/template.rs` carries.
//!
//! A second cargo does it, in a target directory of its own (`plugins` beside
//! the profile's), because the first holds the lock of its own. It installs
//! nothing: `make setup` does.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

const TARGET: &str = "wasm32-wasip2";

/// Package and the name of its component in `OUT_DIR`.
const COMPONENTS: [(&str, &str); 9] = [
    ("consign-arrow", "arrow.wasm"),
    ("consign-avro", "avro.wasm"),
    ("consign-csv", "csv.wasm"),
    ("consign-fixed-width", "fixed-width.wasm"),
    ("consign-jsonl", "jsonl.wasm"),
    ("consign-parquet", "parquet.wasm"),
    ("consign-xlsx", "xlsx.wasm"),
    ("consign-example-fixed-flights", "fixed-flights.wasm"),
    ("consign-example-nacha", "nacha.wasm"),
];

/// The compiler of zstd's C sources; `.cargo/config.toml` sets it.
const C_COMPILER: &str = "CC_wasm32_wasip2";

fn main() -> ExitCode {
    for path in ["plugins", "wit", "Cargo.lock", "Cargo.toml", "rust-toolchain.toml", ".cargo/config.toml"] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed={C_COMPILER}");
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    check_rust_target()?;
    check_c_compiler()?;
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target_dir = plugins_target_dir(&out)?;

    let mut cargo = Command::new(variable("CARGO")?);
    cargo.args(["build", "--locked", "--profile", "plugin", "--target", TARGET, "--target-dir"]).arg(&target_dir);
    for (package, _) in COMPONENTS {
        cargo.args(["--package", package]);
    }
    for (name, _) in env::vars_os().filter(|(name, _)| is_of_this_build(name)) {
        cargo.env_remove(name);
    }
    // What the second cargo says goes to stderr, which is shown when it fails.
    let status = cargo.stdout(Stdio::null()).status().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !status.success() {
        return Err("the shipped format plugins do not build: see cargo's messages below".into());
    }
    for (package, component) in COMPONENTS {
        let built = target_dir.join(TARGET).join("plugin").join(format!("{}.wasm", package.replace('-', "_")));
        copy(&built, &out.join(component))?;
    }
    fs::write(out.join("templates.rs"), templates()?).map_err(|error| format!("cannot write templates.rs: {error}"))
}

/// The files that `consign plugin new` writes, for `host/author/template.rs`.
fn templates() -> Result<String, String> {
    let mut paths = Vec::new();
    for folder in ["plugins/templates", "plugins/sdk", "wit"] {
        collect(Path::new(folder), &mut paths).map_err(|error| format!("cannot read {folder}: {error}"))?;
    }
    paths.sort();
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let mut code = String::from("const FILES: &[(&str, &[u8])] = &[\n");
    for path in paths {
        code.push_str(&format!("    ({path:?}, include_bytes!({:?})),\n", root.join(&path)));
    }
    code.push_str("];\n");
    Ok(code)
}

/// Every file below a folder but what building in it would leave there.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    const MADE: [&str; 5] = [".venv", "__pycache__", "node_modules", "target", "vendor"];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !MADE.contains(&name.as_str()) {
            collect(&path, paths)?;
        } else if path.is_file() && !name.ends_with(".wasm") {
            paths.push(path);
        }
    }
    Ok(())
}

/// `TARGET_DIR/plugins`; `OUT_DIR` is `TARGET_DIR/PROFILE/build/PACKAGE/out`.
fn plugins_target_dir(out: &Path) -> Result<PathBuf, String> {
    let target_dir = out.ancestors().nth(4).ok_or_else(|| format!("OUT_DIR is too short: {}", out.display()))?;
    Ok(target_dir.join("plugins"))
}

fn check_rust_target() -> Result<(), String> {
    let rustc = variable("RUSTC")?;
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let directory = output.map_err(|error| format!("cannot start rustc: {error}"))?.stdout;
    let directory = String::from_utf8_lossy(&directory);
    match Path::new(directory.trim()).is_dir() {
        true => Ok(()),
        false => {
            Err(format!("the Rust target {TARGET} is not installed: run `make setup`, or `rustup target add {TARGET}`"))
        }
    }
}

fn check_c_compiler() -> Result<(), String> {
    let compiler = variable(C_COMPILER).map_err(|_| {
        format!("no C compiler for {TARGET}: build in the checkout, whose .cargo/config.toml sets {C_COMPILER}, or set it yourself")
    })?;
    let works = Command::new(&compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match works.is_ok_and(|status| status.success()) {
        true => Ok(()),
        false => Err(format!(
            "no C compiler for {TARGET} ({}): run `make setup`, which puts one into .venv, or set {C_COMPILER} to a clang that has the target",
            compiler.to_string_lossy()
        )),
    }
}

/// Whether an environment variable speaks of the build of this package, which
/// must not leak into the build of the plugins: flags for the native target,
/// clippy as the compiler, this package's name. `CARGO_MAKEFLAGS` stays, so that
/// both cargos share their jobs.
fn is_of_this_build(name: &OsString) -> bool {
    const NAMES: [&str; 16] = [
        "CARGO_BUILD_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_BUILD_TARGET_DIR",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_DIR",
        "CLIPPY_ARGS",
        "DEBUG",
        "HOST",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "TARGET",
    ];
    const PREFIXES: [&str; 5] = ["CARGO_CFG_", "CARGO_FEATURE_", "CARGO_MANIFEST_", "CARGO_PKG_", "DEP_"];
    let name = name.to_string_lossy();
    NAMES.contains(&name.as_ref()) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn copy(built: &Path, component: &Path) -> Result<(), String> {
    fs::copy(built, component).map(drop).map_err(|error| format!("cannot copy {}: {error}", built.display()))
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set: build with cargo"))
}
