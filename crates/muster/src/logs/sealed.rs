//! Complete logs, sealed: Zstandard frames of about 256 KiB each, and a table of them at the end.
//!
//! This is [Zstandard's seekable format][format] without its optional checksums, for each frame has one
//! of its own: `zstd -d` reads such a log without muster.
//!
//! [format]: https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};

use zstd::bulk::{Compressor, Decompressor};

/// How much of a log is in one frame, at most.
const FRAME: usize = 256 * 1024;
const LEVEL: i32 = 3;
/// A frame that decoders skip, and what says that it holds a table.
const SKIPPABLE: u32 = 0x184D_2A5E;
const TABLE: u32 = 0x8F92_EAB1;
const ENTRY: usize = 8;
const HEADER: usize = 8;
const FOOTER: usize = 9;

/// A frame: where it is in the file and in the log, and how long it is there.
#[derive(Debug, Clone, Copy)]
struct Frame {
    at: u64,
    bytes: u32,
    start: u64,
    length: u32,
}

/// A sealed log, to be read.
#[derive(Debug)]
pub(super) struct Sealed {
    file: File,
    frames: Vec<Frame>,
}

/// Seals all that `log` gives into `out`.
pub(super) fn seal(mut log: impl io::Read, out: &mut impl Write) -> io::Result<()> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    let mut table = Vec::new();
    let mut count: u32 = 0;
    // What is read and belongs to the next frame.
    let mut held = Vec::with_capacity(FRAME);
    loop {
        let wanted = (FRAME - held.len()) as u64;
        log.by_ref().take(wanted).read_to_end(&mut held)?;
        if held.is_empty() {
            break;
        }
        // A frame ends with a record, so that one can be searched without the next; a long record has
        // several.
        let last = held.iter().rposition(|byte| *byte == b'\n');
        let cut = last.filter(|_| held.len() == FRAME).map_or(held.len(), |last| last + 1);
        let frame = compressor.compress(&held[..cut])?;
        out.write_all(&frame)?;
        table.extend_from_slice(&length(frame.len())?.to_le_bytes());
        table.extend_from_slice(&length(cut)?.to_le_bytes());
        count += 1;
        held.drain(..cut);
    }
    out.write_all(&SKIPPABLE.to_le_bytes())?;
    out.write_all(&length(table.len() + FOOTER)?.to_le_bytes())?;
    out.write_all(&table)?;
    out.write_all(&count.to_le_bytes())?;
    out.write_all(&[0])?;
    out.write_all(&TABLE.to_le_bytes())
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::Error::other("a log of too many frames"))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("a sealed log is damaged: {what}"))
}

