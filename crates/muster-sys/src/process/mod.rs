//! Starting programs: a clean environment, an own process group, bounds on time and output.

mod running;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Resource, Rlimit, Signal};

use crate::clock;
use crate::init::{self, Init};
use crate::sandbox::{Guest, Sandbox};
use crate::terminal::{self, Terminal};

use running::Handle;
pub use running::{Happening, Running};

/// A program to start. It sees only the variables that it is given.
#[derive(Debug)]
pub struct Program {
    command: Command,
    name: String,
    input: Vec<u8>,
}

/// The program that this process is, for this process to start: it is there also when its file was replaced
/// since, as an upgrade does.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// Returns where the program that this process is can be shown to others: its file, and where that was
/// replaced a copy, which is made as `copy`.
///
/// # Errors
///
/// When it can neither be found nor be copied.
pub fn own_program(copy: &Path) -> io::Result<PathBuf> {
    let file = std::env::current_exe()?;
    if file.is_file() {
        return Ok(file);
    }
    std::fs::copy(OWN_PROGRAM, copy)?;
    Ok(copy.to_owned())
}

/// What a program that was waited for left behind.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// Why a program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start `{program}`: {error}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        error: io::Error,
    },
    /// It took longer than it may, and was killed.
    #[error("`{program}` took longer than {} s and was killed", limit.as_secs())]
    TooLong {
        /// The program.
        program: String,
        /// The bound.
        limit: Duration,
    },
    /// It wrote more than it may, and was killed.
    #[error("`{program}` wrote more than {limit} bytes and was killed")]
    TooMuch {
        /// The program.
        program: String,
        /// The bound.
        limit: usize,
    },
    /// Reading from it or waiting for it failed.
    #[error("lost touch with `{program}`: {error}")]
    Lost {
        /// The program.
        program: String,
        /// What the system said.
        error: io::Error,
    },
}

