//! A view of the mounts that only one thread has, and what it starts.
//!
//! In it a file or folder can be shown at a place that another user can reach, whatever closed folders it
//! lies in.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags};
use rustix::thread::UnshareFlags;

use super::{Bind, Root, SandboxError};

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

/// An image, and the folder for what is changed of it, both opened.
pub(super) struct Opened {
    of: Root,
    image: OwnedFd,
    scratch: OwnedFd,
}

impl Opened {
    /// Opens both; see [`open`].
    pub(super) fn new(of: &Root) -> Result<Self, SandboxError> {
        // A mount of its own, which nobody else sees yet.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let image = rustix::mount::open_tree(CWD, &of.image, flags)
            .map_err(|error| refused(of, "open it", error))?;
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::DIRECTORY;
        let scratch = rustix::fs::open(&of.scratch, flags, Mode::empty())
            .map_err(|error| refused(of, "open the folder for changes", error))?;
        Ok(Self { of: of.clone(), image, scratch })
    }

    /// Makes a root of them below the stage, in which `users` own what the image says is theirs.
    pub(super) fn mount(
        &self,
        users: BorrowedFd<'_>,
        stage: &Path,
    ) -> Result<PathBuf, SandboxError> {
        let refused = |what| move |error| refused(&self.of, what, error);
        let [image, scratch, root] = ["image", "scratch", "root"].map(|name| stage.join(name));
        for folder in [&image, &scratch, &root] {
            fs::create_dir(folder)?;
        }
        map_owners(self.image.as_fd(), users).map_err(refused(
            "give its files to users of the job (its file system may not know that)",
        ))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&self.image, "", CWD, &image, flags)
            .map_err(refused("show it"))?;
        let source = format!("/proc/self/fd/{}", self.scratch.as_raw_fd());
        rustix::mount::mount_bind(source, &scratch)
            .map_err(refused("show the folder for changes"))?;
        // What is changed goes with the job: nothing need reach the disk.
        let options = format!(
            "lowerdir={},upperdir={},workdir={},volatile",
            image.display(),
            scratch.join("upper").display(),
            scratch.join("work").display()
        );
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("muster", &root, "overlay", flags, options.as_c_str())
            .map_err(refused("lay the folder for changes over it"))?;
        Ok(root)
    }
}

fn refused(root: &Root, what: &'static str, error: Errno) -> SandboxError {
    SandboxError::Root { image: root.image.clone(), what, error: error.into() }
}

/// Makes the users of a namespace the owners of what is in a mount, by number.
fn map_owners(mount: BorrowedFd<'_>, users: BorrowedFd<'_>) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_raw_fd().unsigned_abs().into(),
    };
    #[expect(unsafe_code, reason = "rustix does not have this call")]
    // SAFETY: the structure outlives the call, with its true size, and the descriptors are open.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}
