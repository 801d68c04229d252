//! The bare mirror of a watched repository, and a look at the repository itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::change::Commit;
use muster_core::id::Sha;
use muster_workflow::trigger::ChangedFiles;

use super::{Git, GitError, LIMIT, Remote, commit};

/// What is mirrored: no other ref starts anything.
const BRANCHES: &str = "+refs/heads/*:refs/heads/*";
const TAGS: &str = "+refs/tags/*:refs/tags/*";
/// Where verdicts are written for people without a forge.
const NOTES: &str = "refs/notes/muster";
/// Above this many files a difference is not listed: path filters pass then.
const MAX_DIFF: usize = 10_000;
/// What git says when the program that unpacks a few objects wrote one that is too large.
const UNPACKER_CUT_OFF: &str = "died of signal 25";
/// More packs, or about so many objects outside of packs, are packed together.
const MAX_PACKS: usize = 20;
const MAX_LOOSE: usize = 2560;
/// A repository that does not say its refs in this time is given up, until the next look.
const LOOK_LIMIT: Duration = Duration::from_secs(60);
/// The largest workflow file that is read.
const MAX_FILE: usize = 1 << 20;

/// The refs of a repository somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteRefs {
    /// Branches and tags by name.
    pub(crate) refs: Vec<(String, Sha)>,
    /// The branch that HEAD names, where it names one.
    pub(crate) default_branch: Option<String>,
}

/// Asks a repository for its refs.
pub(crate) fn ls_remote(remote: &Remote) -> Result<RemoteRefs, GitError> {
    let answer = Git::new(Path::new("/"), "ls-remote")
        .to(remote)
        .within(LOOK_LIMIT)
        .args(["--symref", "--end-of-options", &*remote.location])
        .args(["HEAD", "refs/heads/*", "refs/tags/*"])
        .text()?;
    let mut refs = Vec::new();
    let mut default_branch = None;
    for line in answer.lines() {
        let Some((what, name)) = line.split_once('\t') else { continue };
        // A pattern also matches the ends of longer names, such as refs/remotes/origin/HEAD.
        let watched = (name.starts_with("refs/heads/") || name.starts_with("refs/tags/"))
            && is_readable(name);
        if let Some(target) = what.strip_prefix("ref: refs/heads/") {
            if name == "HEAD" {
                default_branch = Some(target.to_owned());
            }
        } else if watched && !name.ends_with("^{}") {
            let bad = |_| GitError::Answer { command: "ls-remote".into(), answer: line.to_owned() };
            refs.push((name.to_owned(), Sha::parse(what).map_err(bad)?));
        }
    }
    refs.sort();
    Ok(RemoteRefs { refs, default_branch })
}

/// Returns whether a ref's name was UTF-8. Others are not watched: two of them can look the same.
fn is_readable(name: &str) -> bool {
    !name.contains(char::REPLACEMENT_CHARACTER)
}

/// What came of a merge.
#[derive(Debug)]
pub(crate) enum Merge {
    /// This commit.
    Clean(Sha),
    /// Nothing: these files conflict.
    Conflict(Vec<String>),
}

/// A bare copy of a repository, on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    folder: PathBuf,
}

impl Mirror {
    /// Opens the mirror in `folder`, which is made when it is not there.
    pub(crate) fn open(folder: PathBuf) -> Result<Self, GitError> {
        if !folder.join("HEAD").is_file() {
            let parent = folder.parent().unwrap_or(Path::new("/"));
            Git::new(parent, "init")
                .args(["--quiet", "--bare", "--template=", "--end-of-options"])
                .arg(&folder)
                .bytes()?;
        }
        Ok(Self { folder })
    }

    /// Brings all branches and tags of `remote` here, and the head of a pull request.
    pub(crate) fn fetch(&self, remote: &Remote, pull_request: Option<i64>) -> Result<(), GitError> {
        let pull =
            pull_request.map(|number| format!("+refs/pull/{number}/head:refs/pull/{number}/head"));
        let wanted = [BRANCHES.to_owned(), TAGS.to_owned()].into_iter().chain(pull);
        self.take_in(remote, &["--prune"], wanted)
    }

