//! Logs: the spools that supervisors write, read for people.
//!
//! One function reads a growing log and one that is complete and [sealed], live or later: by byte offset,
//! whole records only. A log is one of two files, `ID.ATTEMPT.log` while it grows and `….log.zst` sealed;
//! the first counts while both are there.

mod sealed;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use muster_runner::marks;
use muster_runner::spool::Record;
use muster_sys::clock;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

use sealed::Sealed;

/// A result has at most the outputs of a job, a mebibyte, in JSON.
const MAX_RESULT: u64 = 8 << 20;
/// How much is read at once, and the longest record there can be.
const CHUNK: u64 = 256 * 1024;
const MAX_RECORD: u64 = 256 << 20;

/// A shorter log is not worth sealing.
const SEALED_FROM: u64 = 16 * 1024;
/// What a sealed log's name ends with, after the name that it had.
const SEALED: &str = ".zst";

/// A log that is there.
enum Log {
    Growing(File),
    Sealed(Sealed),
}

impl Log {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let growing = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        // An empty one beside a sealed one is no log.
        if let Some(file) = growing
            && (file.metadata()?.len() > 0 || !sealed_path(path).exists())
        {
            return Ok(Some(Self::Growing(file)));
        }
        match File::open(sealed_path(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => Ok(Some(Self::Sealed(Sealed::open(other?)?))),
        }
    }

    fn length(&self) -> io::Result<u64> {
        match self {
            Self::Growing(file) => Ok(file.metadata()?.len()),
            Self::Sealed(sealed) => Ok(sealed.length()),
        }
    }

    fn read(&mut self, from: u64, limit: u64) -> io::Result<Vec<u8>> {
        match self {
            Self::Growing(file) => {
                file.seek(SeekFrom::Start(from))?;
                let mut chunk = Vec::new();
                file.take(limit).read_to_end(&mut chunk)?;
                Ok(chunk)
            }
            Self::Sealed(sealed) => sealed.read(from, limit),
        }
    }
}

/// Returns the file that a log is once it is sealed.
pub(crate) fn sealed_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(SEALED);
    name.into()
}

/// Returns the attempt, `ID.ATTEMPT`, whose log a file of this name is, sealed or not.
pub(crate) fn attempt_of(name: &str) -> Option<&str> {
    name.strip_suffix(SEALED).unwrap_or(name).strip_suffix(".log")
}

/// A line of a log, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// The step that wrote it.
    pub(crate) step: usize,
    /// Milliseconds since 1970.
    pub(crate) at: i64,
    /// The text, in words where it has one of GitHub's marks, without escape sequences.
    pub(crate) text: String,
    /// Whether the line ends here.
    pub(crate) ends: bool,
}

/// A piece of a log.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    /// The lines in it.
    pub(crate) lines: Vec<Line>,
    /// Where the next piece starts.
    pub(crate) next: u64,
    /// Whether the last record of the log is in it.
    pub(crate) complete: bool,
}

/// Reads the log from a byte offset on, at most one chunk; nothing where there is no log yet.
pub(crate) fn read(path: &Path, from: u64) -> io::Result<Piece> {
    let Some(mut log) = Log::open(path)? else {
        return Ok(Piece { next: from, ..Piece::default() });
    };
    // It was replaced by one line while somebody read it.
    if from > log.length()? {
        return Ok(Piece { next: from, complete: true, ..Piece::default() });
    }
    let (chunk, whole) = whole_records(&mut log, from)?;
    let mut piece = Piece { next: from + whole as u64, ..Piece::default() };
    for line in chunk[..whole].split_inclusive(|byte| *byte == b'\n') {
        match Record::parse(line.strip_suffix(b"\n").unwrap_or(line)) {
            Some(Record::Output { step, at, text, ends }) => {
                let Some(text) = marks::in_words(text) else { continue };
                let text = anstream::adapter::strip_bytes(&text).into_vec();
                let text = String::from_utf8_lossy(&text).into_owned();
                piece.lines.push(Line { step, at, text, ends });
            }
            Some(Record::Result(_)) => piece.complete = true,
            Some(Record::Step(_)) | None => {}
        }
    }
    Ok(piece)
}

/// Returns from where on a log has at most so many bytes to its end, a whole record being the first.
pub(crate) fn last(path: &Path, bytes: u64) -> io::Result<u64> {
    let Some(mut log) = Log::open(path)? else { return Ok(0) };
    let length = log.length()?;
    let mut at = length.saturating_sub(bytes);
    while at > 0 && at < length {
        let chunk = log.read(at, CHUNK)?;
        match chunk.iter().position(|byte| *byte == b'\n') {
            Some(end) => return Ok(at + end as u64 + 1),
            None => at += chunk.len().max(1) as u64,
        }
    }
    Ok(at)
}

