//! Another user of this machine, without a sandbox: what the steps of a job are under root.
//!
//! Its programs see the machine as it is, but for what is shown to them and for folders that are hidden,
//! such as the home of whoever runs the server.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid};

use super::cgroup::{Cgroup, InForce};
use super::{Bind, Limits, SandboxError, stage};

/// What a guest is given.
#[derive(Debug, Clone)]
pub struct Stay {
    /// What is shown to it, and where.
    pub binds: Vec<Bind>,
    /// Symbolic links below what is hidden, or below [`PLACE`]: where, and to what.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// A folder in whose place it sees an empty one.
    pub hidden: Option<PathBuf>,
    /// The user and group of its programs.
    pub user: u32,
    /// Names its control group.
    pub name: String,
    /// What its programs may use together.
    pub limits: Limits,
}

/// The folder below which things are shown to a guest. Nobody else sees anything in it.
pub const PLACE: &str = "/run/muster";

/// A user that programs can be started as. What is left of them is killed when it is dropped, where they have
/// a control group.
#[derive(Debug)]
pub struct Guest {
    orders: Sender<Order>,
    user: u32,
    cgroup: Option<Cgroup>,
}

/// A program to start, and where to say how that went.
type Order = (Command, Sender<io::Result<Child>>);

impl Guest {
    /// Prepares a user's view of the machine.
    ///
    /// # Errors
    ///
    /// When this process may not show one, as in a container without the right to mount.
    pub fn invite(stay: &Stay) -> Result<Self, SandboxError> {
        let (orders, listen) = channel();
        let (tell, told) = channel();
        let (stay, user) = (stay.clone(), stay.user);
        let cgroup = Cgroup::create(&stay.name, &stay.limits);
        let doors = cgroup.as_ref().map(Cgroup::doors).transpose()?.unwrap_or_default();
        std::thread::Builder::new().name("guest".into()).spawn(move || {
            let prepared = prepare(&stay);
            let is_there = prepared.is_ok();
            drop(tell.send(prepared));
            if is_there {
                serve(&listen, &stay, &doors);
            }
        })?;
        told.recv().map_err(io::Error::other)??;
        Ok(Self { orders, user, cgroup })
    }

    /// Returns what the control group that bounds it holds it to; without one only the number of processes of
    /// its user is bounded.
    pub fn cgroup(&self) -> Option<InForce> {
        self.cgroup.as_ref().map(Cgroup::in_force)
    }

    /// Returns how often the kernel killed one of its programs because they had no memory left.
    pub fn memory_kills(&self) -> u64 {
        self.cgroup.as_ref().map_or(0, Cgroup::memory_kills)
    }

    /// Starts a program as this user.
    pub(crate) fn start(&self, command: Command) -> io::Result<Child> {
        let (tell, told) = channel();
        self.orders.send((command, tell)).map_err(|_| io::Error::other("the guest is gone"))?;
        told.recv().map_err(io::Error::other)?
    }

    /// Returns the user and group of its programs.
    pub(crate) fn user(&self) -> u32 {
        self.user
    }
}

fn prepare(stay: &Stay) -> Result<(), SandboxError> {
    // The folder stays on the machine, empty.
    fs::create_dir_all(PLACE)?;
    stage::take_leave()?;
    let opened = stage::open(&stay.binds)?;
    stage::cover(Path::new(PLACE))?;
    if let Some(hidden) = &stay.hidden {
        stage::cover(hidden)?;
    }
    for (fd, bind) in opened.iter().zip(&stay.binds) {
        stage::show(fd, bind, &bind.to)?;
        if !bind.writable {
            stage::make_read_only(&bind.to)?;
        }
    }
    // What is there already leads where it leads on this machine.
    for (at, target) in stay.links.iter().filter(|(at, _)| fs::symlink_metadata(at).is_err()) {
        fs::create_dir_all(at.parent().unwrap_or(at))?;
        std::os::unix::fs::symlink(target, at)?;
    }
    Ok(())
}

/// Starts what is ordered, on the thread that has the view.
fn serve(listen: &Receiver<Order>, stay: &Stay, doors: &[File]) {
    // It can only be lowered by who is not root any more.
    let most = rustix::process::getrlimit(Resource::Nproc).maximum.unwrap_or(u64::MAX);
    let limit = Some(u64::from(stay.limits.processes).min(most));
    let limit = Rlimit { current: limit, maximum: limit };
    let (user, group) = (Uid::from_raw(stay.user), Gid::from_raw(stay.user));
    let doors: Vec<RawFd> = doors.iter().map(AsRawFd::as_raw_fd).collect();
    for (mut command, tell) in listen {
        let doors = doors.clone();
        let folder = command.get_current_dir().unwrap_or(Path::new("/"));
        let folder = CString::new(folder.as_os_str().as_bytes());
        // The group is entered with our rights, and then they go.
        let become_guest = move || {
            for door in &doors {
                #[expect(unsafe_code, reason = "the descriptor is ours and stays open")]
                // SAFETY: whoever serves holds it for as long as programs are started.
                let door = unsafe { BorrowedFd::borrow_raw(*door) };
                rustix::io::write(door, b"0")?;
            }
            rustix::thread::set_thread_groups(&[])?;
            rustix::thread::set_thread_gid(group)?;
            rustix::thread::set_thread_uid(user)?;
            // It was entered with our rights, through folders that are closed to the guest.
            rustix::process::chdir(folder.as_deref().map_err(|_| Errno::INVAL)?)?;
            rustix::thread::set_no_new_privs(true)?;
            Ok(rustix::process::setrlimit(Resource::Nproc, limit)?)
        };
        #[expect(unsafe_code, reason = "system calls alone, on values that are there already")]
        // SAFETY: between fork and exec nothing is allocated, locked or freed; the child is one thread.
        unsafe {
            command.pre_exec(become_guest);
        }
        drop(tell.send(command.spawn()));
    }
}
