//! The lines that a supervisor writes: what its job wrote and what became of it.
//!
//! One line is one record; its first letter says which:
//!
//! * `o STEP MS TEXT` — a line of output of a step, at a time (milliseconds since 1970);
//! * `p STEP MS TEXT` — a part of a line that goes on in the next record of the step;
//! * `e JSON` — a [`StepEvent`];
//! * `r JSON` — the [`JobResult`]; always the last record.
//!
//! Bytes are never lost, repeated or reordered, whatever they are: the text of a record is all
//! between its third space and the newline. Under the server the spool is the job's log file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::str;
use std::time::{Duration, Instant};

use muster_sys::clock;
use serde::Serialize;

use crate::Listener;
use crate::spec::{JobResult, StepEvent};

/// A longer line is cut into parts of this many bytes.
pub const MAX_LINE: usize = 64 * 1024;
/// What was written is made durable after so much time or so many bytes.
const SYNC_INTERVAL: Duration = Duration::from_millis(200);
const SYNC_BYTES: usize = 1 << 20;

/// A record of a spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// `o` or `p`.
    Output {
        /// The step's place.
        step: usize,
        /// Milliseconds since 1970.
        at: i64,
        /// The bytes, without the newline.
        text: &'a [u8],
        /// Whether the line ends here.
        ends: bool,
    },
    /// `e`.
    Step(StepEvent),
    /// `r`.
    Result(JobResult),
}

impl<'a> Record<'a> {
    /// Reads a record from a line without its newline; `None` for what is none.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let (kind, rest) = (line.first()?, line.get(2..)?);
        match kind {
            b'o' | b'p' => {
                let mut parts = rest.splitn(3, |byte| *byte == b' ');
                let step = str::from_utf8(parts.next()?).ok()?.parse().ok()?;
                let at = str::from_utf8(parts.next()?).ok()?.parse().ok()?;
                Some(Self::Output { step, at, text: parts.next()?, ends: *kind == b'o' })
            }
            b'e' => serde_json::from_slice(rest).ok().map(Self::Step),
            b'r' => serde_json::from_slice(rest).ok().map(Self::Result),
            _ => None,
        }
    }
}

/// Writes a spool.
#[derive(Debug)]
pub struct Writer {
    out: File,
    durable: bool,
    /// What there is of lines that are not ended yet, by their steps.
    partial: BTreeMap<usize, Vec<u8>>,
    /// The step whose last record was a part of a line, where that was the last record of all.
    open: Option<usize>,
    buffer: Vec<u8>,
    unsynced: usize,
    synced: Instant,
    /// The first write that failed. Nothing is written after it.
    failed: Option<io::Error>,
    /// The file that is touched after each write, for who reads along.
    nudge: Option<PathBuf>,
}

impl Writer {
    /// Writes to `out`; a regular file is made durable as it grows. Who reads along is nudged by
    /// touching the file `nudge`.
    ///
    /// # Errors
    ///
    /// When `out` cannot be asked what it is.
    pub fn new(out: File, nudge: Option<PathBuf>) -> io::Result<Self> {
        let durable = out.metadata()?.is_file();
        Ok(Self {
            out,
            durable,
            partial: BTreeMap::new(),
            open: None,
            buffer: Vec::new(),
            unsynced: 0,
            synced: clock::monotonic(),
            failed: None,
            nudge,
        })
    }

    /// Writes the last record and makes all durable.
    ///
    /// # Errors
    ///
    /// The first error of all writes: a spool with a hole is never completed.
    pub fn finish(mut self, result: &JobResult) -> io::Result<()> {
        for step in self.partial.keys().copied().collect::<Vec<_>>() {
            self.end_line(step);
        }
        self.json(b'r', result);
        self.write_out();
        self.sync();
        match self.failed {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn json(&mut self, kind: u8, value: &impl Serialize) {
        match serde_json::to_vec(value) {
            Ok(json) => {
                self.buffer.extend_from_slice(&[kind, b' ']);
                self.buffer.extend_from_slice(&json);
                self.buffer.push(b'\n');
            }
            Err(error) => self.failed = self.failed.take().or(Some(error.into())),
        }
    }

    fn record(&mut self, kind: u8, step: usize, header: &str, text: &[u8]) {
        if let Some(other) = self.open.filter(|open| *open != step) {
            // Who reads all records as one text is to see no line of two steps.
            self.buffer.push(b'o');
            self.buffer.extend_from_slice(self::header(other).as_bytes());
            self.buffer.push(b'\n');
        }
        self.open = (kind == b'p').then_some(step);
        self.buffer.push(kind);
        self.buffer.extend_from_slice(header.as_bytes());
        self.buffer.extend_from_slice(text);
        self.buffer.push(b'\n');
    }

    fn end_line(&mut self, step: usize) {
        if let Some(text) = self.partial.remove(&step) {
            self.record(b'o', step, &header(step), &text);
        }
    }

    fn write_out(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if self.failed.is_none() {
            self.failed = self.out.write_all(&self.buffer).err();
        }
        self.unsynced += self.buffer.len();
        self.buffer.clear();
        if self.unsynced > SYNC_BYTES || self.synced.elapsed() > SYNC_INTERVAL {
            self.sync();
        }
        if let Some(nudge) = &self.nudge {
            // Who is not nudged looks at intervals.
            drop(OpenOptions::new().create(true).append(true).open(nudge));
        }
    }

    fn sync(&mut self) {
        if self.durable && self.unsynced > 0 && self.failed.is_none() {
            self.failed = self.out.sync_data().err();
        }
        self.unsynced = 0;
        self.synced = clock::monotonic();
    }
}

impl Listener for Writer {
    fn output(&mut self, step: usize, bytes: &[u8]) {
        // What comes at once is of one time.
        let header = header(step);
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) if !self.partial.contains_key(&step) && line.len() <= MAX_LINE => {
                    self.record(b'o', step, &header, line);
                }
                Some(line) => {
                    let text = self.hold(step, &header, line);
                    self.record(b'o', step, &header, &text);
                }
                None => {
                    let text = self.hold(step, &header, line);
                    if !text.is_empty() {
                        self.partial.insert(step, text);
                    }
                }
            }
        }
        self.write_out();
    }

    fn step(&mut self, event: StepEvent) {
        self.end_line(event.place());
        if let StepEvent::Finished { step, .. } = event
            && self.open == Some(step)
        {
            // Its last line is at its end with the step.
            self.record(b'o', step, &header(step), b"");
        }
        self.json(b'e', &event);
        self.write_out();
    }

    fn idle(&mut self, step: usize) {
        if let Some(text) = self.partial.remove(&step) {
            self.record(b'p', step, &header(step), &text);
        }
        self.write_out();
        self.sync();
    }
}

impl Writer {
    /// Adds to the line of a step that is not ended yet, and returns it; what is too long of it goes out as parts.
    fn hold(&mut self, step: usize, header: &str, mut text: &[u8]) -> Vec<u8> {
        let mut held = self.partial.remove(&step).unwrap_or_default();
        while held.len() + text.len() > MAX_LINE {
            let (now, later) = text.split_at(MAX_LINE - held.len());
            held.extend_from_slice(now);
            self.record(b'p', step, header, &held);
            held.clear();
            text = later;
        }
        held.extend_from_slice(text);
        held
    }
}

/// Returns what stands between the letter of a record of a step and its text.
fn header(step: usize) -> String {
    format!(" {step} {} ", clock::now_ms())
}