    /// Brings a commit here that no branch or tag has any more, where `remote` still gives it.
    pub(crate) fn fetch_commit(&self, remote: &Remote, sha: &Sha) -> Result<(), GitError> {
        self.take_in(remote, &[], [sha.to_string()])
    }

    /// Fetches what is `wanted`, but no more at once than `remote` may send.
    fn take_in(
        &self,
        remote: &Remote,
        options: &[&str],
        wanted: impl IntoIterator<Item = String>,
    ) -> Result<(), GitError> {
        let fetched = Git::new(&self.folder, "fetch")
            .to(remote)
            .at_most(remote.max_fetch)
            .args(["--quiet", "--no-tags", "--no-write-fetch-head"])
            .args(options)
            .args(["--end-of-options", &*remote.location])
            .args(wanted)
            .bytes();
        match fetched {
            Ok(_) => Ok(()),
            // git itself does not say why a pack was cut off.
            Err(GitError::Refused { message, .. })
                if self.drop_oversized(remote) || message.contains(UNPACKER_CUT_OFF) =>
            {
                Err(GitError::TooLarge { mib: remote.max_fetch >> 20 })
            }
            Err(error) => Err(error),
        }
    }

    /// Removes packs that were cut off, which are as large as they may be; returns whether there were any.
    fn drop_oversized(&self, remote: &Remote) -> bool {
        let packs = std::fs::read_dir(self.folder.join("objects/pack")).into_iter().flatten();
        let cut_off = packs.flatten().filter(|entry| {
            // Another fetch may be at work; what it has is smaller.
            let full = entry.metadata().is_ok_and(|metadata| metadata.len() >= remote.max_fetch);
            full && entry.file_name().to_string_lossy().starts_with("tmp_")
        });
        let removed = cut_off.map(|entry| drop(std::fs::remove_file(entry.path())));
        removed.count() > 0
    }

    /// Packs what many fetches have left, and removes what broken ones have. Nothing that was fetched goes:
    /// a re-run may want a commit that no branch has any more.
    pub(crate) fn tidy(&self) -> Result<(), GitError> {
        let objects = self.folder.join("objects");
        let names = |folder: PathBuf| -> Vec<String> {
            let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
            listed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
        };
        let packs = names(objects.join("pack"));
        for part in packs.iter().filter(|name| name.starts_with("tmp_")) {
            let path = objects.join("pack").join(part);
            let changed = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = changed.ok().and_then(|changed| changed.elapsed().ok());
            if age.is_some_and(|age| age > LIMIT) {
                // It is looked for again.
                drop(std::fs::remove_file(path));
            }
        }
        let packs = packs.iter().filter(|name| name.ends_with(".pack")).count();
        // Objects are spread evenly: one folder of 256 stands for all.
        if packs > MAX_PACKS || names(objects.join("17")).len() > MAX_LOOSE / 256 {
            Git::new(&self.folder, "repack").args(["-d", "-q", "--geometric=2"]).bytes()?;
            Git::new(&self.folder, "pack-refs").arg("--all").bytes()?;
        }
        Ok(())
    }

    /// Returns the commit that a ref of the mirror names, by its full name. Nothing else that git would take for a commit,
    /// such as what `git describe` says, is a ref.
    pub(crate) fn resolve(&self, name: &str) -> Option<Sha> {
        let format = "--format=%(refname) %(objecttype) %(objectname)";
        let listed =
            Git::new(&self.folder, "for-each-ref").args([format, "--", name]).text().ok()?;
        let mut lines =
            listed.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let (kind, object) = lines.next()?.split_once(' ')?;
        let object = Sha::parse(object).ok()?;
        if kind == "commit" { Some(object) } else { self.peel(&object).ok() }
    }

    /// Returns true when the commit is here.
    pub(crate) fn has(&self, sha: &Sha) -> bool {
        self.peel(sha).is_ok_and(|commit| commit == *sha)
    }

