//! The side of the job: its supervisor waits for those who come to look, until its time is over.

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use muster_runner::{Kept, On};
use muster_sys::clock;
use muster_sys::process::ProcessError;
use muster_sys::terminal::{Size, Terminal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;

use super::{Frame, Wanted, socket};

/// How often it is looked whether the time is over.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// So many look at a job at once.
const MAX_LOOKERS: usize = 8;
/// Who looks has so long to say what is wanted, and to take what is shown.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a program has written is shown for so long after its end.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// So much is read at once, and so much may wait to be taken by who looks.
const CHUNK: usize = 32 << 10;
const MAX_SHOWN: usize = 256 << 10;
/// What shells end with whose program is not there.
const NOT_FOUND: u8 = 127;

/// Keeps a job for so long, but for those who look at it then, or until somebody wants its end. Does `begin` once others can
/// come.
///
/// # Errors
///
/// When nobody could come to it.
pub(crate) fn keep(
    kept: Kept,
    folder: &Path,
    after: Duration,
    begin: impl FnOnce(),
) -> io::Result<()> {
    let (_folder, path) = socket(folder)?;
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    begin();
    let start = clock::monotonic();
    let lookers = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        loop {
            let is_seen = lookers.load(Ordering::Relaxed) > 0;
            if kept.is_over() || (start.elapsed() > after && !is_seen) {
                break;
            }
            let mut polled = [PollFd::new(&listener, PollFlags::IN)];
            // Interrupted it is looked once more.
            let _ = poll(&mut polled, Some(&LOOK));
            let Ok((stream, _)) = listener.accept() else { continue };
            let (kept, lookers) = (&kept, &lookers);
            if lookers.fetch_add(1, Ordering::Relaxed) >= MAX_LOOKERS {
                lookers.fetch_sub(1, Ordering::Relaxed);
                refuse(&stream, format!("{MAX_LOOKERS} look at this job already"));
                continue;
            }
            scope.spawn(move || {
                if let Err(error) = show(kept, &stream) {
                    refuse(&stream, error.to_string());
                }
                lookers.fetch_sub(1, Ordering::Relaxed);
            });
        }
        // Nobody comes any more, and who looks hears that the job is over.
        drop(fs::remove_file(&path));
    });
    kept.end();
    Ok(())
}

fn refuse(mut stream: &UnixStream, why: String) {
    // Who has gone away, or takes nothing, need not be told.
    drop(stream.set_nonblocking(false));
    drop(stream.set_write_timeout(Some(LAST_WORDS)));
    drop(stream.write_all(&Frame::Refused(why).bytes()));
}

/// Starts what somebody wants, and hands on what is typed and shown until it has ended, or they have gone away.
fn show(kept: &Kept, stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut read = Vec::new();
    let wanted = loop {
        match Frame::take(&mut read)? {
            Some(Frame::Open(wanted)) => break wanted,
            Some(Frame::End) => {
                kept.end_soon();
                return (&*stream).write_all(&Frame::Exit(0).bytes());
            }
            Some(_) => return Err(io::Error::other("it is not said what is wanted")),
            None if more(stream, &mut read)? == Some(0) => return Ok(()),
            None => {}
        }
    };
    let Wanted { words, terminal, term, columns, rows } = wanted;
    let terminal = terminal.then(|| Terminal::open(Size { columns, rows })).transpose()?;
    let on = terminal.as_ref().map_or(On::Pipes, On::Terminal);
    let started = match kept.start(on, &words, &term) {
        Err(ProcessError::Start { program, error }) if error.kind() == io::ErrorKind::NotFound => {
            let told = format!("muster: {program}: not found in the job\r\n");
            let frames = [Frame::Data(told.into_bytes()), Frame::Exit(NOT_FOUND)];
            return (&*stream).write_all(&frames.map(|frame| frame.bytes()).concat());
        }
        started => started.map_err(io::Error::other)?,
    };
    let (output, input) = match (terminal, started.pipes) {
        (Some(terminal), _) => {
            let ours = terminal.ours();
            (ours.try_clone()?, ours)
        }
        (None, Some((output, input))) => (output.into(), input.into()),
        (None, None) => return Err(io::Error::other("nothing leads to it")),
    };
    for fd in [&output, &input] {
        rustix::io::ioctl_fionbio(fd, true)?;
    }
    stream.set_nonblocking(true)?;
    let note = started.note.map(|note| Frame::Data(format!("muster: {note}\r\n").into_bytes()));
    let mut shown = Shown {
        stream,
        output: Some(output),
        input: Some(input),
        read,
        typed: Vec::new(),
        shown: note.map(|note| note.bytes()).unwrap_or_default(),
        taken: clock::monotonic(),
        is_typed: false,
    };
    let mut ended = None;
    loop {
        shown.take_frames()?;
        if kept.is_over() {
            return Err(io::Error::other("the job is kept no longer"));
        }
        let is_last = ended.is_some_and(|ended: Instant| ended.elapsed() > LAST_WORDS);
        // What it has left running may write for ever.
        if ended.is_some() && (shown.output.is_none() || is_last) {
            break;
        }
        let wait_for = ended.is_none().then(|| started.running.ended());
        match shown.wait(wait_for)? {
            Event::Nothing => {}
            // What it reads and writes is closed with this, which ends it.
            Event::Gone => {
                started.running.kill();
                return Ok(());
            }
            Event::Ended => ended = Some(clock::monotonic()),
        }
    }
    shown.shown.extend(Frame::Exit(exit_code(started.running.wait()?)).bytes());
    stream.set_nonblocking(false)?;
    (&*stream).write_all(&shown.shown)
}

/// What happened while somebody looked.
enum Event {
    Nothing,
    /// Who looked has gone away.
    Gone,
    /// The program has ended.
    Ended,
}

