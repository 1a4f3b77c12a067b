//! The programs that a build runs: where they are, how they are shown.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::BuildError;

/// Runs programs in a project's folder and shows each command before.
pub struct Tools<'a> {
    root: &'a Path,
    /// Whether to get what is missing.
    install: bool,
    say: &'a dyn Fn(&str),
}

impl<'a> Tools<'a> {
    pub fn new(root: &'a Path, install: bool, say: &'a dyn Fn(&str)) -> Self {
        Self { root, install, say }
    }

    /// A program from one of the project's own folders, else of `PATH`.
    pub fn find(&self, name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
        let own = folders.iter().map(|folder| self.root.join(folder));
        let all = env::var_os("PATH").unwrap_or_default();
        let path: Vec<PathBuf> = env::split_paths(&all).collect();
        let found = own.chain(path).map(|folder| folder.join(name)).find(|program| is_program(program))?;
        // A program is started from the project's folder.
        Some(std::path::absolute(&found).unwrap_or(found))
    }

    /// The program, after these commands have got it if it was missing and may be
    /// got.
    pub fn find_or_get(
        &self,
        what: &'static str,
        get: &[&[&str]],
        find: impl Fn() -> Option<PathBuf>,
    ) -> Result<PathBuf, BuildError> {
        let missing = || {
            let get = get.iter().map(|words| words.join(" ")).collect();
            BuildError::Missing { what, get }
        };
        if let Some(program) = find() {
            return Ok(program);
        }
        if !self.install {
            return Err(missing());
        }
        for words in get {
            let [program, arguments @ ..] = words else { continue };
            self.run(Path::new(program), arguments)?;
        }
        find().ok_or_else(missing)
    }

    /// A file of the project, from wherever a program is started.
    pub fn path(&self, below: &str) -> PathBuf {
        let path = self.root.join(below);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Runs a program to its end; what it prints goes to stderr.
    pub fn run<S: AsRef<OsStr>>(&self, program: &Path, arguments: &[S]) -> Result<(), BuildError> {
        self.run_with(None, program, arguments)
    }

    /// The same, with a variable in its environment.
    pub fn run_with<S: AsRef<OsStr>>(
        &self,
        variable: Option<(&str, &Path)>,
        program: &Path,
        arguments: &[S],
    ) -> Result<(), BuildError> {
        let mut command = self.command(program, arguments);
        command.envs(variable);
        let status = command.stdout(to_stderr()).status().map_err(|source| start(program, source))?;
        if status.success() {
            return Ok(());
        }
        Err(BuildError::Failed { program: shown(program), status })
    }

    /// Runs a program to its end; what it prints on stdout comes back.
    pub fn output<S: AsRef<OsStr>>(&self, program: &Path, arguments: &[S]) -> Result<Vec<u8>, BuildError> {
        let mut command = self.command(program, arguments);
        let ended = command.stderr(Stdio::inherit()).output().map_err(|source| start(program, source))?;
        if ended.status.success() {
            return Ok(ended.stdout);
        }
        Err(BuildError::Failed { program: shown(program), status: ended.status })
    }

    /// What a program prints on stdout, without showing it; nothing if it fails.
    pub fn ask(&self, program: &Path, arguments: &[&str]) -> Option<String> {
        let ended = Command::new(program).args(arguments).current_dir(self.root).stdin(Stdio::null()).output().ok()?;
        ended.status.success().then(|| String::from_utf8_lossy(&ended.stdout).trim().to_owned())
    }

    fn command<S: AsRef<OsStr>>(&self, program: &Path, arguments: &[S]) -> Command {
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
        // Which of several it is can be seen, if it is the project's own.
        let short = program.strip_prefix(std::path::absolute(self.root).unwrap_or_default()).unwrap_or(program);
        (self.say)(&format!("$ {} {}", short.display(), words.join(" ")));
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.root).stdin(Stdio::null());
        command
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// stdout has the command's own output, which may be JSON.
fn to_stderr() -> Stdio {
    io::stderr().as_fd().try_clone_to_owned().map_or_else(|_| Stdio::null(), Stdio::from)
}

fn shown(program: &Path) -> String {
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

fn start(program: &Path, source: io::Error) -> BuildError {
    BuildError::Start { program: program.display().to_string(), source }
}
