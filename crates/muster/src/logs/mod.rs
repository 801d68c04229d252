//! Logs: the spools that supervisors write, read for people.
//!
//! One function reads a growing log and one that is complete, live or later: by byte offset, whole
//! records only.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use muster_runner::spool::Record;
use serde::Serialize;

/// How much is read at once.
const CHUNK: u64 = 256 * 1024;

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
    file.seek(SeekFrom::Start(from))?;
    let mut chunk = Vec::new();
    file.take(CHUNK).read_to_end(&mut chunk)?;
    let whole = chunk.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
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

/// Reads all output of a log as it was written, at most `max` bytes of it.
pub(crate) fn raw(path: &Path, max: usize) -> io::Result<Vec<u8>> {
    let log = match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let mut out = Vec::new();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        if let Some(Record::Output { text, ends, .. }) =
            Record::parse(line.strip_suffix(b"\n").unwrap_or(line))
        {
            out.extend_from_slice(text);
            if ends {
                out.push(b'\n');
            }
        }
        if out.len() > max {
            break;
        }
    }
    Ok(out)
}
