//! Which versions are wanted.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use nodejs_semver::{Range, Version};

use super::SetupOrder;

/// The most bytes of a file that names a version.
const MAX_FILE: u64 = 1 << 20;
/// The most versions that a step wants.
pub(super) const MOST: usize = 32;
/// The longest text of a version, in bytes.
const MAX_TEXT: usize = 1 << 10;

/// What a step wants.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Each is looked for, the last one is what later steps have. None is what is in PATH.
    pub(super) versions: Vec<Versions>,
    /// What is said of how they were found out.
    pub(super) notes: Vec<String>,
    /// Why the action itself should do it, where it can be had.
    pub(super) itself: Option<String>,
}

/// A range of versions.
#[derive(Debug, Clone)]
pub(super) struct Versions {
    /// As somebody wrote it.
    pub(super) text: String,
    range: Range,
}

/// Why it is not known what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unable {
    /// The action itself knows.
    Itself(String),
    /// Nobody does.
    Wrong(String),
}

impl Versions {
    /// Reads a range as [npm's](https://github.com/npm/node-semver#ranges), which GitHub's actions use.
    pub(super) fn read(text: &str) -> Result<Self, Unable> {
        Self::read_as(text, text)
    }

    /// As [`Self::read`], of a text that somebody wrote otherwise.
    pub(super) fn read_as(text: &str, range: &str) -> Result<Self, Unable> {
        let unknown = || Unable::Itself(format!("`{}` is no range of versions", shown(text)));
        if range.len() > MAX_TEXT || !is_range(range) {
            return Err(unknown());
        }
        let range = Range::parse(range).map_err(|_| unknown())?;
        Ok(Self { text: text.to_owned(), range })
    }

    /// Returns whether a version is one of them.
    pub(super) fn has(&self, version: &Version) -> bool {
        self.range.satisfies(version)
    }
}

