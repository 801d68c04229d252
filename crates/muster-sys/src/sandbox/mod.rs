//! A sandbox for the steps of one job.
//!
//! bubblewrap makes the namespaces and the mounts; the first process in it is an [`init`](crate::init), which
//! applies Landlock and starts the steps.

mod cgroup;
mod guest;
mod launch;
mod seccomp;
mod stage;
mod users;
mod weigh;

pub use cgroup::InForce;
pub use guest::{Guest, PLACE, Stay};
pub use seccomp::profile;
pub use users::{OF_A_ROOT, Range, user_of_its_own};

use std::io::{self, PipeReader, PipeWriter, Read as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::Sender;
use std::time::Duration;

use rustix::process::Signal;

use self::cgroup::Cgroup;
use crate::clock;
use crate::init::{Confined, Init};
use crate::process::kill_group;
use crate::terminal::Terminal;

/// A sandbox has so long to be up, and is looked at so often until then.
const BEGINNING: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);
/// What is killed has so long to be gone.
const END: Duration = Duration::from_secs(5);

/// What a sandbox is made of.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Names its control group.
    pub name: String,
    /// The root inside; `None` is one that has nothing but the following.
    pub root: Option<Root>,
    /// What of this machine is inside.
    pub binds: Vec<Bind>,
    /// Symbolic links inside: where, and to what.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Whether it shares this machine's network; else it has nothing but a loopback of its own.
    pub network: bool,
    /// A port of its own loopback at which it finds what is outside ([`Sandbox::take_doorway`]).
    pub doorway: Option<u16>,
    /// The user and group of its processes outside; `None` is this process's own. With a root it is the first of a
    /// [`Range`], and root inside.
    pub user: Option<u32>,
    /// What its processes may use together.
    pub limits: Limits,
    /// Whether what is started cannot look into what was started before, nor that into it: memory, variables, open
    /// files. Landlock makes that, where it is.
    pub walls: bool,
}

/// The root of a sandbox, as an image has it: all in it may be changed, and no change reaches the image.
#[derive(Debug, Clone)]
pub struct Root {
    /// The image: a folder whose owners are the users of a machine of its own, from 0 on.
    pub image: PathBuf,
    /// What is changed is kept here: a folder of ours alone with `upper` and `work` in it, both empty but for what
    /// `upper` is to have in the place of what the image has. It is the first user's.
    pub scratch: PathBuf,
}

/// A file or folder of this machine that is inside.
#[derive(Debug, Clone)]
pub struct Bind {
    /// Where it is outside. Need not be reachable for the sandbox's user.
    pub from: PathBuf,
    /// Where it is inside.
    pub to: PathBuf,
    /// Whether the steps may change it.
    pub writable: bool,
}

/// What the processes of a sandbox may use together.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u32,
}

/// Kills and removes what is left of the control group of a job whose supervisor was killed.
pub fn forget(name: &str) {
    Cgroup::forget(name);
}

/// Removes the empty control groups of which `is_left` says by their names that nobody holds them any more.
pub fn sweep(is_left: impl Fn(&str) -> bool) {
    Cgroup::sweep(is_left);
}

