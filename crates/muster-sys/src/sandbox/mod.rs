//! A sandbox for the steps of one job.
//!
//! bubblewrap makes the namespaces and the mounts; a small init of our own (`init/main.rs`) is the
//! first process in it, applies Landlock, and starts the steps, so that a step costs a fork and not a
//! sandbox. Orders go to it over a socket:
//!
//! * `1 STEP LENGTH` and LENGTH bytes: start a step. With it come two pipes, for the step's output and
//!   for its status. The bytes are NUL-separated: how many words the command has, the folder, the
//!   words, the variables. The status pipe answers twice: `KIND ERRNO` when the step started (or why
//!   it did not), and its wait status when it ended.
//! * `2 STEP SIGNAL`: send a signal to the process group of a step.
//!
//! The end of the socket is the end of the sandbox: its init ends, and the kernel kills what is left.

mod cgroup;
mod guest;
mod launch;
mod seccomp;
mod stage;
mod weigh;

pub use cgroup::InForce;
pub use guest::{Guest, PLACE, Stay};

use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut, PipeReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::{Gid, Signal, Uid};

use self::cgroup::Cgroup;
use crate::clock;
use crate::process::kill_group;

/// A sandbox has so long to be up, and is looked at so often until then.
const BEGINNING: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);
/// The init has so long to answer that a step has started.
const ANSWER: Duration = Duration::from_secs(10);
/// What is killed has so long to be gone.
const END: Duration = Duration::from_secs(5);

const START: u8 = 1;
const SIGNAL: u8 = 2;
const STARTED: i32 = 0;
const NO_FOLDER: i32 = 2;

/// What a sandbox is made of.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Names its control group.
    pub name: String,
    /// What of this machine is inside.
    pub binds: Vec<Bind>,
    /// Symbolic links inside: where, and to what.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// Whether it shares this machine's network; else it has nothing but a loopback of its own.
    pub network: bool,
    /// A port of its own loopback at which it finds what is outside ([`Sandbox::take_doorway`]).
    pub doorway: Option<u16>,
    /// The user and group of its processes outside; `None` is this process's own.
    pub user: Option<u32>,
    /// What its processes may use together.
    pub limits: Limits,
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
    orders: Arc<Orders>,
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

