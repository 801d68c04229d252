//! Tools that actions set up (`actions/setup-node`, `-python`, `-go`): which are here, which is wanted, and what makes
//! it the one of later steps.
//!
//! muster stands for these actions where this machine, or its tool cache, has what they would download. It takes the
//! inputs, gives the outputs, variables and log lines of the actions themselves
//! ([setup-node](https://github.com/actions/setup-node), [setup-python](https://github.com/actions/setup-python),
//! [setup-go](https://github.com/actions/setup-go)). What it cannot do is theirs. All of it is done by a process of
//! the job's own, which can do no more than any other step.

mod go;
mod here;
mod node;
mod python;
mod wanted;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_sys::process::{ProcessError, Program};
use muster_workflow::uses::Uses;
use serde::{Deserialize, Serialize};

use wanted::{Unable, Wanted};

/// What a tool says of itself, it says in this time and in so many bytes.
const ANSWERS: Duration = Duration::from_secs(20);
const MAX_ANSWER: usize = 256 << 10;
/// Making an environment for Python copies some hundred files.
const MAKES: Duration = Duration::from_secs(300);

/// A tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tool {
    /// Node.js.
    Node,
    /// Python, as CPython.
    Python,
    /// Go.
    Go,
}

/// What the process that sets a tool up is told, in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetupOrder {
    /// The tool.
    pub tool: Tool,
    /// The branch, tag or commit of the action.
    pub git_ref: String,
    /// What the step gives the action.
    pub inputs: Vec<(String, String)>,
    /// The folder that the paths of version files begin in.
    pub workspace: PathBuf,
    /// What was chosen, where it is to be made the tool of later steps; without it is looked what is here.
    pub chosen: Option<Vec<Found>>,
}

/// A tool that is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Its version, as semantic versioning writes it.
    pub version: String,
    /// The program.
    pub program: PathBuf,
    /// Its folder in the tool cache, where it is of that.
    pub cached: Option<PathBuf>,
}

/// What was found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Looked {
    /// What can be the tool of later steps: one for each version that is wanted. None is what is in PATH.
    pub found: Option<Vec<Found>>,
    /// Why the action itself has to do it.
    pub itself: Option<String>,
}

/// Why a tool cannot be made that of later steps.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An input says nothing that can be done.
    #[error("{0}")]
    Input(String),
    /// A program that was asked does not answer.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A program has ended otherwise than well.
    #[error("{0}")]
    Failed(String),
    /// What later steps are told cannot be written.
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, io::Error),
    /// The log cannot be written.
    #[error("cannot write what is said: {0}")]
    Say(#[from] io::Error),
}

impl Tool {
    /// Returns the tool that an action of this name sets up, where muster can stand for it.
    pub(crate) fn of(uses: &Uses) -> Option<Self> {
        [Self::Node, Self::Python, Self::Go].into_iter().find(|tool| uses.is(tool.action()))
    }

    fn action(self) -> &'static str {
        match self {
            Self::Node => "actions/setup-node",
            Self::Python => "actions/setup-python",
            Self::Go => "actions/setup-go",
        }
    }

    /// Returns what people call it.
    fn name(self) -> &'static str {
        match self {
            Self::Node => "Node.js",
            Self::Python => "Python",
            Self::Go => "Go",
        }
    }

    /// Returns the name of its folder in a [tool cache](https://github.com/actions/toolkit/tree/main/packages/tool-cache).
    fn folder(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Python => "Python",
            Self::Go => "go",
        }
    }

    /// Returns the inputs that name its version, and a file that does.
    fn version_inputs(self) -> [&'static str; 2] {
        match self {
            Self::Node => ["node-version", "node-version-file"],
            Self::Python => ["python-version", "python-version-file"],
            Self::Go => ["go-version", "go-version-file"],
        }
    }

    /// Returns the inputs that its action has, in any of its versions.
    pub(crate) fn inputs(self) -> &'static [&'static str] {
        match self {
            Self::Node => &node::INPUTS,
            Self::Python => &python::INPUTS,
            Self::Go => &go::INPUTS,
        }
    }
}

impl SetupOrder {
    /// Returns an input; an empty one is as good as none.
    fn input(&self, name: &str) -> &str {
        let given = self.inputs.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        given.map_or("", |(_, value)| value.trim())
    }

    fn is(&self, name: &str, default: bool) -> bool {
        match self.input(name) {
            "" => default,
            value => value.eq_ignore_ascii_case("true"),
        }
    }

    fn wanted(&self) -> Result<Wanted, Unable> {
        match self.tool {
            Tool::Node => node::wanted(self),
            Tool::Python => python::wanted(self),
            Tool::Go => go::wanted(self),
        }
    }
}

