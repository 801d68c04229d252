//! The repositories of actions, by git: each commit is fetched once and kept.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_core::id::Sha;
use muster_runner::actions::{Fetch, Fetched, Origin};
use muster_runner::spec::{ActionSource, JobSpec, Native, Source};
use muster_sys::files::remove_tree;
use muster_workflow::uses::Uses;
use rustix::fs::{FlockOperation, flock};

use super::{Git, GitError, Remote};
use crate::natives;

/// The repository of an action has no more than this, in MiB.
const MAX_FETCH_MIB: u64 = 1 << 10;
/// A code host that does not say where a ref is in this time is given up.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// What git says of a commit that a repository does not have.
const NOT_THERE: &str = "not our ref";

/// Repositories of actions on this machine, and where more come from.
#[derive(Debug)]
pub(crate) struct Actions<'s> {
    source: &'s ActionSource,
    job: Option<&'s JobSpec>,
    unreachable: Option<&'s Mutex<Option<String>>>,
}

impl<'s> Actions<'s> {
    /// Uses what a job is told of actions.
    pub(crate) fn new(source: &'s ActionSource) -> Self {
        Self { source, job: None, unreachable: None }
    }

    /// Uses what a job is told of actions, and the commit that it is about.
    pub(crate) fn of(job: &'s JobSpec) -> Self {
        Self { job: Some(job), ..Self::new(&job.actions) }
    }

    /// Returns the files of the job's own commit, where that is what is named.
    fn own(&self, name: &str, git_ref: &str) -> Option<Result<Fetched, String>> {
        let job = self.job?;
        let Uses::Repository { owner, name: own, git_ref: sha, .. } = job.own_repository() else {
            return None;
        };
        let is_own = name.eq_ignore_ascii_case(&format!("{owner}/{own}")) && git_ref == sha;
        is_own.then(|| {
            let folder = job.folder.join("own");
            let put = own_tree(&job.source, &folder);
            put.map_err(|error| format!("cannot get the run's own commit: {error}"))?;
            Ok(Fetched { folder, origin: Origin::Own })
        })
    }

    /// Notes there why a repository could not be had, where that may be otherwise at another time.
    pub(crate) fn telling(self, unreachable: &'s Mutex<Option<String>>) -> Self {
        Self { unreachable: Some(unreachable), ..self }
    }

    /// Returns what is given in the place of a repository at a ref.
    fn given(&self, name: &str, git_ref: &str) -> Option<&Path> {
        let is_it = |what: &str| match what.split_once('@') {
            Some((known, at)) => known.eq_ignore_ascii_case(name) && at == git_ref,
            None => what.eq_ignore_ascii_case(name),
        };
        // What says more counts more.
        let mut given: Vec<_> = self.source.given.iter().filter(|(what, _)| is_it(what)).collect();
        given.sort_by_key(|(what, _)| !what.contains('@'));
        given.first().map(|(_, folder)| folder.as_path())
    }

    /// Returns what muster has in the place of a repository at a ref.
    fn native(&self, name: &str, git_ref: &str) -> Option<&'static [(&'static str, &'static str)]> {
        natives::find(name).filter(|_| self.is_native_wanted(git_ref))
    }

    /// Returns whether what muster has may take the place of a repository at a ref.
    fn is_native_wanted(&self, git_ref: &str) -> bool {
        match self.source.native {
            Native::Always => true,
            Native::Unpinned => Sha::parse(git_ref).is_err(),
            Native::Never => false,
        }
    }

    /// Returns the commit that a ref is to be, whatever it has become.
    fn pinned(&self, name: &str, git_ref: &str) -> Option<Sha> {
        let uses = format!("{name}@{git_ref}");
        let found = self.source.pinned.iter().find(|(known, _)| known.eq_ignore_ascii_case(&uses));
        let pinned = found.map_or(git_ref, |(_, sha)| sha.as_str());
        Sha::parse(pinned).ok()
    }
}