impl Program {
    /// Names a program, looked for in this process's PATH.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let name = program.as_ref().to_string_lossy().into_owned();
        #[expect(clippy::disallowed_methods, reason = "this is where programs are started")]
        let mut command = Command::new(program);
        command.env_clear();
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Self { command, name, input: Vec::new() }
    }

    /// Names a program that an init starts, looked for where that is, with the variables there.
    pub fn bare(program: impl AsRef<OsStr>) -> Self {
        let mut this = Self::new(program);
        this.command.env_remove("PATH");
        this
    }

    /// Returns the folder that it is to start in, and the variables that it is given.
    pub fn setting(&self) -> (Option<PathBuf>, Vec<(OsString, OsString)>) {
        let given = self.command.get_envs();
        let given = given.filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        (self.command.get_current_dir().map(Path::to_owned), given.collect())
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets variables.
    #[must_use]
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        mut self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.command.envs(vars);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Has the program write its errors to a file instead of where ours go; of use where its outputs are not
    /// taken in.
    #[must_use]
    pub fn errors_to(mut self, file: File) -> Self {
        self.command.stderr(file);
        self
    }

    /// Bounds each file that the program, or one that it starts, writes; above that it is killed by
    /// `SIGXFSZ`.
    #[must_use]
    pub fn max_file(mut self, bytes: u64) -> Self {
        // It can only be lowered.
        let bound = rustix::process::getrlimit(Resource::Fsize).maximum;
        let bytes = bound.map_or(bytes, |bound| bound.min(bytes));
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        let set = move || Ok(rustix::process::setrlimit(Resource::Fsize, limit)?);
        #[expect(unsafe_code, reason = "one system call, on values that are there already")]
        // SAFETY: between fork and exec nothing is allocated, locked or freed.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(&mut self.command, set);
        }
        self
    }

    /// Sets what the program reads on its standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Runs the program to its end and returns what it wrote.
    ///
    /// # Errors
    ///
    /// When it cannot be started, takes longer than `limit` or writes more than `max_bytes` on one
    /// of its two outputs; its whole process group is killed then.
    pub fn output(mut self, limit: Duration, max_bytes: usize) -> Result<Output, ProcessError> {
        let deadline = clock::monotonic() + limit;
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.start()?;
        let pipes = (child.stdout.take(), child.stderr.take());
        let (Some(stdout), Some(stderr)) = pipes else {
            return Err(self.lost(io::Error::other("its pipes are missing")));
        };
        let mut outputs = [Vec::new(), Vec::new()];
        let mut sources = [Some(OwnedFd::from(stdout)), Some(OwnedFd::from(stderr))];
        let drained = drain(&mut sources, &mut outputs, deadline, max_bytes);
        if !matches!(drained, Ok(Drained::All)) {
            kill_group(&child, Signal::KILL);
        }
        let status = child.wait().map_err(|error| self.lost(error))?;
        match drained.map_err(|error| self.lost(error))? {
            Drained::All => {}
            Drained::TooLong => return Err(ProcessError::TooLong { program: self.name, limit }),
            Drained::TooMuch => {
                return Err(ProcessError::TooMuch { program: self.name, limit: max_bytes });
            }
        }
        let [stdout, stderr] = outputs;
        Ok(Output { status, stdout, stderr })
    }

    /// Starts the program with both outputs on one pipe.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn spawn(mut self) -> Result<Running, ProcessError> {
        let (reader, writer) = io::pipe().map_err(|error| self.lost(error))?;
        let second = writer.try_clone().map_err(|error| self.lost(error))?;
        self.command.stdout(writer).stderr(second);
        let child = self.start()?;
        // The command holds the writing ends; the pipe ends only when they are gone.
        drop(self.command);
        let running = Handle::of(child).and_then(|handle| Running::new(handle, reader));
        running.map_err(|error| ProcessError::Lost { program: self.name, error })
    }

    /// Starts the program at a place, with both outputs on one pipe. Program and folder are as they are there.
    ///
    /// # Errors
    ///
    /// When it cannot be started there.
    pub fn spawn_at(self, place: Place<'_>) -> Result<Running, ProcessError> {
        let started = match place {
            Place::Here => return self.spawn(),
            Place::As(guest) => return self.spawn_as(guest),
            Place::In(sandbox) => sandbox.spawn(&self.command),
            Place::By(init, user) => init.start(&self.command, user),
        };
        match started {
            Ok((confined, output)) => Running::new(Handle::Confined(confined), output)
                .map_err(|error| ProcessError::Lost { program: self.name, error }),
            Err(error) => Err(ProcessError::Start { program: self.name, error }),
        }
    }

    fn spawn_as(mut self, guest: &Guest) -> Result<Running, ProcessError> {
        let (reader, writer) = io::pipe().map_err(|error| self.lost(error))?;
        init::give([writer.as_fd()], guest.user()).map_err(|error| self.lost(error))?;
        let second = writer.try_clone().map_err(|error| self.lost(error))?;
        self.command.stdin(Stdio::null()).stdout(writer).stderr(second);
        let started = guest.start(self.command);
        let child =
            started.map_err(|error| ProcessError::Start { program: self.name.clone(), error })?;
        let running = Handle::of(child).and_then(|handle| Running::new(handle, reader));
        running.map_err(|error| ProcessError::Lost { program: self.name, error })
    }

    /// Starts the program on a terminal, at a place: the process leads a session of its own, and what it writes is read on
    /// the other side of that. Program and folder are as they are where it runs.
    ///
    /// # Errors
    ///
    /// When it cannot be started there.
    pub fn spawn_on(
        mut self,
        terminal: &Terminal,
        place: Place<'_>,
    ) -> Result<Running, ProcessError> {
        let handle = match place {
            Place::In(sandbox) => sandbox.spawn_on(terminal, &self.command).map(Handle::Confined),
            Place::By(init, user) => {
                init.start_on(terminal, &self.command, user).map(Handle::Confined)
            }
            Place::Here => {
                self.on(terminal).and_then(|()| self.command.spawn()).and_then(Handle::of)
            }
            Place::As(guest) => {
                let ready = terminal.give(guest.user()).and_then(|()| self.on(terminal));
                ready.and_then(|()| guest.start(self.command)).and_then(Handle::of)
            }
        };
        match handle {
            Ok(handle) => Ok(Running::apart(handle)),
            Err(error) => Err(ProcessError::Start { program: self.name, error }),
        }
    }

    /// Starts the program at a place, to be talked with: what it writes, on both outputs, and what it reads are pipes.
    ///
    /// # Errors
    ///
    /// When it cannot be started there.
    pub fn spawn_talking(
        self,
        place: Place<'_>,
    ) -> Result<(Running, PipeReader, PipeWriter), ProcessError> {
        let started = match place {
            Place::In(sandbox) => sandbox.spawn_talking(&self.command),
            Place::By(init, user) => init.start_talking(&self.command, user),
            Place::Here | Place::As(_) => return self.talk(place),
        };
        match started {
            Ok((confined, output, input)) => {
                let handle = Handle::Confined(confined);
                Ok((Running::apart(handle), output, input))
            }
            Err(error) => Err(ProcessError::Start { program: self.name, error }),
        }
    }

    fn talk(mut self, place: Place<'_>) -> Result<(Running, PipeReader, PipeWriter), ProcessError> {
        let name = self.name.clone();
        let talk = || -> io::Result<_> {
            let (output, output_end) = io::pipe()?;
            let (input_end, input) = io::pipe()?;
            if let Place::As(guest) = place {
                init::give([output_end.as_fd(), input_end.as_fd()], guest.user())?;
            }
            self.command.stdin(input_end).stderr(output_end.try_clone()?).stdout(output_end);
            let child = match place {
                Place::As(guest) => guest.start(self.command)?,
                _ => self.command.spawn()?,
            };
            let handle = Handle::of(child)?;
            Ok((Running::apart(handle), output, input))
        };
        talk().map_err(|error| ProcessError::Start { program: name, error })
    }

    /// Puts the program on a terminal.
    fn on(&mut self, terminal: &Terminal) -> io::Result<()> {
        let side = || terminal.theirs().try_clone_to_owned();
        self.command.stdin(side()?).stdout(side()?).stderr(side()?);
        // Who leads a group can lead no session: it does neither until it begins.
        let ours = rustix::process::getpgrp().as_raw_nonzero().get();
        std::os::unix::process::CommandExt::process_group(&mut self.command, ours);
        #[expect(unsafe_code, reason = "system calls alone, on a descriptor that is there then")]
        // SAFETY: between fork and exec nothing is allocated, locked or freed.
        unsafe {
            let take = || terminal::take(rustix::stdio::stdin());
            std::os::unix::process::CommandExt::pre_exec(&mut self.command, take);
        }
        Ok(())
    }

    /// Starts the program with our own input and outputs, in our own process group.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn inherit(mut self) -> Result<Child, ProcessError> {
        let ours = rustix::process::getpgrp().as_raw_nonzero().get();
        std::os::unix::process::CommandExt::process_group(&mut self.command, ours);
        self.command.spawn().map_err(|error| ProcessError::Start { program: self.name, error })
    }

    /// Starts the program with its input and output on pipes, and errors where ours go.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn converse(mut self) -> Result<Conversation, ProcessError> {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = self
            .command
            .spawn()
            .map_err(|error| ProcessError::Start { program: self.name.clone(), error })?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Conversation { child, input, output }),
            _ => Err(self.lost(io::Error::other("its pipes are missing"))),
        }
    }

    /// Starts the program so that it outlives this process, with files for its input and output and
    /// its errors going nowhere.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn detach(mut self, input: File, output: File) -> Result<Child, ProcessError> {
        self.command.stdin(input).stdout(output).stderr(Stdio::null());
        self.command.spawn().map_err(|error| ProcessError::Start { program: self.name, error })
    }

    fn start(&mut self) -> Result<Child, ProcessError> {
        let stdin = if self.input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut child = self
            .command
            .stdin(stdin)
            .spawn()
            .map_err(|error| ProcessError::Start { program: self.name.clone(), error })?;
        if let Some(mut stdin) = child.stdin.take() {
            let input = std::mem::take(&mut self.input);
            // On a thread, for a program may want to write before it reads on. One that ends without
            // reading all is judged by its exit status.
            std::thread::spawn(move || drop(stdin.write_all(&input)));
        }
        Ok(child)
    }

    fn lost(&self, error: io::Error) -> ProcessError {
        ProcessError::Lost { program: self.name.clone(), error }
    }
}