impl Sealed {
    /// Reads the table of a sealed log.
    pub(super) fn open(mut file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let mut footer = [0; FOOTER];
        let at = size.checked_sub(FOOTER as u64).ok_or_else(|| damaged("it is too short"))?;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut footer)?;
        let [a, b, c, d, descriptor, magic @ ..] = footer;
        if u32::from_le_bytes(magic) != TABLE || descriptor != 0 {
            return Err(damaged("it has no table at its end"));
        }
        let count = u32::from_le_bytes([a, b, c, d]);
        let entries = u64::from(count) * ENTRY as u64;
        let start = at.checked_sub(entries + HEADER as u64);
        let start = start.ok_or_else(|| damaged("its table is longer than itself"))?;
        file.seek(SeekFrom::Start(start + HEADER as u64))?;
        let mut table = Vec::new();
        (&mut file).take(entries).read_to_end(&mut table)?;
        let mut frames = Vec::new();
        let (mut in_file, mut in_log) = (0, 0);
        for entry in table.chunks_exact(ENTRY) {
            let number = |at: usize| -> u32 {
                let bytes = entry.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
                u32::from_le_bytes(bytes.unwrap_or_default())
            };
            let frame = Frame { at: in_file, bytes: number(0), start: in_log, length: number(4) };
            if frame.length as usize > FRAME {
                return Err(damaged("it has a frame that is too large"));
            }
            in_file += u64::from(frame.bytes);
            in_log += u64::from(frame.length);
            frames.push(frame);
        }
        if in_file != start {
            return Err(damaged("its frames are not where its table says"));
        }
        Ok(Self { file, frames })
    }

    /// Returns how many bytes the log has, unsealed.
    pub(super) fn length(&self) -> u64 {
        self.frames.last().map_or(0, |last| last.start + u64::from(last.length))
    }

    /// Reads `limit` bytes of the log from a byte offset on, fewer at its end.
    pub(super) fn read(&mut self, from: u64, limit: u64) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let end = from.saturating_add(limit);
        let first =
            self.frames.partition_point(|frame| frame.start + u64::from(frame.length) <= from);
        for place in first..self.frames.len() {
            let Some(frame) = self.frames.get(place).filter(|frame| frame.start < end) else {
                break;
            };
            let frame = *frame;
            let text = self.frame(frame)?;
            let within =
                |at: u64| usize::try_from(at.saturating_sub(frame.start)).unwrap_or(usize::MAX);
            let (skip, stop) = (within(from), within(end).min(text.len()));
            out.extend_from_slice(text.get(skip..stop).unwrap_or_default());
        }
        Ok(out)
    }

    fn frame(&mut self, frame: Frame) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(frame.at))?;
        let mut bytes = vec![0; frame.bytes as usize];
        self.file.read_exact(&mut bytes)?;
        let text = Decompressor::new()?.decompress(&bytes, frame.length as usize);
        let text =
            text.map_err(|error| damaged(&format!("a frame at byte {}: {error}", frame.at)))?;
        if text.len() != frame.length as usize {
            return Err(damaged(&format!("the frame at byte {} is too short", frame.at)));
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealed(log: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seal(log, &mut out).unwrap();
        out
    }

    fn opened(bytes: &[u8]) -> io::Result<Sealed> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Sealed::open(file)
    }

    #[test]
    fn what_was_sealed_is_read_from_any_place() {
        let line = |number: u64| format!("o 0 {number} line {number}\n");
        let mut log: String = (0..40_000).map(line).collect();
        log.push_str(&"long ".repeat(FRAME / 4));
        let bytes = sealed(log.as_bytes());
        assert!(bytes.len() < log.len() / 4, "{} of {}", bytes.len(), log.len());
        let mut read = opened(&bytes).unwrap();
        assert_eq!(read.length(), log.len() as u64);
        for (from, limit) in [(0, 10), (1, 3 << 20), (300_000, 262_144), (262_143, 2)] {
            let end = log.len().min(from + limit);
            let got = read.read(from as u64, limit as u64).unwrap();
            assert_eq!(got, log.as_bytes()[from..end], "{from} {limit}");
        }
        assert_eq!(read.read(log.len() as u64, 10).unwrap(), b"");
        let first = read.frame(read.frames[0]).unwrap();
        assert_eq!(first.last(), Some(&b'\n'));
        // The program reads it too, and so does whoever has no muster.
        assert_eq!(zstd::stream::decode_all(&*bytes).unwrap(), log.as_bytes());
        assert_eq!(opened(&sealed(b"")).unwrap().read(0, 10).unwrap(), b"");
    }

    #[test]
    fn damage_is_said() {
        let mut bytes = sealed(&b"o 0 1 text\n".repeat(100));
        bytes[12] ^= 1;
        let error = opened(&bytes).unwrap().read(0, 10).unwrap_err();
        assert!(
            error.to_string().starts_with("a sealed log is damaged: a frame at byte 0"),
            "{error}"
        );
    }

    proptest! {
        #[test]
        fn nothing_that_lies_there_panics(bytes: Vec<u8>, cut in 0_usize..200, flip in 0_usize..200) {
            drop(opened(&bytes));
            let mut bytes = sealed(&b"o 0 1 text\n".repeat(50));
            let place = flip % bytes.len();
            bytes[place] ^= 0x55;
            bytes.truncate(bytes.len().saturating_sub(cut % 30));
            if let Ok(mut read) = opened(&bytes) {
                drop(read.read(3, 100));
            }
        }
    }
}
