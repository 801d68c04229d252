//! A work tree that somebody works in: `muster run` takes its snapshot.

use std::path::{Path, PathBuf};

use muster_core::id::Sha;

use super::{Git, GitError};

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