impl Fetch for Actions<'_> {
    fn may_be_replaced(&self, name: &str, git_ref: &str) -> bool {
        self.given(name, git_ref).is_none() && self.is_native_wanted(git_ref)
    }

    fn fetch(&mut self, name: &str, git_ref: &str) -> Result<Fetched, String> {
        if let Some(folder) = self.given(name, git_ref) {
            return Ok(Fetched { folder: folder.to_owned(), origin: Origin::Given });
        }
        if let Some(own) = self.own(name, git_ref) {
            return own;
        }
        if let Some(files) = self.native(name, git_ref) {
            let folder = natives::put(files, name, &self.source.folder)
                .map_err(|error| format!("cannot keep `{name}@{git_ref}`: {error}"))?;
            return Ok(Fetched { folder, origin: Origin::Native });
        }
        let location = format!("{}/{name}", self.source.from.trim_end_matches('/'));
        let kept = Kept {
            folder: self.source.folder.join(name.to_ascii_lowercase()),
            remote: Remote::new(location, None).at_most(MAX_FETCH_MIB),
        };
        kept.at(self.pinned(name, git_ref), git_ref).map_err(|error| {
            // git has several lines for it.
            let why = error.to_string();
            let why: Vec<&str> = why.split_whitespace().collect();
            let from = &self.source.from;
            let why = format!("cannot get `{name}@{git_ref}` from {from}: {}", why.join(" "));
            if let (Missing::Git(_), Some(note)) = (&error, self.unreachable) {
                *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
            }
            why
        })
    }
}

/// Puts the files of a run's commit into a folder, which is made.
fn own_tree(source: &Source, folder: &Path) -> Result<(), Missing> {
    let index = folder.with_extension("index");
    fs::create_dir_all(folder)?;
    for command in [&["read-tree", source.sha.as_str()][..], &["checkout-index", "--all"]] {
        let mut git = Git::new(folder, command[0])
            .env("GIT_DIR", &source.git_dir)
            .env("GIT_WORK_TREE", folder)
            .env("GIT_INDEX_FILE", &index);
        if let Some(objects) = &source.extra_objects {
            git = git.with_objects_of(objects);
        }
        git.args(&command[1..]).bytes()?;
    }
    Ok(())
}

/// One repository: a folder for each commit, and where its refs were when somebody looked.
struct Kept {
    folder: PathBuf,
    remote: Remote,
}

/// Why a repository cannot be had.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("it has no branch or tag `{0}`")]
    Ref(String),
    #[error("it has no commit {0}")]
    Commit(String),
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("cannot keep it: {0}")]
    Io(#[from] io::Error),
}

impl Kept {
    fn at(&self, sha: Option<Sha>, git_ref: &str) -> Result<Fetched, Missing> {
        fs::create_dir_all(&self.folder)?;
        if let Some(sha) = sha {
            let folder = self.tree(&sha);
            if !folder.is_dir() {
                self.bring(&[sha.as_str()], Some(&sha)).map_err(|error| match error {
                    Missing::Git(GitError::Refused { message, .. })
                        if message.contains(NOT_THERE) =>
                    {
                        Missing::Commit(sha.to_string())
                    }
                    other => other,
                })?;
            }
            return Ok(Fetched { folder, origin: Origin::Commit(sha.to_string()) });
        }
        let sha = match self.look(git_ref) {
            Ok((name, sha)) => {
                if !self.tree(&sha).is_dir() {
                    self.bring(&[&name], None)?
                } else {
                    sha
                }
            }
            // Nobody can be asked: what was there the last time.
            Err(Missing::Git(error)) => match self.remembered(git_ref) {
                Some(sha) => {
                    let why = error.to_string();
                    let folder = self.tree(&sha);
                    return Ok(Fetched {
                        folder,
                        origin: Origin::Remembered(sha.to_string(), why),
                    });
                }
                None => return Err(error.into()),
            },
            Err(other) => return Err(other),
        };
        self.remember(git_ref, &sha)?;
        Ok(Fetched { folder: self.tree(&sha), origin: Origin::Commit(sha.to_string()) })
    }

    fn tree(&self, sha: &Sha) -> PathBuf {
        self.folder.join(sha.as_str())
    }