    /// Returns the newest commit that two have in common.
    pub(crate) fn merge_base(&self, one: &Sha, other: &Sha) -> Option<Sha> {
        Git::new(&self.folder, "merge-base").args([one.as_str(), other.as_str()]).sha().ok()
    }

    /// Merges `head` into `base` without a work tree. Author and date are fixed, so that the same two
    /// commits always give the same merge; it is kept under `name`.
    pub(crate) fn merge(&self, base: &Sha, head: &Sha, name: &str) -> Result<Merge, GitError> {
        let tree = Git::new(&self.folder, "merge-tree")
            .args(["--write-tree", "--no-messages", "--name-only", base.as_str(), head.as_str()])
            .conflicting()?;
        let tree = match tree {
            Ok(tree) => tree,
            Err(listed) => {
                let files =
                    listed.lines().skip(1).filter(|line| !line.is_empty()).map(str::to_owned);
                return Ok(Merge::Conflict(files.collect()));
            }
        };
        let date = Git::new(&self.folder, "show")
            .args(["--no-patch", "--format=%cI", "--end-of-options", head.as_str()])
            .text()?;
        let merge = Git::new(&self.folder, "commit-tree")
            .args([&*tree, "-p", base.as_str(), "-p", head.as_str()])
            .args(["-m", &format!("Merge {head} into {base}")])
            .env("GIT_AUTHOR_NAME", "muster")
            .env("GIT_AUTHOR_EMAIL", "muster@localhost")
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_NAME", "muster")
            .env("GIT_COMMITTER_EMAIL", "muster@localhost")
            .env("GIT_COMMITTER_DATE", &date)
            .sha()?;
        Git::new(&self.folder, "update-ref").args([name, merge.as_str()]).bytes()?;
        Ok(Merge::Clean(merge))
    }

    /// Returns the branches and tags that are here, by name.
    pub(crate) fn refs(&self) -> Result<Vec<(String, Sha)>, GitError> {
        let answer = Git::new(&self.folder, "for-each-ref")
            .args(["--format=%(objectname) %(refname)", "refs/heads", "refs/tags"])
            .text()?;
        let mut refs = Vec::new();
        for line in answer.lines() {
            let bad =
                || GitError::Answer { command: "for-each-ref".into(), answer: line.to_owned() };
            let (sha, name) = line.split_once(' ').ok_or_else(bad)?;
            if !is_readable(name) {
                continue;
            }
            refs.push((name.to_owned(), Sha::parse(sha).map_err(|_| bad())?));
        }
        refs.sort();
        Ok(refs)
    }

    /// Returns the commit that an object names: itself, or what a tag points to.
    pub(crate) fn peel(&self, sha: &Sha) -> Result<Sha, GitError> {
        Git::new(&self.folder, "rev-parse")
            .args(["--verify", "--end-of-options", &format!("{sha}^{{commit}}")])
            .sha()
    }

    /// Reads a commit.
    pub(crate) fn commit(&self, sha: &Sha) -> Result<Commit, GitError> {
        commit(&self.folder, None, sha)
    }

    /// Returns true when everything in `older` is also in `newer`.
    pub(crate) fn is_ancestor(&self, older: &Sha, newer: &Sha) -> bool {
        Git::new(&self.folder, "merge-base")
            .args(["--is-ancestor", older.as_str(), newer.as_str()])
            .bytes()
            .is_ok()
    }

    /// Returns the files that differ between two commits.
    pub(crate) fn changed_files(&self, before: &Sha, after: &Sha) -> ChangedFiles {
        let listed = Git::new(&self.folder, "diff-tree")
            .args(["-r", "-z", "--name-only", "--no-renames", before.as_str(), after.as_str()])
            .bytes();
        // A commit that is not here any more leaves nothing to compare with.
        let Ok(listed) = listed else { return ChangedFiles::Unknown };
        let files: Vec<String> = listed
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect();
        if files.len() > MAX_DIFF { ChangedFiles::Unknown } else { ChangedFiles::Known(files) }
    }

