//! A view of the mounts that only one thread has, and what it starts.
//!
//! In it a file or folder can be shown at a place that another user can reach, whatever closed folders it
//! lies in.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use super::{Bind, SandboxError};

/// Gives this thread a view of its own, which starts as what everybody sees.
pub(super) fn take_leave() -> Result<(), SandboxError> {
    #[expect(unsafe_code, reason = "the descriptors of this thread stay shared")]
    // SAFETY: a mount namespace of its own unshares nothing that others rely on: such a thread starts
    // programs and else only waits.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(no_view)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(no_view)
}

fn no_view(error: Errno) -> SandboxError {
    SandboxError::NoView(error.into())
}

/// Opens what is to be shown. What is opened before [`take_leave`] belongs to another view, and what comes
/// later may be covered by then.
pub(super) fn open(binds: &[Bind]) -> Result<Vec<OwnedFd>, SandboxError> {
    let open = |bind: &Bind| {
        let fd = rustix::fs::open(&bind.from, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        fd.map_err(|error| SandboxError::Bind { path: bind.from.clone(), error: error.into() })
    };
    binds.iter().map(open).collect()
}

/// Covers a folder with an empty one.
pub(super) fn cover(folder: &Path) -> Result<(), SandboxError> {
    rustix::mount::mount("muster", folder, "tmpfs", MountFlags::NOSUID, c"mode=755")
        .map_err(|error| SandboxError::Bind { path: folder.to_owned(), error: error.into() })
}

/// Shows what was opened at a place, which is made where there is nothing.
pub(super) fn show(opened: &OwnedFd, bind: &Bind, place: &Path) -> Result<(), SandboxError> {
    let refused = |error: io::Error| SandboxError::Bind { path: bind.from.clone(), error };
    if fs::symlink_metadata(place).is_err() {
        let is_folder = rustix::fs::fstat(opened)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir());
        if is_folder {
            fs::create_dir_all(place).map_err(refused)?;
        } else {
            fs::create_dir_all(place.parent().unwrap_or(place)).map_err(refused)?;
            File::create(place).map_err(refused)?;
        }
    }
    let source = format!("/proc/self/fd/{}", opened.as_raw_fd());
    rustix::mount::mount_bind_recursive(source, place).map_err(|error| refused(error.into()))
}

/// Closes what is shown at a place to changes.
pub(super) fn make_read_only(place: &Path) -> Result<(), SandboxError> {
    let flags = MountFlags::BIND | MountFlags::RDONLY;
    rustix::mount::mount_remount(place, flags, "")
        .map_err(|error| SandboxError::Bind { path: place.to_owned(), error: error.into() })
}
