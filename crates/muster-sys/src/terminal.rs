//! Terminals for programs, wherever these run.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Gid, Uid};
use rustix::pty::OpenptFlags;
use rustix::termios::{Winsize, tcsetwinsize};

/// A terminal of which this is the side of who looks at it. Where it is dropped, what runs on the other side is hung up.
#[derive(Debug)]
pub struct Terminal {
    ours: OwnedFd,
    theirs: OwnedFd,
}

/// How large a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many are in a line.
    pub columns: u16,
    /// How many lines there are.
    pub rows: u16,
}

impl Terminal {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// When the system has none left.
    pub fn open(size: Size) -> io::Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = rustix::pty::openpt(flags)?;
        rustix::pty::unlockpt(&ours)?;
        // By descriptor: where a program runs there need be no such path.
        let theirs = rustix::pty::ioctl_tiocgptpeer(&ours, flags)?;
        resize(&ours, size)?;
        Ok(Self { ours, theirs })
    }

    /// Makes a user the owner of the other side.
    pub(crate) fn give(&self, user: u32) -> io::Result<()> {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
        Ok(rustix::fs::fchown(&self.theirs, Some(user), Some(group))?)
    }

    /// Returns the side of the program.
    pub(crate) fn theirs(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }

    /// Closes the side of the program for us, which has been started on it, and returns ours.
    pub fn ours(self) -> OwnedFd {
        self.ours
    }
}

/// Says how large a terminal is from now on, by the side of who looks at it.
///
/// # Errors
///
/// When the system refuses.
pub fn resize(ours: &OwnedFd, size: Size) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(ours, size)?)
}

/// Makes a terminal, by its descriptor, that of this process, which leads a session of its own from here on. For a
/// process that is about to become another program: it makes system calls alone.
pub(crate) fn take(terminal: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(rustix::process::ioctl_tiocsctty(terminal)?)
}
