//! The data folder: what lies where.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_core::id::RepoId;
use muster_sys::clock;
use rustix::fs::{FlockOperation, flock};

use crate::git::DeployKey;

/// This share of the disk is left free,
const FREE_AT_LEAST_PERCENT: u64 = 2;
/// but no more of a large one than this many bytes: databases and logs need no part of terabytes.
const FREE_AT_MOST: u64 = 1 << 30;
/// What is said where it is not.
pub(crate) const NO_ROOM: &str =
    "the disk of the data folder has less than 2 % free (of a large one, less than 1 GiB)";

/// What nobody else on this machine may look into.
const CLOSED: [&str; 9] =
    ["actions", "artifacts", "backups", "caches", "jobs", "keys", "logs", "mirrors", "uploads"];

/// A server that was killed while it started a program still has its lock until that program has begun: it is
/// given up by the kernel so soon.
const PATIENCE: Duration = Duration::from_secs(1);

/// The folder of one server.
#[derive(Debug)]
pub(crate) struct Data {
    folder: PathBuf,
    /// Held as long as the server runs.
    _lock: File,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// It cannot be made or written to.
    #[error("cannot use the data folder {folder}: {error}")]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A restore was cut off: what is there belongs to two times.
    #[error("a restore of {0} was cut off: `muster restore` has to be done again first")]
    Restoring(PathBuf),
    /// Another server runs on it.
    #[error("another muster server runs on the data folder {0}")]
    Taken(PathBuf),
}

impl Data {
    /// Opens the folder, which is made when it is not there, for one server alone.
    pub(crate) fn open(folder: &Path) -> Result<Self, DataError> {
        let data = Self::open_to_restore(folder)?;
        if data.is_restoring() {
            return Err(DataError::Restoring(data.folder));
        }
        Ok(data)
    }