/// Reads a chunk from a byte offset on; returns it and how much of it is whole records, which is more
/// than nothing unless the last record is not written to its end yet.
fn whole_records(log: &mut Log, from: u64) -> io::Result<(Vec<u8>, usize)> {
    if from >= log.length()? {
        return Ok((Vec::new(), 0));
    }
    let mut limit = CHUNK;
    loop {
        let chunk = log.read(from, limit)?;
        let whole = chunk.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let cut = whole == 0 && chunk.len() as u64 == limit;
        if !cut || limit >= MAX_RECORD {
            return Ok((chunk, whole));
        }
        limit *= 2;
    }
}

/// Replaces a complete log by one line; one that is no longer than that stays.
pub(crate) fn replace(path: &Path, line: &str) -> io::Result<()> {
    let opened = match Log::open(path) {
        // Of one that is damaged nothing is kept.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
        other => match other? {
            None => return Ok(()),
            some => some,
        },
    };
    let (mut length, mut tail) = (u64::MAX, Vec::new());
    if let Some(mut log) = opened {
        if let Log::Growing(_) = log {
            // What a crash has left beside it.
            remove_if_there(&sealed_path(path))?;
        }
        length = log.length()?;
        // The result stays: that it is there is what says that a log is complete.
        tail = match log.read(length.saturating_sub(MAX_RESULT), MAX_RESULT) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Vec::new(),
            other => other?,
        };
    }
    let last = tail.strip_suffix(b"\n").unwrap_or(&tail).rsplit(|byte| *byte == b'\n').next();
    let result = last.filter(|last| matches!(Record::parse(last), Some(Record::Result(_))));
    let mut text = format!("o 0 {} {line}\n", clock::now_ms()).into_bytes();
    if let Some(result) = result {
        text.extend_from_slice(result);
        text.push(b'\n');
    }
    if text.len() as u64 >= length {
        return Ok(());
    }
    // Readers have the old one, or the new one, and never a part.
    let new = path.with_extension("new");
    let mut file = OpenOptions::new();
    let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    remove_if_there(&sealed_path(path))
}

/// Seals a log that nobody writes to any more, and removes what it was; a short one, and one that is
/// being written, stay as they are. Returns whether it was sealed.
pub(crate) fn seal(path: &Path) -> io::Result<bool> {
    let log = File::open(path)?;
    if log.metadata()?.len() < SEALED_FROM {
        return Ok(false);
    }
    // A supervisor that was given up may still be there.
    if flock(&log, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(false);
    }
    let sealed = sealed_path(path);
    let new = path.with_extension("new");
    let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let mut out = BufWriter::new(out);
    sealed::seal(&log, &mut out)?;
    let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    // It is as old as the log is.
    out.set_modified(log.metadata()?.modified()?)?;
    out.sync_all()?;
    if !is_same(&mut Log::Sealed(Sealed::open(File::open(&new)?)?), &mut Log::Growing(log))? {
        fs::remove_file(new)?;
        return Err(io::Error::other("what was sealed is not what was to be sealed"));
    }
    fs::rename(new, &sealed)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    fs::remove_file(path)?;
    Ok(true)
}

fn is_same(one: &mut Log, other: &mut Log) -> io::Result<bool> {
    let length = one.length()?;
    let mut same = other.length()? == length;
    let mut at = 0;
    while same && at < length {
        same = one.read(at, CHUNK)? == other.read(at, CHUNK)?;
        at += CHUNK;
    }
    Ok(same)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Reads a piece of a log as its steps wrote it, from a byte offset of the log on; returns it and where
/// the next piece starts, which is the same offset at the end.
pub(crate) fn raw(path: &Path, from: u64) -> io::Result<(Vec<u8>, u64)> {
    let Some(mut log) = Log::open(path)? else { return Ok((Vec::new(), from)) };
    let (chunk, whole) = whole_records(&mut log, from)?;
    let mut out = Vec::new();
    for line in chunk[..whole].split_inclusive(|byte| *byte == b'\n') {
        if let Some(Record::Output { text, ends, .. }) =
            Record::parse(line.strip_suffix(b"\n").unwrap_or(line))
        {
            out.extend_from_slice(text);
            if ends {
                out.push(b'\n');
            }
        }
    }
    Ok((out, from + whole as u64))
}