enum Drained {
    All,
    TooLong,
    TooMuch,
}

fn drain(
    sources: &mut [Option<OwnedFd>; 2],
    outputs: &mut [Vec<u8>; 2],
    deadline: Instant,
    max_bytes: usize,
) -> io::Result<Drained> {
    let mut buffer = [0; 16 * 1024];
    while sources.iter().any(Option::is_some) {
        let left = deadline.saturating_duration_since(clock::monotonic());
        if left.is_zero() {
            return Ok(Drained::TooLong);
        }
        let open: Vec<usize> = (0..2).filter(|place| sources[*place].is_some()).collect();
        let fds: Vec<_> = sources.iter().flatten().map(AsFd::as_fd).collect();
        let ready = wait_readable(&fds, Some(left))?;
        drop(fds);
        for (place, ready) in open.into_iter().zip(ready) {
            if !ready {
                continue;
            }
            let Some(source) = &sources[place] else { continue };
            match rustix::io::read(source, &mut buffer)? {
                0 => sources[place] = None,
                count => outputs[place].extend_from_slice(&buffer[..count]),
            }
            if outputs[place].len() > max_bytes {
                return Ok(Drained::TooMuch);
            }
        }
    }
    Ok(Drained::All)
}

/// Waits until some of `fds` can be read; returns which, none when `timeout` passed.
fn wait_readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let timeout = timeout.and_then(|timeout| timeout.try_into().ok());
    match rustix::event::poll(&mut polled, timeout.as_ref()) {
        Ok(_) => Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
        Err(rustix::io::Errno::INTR) => Ok(vec![false; fds.len()]),
        Err(error) => Err(error.into()),
    }
}

/// A program that is talked with.
#[derive(Debug)]
pub struct Conversation {
    /// The program.
    pub child: Child,
    /// What it reads.
    pub input: std::process::ChildStdin,
    /// What it writes.
    pub output: std::process::ChildStdout,
}

/// Where a program runs.
#[derive(Debug, Clone, Copy)]
pub enum Place<'p> {
    /// Here, as we do.
    Here,
    /// Here, as another user.
    As(&'p Guest),
    /// In a sandbox.
    In(&'p Sandbox),
    /// Where an init is, whose user is this one where that is not us.
    By(&'p Init, Option<u32>),
}

/// Sends a signal to all in the process group of a child.
pub(crate) fn kill_group(child: &Child, signal: Signal) {
    // The group may be gone already.
    if let Ok(pid) = pid(child) {
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

fn pid(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the process id is out of range"))
}
