//! git, by the git program.
//!
//! It runs with nothing of the machine's configuration, no hooks and no prompts; names that come
//! from outside stand only where no option can.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::id::Sha;
use muster_sys::process::{ProcessError, Program};

/// A command that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(600);
/// The most that a command may print.
const MAX_OUTPUT: usize = 256 << 20;

/// Why git did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// The program could not be run to its end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It refused.
    #[error("git {command} failed: {message}")]
    Refused {
        /// The subcommand.
        command: String,
        /// What it wrote on standard error.
        message: String,
    },
    /// It answered something unexpected.
    #[error("git {command} answered `{answer}`, which is not understood")]
    Answer {
        /// The subcommand.
        command: String,
        /// The answer.
        answer: String,
    },
}

/// A git command under construction.
#[derive(Debug)]
pub(crate) struct Git {
    program: Program,
    command: String,
}

impl Git {
    /// Starts a command in `folder`.
    pub(crate) fn new(folder: &Path, command: &str) -> Self {
        let mut program = Program::new("git")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C");
        let config = [
            ("safe.directory", "*"),
            ("core.hooksPath", "/dev/null"),
            ("gc.auto", "0"),
            ("maintenance.auto", "false"),
            ("advice.detachedHead", "false"),
        ];
        program = program.env("GIT_CONFIG_COUNT", config.len().to_string());
        for (place, (key, value)) in config.into_iter().enumerate() {
            program = program
                .env(format!("GIT_CONFIG_KEY_{place}"), key)
                .env(format!("GIT_CONFIG_VALUE_{place}"), value);
        }
        Self { program: program.dir(folder).arg(command), command: command.to_owned() }
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<std::ffi::OsStr>) -> Self {
        self.program = self.program.arg(arg);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<std::ffi::OsStr>>(
        mut self,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        self.program = self.program.args(args);
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.program = self.program.env(name, value);
        self
    }

    /// Runs the command and returns what it printed.
    pub(crate) fn bytes(self) -> Result<Vec<u8>, GitError> {
        let output = self.program.output(LIMIT, MAX_OUTPUT)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(GitError::Refused { command: self.command, message })
    }

    /// Runs the command and returns what it printed as text, without the last newline.
    pub(crate) fn text(self) -> Result<String, GitError> {
        let text = String::from_utf8_lossy(&self.bytes()?).into_owned();
        Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
    }

    /// Runs a command that prints one object name.
    pub(crate) fn sha(self) -> Result<Sha, GitError> {
        let command = self.command.clone();
        let answer = self.text()?;
        Sha::parse(&answer).map_err(|_| GitError::Answer { command, answer })
    }
}

/// A work tree that somebody works in.
#[derive(Debug)]
pub(crate) struct WorkTree {
    /// Its top folder.
    pub(crate) top: PathBuf,
    /// The git directory that holds its objects and refs.
    pub(crate) git_dir: PathBuf,
    /// The git directory that holds its index.
    pub(crate) own_git_dir: PathBuf,
}

impl WorkTree {
    /// Finds the work tree around `folder`.
    pub(crate) fn find(folder: &Path) -> Result<Self, GitError> {
        let answer = Git::new(folder, "rev-parse")
            .args(["--path-format=absolute", "--show-toplevel", "--git-common-dir", "--git-dir"])
            .text()?;
        let mut lines = answer.lines().map(PathBuf::from);
        match (lines.next(), lines.next(), lines.next()) {
            (Some(top), Some(git_dir), Some(own_git_dir)) => Ok(Self { top, git_dir, own_git_dir }),
            _ => Err(GitError::Answer { command: "rev-parse".into(), answer }),
        }
    }

    /// Returns the commit that HEAD names; `None` before the first one.
    pub(crate) fn head(&self) -> Option<Sha> {
        Git::new(&self.top, "rev-parse").args(["--verify", "--quiet", "HEAD^{commit}"]).sha().ok()
    }

    /// Returns the branch that is checked out.
    pub(crate) fn branch(&self) -> Option<String> {
        Git::new(&self.top, "symbolic-ref").args(["--quiet", "--short", "HEAD"]).text().ok()
    }

    /// Makes a commit of all files as they are, uncommitted changes and new files included, but for
    /// those that git ignores. Its objects go to `objects`; the repository is not touched.
    pub(crate) fn snapshot(&self, objects: &Path, parent: Option<&Sha>) -> Result<Sha, GitError> {
        let index = objects.join("index");
        // With the work tree's own index to start from, unchanged files need not be read.
        drop(std::fs::copy(self.own_git_dir.join("index"), &index));
        let git = |command: &str| {
            Git::new(&self.top, command)
                .env("GIT_DIR", &self.own_git_dir)
                .env("GIT_WORK_TREE", &self.top)
                .env("GIT_INDEX_FILE", &index)
                .env("GIT_OBJECT_DIRECTORY", objects)
                .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.git_dir.join("objects"))
        };
        git("add").args(["--all", "--", "."]).bytes()?;
        let tree = git("write-tree").sha()?;
        let mut commit = git("commit-tree")
            .arg(tree.as_str())
            .args(["-m", "Uncommitted changes"])
            .env("GIT_AUTHOR_NAME", "muster")
            .env("GIT_AUTHOR_EMAIL", "muster@localhost")
            .env("GIT_COMMITTER_NAME", "muster")
            .env("GIT_COMMITTER_EMAIL", "muster@localhost");
        if let Some(parent) = parent {
            let same = Git::new(&self.top, "rev-parse").arg(format!("{parent}^{{tree}}")).sha()?;
            if same == tree {
                return Ok(parent.clone());
            }
            commit = commit.args(["-p", parent.as_str()]);
        }
        commit.sha()
    }
}

/// Reads what a push says of a commit.
pub(crate) fn commit(
    folder: &Path,
    objects: Option<&Path>,
    sha: &Sha,
) -> Result<muster_core::change::Commit, GitError> {
    let mut git = Git::new(folder, "show");
    if let Some(objects) = objects {
        git = git.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects);
    }
    let answer = git
        .args([
            "--no-patch",
            "--no-show-signature",
            "--format=%an%x00%ae%x00%cI%x00%B",
            "--end-of-options",
            sha.as_str(),
        ])
        .text()?;
    let mut parts = answer.splitn(4, '\0').map(str::to_owned);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(author_name), Some(author_email), Some(timestamp), Some(message)) => {
            let sha = sha.clone();
            let message = message.trim_end().to_owned();
            Ok(muster_core::change::Commit { sha, message, author_name, author_email, timestamp })
        }
        _ => Err(GitError::Answer { command: "show".into(), answer }),
    }
}
