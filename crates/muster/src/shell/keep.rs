//! The side of the job: its supervisor waits for those who come to look, until its time is over.

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use muster_runner::Kept;
use muster_sys::clock;
use muster_sys::terminal::{Size, Terminal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Frame, MAX_FRAME, Wanted, socket};

/// How often it is looked whether the time is over.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// So many look at a job at once.
const MAX_LOOKERS: usize = 8;
/// Who looks has so long to say what is wanted, and to take what is shown.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a program has written is shown for so long after its end.
const LAST_WORDS: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

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
        // Nobody comes any more; who looks still is broken off when the job has ended.
        drop(fs::remove_file(&path));
    });
    kept.end();
    Ok(())
}

fn refuse(mut stream: &UnixStream, why: String) {
    // Who has gone away need not be told.
    drop(stream.set_write_timeout(Some(PATIENCE)));
    drop(stream.write_all(&Frame::Refused(why).bytes()));
}

/// Starts what somebody wants, and hands on what is typed and shown until it has ended, or they have gone away.
fn show(kept: &Kept, stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut read = Vec::new();
    let Wanted { words, term, columns, rows } = loop {
        match Frame::take(&mut read)? {
            Some(Frame::Open(wanted)) => break wanted,
            Some(Frame::End) => {
                kept.end_soon();
                return (&*stream).write_all(&Frame::Exit(0).bytes());
            }
            Some(_) => return Err(io::Error::other("it is not said what is wanted")),
            None if more(stream, &mut read)? == 0 => return Ok(()),
            None => {}
        }
    };
    let terminal = Terminal::open(Size { columns, rows })?;
    let running = kept.start(&terminal, &words, &term).map_err(io::Error::other)?;
    let ours = terminal.ours();
    rustix::io::ioctl_fionbio(&ours, true)?;
    let mut shown = Shown { stream, ours, read, typed: Vec::new(), is_over: false };
    loop {
        shown.take_frames()?;
        if kept.is_over() {
            return Err(io::Error::other("the job is kept no longer"));
        }
        match shown.wait(running.ended())? {
            Event::Nothing => {}
            // Its terminal is closed with this, which ends it.
            Event::Gone => return Ok(()),
            Event::Ended => break,
        }
    }
    shown.last_words()?;
    let code = exit_code(running.wait()?);
    (&*stream).write_all(&Frame::Exit(code).bytes())
}

/// What happened while somebody looked.
enum Event {
    Nothing,
    /// Who looked has gone away.
    Gone,
    /// The program has ended.
    Ended,
}

/// A terminal that somebody looks at.
struct Shown<'s> {
    stream: &'s UnixStream,
    ours: OwnedFd,
    /// What has come and is no whole frame.
    read: Vec<u8>,
    /// What was typed and not taken yet.
    typed: Vec<u8>,
    /// Whether nothing more is written.
    is_over: bool,
}

impl Shown<'_> {
    /// Does what has come.
    fn take_frames(&mut self) -> io::Result<()> {
        while self.typed.is_empty()
            && let Some(frame) = Frame::take(&mut self.read)?
        {
            match frame {
                Frame::Data(bytes) => self.typed = bytes,
                Frame::Resize(size) => muster_sys::terminal::resize(&self.ours, size)?,
                Frame::Open(_) | Frame::End | Frame::Exit(_) | Frame::Refused(_) => {}
            }
        }
        Ok(())
    }

    /// Waits for something, and hands it on.
    fn wait(&mut self, ended: rustix::fd::BorrowedFd<'_>) -> io::Result<Event> {
        let wants = |wanted, flags| if wanted { flags } else { PollFlags::empty() };
        let of_terminal =
            wants(!self.is_over, PollFlags::IN) | wants(!self.typed.is_empty(), PollFlags::OUT);
        let mut polled = [
            PollFd::from_borrowed_fd(ended, PollFlags::IN),
            // What is typed ahead has to wait.
            PollFd::new(self.stream, wants(self.typed.is_empty(), PollFlags::IN)),
            PollFd::new(&self.ours, of_terminal),
        ];
        match poll(&mut polled, Some(&LOOK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [ended, stream, terminal] = polled.map(|fd| fd.revents());
        if terminal.contains(PollFlags::OUT) {
            match rustix::io::write(&self.ours, &self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // Nobody reads it any more.
                Err(_) => self.typed.clear(),
            }
        }
        if terminal.intersects(PollFlags::IN | PollFlags::HUP) && !self.is_over {
            self.is_over = !self.tell()?;
        }
        if stream.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
            && more(self.stream, &mut self.read)? == 0
        {
            return Ok(Event::Gone);
        }
        Ok(if ended.is_empty() { Event::Nothing } else { Event::Ended })
    }

    /// Shows what was written; returns false when nothing more is.
    fn tell(&mut self) -> io::Result<bool> {
        let mut bytes = vec![0; MAX_FRAME];
        match rustix::io::read(&self.ours, &mut bytes) {
            Ok(0) => Ok(false),
            Ok(count) => {
                bytes.truncate(count);
                (&*self.stream).write_all(&Frame::Data(bytes).bytes())?;
                Ok(true)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            // So a terminal says that nobody has its other side.
            Err(Errno::IO) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Shows what a program that has ended has written before.
    fn last_words(&mut self) -> io::Result<()> {
        while !self.is_over {
            let mut polled = [PollFd::new(&self.ours, PollFlags::IN)];
            if poll(&mut polled, Some(&LAST_WORDS)).unwrap_or(0) == 0 {
                break;
            }
            self.is_over = !self.tell()?;
        }
        Ok(())
    }
}

/// Reads what has come; returns how much.
fn more(mut stream: &UnixStream, read: &mut Vec<u8>) -> io::Result<usize> {
    let mut bytes = [0; 16 << 10];
    match stream.read(&mut bytes) {
        Ok(count) => {
            read.extend_from_slice(&bytes[..count]);
            Ok(count)
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
        Err(error) => Err(error),
    }
}

/// Returns the exit code of a program, as shells have it.
fn exit_code(status: ExitStatus) -> u8 {
    let signal = || 128 + status.signal().unwrap_or(0);
    u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(u8::MAX)
}