/// Returns whether all of a text is of a range: the reader leaves out what it does not know, `!=` for one, and so would take
/// what was meant to be left out.
fn is_range(text: &str) -> bool {
    let is_version = |text: &str| {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(['-', '+']).unwrap_or(text.len());
        let (numbers, rest) = text.split_at(end);
        let is_number = |part: &str| {
            matches!(part, "x" | "X" | "*")
                || (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let of_rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+');
        numbers.split('.').all(is_number) && rest.bytes().all(of_rest)
    };
    let operators = [">=", "<=", "~>", ">", "<", "=", "~", "^"];
    let is_comparator = |word: &str| {
        let rest = operators.iter().find_map(|operator| word.strip_prefix(operator));
        word == "-" || rest == Some("") || is_version(rest.unwrap_or(word))
    };
    text.chars().all(|char| !char.is_control())
        && text.split("||").all(|part| part.split_whitespace().all(is_comparator))
}

/// Returns the beginning of what a file or a step says, on one line.
pub(super) fn shown(text: &str) -> String {
    let line: String = text.chars().take(60).collect();
    line.replace(char::is_control, " ")
}

/// Reads a version as a tool says it: `v20.1.0`, `3.13.0rc1`, `go1.21`.
pub(super) fn version(text: &str) -> Option<Version> {
    let text = text.trim().trim_start_matches("go").trim_start_matches('v');
    let end = text.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut numbers: Vec<&str> = numbers.split('.').filter(|number| !number.is_empty()).collect();
    numbers.truncate(3);
    if numbers.is_empty() {
        return None;
    }
    while numbers.len() < 3 {
        numbers.push("0");
    }
    let numbers = numbers.join(".");
    let rest = rest.trim_start_matches(['-', '.']);
    let full = if rest.is_empty() { numbers } else { format!("{numbers}-{rest}") };
    Version::parse(full).ok()
}

/// Returns the version that the inputs of an action name, or else a file that they name; `None` where they name none.
pub(super) fn named(
    order: &SetupOrder,
    wanted: &mut Wanted,
    of_file: impl FnOnce(&str, &str) -> Option<String>,
) -> Result<Option<String>, Unable> {
    let names = order.tool.version_inputs();
    let [given, file] = names.map(|name| order.input(name));
    if !given.is_empty() {
        if !file.is_empty() {
            let [version, file] = names;
            wanted.notes.push(format!(
                "::warning::Both {version} and {file} inputs are specified, only {version} will be used"
            ));
        }
        return Ok(Some(given.to_owned()));
    }
    if file.is_empty() {
        return Ok(None);
    }
    let (text, tool) = (read_file(order, file)?, order.tool.name());
    let found = of_file(name_of(file), &text);
    let none = || Unable::Itself(format!("muster finds no version of {tool} in {}", shown(file)));
    found.ok_or_else(none).map(Some)
}

/// Reads a file that names a version, by its path from the workspace on.
pub(super) fn read_file(order: &SetupOrder, path: &str) -> Result<String, Unable> {
    let wrong = |why: String| Unable::Wrong(format!("the version file {} {why}", shown(path)));
    let mut text = Vec::new();
    let place = order.workspace.join(path);
    // A pipe would be waited for.
    if place.metadata().is_ok_and(|about| !about.is_file()) {
        return Err(wrong("is no file".to_owned()));
    }
    let file = File::open(place);
    let file = file.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let read = file.take(MAX_FILE + 1).read_to_end(&mut text);
    read.map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if text.len() as u64 > MAX_FILE {
        return Err(wrong(format!("has more than {MAX_FILE} bytes")));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Returns the name of a file without its folders.
pub(super) fn name_of(path: &str) -> &str {
    Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Returns the version of a tool in the text of a `.tool-versions`.
pub(super) fn of_tool_versions<'t>(text: &'t str, tools: &[&str]) -> Option<&'t str> {
    let mut lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.find_map(|line| {
        let mut words = line.split_whitespace();
        let tool = words.next()?;
        words.next().filter(|_| tools.contains(&tool))
    })
}

/// Returns why the action itself is to do it, whatever is here: an input asks for what only it does.
pub(super) fn itself(order: &SetupOrder, more: &[&str]) -> Option<String> {
    let asked = |name: &str| match order.input(name) {
        "" => None,
        value if value.eq_ignore_ascii_case("false") => None,
        _ => Some(format!("`{name}` is asked for")),
    };
    let own = order.input("architecture");
    let other = !own.is_empty() && !own.eq_ignore_ascii_case(super::arch());
    let other = other.then(|| format!("architecture `{}` is asked for", shown(own)));
    ["check-latest"].iter().chain(more).find_map(|name| asked(name)).or(other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn takes(range: &str, text: &str) -> bool {
        Versions::read(range).unwrap().has(&version(text).unwrap())
    }

    #[test]
    fn versions_are_read_as_tools_say_them() {
        for (text, full) in [
            ("v20.1.0", "20.1.0"),
            ("go1.21", "1.21.0"),
            ("go1.22rc1", "1.22.0-rc1"),
            ("3.13.0rc1", "3.13.0-rc1"),
            ("3.11.2", "3.11.2"),
            ("3.11.2+", "3.11.2"),
        ] {
            let read = version(text).map(|version| version.to_string());
            assert_eq!(read.as_deref(), Some(full), "{text}");
        }
        assert!(version("none").is_none());
    }

    #[test]
    fn ranges_are_those_of_npm() {
        for (range, inside, outside) in [
            ("20", "v20.19.0", "v21.0.0"),
            ("v20.19", "v20.19.5", "v20.18.0"),
            ("20.x", "v20.1.0", "v22.1.0"),
            (">=18 <21", "v20.19.0", "v22.0.0"),
            ("^18.2 || 22", "v22.1.0", "v18.1.0"),
            ("~3.12.0-0", "3.12.0-rc.1", "3.13.0"),
            ("1.21", "go1.21.5", "go1.22"),
            ("1.2 - 1.4", "1.3.9", "1.5.0"),
            (">= 18", "18.0.0", "17.9.0"),
            ("~> 3.1", "3.1.7", "3.2.0"),
            ("", "1.0.0", "1.0.0-rc.1"),
        ] {
            assert!(takes(range, inside) && !takes(range, outside), "{range}");
        }
        for text in [
            "20 garbage",
            ">=3.9,!=3.11.7",
            ">=3.9 !=3.13.0",
            "20\n::error::x",
            "<=20 ::x",
            "~=3.9",
        ] {
            assert!(matches!(Versions::read(text), Err(Unable::Itself(_))), "{text}");
        }
        assert!(!takes("3.13", "3.13.0rc1"), "what is not out yet is asked for by name alone");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(range in "[0-9x.*^~<>=|v -]{0,30}|.{0,40}", text in ".{0,20}|[0-9.a-z-]{0,20}") {
            if let (Ok(range), Some(version)) = (Versions::read(&range), version(&text)) {
                range.has(&version);
            }
            of_tool_versions(&text, &["go"]);
        }
    }
}
