//! Logs: the spools that supervisors write, read for people.
//!
//! One function reads a growing log and one that is complete, live or later: by byte offset, whole
//! records only.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use muster_runner::spool::Record;
use muster_sys::clock;
use serde::Serialize;

/// A result has at most the outputs of a job, a mebibyte, in JSON.
const MAX_RESULT: u64 = 8 << 20;
/// How much is read at once, and the longest record there can be.
const CHUNK: u64 = 256 * 1024;
const MAX_RECORD: u64 = 256 << 20;

/// A line of a log, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// The step that wrote it.
    pub(crate) step: usize,
    /// Milliseconds since 1970.
    pub(crate) at: i64,
    /// The text, without escape sequences.
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
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Piece { next: from, ..Piece::default() });
        }
        other => other?,
    };
    // It was replaced by one line while somebody read it.
    if from > file.metadata()?.len() {
        return Ok(Piece { next: from, complete: true, ..Piece::default() });
    }
    let (chunk, whole) = whole_records(&mut file, from)?;
    let mut piece = Piece { next: from + whole as u64, ..Piece::default() };
    for line in chunk[..whole].split_inclusive(|byte| *byte == b'\n') {
        match Record::parse(line.strip_suffix(b"\n").unwrap_or(line)) {
            Some(Record::Output { step, at, text, ends }) => {
                let text = anstream::adapter::strip_bytes(text).into_vec();
                let text = String::from_utf8_lossy(&text).into_owned();
                piece.lines.push(Line { step, at, text, ends });
            }
            Some(Record::Result(_)) => piece.complete = true,
            Some(Record::Step(_)) | None => {}
        }
    }
    Ok(piece)
}

/// Reads a chunk from a byte offset on; returns it and how much of it is whole records, which is more
/// than nothing unless the last record is not written to its end yet.
fn whole_records(file: &mut File, from: u64) -> io::Result<(Vec<u8>, usize)> {
    if from >= file.metadata()?.len() {
        return Ok((Vec::new(), 0));
    }
    let mut limit = CHUNK;
    loop {
        file.seek(SeekFrom::Start(from))?;
        let mut chunk = Vec::new();
        (&mut *file).take(limit).read_to_end(&mut chunk)?;
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
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    // The result stays: that it is there is what says that a log is complete.
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_RESULT)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
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
    std::fs::write(&new, text)?;
    std::fs::set_permissions(&new, file.metadata()?.permissions())?;
    File::open(&new)?.sync_all()?;
    std::fs::rename(new, path)
}

/// Reads a piece of a log as its steps wrote it, from a byte offset of the log on; returns it and where
/// the next piece starts, which is the same offset at the end.
pub(crate) fn raw(path: &Path, from: u64) -> io::Result<(Vec<u8>, u64)> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), from)),
        other => other?,
    };
    let (chunk, whole) = whole_records(&mut file, from)?;
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