    /// Opens the folder for a restore, also where one was cut off.
    pub(crate) fn open_to_restore(folder: &Path) -> Result<Self, DataError> {
        let unusable = |error| DataError::Unusable { folder: folder.to_owned(), error };
        fs::create_dir_all(folder).map_err(unusable)?;
        // Steps and supervisors run elsewhere; what is below must not depend on where we started.
        let folder = folder.canonicalize().map_err(unusable)?;
        for below in CLOSED.iter().chain(&["nudge", "tools"]) {
            fs::create_dir_all(folder.join(below)).map_err(unusable)?;
        }
        // Who else is on this machine may nudge, and see nothing. Jobs get what is theirs by mounts.
        set_mode(&folder, 0o711).map_err(unusable)?;
        for below in CLOSED {
            set_mode(&folder.join(below), 0o700).map_err(unusable)?;
        }
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("lock"))
            .map_err(unusable)?;
        let start = clock::monotonic();
        loop {
            match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { folder, _lock: lock }),
                Err(rustix::io::Errno::WOULDBLOCK) if start.elapsed() < PATIENCE => {
                    std::thread::sleep(PATIENCE / 50);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(DataError::Taken(folder)),
                Err(error) => return Err(unusable(error.into())),
            }
        }
    }

    fn mark(&self) -> PathBuf {
        self.folder.join("restoring")
    }

    /// Returns whether a restore has begun and not come to its end.
    pub(crate) fn is_restoring(&self) -> bool {
        self.mark().exists()
    }

    /// Keeps servers away until [`Self::restored`], a crash included.
    pub(crate) fn mark_as_restoring(&self) -> io::Result<()> {
        File::create(self.mark())?.sync_all()?;
        File::open(&self.folder)?.sync_all()
    }

    /// Lets servers start again.
    pub(crate) fn restored(&self) -> io::Result<()> {
        fs::remove_file(self.mark())?;
        File::open(&self.folder)?.sync_all()
    }

    /// Returns the folder itself.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns whether the disk has room for what comes, or that cannot be known. Below this webhooks are
    /// refused and no job is started: what has begun needs what is left.
    pub(crate) fn has_room(&self) -> bool {
        has_room(&self.folder)
    }

    /// Returns the folder of nudges below the data folder `folder`, whether a server runs or not.
    pub(crate) fn nudges_of(folder: &Path) -> io::Result<PathBuf> {
        let nudges = folder.join("nudge");
        fs::create_dir_all(&nudges)?;
        nudges.canonicalize()
    }

    /// Returns the SQLite database file.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("muster.db")
    }

    /// Returns the folder of copies of the database.
    pub(crate) fn backups(&self) -> PathBuf {
        self.folder.join("backups")
    }

    /// Returns the folder whose touched files are nudges.
    pub(crate) fn nudges(&self) -> PathBuf {
        self.folder.join("nudge")
    }

    /// Returns the folder that keeps tools between jobs.
    pub(crate) fn tools(&self) -> PathBuf {
        self.folder.join("tools")
    }

    /// Returns the folder that keeps the repositories of actions.
    pub(crate) fn actions(&self) -> PathBuf {
        self.folder.join("actions")
    }

    /// Returns the folder that keeps images that were unpacked.
    pub(crate) fn images(&self) -> PathBuf {
        self.folder.join("images")
    }

    /// Returns the folder of what jobs have left for people.
    pub(crate) fn artifacts(&self) -> PathBuf {
        self.folder.join("artifacts")
    }

    /// Returns the folder of what jobs have left for later jobs.
    pub(crate) fn caches(&self) -> PathBuf {
        self.folder.join("caches")
    }

    /// Returns the folder of what jobs have not uploaded to the end.
    pub(crate) fn uploads(&self) -> PathBuf {
        self.folder.join("uploads")
    }

    /// Returns the file of the key that signs what jobs show to the services for actions.
    pub(crate) fn services_key(&self) -> PathBuf {
        self.folder.join("services-key")
    }

    /// Returns the file of the key that identity tokens are signed with.
    pub(crate) fn identity_key(&self) -> PathBuf {
        self.folder.join("identity-key")
    }

    /// Returns the file that says at which port the services for actions are.
    pub(crate) fn services_port(&self) -> PathBuf {
        self.folder.join("services-port")
    }

    /// Returns the folder of all mirrors.
    pub(crate) fn mirrors(&self) -> PathBuf {
        self.folder.join("mirrors")
    }

    /// Returns the mirror of a repository.
    pub(crate) fn mirror(&self, repository: &RepoId) -> PathBuf {
        self.mirrors().join(format!("{repository}.git"))
    }

    /// Returns the key that opens a repository, made or not.
    pub(crate) fn deploy_key(&self, repository: &RepoId) -> DeployKey {
        self.key(&format!("{repository}"))
    }

    /// Returns the key for a repository that is to be added under this name, made or not.
    pub(crate) fn new_key(&self, name: &str) -> DeployKey {
        // No name has a plus sign, and no id starts with one.
        self.key(&format!("+{}", name.replace('/', "+")))
    }

    fn key(&self, folder: &str) -> DeployKey {
        DeployKey {
            folder: self.folder.join("keys").join(folder),
            known_hosts: self.folder.join("known_hosts"),
        }
    }

    /// Returns the folder of all logs.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// Returns the folder of what all attempts of jobs have.
    pub(crate) fn jobs(&self) -> PathBuf {
        self.folder.join("jobs")
    }

    /// Returns the folder of an attempt of a job.
    pub(crate) fn job(&self, job_id: &str, attempt: i64) -> PathBuf {
        self.jobs().join(format!("{job_id}.{attempt}"))
    }

    /// Returns the log of an attempt of a job: what its supervisor spools.
    pub(crate) fn log(&self, job_id: &str, attempt: i64) -> PathBuf {
        self.logs().join(format!("{job_id}.{attempt}.log"))
    }
}

/// Returns whether the disk of a data folder has room, as [`Data::has_room`] does.
pub(crate) fn has_room(folder: &Path) -> bool {
    has_room_for(folder, 0)
}

/// Returns whether the disk of a folder has room for so many bytes and for what comes then, or that cannot be known.
pub(crate) fn has_room_for(folder: &Path, bytes: u64) -> bool {
    rustix::fs::statvfs(folder).map_or(true, |disk| {
        let share = disk.f_blocks.saturating_mul(disk.f_frsize) / 100 * FREE_AT_LEAST_PERCENT;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        free >= share.min(FREE_AT_MOST).saturating_add(bytes)
    })
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
