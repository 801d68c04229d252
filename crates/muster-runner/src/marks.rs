//! The marks of GitHub's logs: lines that begin with one are shown in their own way.

use std::borrow::Cow;

use crate::spec::Level;

/// A group of lines begins; its title follows.
pub const GROUP: &str = "##[group]";
/// The group of lines ends.
pub const ENDGROUP: &str = "##[endgroup]";
/// A line that is shown only where somebody looks for a fault of the workflow.
pub const DEBUG: &str = "##[debug]";

/// Returns the mark of a line that tells of a problem.
pub fn mark(level: Level) -> &'static str {
    match level {
        Level::Notice => "##[notice]",
        Level::Warning => "##[warning]",
        Level::Error => "##[error]",
    }
}

/// Returns a line of a log in words, for who reads it as plain text; `None` for one that is not shown.
pub fn in_words(line: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !line.starts_with(b"##[") {
        return Some(Cow::Borrowed(line));
    }
    if line.starts_with(ENDGROUP.as_bytes()) {
        return None;
    }
    for (mark, words) in [
        (mark(Level::Error), "Error: "),
        (mark(Level::Warning), "Warning: "),
        (mark(Level::Notice), "Notice: "),
        (DEBUG, "Debug: "),
        (GROUP, "▾ "),
    ] {
        if let Some(rest) = line.strip_prefix(mark.as_bytes()) {
            return Some(Cow::Owned([words.as_bytes(), rest].concat()));
        }
    }
    Some(Cow::Borrowed(line))
}
