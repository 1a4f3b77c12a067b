//! docs/plugins.md, as somebody follows it who takes it at its word: its own commands, in one
//! shell, and its own configuration.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::super::world::{checkout, until};
use crate::support::ports;

/// As long as a build from nothing may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// What the page has to be typed and written.
pub struct Guide {
    make: Vec<Step>,
    config: String,
    deliver: Vec<Step>,
}

/// A command of the page, and what it shows below it.
#[derive(Debug)]
struct Step {
    command: String,
    shows: String,
}

impl Guide {
    pub fn read() -> Self {
        let page = fs::read_to_string(checkout("docs/plugins.md")).unwrap();
        let make = steps(&block(&page, "## Make it, build it, test it", "text"));
        let config = block(&page, "## Deliver with it", "toml");
        let deliver = steps(&block(&page, "## Deliver with it", "text"));
        assert!(make.iter().any(|step| step.command == "consign plugin build --install"), "{make:?}");
        let shown = deliver.last().unwrap();
        assert!(shown.command.starts_with("cat ") && !shown.shows.is_empty(), "{shown:?}");
        Self { make, config, deliver }
    }

    /// Follows it in `dir`, for a plugin in this language, in this environment. The one thing that is not
    /// the page's: where the sandbox listens, so that several can be followed at the same time.
    /// All that was said is returned.
    pub fn follow(&self, dir: &Path, language: &str, environment: impl Fn(&mut Command)) -> String {
        let port = ports::free();
        let mut script = SHELL.replace("PORT", &port.to_string());
        let make = self.make.iter().map(|Step { command, shows }| {
            assert_eq!(shows, "");
            command.replace("--lang rust ", &format!("--lang {language} "))
        });
        let make: Vec<String> = make.collect();
        assert!(make[0].contains(&format!("--lang {language} ")), "{make:?}");
        make.iter().for_each(|command| step(&mut script, command, "&2"));
        // The page goes on in the folder that it began in.
        step(&mut script, "cd ..", "&2");
        for (number, Step { command, .. }) in self.deliver.iter().enumerate() {
            step(&mut script, command, &format!("\"$SHOWN/{number}\""));
        }
        let endpoint = "http://127.0.0.1:5580";
        assert_eq!(self.config.matches(endpoint).count(), 1);
        fs::write(dir.join("consign.toml"), self.config.replace(endpoint, &format!("http://127.0.0.1:{port}")))
            .unwrap();
        let shown = dir.join(".shown");
        fs::create_dir(&shown).unwrap();
        let mut command = Command::new("bash");
        command.args(["-c", &script]).current_dir(dir).env_clear();
        environment(&mut command);
        let said = Shell::start(command.env("SHOWN", &shown), dir).ended();
        for (number, Step { command, shows }) in self.deliver.iter().enumerate() {
            let path = shown.join(number.to_string());
            let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{command}: {error}\n{said}"));
            assert!(shows.is_empty() || *shows == text, "{command} shows\n{text}and the page says\n{shows}\n{said}");
        }
        said
    }
}

/// Ends at the first command that fails. Who types the page has the sandbox long there before the delivery.
const SHELL: &str = r#"set -euo pipefail
consign() {
    case "$1" in
        sandbox) exec consign "$@" --listen 127.0.0.1:PORT ;;
        send) for _ in {1..600}; do (exec 3<>/dev/tcp/127.0.0.1/PORT) 2>/dev/null && break; sleep 0.1; done ;;
    esac
    command consign "$@"
}
"#;

/// Adds a command, which may end in a comment or in `&`.
fn step(script: &mut String, command: &str, to: &str) {
    script.push_str(&format!("echo {} >&2\n{{\n{command}\n}} >{to}\n", quoted(command)));
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The first block of this language below a heading.
fn block(page: &str, heading: &str, language: &str) -> String {
    let below = page.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("there is no {heading}"));
    let below = below.split("\n## ").next().unwrap();
    let inside =
        below.split(&format!("\n```{language}\n")).nth(1).unwrap_or_else(|| panic!("{heading}: no {language}"));
    format!("{}\n", inside.split("\n```").next().unwrap())
}

/// With `$ ` before each command the other lines are what they show; without, all are commands.
fn steps(block: &str) -> Vec<Step> {
    let with_prompts = block.starts_with("$ ");
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        let command = if with_prompts { line.strip_prefix("$ ") } else { Some(line) };
        match (command, steps.last_mut()) {
            (Some(command), _) => steps.push(Step { command: command.to_owned(), shows: String::new() }),
            (None, Some(step)) => step.shows.push_str(&format!("{line}\n")),
            (None, None) => panic!("{line}"),
        }
    }
    steps
}

/// A shell, and all that it has started, which ends with it.
struct Shell {
    child: Child,
    log: std::path::PathBuf,
}

impl Shell {
    fn start(command: &mut Command, dir: &Path) -> Self {
        let log = dir.join(".log");
        let file = fs::File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
        Self { child: command.spawn().unwrap(), log }
    }

    /// All that it said, once it has ended well.
    fn ended(mut self) -> String {
        let mut status = None;
        until("the page is followed", PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let said = fs::read_to_string(&self.log).unwrap();
        assert!(status.unwrap().success(), "{said}");
        said
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // The sandbox is left, and so is the group.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
