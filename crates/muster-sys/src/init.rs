//! The init of a job: the first process where its steps run, in a sandbox or in a container.
//!
//! It starts the steps, so that a step costs a fork and neither a sandbox nor a container. It is a program of our own
//! (`init/main.rs`), linked statically, that runs in any root. Orders go to it over a socket:
//!
//! * `1 STEP LENGTH` and LENGTH bytes: start a step. With it come two pipes, for the step's output and
//!   for its status. The bytes are NUL-separated: how many words the command has, the folder, the
//!   words, the variables. The status pipe answers twice: `KIND ERRNO` when the step started (or why
//!   it did not), and its wait status when it ended, with what it has used: microseconds of processors, bytes of memory,
//!   bytes read and written.
//!   With a third pipe, between the two, it reads from that.
//! * `3 STEP LENGTH`: as `1`, but the step gets a terminal in the place of the first pipe, and reads from it, too.
//! * `2 STEP SIGNAL`: send a signal to the process group of a step.
//!
//! The end of the socket is the end of the job: its init ends, and the kernel kills what is left.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{self, IoSlice, IoSliceMut, PipeReader, PipeWriter, Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use rustix::process::{Gid, Signal, Uid};

use crate::clock;
use crate::terminal::Terminal;
use crate::usage::Usage;

/// The program, compiled by `build.rs`.
pub(crate) const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));
/// It has so long to take an order, and to answer that a step has started.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

const START: u8 = 1;
const SIGNAL: u8 = 2;
const START_ON_TERMINAL: u8 = 3;
const STARTED: i32 = 0;
const NO_FOLDER: i32 = 2;

/// The way to an init. Where it ends, so does the job.
#[derive(Debug)]
pub struct Init {
    control: Arc<Mutex<Control>>,
}

#[derive(Debug)]
struct Control {
    stream: UnixStream,
    /// The number of the last step.
    step: u32,
}

/// What an init says first: the version of Landlock in force, and what listens inside if something was to.
pub(crate) type Hello = (u8, Option<TcpListener>);

impl Init {
    pub(crate) fn at(stream: UnixStream) -> Self {
        Self { control: Arc::new(Mutex::new(Control { stream, step: 0 })) }
    }

    /// Waits for it to say hello; `None` when it takes longer than `within`.
    pub(crate) fn hello(&self, within: Duration) -> io::Result<Option<Hello>> {
        let control = lock(&self.control);
        let mut hello = [0];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut hello)];
        control.stream.set_read_timeout(Some(within))?;
        let flags = RecvFlags::CMSG_CLOEXEC;
        let read = rustix::net::recvmsg(&control.stream, &mut parts, &mut ancillary, flags);
        control.stream.set_read_timeout(None)?;
        match read.map_err(io::Error::from).map(|message| message.bytes) {
            Ok(0) => Err(io::Error::other("it ended without a word")),
            Ok(_) => {
                let fds = ancillary.drain().filter_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                    _ => None,
                });
                let listener = fds.flatten().map(TcpListener::from).last();
                Ok(Some((hello[0], listener)))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Has it start a program, with both outputs on one pipe, which is `user`'s where that is not us.
    ///
    /// # Errors
    ///
    /// The error that starting it gave; `NotADirectory` for its folder, `TimedOut` where there is no answer.
    pub(crate) fn start(
        &self,
        command: &Command,
        user: Option<u32>,
    ) -> io::Result<(Confined, PipeReader)> {
        let (output, output_end) = io::pipe()?;
        if let Some(user) = user {
            give([output_end.as_fd()], user)?;
        }
        let confined = self.order(START, command, output_end.as_fd(), None)?;
        Ok((confined, output))
    }

    /// Has it start a program that is talked with: as [`Self::start`], and it reads from another pipe.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub(crate) fn start_talking(
        &self,
        command: &Command,
        user: Option<u32>,
    ) -> io::Result<(Confined, PipeReader, PipeWriter)> {
        let (output, output_end) = io::pipe()?;
        let (input_end, input) = io::pipe()?;
        if let Some(user) = user {
            give([output_end.as_fd(), input_end.as_fd()], user)?;
        }
        let confined = self.order(START, command, output_end.as_fd(), Some(input_end.as_fd()))?;
        Ok((confined, output, input))
    }

    /// Has it start a program on a terminal, whose other side is `user`'s then, where that is not us.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub(crate) fn start_on(
        &self,
        terminal: &Terminal,
        command: &Command,
        user: Option<u32>,
    ) -> io::Result<Confined> {
        if let Some(user) = user {
            terminal.give(user)?;
        }
        self.order(START_ON_TERMINAL, command, terminal.theirs(), None)
    }

    /// Has it start a program, in one of the ways, with what it writes to, and what it reads from where that is something;
    /// returns it once it has started.
    fn order(
        &self,
        how: u8,
        command: &Command,
        to: BorrowedFd<'_>,
        from: Option<BorrowedFd<'_>>,
    ) -> io::Result<Confined> {
        let (status, status_end) = io::pipe()?;
        let order = describe(command)?;
        let length = u32::try_from(order.len()).map_err(io::Error::other)?;
        let mut control = lock(&self.control);
        control.step += 1;
        let step = control.step;
        match from {
            None => send(&control.stream, [to, status_end.as_fd()], how, step, length)?,
            Some(from) => send(&control.stream, [to, from, status_end.as_fd()], how, step, length)?,
        }
        (&control.stream).write_all(&order)?;
        drop((control, status_end));
        let mut confined = Confined { control: Arc::clone(&self.control), step, status };
        if !wait_for(&confined.status)? {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the init does not answer"));
        }
        let mut answer = [0; 8];
        let gone = |_| io::Error::other("where the job runs is gone");
        confined.status.read_exact(&mut answer).map_err(gone)?;
        let word = |at: usize| {
            i32::from_ne_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]])
        };
        match (word(0), word(4)) {
            (STARTED, _) => Ok(confined),
            (NO_FOLDER, _) => Err(io::ErrorKind::NotADirectory.into()),
            (_, number) => Err(io::Error::from_raw_os_error(number)),
        }
    }

    /// Ends it.
    pub fn dismiss(&self) {
        // Nothing can be done about an end that is already there.
        drop(lock(&self.control).stream.shutdown(std::net::Shutdown::Both));
    }
}

