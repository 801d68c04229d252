//! A folder with a git repository, and the program run in it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use std::time::Duration;

use muster_sys::process::{Output, Program};
use tempfile::TempDir;

/// Nothing in these tests takes this long.
const LIMIT: Duration = Duration::from_secs(60);

/// A repository that nobody has set up but the test.
pub(crate) struct Scene {
    folder: TempDir,
}

/// What the program did.
pub(crate) struct Done {
    pub(crate) exit: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Scene {
    /// Makes an empty repository on branch `main`.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scene = Self { folder };
        scene.git(&["init", "--quiet", "--initial-branch=main", "."]);
        scene
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, with the folders above it.
    pub(crate) fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a file that can be executed.
    pub(crate) fn script(&self, path: &str, text: &str) {
        let path = self.file(path, text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Writes `.github/workflows/ci.yml`.
    pub(crate) fn workflow(&self, text: &str) {
        self.file(".github/workflows/ci.yml", text);
    }

    /// Commits everything.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Commits something that is of no interest.
    pub(crate) fn commit_empty(&self) -> String {
        self.file("README", "nothing\n");
        self.commit("first")
    }

    /// Runs git and returns what it printed.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git_in(self.path(), args)
    }

    /// Runs muster in the repository.
    pub(crate) fn muster(&self, args: &[&str]) -> Done {
        muster_in(self.path(), args)
    }

    /// Runs what is in the repository in each isolation, and returns what was told, which must be the same but for that.
    pub(crate) fn told(&self, more: &[&str], variables: &[(&str, &str)]) -> String {
        self.told_as(more, variables, str::to_owned)
    }

    /// As [`Self::told`], of what `plain` makes of each line.
    pub(crate) fn told_as(
        &self,
        more: &[&str],
        variables: &[(&str, &str)],
        plain: fn(&str) -> String,
    ) -> String {
        let [open, caged] = ["none", "sandbox"].map(|isolation| {
            let args = [&["run", "--isolation", isolation], more].concat();
            let story = self.muster_with(&args, variables).story();
            let of_steps = |line: &&str| !line.starts_with("isolation: ");
            story.lines().filter(of_steps).map(plain).collect::<Vec<_>>().join("\n")
        });
        assert_eq!(open, caged);
        open
    }

    /// Runs muster in the repository, with these variables besides.
    pub(crate) fn muster_with(&self, args: &[&str], more: &[(&str, &str)]) -> Done {
        muster_in_with(self.path(), args, more)
    }
}

/// Puts a copy of muster somewhere. Another process writes it: what a test has open for writing, a program
/// that it starts meanwhile has open, too, and what is open for writing cannot be run.
pub(crate) fn install_muster(to: &Path) {
    let copied = Program::new("cp").arg(env!("CARGO_BIN_EXE_muster")).arg(to);
    assert!(copied.output(LIMIT, 1 << 16).unwrap().status.success());
}

/// Runs git in `folder` and returns what it printed.
pub(crate) fn git_in(folder: &Path, args: &[&str]) -> String {
    let output = Program::new("git")
        .args(args)
        .dir(folder)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "Ana")
        .env("GIT_AUTHOR_EMAIL", "ana@example.org")
        .env("GIT_AUTHOR_DATE", "2026-01-02T03:04:05Z")
        .env("GIT_COMMITTER_NAME", "Ana")
        .env("GIT_COMMITTER_EMAIL", "ana@example.org")
        .env("GIT_COMMITTER_DATE", "2026-01-02T03:04:05Z")
        .output(LIMIT, 1 << 20)
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Runs muster in `folder`, with an environment that holds a secret of the caller's.
pub(crate) fn muster_in(folder: &Path, args: &[&str]) -> Done {
    muster_in_with(folder, args, &[])
}

fn muster_in_with(folder: &Path, args: &[&str], more: &[(&str, &str)]) -> Done {
    let output = Program::new(env!("CARGO_BIN_EXE_muster"))
        .args(args)
        .dir(folder)
        .env("HOME", folder)
        .env("USER", "ana")
        .env("CALLERS_SECRET", "hunter2")
        // An engine of this machine is nothing that a story may rely on.
        .env("DOCKER_HOST", "unix:///nowhere/engine.sock")
        .envs(more.iter().copied())
        .output(LIMIT, 64 << 20)
        .unwrap();
    Done::of(&output)
}

impl Done {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { exit: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Returns exit code and output for a snapshot, with what differs from run to run taken out.
    pub(crate) fn story(&self) -> String {
        let mut story = String::new();
        for line in self.out.lines().chain(self.err.lines()) {
            story.push_str(&masked(line));
            story.push('\n');
        }
        let exit = self.exit.map_or("none".to_owned(), |code| code.to_string());
        format!("{story}exit {exit}")
    }
}

/// Takes times, object names and temporary paths out of a line.
pub(crate) fn masked(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in line.split(' ') {
        let is_number =
            |word: &str| word.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !word.is_empty();
        let is_sha = word.len() == 40 && word.bytes().all(|b| b.is_ascii_hexdigit());
        if matches!(word, "ms" | "s") && words.last().is_some_and(|last| is_number(last)) {
            words.pop();
            words.push("[time]");
        } else if is_sha {
            words.push("[sha]");
        } else if word.contains("/tmp/") || word.contains("/muster-run-") {
            words.push("[path]");
        } else {
            words.push(word);
        }
    }
    words.join(" ")
}