    /// Lists what stands at `paths` in a commit: mode, object name, path.
    pub(crate) fn list(
        &self,
        sha: &Sha,
        paths: &[&str],
    ) -> Result<Vec<(String, String, String)>, GitError> {
        let listed = Git::new(&self.folder, "ls-tree")
            .args(["-z", sha.as_str(), "--"])
            .args(paths)
            .bytes()?;
        let entries = listed.split(|byte| *byte == 0).filter_map(|entry| {
            let entry = String::from_utf8_lossy(entry).into_owned();
            let (facts, path) = entry.split_once('\t')?;
            let mut facts = facts.split(' ');
            let (mode, _kind, object) = (facts.next()?, facts.next()?, facts.next()?);
            Some((mode.to_owned(), object.to_owned(), path.to_owned()))
        });
        Ok(entries.collect())
    }

    /// Reads a file of a commit as text; `None` where there is none.
    pub(crate) fn file(&self, sha: &Sha, path: &str) -> Result<Option<String>, GitError> {
        let listed = self.list(sha, &[path])?;
        let is_it =
            |(mode, _, at): &&(String, String, String)| mode.starts_with("100") && at == path;
        let Some((_, object, _)) = listed.iter().find(is_it) else { return Ok(None) };
        Ok(self.read(std::slice::from_ref(object))?.pop().flatten())
    }

    /// Reads blobs as text; `None` for one that is too large or no UTF-8.
    pub(crate) fn read(&self, objects: &[String]) -> Result<Vec<Option<String>>, GitError> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let input: String = objects.iter().map(|object| format!("{object}\n")).collect();
        let answer = Git::new(&self.folder, "cat-file").arg("--batch").input(input).bytes()?;
        let broken =
            || GitError::Answer { command: "cat-file".into(), answer: "a short answer".into() };
        let mut texts = Vec::new();
        let mut rest = answer.as_slice();
        for _ in objects {
            let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(broken)?;
            let header = String::from_utf8_lossy(&rest[..end]).into_owned();
            let size: usize =
                header.rsplit(' ').next().and_then(|size| size.parse().ok()).ok_or_else(broken)?;
            let body = rest.get(end + 1..end + 1 + size).ok_or_else(broken)?;
            let text = if size > MAX_FILE { None } else { String::from_utf8(body.to_vec()).ok() };
            texts.push(text);
            rest = rest.get(end + 2 + size..).unwrap_or_default();
        }
        Ok(texts)
    }

    /// Writes `notes`, one for each commit, to the repository at `remote` itself.
    pub(crate) fn write_notes(
        &self,
        remote: &Remote,
        notes: &HashMap<Sha, String>,
    ) -> Result<(), GitError> {
        // Others may have written notes meanwhile; ours go on top of what is there.
        let fetched = Git::new(&self.folder, "fetch")
            .to(remote)
            .args(["--quiet", "--no-tags", "--no-write-fetch-head", "--end-of-options"])
            .arg(&remote.location)
            .arg(format!("+{NOTES}:{NOTES}"))
            .bytes();
        match fetched {
            Ok(_) => {}
            Err(GitError::Refused { message, .. })
                if message.contains("couldn't find remote ref") => {}
            Err(error) => return Err(error),
        }
        for (sha, note) in notes {
            Git::new(&self.folder, "notes")
                .args(["--ref", NOTES, "add", "--force", "--file=-", sha.as_str()])
                .env("GIT_AUTHOR_NAME", "muster")
                .env("GIT_AUTHOR_EMAIL", "muster@localhost")
                .env("GIT_COMMITTER_NAME", "muster")
                .env("GIT_COMMITTER_EMAIL", "muster@localhost")
                .input(note.as_bytes())
                .bytes()?;
        }
        Git::new(&self.folder, "push")
            .to(remote)
            .args(["--quiet", "--end-of-options", &*remote.location, &format!("{NOTES}:{NOTES}")])
            .bytes()?;
        Ok(())
    }
}

/// Removes the locks that a git left in the mirrors below `folder` when it was killed: nobody else holds
/// one while the server is not running yet, and with one a mirror can never be fetched again.
pub(crate) fn remove_stale_locks(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            // Objects are many, and never locked.
            if entry.file_name() != "objects" {
                remove_stale_locks(&path)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "lock") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}
