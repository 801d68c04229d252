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

/// What HEAD names.
#[derive(Debug)]
pub(crate) struct Head {
    /// Nothing before the first commit.
    pub(crate) commit: Option<Committed>,
    /// The branch that is checked out.
    pub(crate) branch: Option<String>,
}

/// A commit and its files.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) commit: Sha,
    tree: Sha,
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

    /// Returns what HEAD names.
    pub(crate) fn head(&self) -> Head {
        let asked = Git::new(&self.top, "rev-parse")
            .args(["HEAD^{commit}", "HEAD^{tree}", "--symbolic-full-name", "HEAD"])
            .text();
        if let Ok(answer) = asked {
            let mut lines = answer.lines();
            let mut sha = || Sha::parse(lines.next()?).ok();
            if let (Some(commit), Some(tree)) = (sha(), sha()) {
                let branch = lines.next().and_then(|name| name.strip_prefix("refs/heads/"));
                let branch = branch.map(str::to_owned);
                return Head { commit: Some(Committed { commit, tree }), branch };
            }
        }
        // Before the first commit there is a branch at most.
        let branch = Git::new(&self.top, "symbolic-ref").args(["--quiet", "--short", "HEAD"]);
        Head { commit: None, branch: branch.text().ok() }
    }

    /// Returns the repository that this is a clone of, as its host names it: `owner/name`, by the address of `origin`.
    pub(crate) fn origin(&self) -> Option<String> {
        // To start git for one line would take as long as all of the rest.
        let config = std::fs::read_to_string(self.git_dir.join("config")).ok()?;
        let mut lines = config.lines().map(str::trim);
        lines.find(|line| *line == r#"[remote "origin"]"#)?;
        let section = lines.take_while(|line| !line.starts_with('['));
        let pairs = section.filter_map(|line| line.split_once('='));
        let url = pairs.filter(|(key, _)| key.trim() == "url").last()?.1;
        repository_of(url.trim().trim_matches('"'))
    }

    /// Returns the branch that others are merged into, and the commit that it is at: what `origin` calls
    /// its default, else `main` or `master`.
    pub(crate) fn default_branch(&self) -> Option<(String, Sha)> {
        let remote = Git::new(&self.top, "symbolic-ref")
            .args(["--quiet", "refs/remotes/origin/HEAD"])
            .text()
            .ok();
        let named = remote.into_iter().chain(["main", "master"].map(|n| format!("refs/heads/{n}")));
        named.into_iter().find_map(|full| {
            let spec = format!("{full}^{{commit}}");
            let verify = ["--verify", "--quiet", "--end-of-options", &spec];
            let sha = Git::new(&self.top, "rev-parse").args(verify).sha().ok()?;
            let of = |folder| full.strip_prefix(folder).map(str::to_owned);
            Some((of("refs/remotes/origin/").or_else(|| of("refs/heads/"))?, sha))
        })
    }

    /// Makes a commit of all files as they are, uncommitted changes and new files included, but for
    /// those that git ignores. Its objects go to `objects`; the repository is not touched.
    pub(crate) fn snapshot(
        &self,
        objects: &Path,
        parent: Option<&Committed>,
    ) -> Result<Sha, GitError> {
        let index = objects.join("index");
        // With the work tree's own index to start from, unchanged files need not be read. Its age says which files git
        // has to read all the same: those that are no older, of which a change may not show in their age and size.
        let own = self.own_git_dir.join("index");
        if std::fs::copy(&own, &index).is_ok() {
            let age = std::fs::metadata(&own).and_then(|own| own.modified());
            let file = std::fs::File::options().write(true).open(&index);
            let kept = age.and_then(|age| file?.set_modified(age));
            if kept.is_err() {
                drop(std::fs::remove_file(&index));
            }
        }
        let git = |command: &str| {
            Git::new(&self.top, command)
                .env("GIT_DIR", &self.own_git_dir)
                .env("GIT_WORK_TREE", &self.top)
                .env("GIT_INDEX_FILE", &index)
                .env("GIT_OBJECT_DIRECTORY", objects)
                .with_objects_of(&self.git_dir.join("objects"))
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
            if parent.tree == tree {
                return Ok(parent.commit.clone());
            }
            commit = commit.args(["-p", parent.commit.as_str()]);
        }
        commit.sha()
    }
}

/// Returns what an address of a repository calls it on its host, `owner/name`.
fn repository_of(url: &str) -> Option<String> {
    let path = match url.split_once("://") {
        Some(("file", _)) => return None,
        Some((_, rest)) => rest.split_once('/')?.1,
        // As ssh has it: `user@host:path`.
        None => url.split_once(':').filter(|(host, _)| !host.contains('/'))?.1,
    };
    let path = path.trim_end_matches('/');
    let mut parts = path.strip_suffix(".git").unwrap_or(path).rsplit('/');
    let (name, owner) = (parts.next()?, parts.next()?);
    (!name.is_empty() && !owner.is_empty()).then(|| format!("{owner}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::repository_of;

    #[test]
    fn addresses_name_repositories() {
        for (url, wanted) in [
            ("https://github.com/team/app.git", Some("team/app")),
            ("https://github.com/team/app/", Some("team/app")),
            ("git@github.com:team/app.git", Some("team/app")),
            ("ssh://git@host:22/group/team/app", Some("team/app")),
            ("file:///srv/team/app.git", None),
            ("/srv/team/app.git", None),
            ("../app", None),
            ("https://github.com", None),
            ("host:app", None),
        ] {
            assert_eq!(repository_of(url).as_deref(), wanted, "{url}");
        }
    }
}