/// A program that somebody looks at.
struct Shown<'s> {
    stream: &'s UnixStream,
    /// What it writes, until nothing more is written.
    output: Option<OwnedFd>,
    /// What it reads, until nothing more is typed.
    input: Option<OwnedFd>,
    /// What has come and is no whole frame.
    read: Vec<u8>,
    /// What was typed and not taken yet.
    typed: Vec<u8>,
    /// What was written and not taken yet, and when some of it was last.
    shown: Vec<u8>,
    taken: Instant,
    /// Whether nothing more is typed.
    is_typed: bool,
}

impl Shown<'_> {
    /// Does what has come.
    fn take_frames(&mut self) -> io::Result<()> {
        while self.typed.is_empty()
            && let Some(frame) = Frame::take(&mut self.read)?
        {
            match frame {
                Frame::Data(bytes) => self.typed = bytes,
                Frame::Resize(size) => {
                    if let Some(terminal) = &self.input {
                        // Pipes have no size.
                        drop(muster_sys::terminal::resize(terminal, size));
                    }
                }
                Frame::Eof => self.is_typed = true,
                Frame::Open(_) | Frame::End | Frame::Exit(_) | Frame::Refused(_) => {}
            }
        }
        if self.is_typed && self.typed.is_empty() {
            self.input = None;
        }
        Ok(())
    }

    /// Waits for something, and hands it on.
    fn wait(&mut self, ended: Option<BorrowedFd<'_>>) -> io::Result<Event> {
        let wants = |wanted, flags| if wanted { flags } else { PollFlags::empty() };
        // What is typed ahead has to wait, and what is shown ahead.
        let of_stream = wants(self.typed.is_empty(), PollFlags::IN)
            | wants(!self.shown.is_empty(), PollFlags::OUT);
        let room = self.shown.len() < MAX_SHOWN;
        let mut polled = vec![PollFd::new(self.stream, of_stream)];
        let output = self.output.as_ref().filter(|_| room).map(|fd| fd.as_fd());
        let output = add(&mut polled, output, PollFlags::IN);
        let input = self.input.as_ref().filter(|_| !self.typed.is_empty()).map(|fd| fd.as_fd());
        let input = add(&mut polled, input, PollFlags::OUT);
        let ended = add(&mut polled, ended, PollFlags::IN);
        match poll(&mut polled, Some(&LOOK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let revents: Vec<PollFlags> = polled.iter().map(PollFd::revents).collect();
        drop(polled);
        let is_ready = |at: Option<usize>| at.is_some_and(|at| !revents[at].is_empty());
        if is_ready(input) {
            self.hand_on_typed();
        }
        if is_ready(output) {
            self.take_output()?;
        }
        if self.hand_on_shown()? {
            return Ok(Event::Gone);
        }
        let of_stream = revents[0].difference(PollFlags::OUT);
        if !of_stream.is_empty() && more(self.stream, &mut self.read)? == Some(0) {
            return Ok(Event::Gone);
        }
        Ok(if is_ready(ended) { Event::Ended } else { Event::Nothing })
    }

    fn hand_on_typed(&mut self) {
        let Some(input) = &self.input else { return };
        match rustix::io::write(input, &self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody reads it any more.
            Err(_) => {
                self.typed.clear();
                self.is_typed = true;
            }
        }
    }

    fn take_output(&mut self) -> io::Result<()> {
        let Some(output) = &self.output else { return Ok(()) };
        let mut bytes = vec![0; CHUNK];
        match rustix::io::read(output, &mut bytes) {
            // So a terminal says that nobody has its other side.
            Ok(0) | Err(Errno::IO) => self.output = None,
            Ok(count) => {
                if self.shown.is_empty() {
                    self.taken = clock::monotonic();
                }
                bytes.truncate(count);
                self.shown.extend(Frame::Data(bytes).bytes());
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Hands on what is shown; returns true when who looked has gone away.
    fn hand_on_shown(&mut self) -> io::Result<bool> {
        if self.shown.is_empty() {
            return Ok(false);
        }
        match (&*self.stream).write(&self.shown) {
            Ok(count) => {
                self.shown.drain(..count);
                self.taken = clock::monotonic();
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.taken.elapsed() > PATIENCE {
                    return Ok(true);
                }
                Ok(false)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(_) => Ok(true),
        }
    }
}

/// Adds something to what is waited for; returns its place there.
fn add<'f>(
    polled: &mut Vec<PollFd<'f>>,
    fd: Option<BorrowedFd<'f>>,
    flags: PollFlags,
) -> Option<usize> {
    polled.push(PollFd::from_borrowed_fd(fd?, flags));
    Some(polled.len() - 1)
}

/// Reads what has come; returns how much, and nothing where that is to be seen later.
fn more(mut stream: &UnixStream, read: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut bytes = [0; 16 << 10];
    match stream.read(&mut bytes) {
        Ok(count) => {
            read.extend_from_slice(&bytes[..count]);
            Ok(Some(count))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Some(0)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            // A socket that is waited for says so when the time is over.
            let waits = stream.read_timeout()?.is_some() && !is_nonblocking(stream);
            if waits { Err(io::Error::other("nothing came")) } else { Ok(None) }
        }
        Err(error) => Err(error),
    }
}

fn is_nonblocking(stream: &UnixStream) -> bool {
    rustix::fs::fcntl_getfl(stream).is_ok_and(|flags| flags.contains(rustix::fs::OFlags::NONBLOCK))
}

/// Returns the exit code of a program, as shells have it.
fn exit_code(status: ExitStatus) -> u8 {
    let signal = || 128 + status.signal().unwrap_or(0);
    u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(u8::MAX)
}
