//! `hashFiles`: one hash of all files that patterns name.
//!
//! Follows what GitHub's runner does
//! ([hashFiles](https://github.com/actions/runner/tree/main/src/Misc/expressionFunc/hashFiles), with the patterns of
//! [@actions/glob](https://github.com/actions/toolkit/tree/main/packages/glob)): the SHA-256 of the SHA-256 of each file,
//! folder by folder, names in the order of their bytes.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What comes before the patterns where links to folders are followed.
const FOLLOW: &str = "--follow-symbolic-links";
/// The characters that mean something in a pattern.
const GLOB: [char; 3] = ['*', '?', '['];

/// What the process that hashes is told, in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HashOrder {
    /// The folder that patterns begin in, and that nothing outside of counts.
    pub workspace: PathBuf,
    /// What the function was given.
    pub patterns: Vec<String>,
}

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// A pattern is none.
    #[error("`{0}` is no pattern: {1}")]
    Pattern(String, String),
    /// A file or folder cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
}

/// A line of the patterns.
struct Pattern {
    is_negated: bool,
    /// Whether it is for folders alone.
    is_folder: bool,
    glob: GlobMatcher,
}

/// Returns the hash of the files that are named, in hexadecimal; empty where there are none.
///
/// # Errors
///
/// When a pattern is none, or something that is named cannot be read.
pub fn hash_files(order: &HashOrder) -> Result<String, HashError> {
    let text = order.patterns.join("\n");
    let mut lines: Vec<&str> = text.lines().map(str::trim).collect();
    let follows = order.patterns.first().is_some_and(|first| first == FOLLOW);
    if follows {
        lines.remove(0);
    }
    lines.retain(|line| !line.is_empty() && !line.starts_with('#'));
    let mut patterns = Vec::new();
    let mut starts: Vec<PathBuf> = Vec::new();
    for line in lines {
        let rest = line.trim_start_matches('!');
        let is_negated = (line.len() - rest.len()) % 2 == 1;
        let rooted = rooted(rest.trim_start(), &order.workspace);
        if !is_negated {
            starts.push(start(&rooted));
        }
        patterns.extend(
            read(&rooted, is_negated).map_err(|why| HashError::Pattern(line.to_owned(), why))?,
        );
    }
    // What lies in another that is walked is walked with it.
    let all = starts.clone();
    let mut seen = BTreeSet::new();
    starts.retain(|start| {
        let is_within = all.iter().any(|other| start != other && start.starts_with(other));
        !is_within && seen.insert(start.clone())
    });
    let mut walk =
        Walk { order, follows, patterns, hash: Sha256::new(), count: 0, around: Vec::new() };
    for start in starts {
        walk.visit(&start)?;
    }
    let Walk { hash, count, .. } = walk;
    Ok(if count == 0 { String::new() } else { hex(&hash.finalize()) })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns a pattern from the root on, without `.` and `..` in its plain beginning.
fn rooted(pattern: &str, workspace: &Path) -> String {
    let pattern =
        match pattern.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')) {
            Some(rest) => format!("{}{rest}", std::env::var("HOME").unwrap_or_default()),
            None if pattern.starts_with('/') => pattern.to_owned(),
            // What stands before it is plain, whatever characters it has.
            None => format!("{}/{pattern}", globset::escape(&workspace.to_string_lossy())),
        };
    let is_folder = pattern.ends_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if is_folder { "/" } else { "" };
    format!("/{}{end}", parts.join("/"))
}

/// Returns the folder or file that a pattern begins at: all before its first part that is a pattern.
fn start(pattern: &str) -> PathBuf {
    let mut start = PathBuf::from("/");
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        // A single character in brackets is that character.
        let plain = part.replace("[[]", "\u{1}").replace("[*]", "\u{2}").replace("[?]", "\u{3}");
        if plain.contains(GLOB) {
            break;
        }
        start.push(
            plain
                .replace('\u{1}', "[")
                .replace('\u{2}', "*")
                .replace('\u{3}', "?")
                .replace("[]]", "]")
                .replace("[{]", "{")
                .replace("[}]", "}"),
        );
    }
    start
}

/// Reads a pattern; one that names a folder names all in it, too.
fn read(pattern: &str, is_negated: bool) -> Result<Vec<Pattern>, String> {
    let is_folder = pattern.ends_with('/');
    let pattern = pattern.trim_end_matches('/');
    let build = |pattern: &str, is_folder| {
        // Braces mean nothing here.
        let text = pattern
            .replace("[{]", "\u{1}")
            .replace("[}]", "\u{2}")
            .replace('{', "[{]")
            .replace('}', "[}]");
        let text = text.replace('\u{1}', "[{]").replace('\u{2}', "[}]");
        let glob = GlobBuilder::new(&text).literal_separator(true).backslash_escape(true).build();
        let glob = glob.map_err(|error| error.kind().to_string())?;
        Ok::<_, String>(Pattern { is_negated, is_folder, glob: glob.compile_matcher() })
    };
    let mut patterns = vec![build(pattern, is_folder)?];
    if is_folder || !pattern.ends_with("/**") {
        patterns.push(build(&format!("{pattern}/**"), false)?);
    }
    Ok(patterns)
}

/// A walk through the folders that may hold what is named.
struct Walk<'o> {
    order: &'o HashOrder,
    /// Whether links to folders are walked into.
    follows: bool,
    patterns: Vec<Pattern>,
    hash: Sha256,
    count: usize,
    /// The real paths of the folders that it is in: no link leads back.
    around: Vec<PathBuf>,
}

impl Walk<'_> {
    fn visit(&mut self, path: &Path) -> Result<(), HashError> {
        let unreadable = |error| HashError::Read(path.to_owned(), error);
        let Some(metadata) = self.look(path).map_err(unreadable)? else { return Ok(()) };
        if metadata.is_dir() {
            let real = fs::canonicalize(path).map_err(unreadable)?;
            if self.around.contains(&real) {
                return Ok(());
            }
            self.around.push(real);
            let names = fs::read_dir(path).map_err(unreadable)?;
            let names = names.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
            let mut names = names.map_err(unreadable)?;
            names.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
            for name in names {
                self.visit(&path.join(name))?;
            }
            self.around.pop();
        } else if self.is_named(path) && path.starts_with(&self.order.workspace) {
            // A link that leads nowhere, or to a folder, is no file.
            let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
            if is_file {
                let mut file = File::open(path).map_err(unreadable)?;
                let mut hash = Sha256::new();
                io::copy(&mut file, &mut Into(&mut hash)).map_err(unreadable)?;
                self.hash.update(hash.finalize());
                self.count += 1;
            }
        }
        Ok(())
    }

    fn look(&self, path: &Path) -> io::Result<Option<Metadata>> {
        let found = if self.follows {
            fs::metadata(path).or_else(|_| fs::symlink_metadata(path))
        } else {
            fs::symlink_metadata(path)
        };
        match found {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    fn is_named(&self, path: &Path) -> bool {
        let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        let mut is_named = false;
        for pattern in self.patterns.iter().filter(|pattern| !pattern.is_folder) {
            if pattern.glob.is_match(&path) {
                is_named = !pattern.is_negated;
            }
        }
        is_named
    }
}

/// Writes into a hash.
struct Into<'h>(&'h mut Sha256);

impl io::Write for Into<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