/// What stands between a sandbox and the machine, beside its namespaces and system call filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// The version of Landlock in force; 0 is none.
    pub landlock: u8,
    /// The control group that bounds it; without one only the number of processes of its user is.
    pub cgroup: Option<InForce>,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A file or folder that belongs inside cannot be opened.
    #[error("cannot open {path} for the sandbox: {error}")]
    Bind {
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There are no users for an image's root.
    #[error(
        "an image's root takes 65,536 users of its own, which only a muster that runs as root can give it, and not in a \
         container with fewer"
    )]
    NoUsers,
    /// The root cannot be made of an image.
    #[error("cannot make a root of the image {image}: {what}: {error}")]
    Root {
        /// Where the image is.
        image: PathBuf,
        /// What does not work.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// A thread may not have a view of the mounts of its own here.
    #[error("no view of the mounts of its own, as in a chroot: {0}")]
    NoView(io::Error),
    /// bubblewrap is not there.
    #[error("bubblewrap is not installed (`apt-get install bubblewrap`)")]
    NoBubblewrap,
    /// bubblewrap ended, saying this.
    #[error("bubblewrap could not make the sandbox: {0}")]
    Refused(String),
    /// The system call filter cannot be made.
    #[error("no system call filter for this machine: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// Something that should work did not.
    #[error("cannot make the sandbox: {0}")]
    System(#[from] io::Error),
}

/// A sandbox that is up. Dropping it kills everything in it.
#[derive(Debug)]
pub struct Sandbox {
    init: Init,
    bubblewrap: Child,
    layers: Layers,
    /// Listens inside, and is accepted from outside.
    doorway: Option<TcpListener>,
    /// Who its processes are outside, when that is not us.
    user: Option<u32>,
    /// Removed after its processes are gone.
    cgroup: Option<Cgroup>,
    /// bubblewrap dies with the thread that started it; that ends when this is dropped.
    _parent: Sender<()>,
}

impl Sandbox {
    /// Makes a sandbox and waits until it is up.
    ///
    /// # Errors
    ///
    /// When a part of it cannot be made on this machine; nothing of it is left then.
    pub fn start(layout: &Layout) -> Result<Self, SandboxError> {
        let launched = launch::launch(layout)?;
        let mut sandbox = Self {
            init: Init::at(launched.control),
            bubblewrap: launched.bubblewrap,
            layers: Layers { landlock: 0, cgroup: None },
            doorway: None,
            user: layout.user,
            cgroup: Cgroup::create(&layout.name, &layout.limits),
            _parent: launched.parent,
        };
        // The kernel takes its time to move a process; meanwhile bubblewrap mounts.
        let bounded = sandbox.bound(launched.info);
        if let Err(error) = sandbox.greet() {
            // What waits for a part of it that has died is not to wait for ever.
            kill_group(&sandbox.bubblewrap, Signal::KILL);
            drop(sandbox);
            let mut said = String::new();
            (&launched.complaints).read_to_string(&mut said)?;
            let said = said.trim().to_owned();
            return Err(if said.is_empty() { error.into() } else { SandboxError::Refused(said) });
        }
        bounded?;
        if layout.doorway.is_some() && sandbox.doorway.is_none() {
            return Err(io::Error::other("there is no way out of its network").into());
        }
        Ok(sandbox)
    }

    /// Returns what listens at [`Layout::doorway`], once: who accepts on it talks to what is inside.
    pub fn take_doorway(&mut self) -> Option<TcpListener> {
        self.doorway.take()
    }

    /// Waits for the init to say hello, which it does with the version of Landlock and the doorway.
    fn greet(&mut self) -> io::Result<()> {
        let start = clock::monotonic();
        let (landlock, doorway) = loop {
            if let Some(hello) = self.init.hello(LOOK)? {
                break hello;
            }
            if self.bubblewrap.try_wait()?.is_some() {
                return Err(io::Error::other("bubblewrap ended without a word"));
            }
            if start.elapsed() > BEGINNING {
                return Err(io::Error::other("bubblewrap takes too long"));
            }
        };
        (self.layers.landlock, self.doorway) = (landlock, doorway);
        Ok(())
    }

    /// Puts the init, from which all others descend, into the control group.
    fn bound(&mut self, mut info: PipeReader) -> io::Result<()> {
        let mut text = String::new();
        info.read_to_string(&mut text)?;
        let Some(cgroup) = &self.cgroup else { return Ok(()) };
        let init = text.split_once("\"child-pid\":").and_then(|(_, rest)| {
            rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        });
        let init = init.ok_or_else(|| io::Error::other("bubblewrap does not name its child"))?;
        cgroup.add(init)?;
        self.layers.cgroup = Some(cgroup.in_force());
        Ok(())
    }

    /// Returns what is in force.
    pub fn layers(&self) -> Layers {
        self.layers
    }

    /// Returns how often the kernel killed something in it because it had no memory left.
    pub fn memory_kills(&self) -> u64 {
        self.cgroup.as_ref().map_or(0, Cgroup::memory_kills)
    }

    /// Starts a program in it, with both outputs on one pipe.
    ///
    /// # Errors
    ///
    /// The error that starting it gave inside; `NotADirectory` for its folder.
    pub(crate) fn spawn(&self, command: &Command) -> io::Result<(Confined, PipeReader)> {
        self.answered(self.init.start(command, self.user))
    }

    /// Starts a program in it on a terminal.
    ///
    /// # Errors
    ///
    /// As [`Self::spawn`].
    pub(crate) fn spawn_on(&self, terminal: &Terminal, command: &Command) -> io::Result<Confined> {
        self.answered(self.init.start_on(terminal, command, self.user))
    }

    /// Starts a program in it that is talked with.
    ///
    /// # Errors
    ///
    /// As [`Self::spawn`].
    pub(crate) fn spawn_talking(
        &self,
        command: &Command,
    ) -> io::Result<(Confined, PipeReader, PipeWriter)> {
        self.answered(self.init.start_talking(command, self.user))
    }

    /// A process of the job can stop the step before it begins, and with it the init. What does not answer is not asked
    /// any more.
    fn answered<T>(&self, answer: io::Result<T>) -> io::Result<T> {
        answer.inspect_err(|error| {
            if error.kind() == io::ErrorKind::TimedOut {
                kill_group(&self.bubblewrap, Signal::KILL);
            }
        })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Nothing can be done about an end that is already there.
        self.init.dismiss();
        let start = clock::monotonic();
        while let Ok(None) = self.bubblewrap.try_wait() {
            if start.elapsed() > END {
                drop(self.bubblewrap.kill());
                drop(self.bubblewrap.wait());
                break;
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        drop(self.cgroup.take());
    }
}
