//! The files of a job, as the runner reads and writes them: whatever steps have put in the way is not followed.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown, fchown};
use std::path::{Component, Path, PathBuf};

use muster_sys::files;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::{ACTIONS, Footing, Ground, Workspace, plain};

impl Ground {
    /// Writes a new file among the job's temporary ones, and returns its path for the steps.
    ///
    /// # Errors
    ///
    /// When it cannot be written, as when a step has put something in its place.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.temp.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(content)?;
        fchown(&file, self.user, self.user)?;
        if matches!(self.footing, Footing::Container { .. }) && self.user.is_none() {
            // Who the steps are there is not ours to say; nobody else reaches the folder.
            file.set_permissions(Permissions::from_mode(0o666))?;
        }
        Ok(self.places.temp.join(name))
    }

    /// Reads a file that [`Self::write`] made and that steps may have changed; `None` when it is
    /// gone. At most `max + 1` bytes are read.
    ///
    /// # Errors
    ///
    /// When it is no regular file any more, or cannot be read.
    pub(crate) fn read(&self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        // Neither a link nor a pipe: what is opened is judged, not what the name meant before.
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.cast_signed())
            .open(self.temp.join(name));
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file any more"));
        }
        let mut content = Vec::new();
        file.take(max + 1).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Gives the steps a copy of an action, `below` the folder of all.
    ///
    /// # Errors
    ///
    /// When it cannot be copied, or a step has put something in its place.
    pub(crate) fn show_action(&self, from: &Path, below: &Path) -> io::Result<()> {
        let staged = self.temp.with_file_name("staged");
        if staged.exists() {
            files::remove_tree(&staged)?;
        }
        fs::create_dir(&staged)?;
        files::copy_tree(from, &staged, self.user)?;
        chown(&staged, self.user, self.user)?;
        let below = Path::new(ACTIONS).join(below);
        let (parent, name) = (below.parent().unwrap_or(Path::new("")), below.file_name());
        // Steps may have put links in the way: none is followed.
        let folder = self.step_into(&self.work, parent)?;
        rustix::fs::renameat(CWD, &staged, &folder, name.unwrap_or_default())?;
        Ok(())
    }

    /// Makes the steps the owner of what is in a folder.
    pub(super) fn give(&self, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let owner = self.user.map(|user| (Uid::from_raw(user), Gid::from_raw(user)));
        let (user, group) = owner.unzip();
        Ok(rustix::fs::chownat(folder, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Reads a file of the workspace, by its path from there; `None` when it is not there. At most `max + 1` bytes are
    /// read.
    ///
    /// # Errors
    ///
    /// When the path leads out of the workspace, or to what is no regular file, or it cannot be read.
    pub(crate) fn read_in_workspace(&self, path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
        // A step may have put links anywhere, also in the place of the workspace: none leads out.
        match &self.workspace {
            Workspace::In(below) => read_beneath(&self.work, &below.join(path), max),
            Workspace::Tree(tree) => read_beneath(tree, path, max),
        }
    }

    /// Reads a file by its path as the steps see it, from the workspace on: one of the workspace, or of the job's
    /// temporary ones; `None` when it is not there. At most `max + 1` bytes are read.
    ///
    /// # Errors
    ///
    /// When the path leads elsewhere, or to what is no regular file, or it cannot be read.
    pub(crate) fn read_of_job(&self, path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
        let path = plain(&self.places.workspace.join(path));
        if let Ok(below) = path.strip_prefix(&self.places.workspace) {
            return self.read_in_workspace(below, max);
        }
        if let Ok(below) = path.strip_prefix(&self.places.temp) {
            return read_beneath(&self.temp, below, max);
        }
        if let Ok(below) = path.strip_prefix(&self.places.actions) {
            return read_beneath(&self.work, &Path::new(ACTIONS).join(below), max);
        }
        // As ourselves a step could read it, too.
        if self.is_ours() {
            let path = match fs::canonicalize(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                real => real?,
            };
            return read_beneath(Path::new("/"), path.strip_prefix("/").unwrap_or(&path), max);
        }
        Err(io::Error::other(
            "it is neither in the workspace, nor in an action, nor among the job's temporary files",
        ))
    }

    /// Takes a temporary file of the job away.
    pub(crate) fn remove(&self, name: &str) {
        // One that stays only takes room until the job's folder goes.
        drop(fs::remove_file(self.temp.join(name)));
    }
}

/// Reads a file beneath a folder, whatever links are there; `None` when it is not there. At most `max + 1` bytes are
/// read.
pub(crate) fn read_beneath(top: &Path, path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(top, flags | OFlags::NOFOLLOW, Mode::empty())?;
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(io::Error::other("it leads out of the workspace"));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::fs::openat2(&top, path, flags, Mode::empty(), within) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::XDEV) => return Err(io::Error::other("it leads out of the workspace")),
        opened => fs::File::from(opened?),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut content = Vec::new();
    file.take(max + 1).read_to_end(&mut content)?;
    Ok(Some(content))
}
