//! Workflow commands: lines of output that tell the runner something.
//!
//! Follows
//! [ActionCommand.cs](https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs): `::name
//! key=value,key=value::data`, and the older `##[name key=value;key=value]data` anywhere in a line. A line that names
//! no command is a line like any other.

/// What a line may ask for, with GitHub's names.
const NAMES: [&str; 15] = [
    "add-mask",
    "add-matcher",
    "add-path",
    "debug",
    "echo",
    "endgroup",
    "error",
    "group",
    "notice",
    "remove-matcher",
    "save-state",
    "set-env",
    "set-output",
    STOP,
    "warning",
];

/// The command that ends the reading of commands.
pub(super) const STOP: &str = "stop-commands";

const NEW: &str = "::";
const OLD: &str = "##[";

/// A command that a line holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// In small letters; a token as it was given.
    pub(super) name: String,
    /// Their names as they were written.
    pub(super) properties: Vec<(String, String)>,
    pub(super) data: String,
}

impl Command {
    /// Reads the command that a line holds, where it holds one; `token` is one more name that counts.
    pub(super) fn read(line: &str, token: Option<&str>) -> Option<Self> {
        new(line, token).or_else(|| old(line, token))
    }

    /// Returns a property by its name, in whatever letters; an empty one is none.
    pub(super) fn property(&self, name: &str) -> Option<&str> {
        let found = self.properties.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// Returns whether a line may hold a command: cheap, and true for each that does.
pub(super) fn may_hold(line: &[u8]) -> bool {
    let has_new = has(line, NEW)
        && segments(line).any(|segment| {
            let start = segment.trim_ascii_start();
            // White space that is not ASCII may stand before it.
            start.starts_with(NEW.as_bytes()) || start.first().is_some_and(|byte| !byte.is_ascii())
        });
    has_new || has(line, OLD)
}

/// Returns whether what there is of a line may become a command, or is one that goes on.
pub(super) fn may_become(line: &[u8]) -> bool {
    let last = segments(line).last().unwrap_or_default();
    let start = last.trim_ascii_start();
    start.is_empty()
        || NEW.as_bytes().starts_with(start)
        || may_hold(line)
        || start.starts_with(NEW.as_bytes())
        || OLD.as_bytes().starts_with(&line[line.len() - 1..])
        || line.ends_with(&OLD.as_bytes()[..2])
}

/// Returns the parts of a line that a carriage return ends: to GitHub's runner they are lines, too.
fn segments(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b'\r')
}

fn has(line: &[u8], what: &str) -> bool {
    memchr::memmem::find(line, what.as_bytes()).is_some()
}

/// Returns a command's name as it is kept, if it is one.
fn known(name: &str, token: Option<&str>) -> Option<String> {
    if let Some(token) = token.filter(|token| token.eq_ignore_ascii_case(name)) {
        return Some(token.to_owned());
    }
    NAMES.iter().find(|known| known.eq_ignore_ascii_case(name)).map(|name| (*name).to_owned())
}

/// Reads `::name key=value,…::data`.
fn new(line: &str, token: Option<&str>) -> Option<Command> {
    let (head, data) = line.trim_start().strip_prefix(NEW)?.split_once(NEW)?;
    let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
    Some(Command {
        name: known(name, token)?,
        properties: pairs(properties.trim(), ',', |value| {
            unescape(value, &[("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ",")])
        }),
        data: unescape(data, &[("%0D", "\r"), ("%0A", "\n")]),
    })
}

/// Reads `##[name key=value;…]data`.
fn old(line: &str, token: Option<&str>) -> Option<Command> {
    let escapes = [("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]")];
    let (_, rest) = line.split_once(OLD)?;
    let (head, data) = rest.split_once(']')?;
    let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
    Some(Command {
        name: known(name, token)?,
        properties: pairs(properties, ';', |value| unescape(value, &escapes)),
        data: unescape(data, &escapes),
    })
}

fn pairs(text: &str, separator: char, unescape: impl Fn(&str) -> String) -> Vec<(String, String)> {
    let pairs =
        text.split(separator).filter_map(|pair| pair.trim_start_matches('=').split_once('='));
    pairs
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), unescape(value)))
        .collect()
}

fn unescape(text: &str, escapes: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    // The percent sign last, so that none that was meant is read twice.
    for (escape, char) in escapes.iter().chain(&[("%25", "%")]) {
        if text.contains(escape) {
            text = text.replace(escape, char);
        }
    }
    text
}