    /// Asks where a tag or branch is: its full name and commit.
    fn look(&self, git_ref: &str) -> Result<(String, Sha), Missing> {
        let names = ["tags", "heads"].map(|kind| format!("refs/{kind}/{git_ref}"));
        let answer = Git::new(Path::new("/"), "ls-remote")
            .to(&self.remote)
            .within(LOOK_LIMIT)
            .args(["--end-of-options", &*self.remote.location])
            .args(names.iter().map(|name| format!("{name}*")))
            .text()?;
        let refs: Vec<(&str, &str)> =
            answer.lines().filter_map(|line| line.split_once('\t')).collect();
        for name in names {
            // What an annotated tag names, where it is one.
            let peeled = format!("{name}^{{}}");
            let found = |wanted: &str| refs.iter().find(|(_, known)| *known == wanted);
            if let Some((sha, _)) = found(&peeled).or_else(|| found(&name)) {
                let bad =
                    |_| GitError::Answer { command: "ls-remote".into(), answer: answer.clone() };
                return Ok((name, Sha::parse(sha).map_err(bad)?));
            }
        }
        Err(Missing::Ref(git_ref.to_owned()))
    }

    /// Fetches what is `wanted` and keeps its files, which are there as a whole or not at all.
    fn bring(&self, wanted: &[&str], sha: Option<&Sha>) -> Result<Sha, Missing> {
        let _alone = self.lock()?;
        let part = self.folder.join("part");
        // What somebody who was killed has left.
        if part.exists() {
            remove_tree(&part)?;
        }
        let (objects, tree) = (part.join("git"), part.join("tree"));
        fs::create_dir_all(&tree)?;
        Git::new(&part, "init")
            .args(["--quiet", "--bare", "--template=", "--end-of-options"])
            .arg(&objects)
            .bytes()?;
        Git::new(&objects, "fetch")
            .to(&self.remote)
            .at_most(MAX_FETCH_MIB << 20)
            .args(["--quiet", "--depth=1", "--no-tags"])
            .args(["--end-of-options", &*self.remote.location])
            .args(wanted)
            .bytes()?;
        let got =
            Git::new(&objects, "rev-parse").args(["--verify", "FETCH_HEAD^{commit}"]).sha()?;
        if let Some(wanted) = sha.filter(|wanted| **wanted != got) {
            let answer = got.to_string();
            return Err(GitError::Answer { command: format!("fetch {wanted}"), answer }.into());
        }
        for command in [&["read-tree", got.as_str()][..], &["checkout-index", "--all"]] {
            Git::new(&tree, command[0])
                .env("GIT_DIR", &objects)
                .env("GIT_WORK_TREE", &tree)
                .args(&command[1..])
                .bytes()?;
        }
        let folder = self.tree(&got);
        if !folder.is_dir() {
            fs::rename(&tree, folder)?;
        }
        remove_tree(&part)?;
        Ok(got)
    }

    fn lock(&self) -> io::Result<File> {
        let lock = self.folder.join("lock");
        let lock = OpenOptions::new().create(true).append(true).open(lock)?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(lock)
    }

    /// Returns the file that says where a ref was. A ref's name may have slashes, and no colon.
    fn note(&self, git_ref: &str) -> PathBuf {
        self.folder.join("refs").join(git_ref.replace('/', ":"))
    }

    fn remember(&self, git_ref: &str, sha: &Sha) -> io::Result<()> {
        let note = self.note(git_ref);
        if self.remembered(git_ref).as_ref() == Some(sha) {
            return Ok(());
        }
        fs::create_dir_all(self.folder.join("refs"))?;
        let new = self.folder.join(format!("refs-{}", std::process::id()));
        fs::write(&new, sha.as_str())?;
        fs::rename(new, note)
    }

    fn remembered(&self, git_ref: &str) -> Option<Sha> {
        let sha = Sha::parse(fs::read_to_string(self.note(git_ref)).ok()?.trim()).ok()?;
        self.tree(&sha).is_dir().then_some(sha)
    }
}
