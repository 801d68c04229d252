//! Another user of this machine, without a sandbox: what the steps of a job are under root.
//!
//! Its programs see the machine as it is, but for what is shown to them and for folders that are hidden,
//! such as the home of whoever runs the server.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::process::{Resource, Rlimit};

use super::{Bind, SandboxError, stage};

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
    /// The most processes and threads that the user has at once.
    pub processes: u32,
}

/// The folder below which things are shown to a guest. Nobody else sees anything in it.
pub const PLACE: &str = "/run/muster";

/// A user that programs can be started as. They go on when it is dropped.
#[derive(Debug)]
pub struct Guest {
    orders: Sender<Order>,
    user: u32,
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
        std::thread::Builder::new().name("guest".into()).spawn(move || {
            let prepared = prepare(&stay);
            let is_there = prepared.is_ok();
            drop(tell.send(prepared));
            if is_there {
                serve(&listen, &stay);
            }
        })?;
        told.recv().map_err(io::Error::other)??;
        Ok(Self { orders, user })
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
    for (at, target) in &stay.links {
        fs::create_dir_all(at.parent().unwrap_or(at))?;
        std::os::unix::fs::symlink(target, at)?;
    }
    Ok(())
}

/// Starts what is ordered, on the thread that has the view.
fn serve(listen: &Receiver<Order>, stay: &Stay) {
    let limit = Some(u64::from(stay.processes));
    let limit = Rlimit { current: limit, maximum: limit };
    let bound = move || {
        rustix::thread::set_no_new_privs(true)?;
        Ok(rustix::process::setrlimit(Resource::Nproc, limit)?)
    };
    for (mut command, tell) in listen {
        command.uid(stay.user).gid(stay.user);
        #[expect(unsafe_code, reason = "two system calls, on values that are there already")]
        // SAFETY: between fork and exec nothing is allocated, locked or freed.
        unsafe {
            command.pre_exec(bound);
        }
        drop(tell.send(command.spawn()));
    }
}