/// Looks whether what a step wants is here.
///
/// # Errors
///
/// Never but where an input says nothing that anybody could do.
pub fn look(order: &SetupOrder) -> Result<Looked, SetupError> {
    let wanted = match order.wanted() {
        Ok(wanted) => wanted,
        Err(Unable::Wrong(why)) => return Err(SetupError::Input(why)),
        Err(Unable::Itself(why)) => return Ok(Looked { found: None, itself: Some(why) }),
    };
    let mut here = here::Here::new(order.tool);
    let found = wanted.versions.iter().map(|version| here.choose(version));
    Ok(match found.collect::<Result<Vec<_>, _>>() {
        Ok(found) => Looked { found: Some(found), itself: wanted.itself },
        Err(missing) => Looked { found: None, itself: Some(missing) },
    })
}

/// Makes what was chosen the tool of later steps, and says so as its action does.
///
/// # Errors
///
/// When it does not run, or what later steps are told cannot be written.
pub fn set_up(order: &SetupOrder, say: &mut dyn Write) -> Result<(), SetupError> {
    let wanted = match order.wanted() {
        Ok(wanted) => wanted,
        Err(Unable::Wrong(why) | Unable::Itself(why)) => return Err(SetupError::Input(why)),
    };
    for note in &wanted.notes {
        writeln!(say, "{note}")?;
    }
    let chosen = order.chosen.as_deref().unwrap_or_default();
    match order.tool {
        Tool::Node => node::set_up(order, chosen, say),
        Tool::Python => python::set_up(order, &wanted, chosen, say),
        Tool::Go => go::set_up(order, &wanted, chosen, say),
    }
}

/// Returns a variable of the step.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// Returns the folder for temporary files of the job.
fn temp() -> PathBuf {
    PathBuf::from(variable("RUNNER_TEMP"))
}

/// Returns the processor as tool caches and their actions name it.
fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" }
}

/// Returns a program by a path, in PATH where it has no folder, with the variables of the step.
fn program(path: impl AsRef<Path>) -> Program {
    Program::new(path.as_ref()).envs(std::env::vars_os())
}

/// Returns what a program says that ends well, without the space around; `None` otherwise, and where there is none.
fn said(program: Program) -> Option<String> {
    let output = program.output(ANSWERS, MAX_ANSWER).ok()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(said)
}

/// Writes a line into a file by which a step tells later ones something. A value has no line's end.
fn tell(file: &str, line: &str) -> Result<(), SetupError> {
    let path = PathBuf::from(variable(file));
    let written = OpenOptions::new().append(true).open(&path);
    let written =
        written.and_then(|mut open| writeln!(open, "{}", line.replace(['\n', '\r'], " ")));
    written.map_err(|error| SetupError::Write(path, error))
}

/// Gives later steps a variable.
fn export(name: &str, value: &str) -> Result<(), SetupError> {
    tell("GITHUB_ENV", &format!("{name}={value}"))
}

/// Gives the step an output.
fn output(name: &str, value: &str) -> Result<(), SetupError> {
    tell("GITHUB_OUTPUT", &format!("{name}={value}"))
}

/// Puts a folder first in the PATH of later steps.
fn add_path(folder: &Path) -> Result<(), SetupError> {
    tell("GITHUB_PATH", &folder.to_string_lossy())
}

/// Makes what was chosen the one that later steps find, with what belongs to it; returns their PATH.
fn enter(
    tool: Tool,
    found: &Found,
    its: &[&str],
    say: &mut dyn Write,
) -> Result<String, SetupError> {
    let folder = match &found.cached {
        Some(root) => {
            writeln!(say, "Found in cache @ {}", root.display())?;
            Some(root.join("bin"))
        }
        None => {
            writeln!(say, "Found on this machine @ {}", found.program.display())?;
            alone(tool, found, its)?
        }
    };
    let path = variable("PATH");
    match folder {
        Some(folder) => {
            add_path(&folder)?;
            Ok(format!("{}:{path}", folder.display()))
        }
        None => Ok(path),
    }
}

/// Returns a folder with nothing but a program and what belongs to it, where another one of its name comes before it in
/// PATH: to put its own folder first would change what else is found.
fn alone(tool: Tool, found: &Found, its: &[&str]) -> Result<Option<PathBuf>, SetupError> {
    let name = found.program.file_name().unwrap_or_default();
    let first = here::programs(&[], |known| name == known).into_iter().next();
    if first.as_ref() == Some(&found.program) {
        return Ok(None);
    }
    let folder = temp().join("_tools").join(format!("{}-{}", tool.folder(), found.version));
    let own = found.program.parent().unwrap_or(Path::new("/"));
    let link = || {
        fs::create_dir_all(&folder)?;
        for name in its {
            let (target, link) = (own.join(name), folder.join(name));
            // What a step has put there may be another's.
            match fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            if target.exists() {
                symlink(target, link)?;
            }
        }
        Ok(())
    };
    link().map_err(|error| SetupError::Write(folder.clone(), error))?;
    Ok(Some(folder))
}

/// Has lines of the job's programs become annotations.
fn add_matchers(say: &mut dyn Write, matchers: &[(&str, &str)]) -> Result<(), SetupError> {
    let folder = temp().join("_matchers");
    for (name, text) in matchers {
        let path = folder.join(name);
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, text));
        written.map_err(|error| SetupError::Write(path.clone(), error))?;
        writeln!(say, "##[add-matcher]{}", path.display())?;
    }
    Ok(())
}
