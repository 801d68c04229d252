//! Standard input and output, and the files that a command is given.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, bail};
use muster_forge::github::{BodyError, Payload};
use muster_workflow::text::one_line;

/// Why something could not be written to standard output, once it could not.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Remembers what went wrong with standard output; one that is closed is no error of ours.
fn keep(written: io::Result<()>) {
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        drop(UNWRITTEN.set(error.to_string()));
    }
}

/// Returns what went wrong with standard output, if anything did.
pub(super) fn flushed() -> anyhow::Result<()> {
    keep(io::stdout().flush());
    match UNWRITTEN.get() {
        Some(why) => bail!("cannot write to standard output: {why}"),
        None => Ok(()),
    }
}

/// Writes an error and what caused it to standard error.
#[expect(clippy::print_stderr, reason = "this is the command line")]
pub(super) fn complain(error: &anyhow::Error) {
    // It may name what strangers have named.
    let text = format!("error: {error:#}");
    let lines: Vec<String> = text.lines().map(one_line).collect();
    eprintln!("{}", lines.join("\n"));
}

/// Writes a line to standard output.
pub(crate) fn print(line: impl std::fmt::Display) {
    keep(writeln!(io::stdout().lock(), "{line}"));
}

/// Writes JSON to standard output. What a terminal would obey in it is written as its number, which is the same to
/// whoever reads JSON.
pub(super) fn print_json(json: &dyn std::fmt::Display) {
    let text = json.to_string();
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || one_line(c.encode_utf8(&mut [0; 4])).starts_with(c) {
            safe.push(c);
        } else {
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        }
    }
    print(safe);
}

/// Reads the first `most` bytes of a regular file.
pub(super) fn read_start(file: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read {}", file.display());
    // Opening a pipe would wait for somebody to write to it.
    if !std::fs::metadata(file).with_context(cannot)?.is_file() {
        bail!("{} is no file", file.display());
    }
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).with_context(cannot)?;
    opened.take(most).read_to_end(&mut bytes).with_context(cannot)?;
    Ok(bytes)
}

/// Reads a regular file that has `most` bytes at most.
pub(super) fn read_file(file: &Path, most: u64) -> anyhow::Result<Vec<u8>> {
    let bytes = read_start(file, most + 1)?;
    if bytes.len() as u64 > most {
        bail!("{} is larger than {most} bytes", file.display());
    }
    Ok(bytes)
}

/// Reads a file with JSON that has no more values than a webhook may have.
pub(super) fn read_json(file: &Path, most: u64) -> anyhow::Result<serde_json::Value> {
    let text = read_file(file, most)?;
    json_of(&text).with_context(|| format!("{} cannot be used", file.display()))
}

/// Reads JSON that has no more values than a webhook may have: as values they take many times their text.
pub(super) fn json_of(text: &[u8]) -> anyhow::Result<serde_json::Value> {
    match Payload::find("application/json", text) {
        Ok(payload) => Ok(payload.value()?),
        Err(BodyError::NoJson(error)) => Err(error.into()),
        Err(other) => Err(other.into()),
    }
}

/// The longest line of standard input, in bytes.
const MAX_LINE: u64 = 16 << 20;

/// Returns the lines of standard input, to the first that is too long.
pub(super) fn lines() -> impl Iterator<Item = io::Result<Vec<u8>>> {
    let mut input = io::stdin().lock();
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        match (&mut input).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) if line.len() as u64 == MAX_LINE => {
                let why = format!("a line has more than {MAX_LINE} bytes");
                Some(Err(io::Error::other(why)))
            }
            Ok(_) => {
                line.pop_if(|last| *last == b'\n');
                Some(Ok(line))
            }
            Err(error) => Some(Err(error)),
        }
    })
}

/// Writes bytes to standard output as they are.
pub(crate) fn print_raw(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    keep(out.write_all(bytes).and_then(|()| out.flush()));
}