/// Where the init of a container comes to: a folder that is shown inside, with the program and a socket.
#[derive(Debug)]
pub struct Threshold {
    folder: PathBuf,
    listener: UnixListener,
}

/// Where an init that has come is.
#[derive(Debug)]
pub struct Arrived {
    /// The way to it.
    pub init: Init,
    /// What listens inside, where something was to.
    pub doorway: Option<TcpListener>,
    /// The user that it is, as this machine counts them.
    pub user: u32,
    /// What it has found at the places that it was to look at.
    pub seen: Vec<Seen>,
}

/// What a file or folder is, wherever it is shown: its device and its number there; zeros for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen(pub u64, pub u64);

impl Threshold {
    /// The program, in the folder.
    pub const PROGRAM: &'static str = "init";
    /// The socket, in the folder.
    const SOCKET: &'static str = "socket";

    /// Makes the folder.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let program = folder.join(Self::PROGRAM);
        fs::write(&program, PROGRAM)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        let socket = folder.join(Self::SOCKET);
        let listener = UnixListener::bind(&socket)?;
        // Inside it may be anybody; the folder is the job's alone.
        fs::set_permissions(&socket, Permissions::from_mode(0o666))?;
        listener.set_nonblocking(true)?;
        Ok(Self { folder: folder.to_owned(), listener })
    }

    /// Returns the words by which the init comes here, for whom the folder is at `inside`. Where `port` is not 0
    /// something is to listen there, inside. It looks at `places` before anything else runs there.
    pub fn command(&self, inside: &Path, port: u16, places: &[&str]) -> Vec<String> {
        let text = |name: &str| inside.join(name).to_string_lossy().into_owned();
        let words = [text(Self::PROGRAM), "--join".into(), text(Self::SOCKET), port.to_string()];
        words.into_iter().chain(places.iter().map(|place| (*place).to_owned())).collect()
    }

    /// Waits for the init to come, for so long, and takes the socket away: nobody else comes. It was to look at so many
    /// places.
    ///
    /// # Errors
    ///
    /// When it does not come.
    pub fn wait(self, within: Duration, places: usize) -> io::Result<Arrived> {
        let start = clock::monotonic();
        let left = || within.saturating_sub(start.elapsed());
        let timeout = within.try_into().map_err(io::Error::other)?;
        let mut polled = [PollFd::new(&self.listener, PollFlags::IN)];
        rustix::event::poll(&mut polled, Some(&timeout))?;
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(ANSWER))?;
        let user = rustix::net::sockopt::socket_peercred(&stream)?.uid.as_raw();
        fs::remove_file(self.folder.join(Self::SOCKET))?;
        let init = Init::at(stream);
        let hello = init.hello(left().max(Duration::from_millis(1)))?;
        let (_, doorway) = hello.ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
        let mut seen = Vec::new();
        for _ in 0..places {
            let mut numbers = [[0; 8]; 2];
            for number in &mut numbers {
                (&lock(&init.control).stream).read_exact(number)?;
            }
            let [device, number] = numbers.map(u64::from_ne_bytes);
            seen.push(Seen(device, number));
        }
        Ok(Arrived { init, doorway, user, seen })
    }
}

/// A program that an init has started.
#[derive(Debug)]
pub(crate) struct Confined {
    control: Arc<Mutex<Control>>,
    step: u32,
    status: PipeReader,
}

impl Confined {
    /// Becomes readable when the program has ended.
    pub(crate) fn ended(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// Returns how it ended, and what it has used; one whose init is gone was killed with it.
    pub(crate) fn end(&mut self) -> (std::process::ExitStatus, Option<Usage>) {
        let (mut status, mut usage) = ([0; 4], [0; Usage::LENGTH]);
        let said = self.status.read_exact(&mut status);
        let (raw, usage) = match said.and_then(|()| self.status.read_exact(&mut usage)) {
            Ok(()) => (i32::from_ne_bytes(status), Some(Usage::from_init(usage))),
            Err(_) => (Signal::KILL.as_raw(), None),
        };
        (std::os::unix::process::ExitStatusExt::from_raw(raw), usage)
    }

    /// Sends a signal to it and all in its group.
    pub(crate) fn signal(&self, signal: Signal) {
        let control = lock(&self.control);
        // Where the init is gone nobody needs a signal.
        drop(send(&control.stream, [], SIGNAL, self.step, signal.as_raw().cast_unsigned()));
    }
}

/// Makes a user the owner of ends of pipes, for who opens them again, as `/dev/stderr`.
pub(crate) fn give<const N: usize>(ends: [BorrowedFd<'_>; N], user: u32) -> io::Result<()> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
    for end in ends {
        rustix::fs::fchown(end, Some(user), Some(group))?;
    }
    Ok(())
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
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
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
        // What was taken away is not there to be named.
        let Some(value) = value.map(OsStr::as_bytes) else { continue };
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
