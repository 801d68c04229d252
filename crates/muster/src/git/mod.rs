//! git, by the git program.
//!
//! It runs with nothing of the machine's configuration, no hooks and no prompts; names that come
//! from outside stand only where no option can.

mod actions;
pub(crate) mod hook;
mod mirror;
mod remote;
mod work_tree;
pub(crate) mod workflows;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::time::Duration;

use muster_core::id::Sha;
use muster_sys::process::{ProcessError, Program};

pub(crate) use actions::Actions;
pub(crate) use mirror::{Merge, Mirror, ls_remote, remove_stale_locks};
pub(crate) use remote::{DeployKey, Remote};
pub(crate) use work_tree::{Head, WorkTree};

use remote::Access;

/// A command that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(600);
/// The most that a command may print.
const MAX_OUTPUT: usize = 256 << 20;

/// The configuration of every command.
const CONFIG: [(&str, &str); 19] = [
    ("safe.directory", "*"),
    ("core.hooksPath", "/dev/null"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("advice.detachedHead", "false"),
    ("fetch.fsckObjects", "true"),
    // What has more objects is one pack, and so one file with one bound.
    ("fetch.unpackLimit", "10"),
    // Old histories have these; they harm nobody.
    ("fetch.fsck.badDate", "warn"),
    ("fetch.fsck.badDateOverflow", "warn"),
    ("fetch.fsck.badEmail", "warn"),
    ("fetch.fsck.badName", "warn"),
    ("fetch.fsck.badTimezone", "warn"),
    ("fetch.fsck.missingEmail", "warn"),
    ("fetch.fsck.missingNameBeforeEmail", "warn"),
    ("fetch.fsck.missingSpaceBeforeDate", "warn"),
    ("fetch.fsck.missingSpaceBeforeEmail", "warn"),
    ("fetch.fsck.zeroPaddedDate", "warn"),
    // A remote that sends next to nothing for half a minute is given up.
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "30"),
];

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
    /// It would take in more than it may.
    #[error("the repository sends more than {mib} MiB at once (`max_fetch_mib`)")]
    TooLarge {
        /// The bound.
        mib: u64,
    },
    /// There is no key for a repository.
    #[error("no deploy key: {0}")]
    Key(String),
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
    limit: Duration,
}

impl Git {
    /// Starts a command in `folder`.
    pub(crate) fn new(folder: &Path, command: &str) -> Self {
        let mut program = Program::new("git")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "file:git:http:https:ssh")
            .env("LC_ALL", "C");
        program = program.env("GIT_CONFIG_COUNT", CONFIG.len().to_string());
        for (place, (key, value)) in CONFIG.into_iter().enumerate() {
            program = program
                .env(format!("GIT_CONFIG_KEY_{place}"), key)
                .env(format!("GIT_CONFIG_VALUE_{place}"), value);
        }
        Self {
            program: program.dir(folder).arg(command),
            command: command.to_owned(),
            limit: LIMIT,
        }
    }

    /// Lends the command what opens a repository.
    pub(crate) fn to(mut self, remote: &Remote) -> Self {
        self.program = self.program.env("GIT_SSH_COMMAND", remote.ssh());
        if let Access::Token(credentials) = &remote.access {
            let place = CONFIG.len();
            self.program = self
                .program
                .env("GIT_CONFIG_COUNT", (place + 1).to_string())
                .env(format!("GIT_CONFIG_KEY_{place}"), "credential.helper")
                .env(format!("GIT_CONFIG_VALUE_{place}"), credentials.helper());
        }
        self
    }

    /// Gives the command up after another time than usual.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Bounds each file that the command writes, in bytes.
    pub(crate) fn at_most(mut self, bytes: u64) -> Self {
        self.program = self.program.max_file(bytes);
        self
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

    /// Lets the command see the objects in another folder, too.
    pub(crate) fn with_objects_of(self, objects: &Path) -> Self {
        // It is a list: what is in quotes is one, whatever is in its name.
        let mut quoted = vec![b'"'];
        for byte in objects.as_os_str().as_bytes() {
            if matches!(byte, b'"' | b'\\') {
                quoted.push(b'\\');
            }
            quoted.push(*byte);
        }
        quoted.push(b'"');
        self.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", OsString::from_vec(quoted))
    }

    /// Sets what the command reads.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.program = self.program.input(input);
        self
    }

    /// Runs the command and returns what it printed.
    pub(crate) fn bytes(self) -> Result<Vec<u8>, GitError> {
        let output = self.program.output(self.limit, MAX_OUTPUT)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(GitError::Refused { command: self.command, message: complaint(&output.stderr) })
    }

    /// Runs the command and returns what it printed as text, without the last newline.
    pub(crate) fn text(self) -> Result<String, GitError> {
        let text = String::from_utf8_lossy(&self.bytes()?).into_owned();
        Ok(text.strip_suffix('\n').map(str::to_owned).unwrap_or(text))
    }

    /// Runs a merge: `Ok` has the tree that it printed; `Err` what it printed where files conflict,
    /// which git says with exit code 1.
    pub(crate) fn conflicting(self) -> Result<Result<String, String>, GitError> {
        let output = self.program.output(self.limit, MAX_OUTPUT)?;
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        match output.status.code() {
            Some(0) => Ok(Ok(text)),
            Some(1) => Ok(Err(text)),
            _ => {
                let message = complaint(&output.stderr);
                Err(GitError::Refused { command: self.command, message })
            }
        }
    }

    /// Runs a command that prints one object name.
    pub(crate) fn sha(self) -> Result<Sha, GitError> {
        let command = self.command.clone();
        let answer = self.text()?;
        Sha::parse(&answer).map_err(|_| GitError::Answer { command, answer })
    }
}

/// Returns what a program wrote on standard error; ssh ends its lines as a terminal wants it.
fn complaint(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).replace('\r', "").trim().to_owned()
}

/// Reads what a push says of a commit.
pub(crate) fn commit(
    folder: &Path,
    objects: Option<&Path>,
    sha: &Sha,
) -> Result<muster_core::change::Commit, GitError> {
    let mut git = Git::new(folder, "show");
    if let Some(objects) = objects {
        git = git.with_objects_of(objects);
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