/// The way to the init of a sandbox.
#[derive(Debug)]
struct Orders {
    control: Mutex<(UnixStream, u32)>,
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
            orders: Arc::new(Orders { control: Mutex::new((launched.control, 0)) }),
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
        let mut hello = [0];
        loop {
            let control = lock(&self.orders.control);
            control.0.set_read_timeout(Some(LOOK))?;
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut parts = [IoSliceMut::new(&mut hello)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let read = rustix::net::recvmsg(&control.0, &mut parts, &mut ancillary, flags);
            control.0.set_read_timeout(None)?;
            drop(control);
            let read = read.map_err(io::Error::from);
            match read.map(|message| message.bytes) {
                Ok(0) => return Err(io::Error::other("the sandbox ended without a word")),
                Ok(_) => {
                    for message in ancillary.drain() {
                        if let RecvAncillaryMessage::ScmRights(fds) = message {
                            self.doorway = fds.map(TcpListener::from).last();
                        }
                    }
                    break;
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
            if self.bubblewrap.try_wait()?.is_some() {
                return Err(io::Error::other("bubblewrap ended without a word"));
            }
            if start.elapsed() > BEGINNING {
                return Err(io::Error::other("bubblewrap takes too long"));
            }
        }
        self.layers.landlock = hello[0];
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
        let (output, output_end) = io::pipe()?;
        if let Some(user) = self.user {
            // For who opens it again, as `/dev/stderr`.
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
            rustix::fs::fchown(&output_end, Some(user), Some(group))?;
        }
        let (status, status_end) = io::pipe()?;
        let order = describe(command)?;
        let mut control = lock(&self.orders.control);
        control.1 += 1;
        let step = control.1;
        let length = u32::try_from(order.len()).map_err(io::Error::other)?;
        send(&control.0, [output_end.as_fd(), status_end.as_fd()], START, step, length)?;
        (&control.0).write_all(&order)?;
        drop((control, output_end, status_end));
        let mut confined = Confined { orders: Arc::clone(&self.orders), step, status };
        if !wait_for(&confined.status)? {
            // A process of the job can stop the step before it begins, and with it the init. What does
            // not answer is not asked any more.
            kill_group(&self.bubblewrap, Signal::KILL);
            return Err(io::Error::other("the sandbox does not answer and was killed"));
        }
        let mut answer = [0; 8];
        let gone = |_| io::Error::other("the sandbox is gone");
        confined.status.read_exact(&mut answer).map_err(gone)?;
        let word = |at: usize| {
            i32::from_ne_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]])
        };
        match (word(0), word(4)) {
            (STARTED, _) => Ok((confined, output)),
            (NO_FOLDER, _) => Err(io::ErrorKind::NotADirectory.into()),
            (_, number) => Err(io::Error::from_raw_os_error(number)),
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Nothing can be done about an end that is already there.
        drop(lock(&self.orders.control).0.shutdown(std::net::Shutdown::Both));
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

/// A program that runs in a sandbox.
#[derive(Debug)]
pub(crate) struct Confined {
    orders: Arc<Orders>,
    step: u32,
    status: PipeReader,
}

impl Confined {
    /// Becomes readable when the program has ended.
    pub(crate) fn ended(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// Returns how it ended; one whose sandbox is gone was killed with it.
    pub(crate) fn status(&mut self) -> std::process::ExitStatus {
        let mut status = [0; 4];
        let raw = match self.status.read_exact(&mut status) {
            Ok(()) => i32::from_ne_bytes(status),
            Err(_) => Signal::KILL.as_raw(),
        };
        std::os::unix::process::ExitStatusExt::from_raw(raw)
    }

    /// Sends a signal to it and all in its group.
    pub(crate) fn signal(&self, signal: Signal) {
        let control = lock(&self.orders.control);
        // A sandbox that is gone needs no signal.
        drop(send(&control.0, [], SIGNAL, self.step, signal.as_raw().cast_unsigned()));
    }
}

/// Waits until something can be read; returns false when it takes too long.
fn wait_for(pipe: &PipeReader) -> io::Result<bool> {
    let start = clock::monotonic();
    loop {
        let left = ANSWER.saturating_sub(start.elapsed());
        let timeout = left.try_into().map_err(io::Error::other)?;
        let mut polled = [PollFd::new(pipe, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send<const N: usize>(
    control: &UnixStream,
    fds: [BorrowedFd<'_>; N],
    kind: u8,
    step: u32,
    number: u32,
) -> io::Result<()> {
    let mut head = vec![kind];
    head.extend_from_slice(&step.to_ne_bytes());
    head.extend_from_slice(&number.to_ne_bytes());
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if N > 0 {
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let sent =
        rustix::net::sendmsg(control, &[IoSlice::new(&head)], &mut ancillary, SendFlags::NOSIGNAL)?;
    let rest = &head[sent..];
    if rest.is_empty() { Ok(()) } else { (&*control).write_all(rest) }
}

/// Writes a command down as the init reads it.
///
/// # Errors
///
/// When a part of it holds a NUL, which would end it there and begin another.
fn describe(command: &Command) -> io::Result<Vec<u8>> {
    let folder = command.get_current_dir().unwrap_or(Path::new("/"));
    let mut texts: Vec<Vec<u8>> = vec![
        (command.get_args().len() + 1).to_string().into_bytes(),
        folder.as_os_str().as_bytes().to_vec(),
        command.get_program().as_bytes().to_vec(),
    ];
    texts.extend(command.get_args().map(|argument| argument.as_bytes().to_vec()));
    for (name, value) in command.get_envs() {
        let value = value.map(OsStr::as_bytes).unwrap_or_default();
        texts.push([name.as_bytes(), b"=", value].concat());
    }
    if texts.iter().any(|text| text.contains(&0)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a variable or argument holds a NUL",
        ));
    }
    Ok(texts.join(&0))
}

/// Returns a user that no other live process is, for root to give a sandbox; nobody else needs one.
///
/// # Errors
///
/// When this process is root among so few users that there is none to spare.
pub fn user_of_its_own() -> Result<Option<u32>, SandboxError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    // The numbers of live processes differ, and nobody has users so far up; in a container with few
    // users there is less room, and a stranger to clash with is still only another job.
    let pid = std::process::id();
    let candidates = [(1 << 30) + pid, 30_000 + pid % 30_000];
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    let known = |user: u32| {
        map.lines().any(|line| {
            let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().unwrap_or(0));
            let (first, _, count) = (numbers.next(), numbers.next(), numbers.next());
            first.zip(count).is_some_and(|(first, count)| user >= first && user - first < count)
        })
    };
    candidates.into_iter().find(|user| known(*user)).map(Some).ok_or_else(|| {
        SandboxError::System(io::Error::other("this root has no user to give to a job"))
    })
}
