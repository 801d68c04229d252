//! A shell in a job that has failed: `muster shell`, from the terminal of whoever looks to the process that keeps the job.
//!
//! Between the two are frames: a kind, a length (4 bytes, the highest first), and so many bytes. They go over a socket in
//! the job's folder; from elsewhere the server hands them on, over a connection that was upgraded.

mod attach;
mod keep;

pub(crate) use attach::{attach, end};
pub(crate) use keep::keep;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use muster_sys::terminal::Size;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};

/// What a connection becomes that frames go over.
pub(crate) const PROTOCOL: &str = "muster-shell";
/// A frame has no more bytes than this.
const MAX_FRAME: usize = 256 << 10;
/// Before the bytes of a frame stand so many others.
const HEAD: usize = 5;
/// The socket, in the folder of a job.
const SOCKET: &str = "shell";

/// What goes from one side to the other.
#[derive(Debug, PartialEq, Eq)]
enum Frame {
    /// What is typed, or shown.
    Data(Vec<u8>),
    /// How large the terminal is now.
    Resize(Size),
    /// What is wanted; the first that who looks says.
    Open(Wanted),
    /// That nothing more is typed.
    Eof,
    /// That the job need be kept no longer; instead of that.
    End,
    /// How the program ended: its exit code, or 128 and its signal.
    Exit(u8),
    /// Why there is none.
    Refused(String),
}

/// What somebody wants to start in a job.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// The program and its arguments; nothing is a shell.
    pub(crate) words: Vec<String>,
    /// Whether it is on a terminal; else what goes and comes are bytes.
    pub(crate) terminal: bool,
    /// What kind of terminal it is.
    pub(crate) term: String,
    /// How many characters there are in a line.
    pub(crate) columns: u16,
    /// How many lines there are.
    pub(crate) rows: u16,
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        let (kind, content) = match self {
            Self::Data(bytes) => (0, bytes.clone()),
            Self::Resize(size) => {
                (1, [size.columns.to_be_bytes(), size.rows.to_be_bytes()].concat())
            }
            // It has nothing that could not be written.
            Self::Open(wanted) => (2, serde_json::to_vec(wanted).unwrap_or_default()),
            Self::Exit(code) => (3, vec![*code]),
            Self::Refused(why) => (4, why.clone().into_bytes()),
            Self::End => (5, Vec::new()),
            Self::Eof => (6, Vec::new()),
        };
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        [&[kind][..], &length.to_be_bytes(), &content].concat()
    }

    /// Takes the first frame from what was read, once all of it is there.
    ///
    /// # Errors
    ///
    /// When it is none.
    fn take(read: &mut Vec<u8>) -> io::Result<Option<Self>> {
        let Some((head, rest)) = read.split_at_checked(HEAD) else { return Ok(None) };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let garbled = || io::Error::new(io::ErrorKind::InvalidData, "what comes is no frame");
        if length > MAX_FRAME {
            return Err(garbled());
        }
        let Some((content, _)) = rest.split_at_checked(length) else { return Ok(None) };
        let frame = match (head[0], content) {
            (0, bytes) => Self::Data(bytes.to_vec()),
            (1, &[a, b, c, d]) => Self::Resize(Size {
                columns: u16::from_be_bytes([a, b]),
                rows: u16::from_be_bytes([c, d]),
            }),
            (2, wanted) => Self::Open(serde_json::from_slice(wanted).map_err(|_| garbled())?),
            (3, &[code]) => Self::Exit(code),
            (4, why) => Self::Refused(String::from_utf8_lossy(why).into_owned()),
            (5, []) => Self::End,
            (6, []) => Self::Eof,
            _ => return Err(garbled()),
        };
        read.drain(..HEAD + length);
        Ok(Some(frame))
    }
}

/// Opens the folder of a job, and returns a short path to its socket, which is good while that is open: sockets have paths of
/// 107 bytes at most.
fn socket(folder: &Path) -> io::Result<(rustix::fd::OwnedFd, PathBuf)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(SOCKET);
    Ok((folder, path))
}

/// Goes to the process that keeps a job.
///
/// # Errors
///
/// When nobody does.
pub(crate) fn connect(folder: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let (_folder, path) = socket(folder)?;
    std::os::unix::net::UnixStream::connect(path)
}

/// The file that a `muster run` holds locked in its folder for as long as it goes on.
const RUN: &str = "run.lock";

/// Takes the folder of a `muster run`, of which others remove nothing while it is held.
///
/// # Errors
///
/// When somebody else has it.
pub(crate) fn hold_run(folder: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(folder.join(RUN))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

/// Returns whether somebody keeps a job of those whose folders are in this one.
pub(crate) fn kept_below(folder: &Path) -> bool {
    let jobs = std::fs::read_dir(folder).into_iter().flatten().flatten();
    jobs.into_iter().any(|job| is_open(&job.path()) && is_kept(&job.path()))
}

/// Returns whether there is a way to the job of this folder, whose process is there.
pub(crate) fn is_open(folder: &Path) -> bool {
    folder.join(SOCKET).exists()
}

/// Returns whether somebody keeps the job of this folder.
pub(crate) fn is_kept(folder: &Path) -> bool {
    connect(folder).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_as_they_went() {
        let size = Size { columns: 80, rows: 24 };
        let wanted = Wanted {
            words: vec!["ls".into()],
            terminal: true,
            term: "xterm".into(),
            columns: 80,
            rows: 24,
        };
        let frames = [
            Frame::Data(b"typed".to_vec()),
            Frame::Resize(size),
            Frame::Open(wanted),
            Frame::Exit(130),
            Frame::Refused("it is gone".into()),
            Frame::End,
            Frame::Eof,
        ];
        let mut read: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        let rest = read.split_off(read.len() - 1);
        let mut taken = Vec::new();
        while let Some(frame) = Frame::take(&mut read).unwrap() {
            taken.push(frame);
        }
        read.extend(rest);
        taken.extend(Frame::take(&mut read).unwrap());
        assert_eq!(taken, frames);
    }

    proptest! {
        #[test]
        fn bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            while let Ok(Some(_)) = Frame::take(&mut bytes) {}
        }
    }
}
