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
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What comes before the patterns where links to folders are followed.
const FOLLOW: &str = "--follow-symbolic-links";
/// The characters that mean something in a pattern.
const GLOB: [char; 4] = ['*', '?', '[', '\\'];

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
    /// The folder that it begins in, of plain names.
    base: PathBuf,
    globs: Vec<GlobMatcher>,
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
        let pattern = read(rest.trim_start(), is_negated, &order.workspace);
        let pattern = pattern.map_err(|why| HashError::Pattern(line.to_owned(), why))?;
        if !is_negated {
            starts.push(pattern.base.clone());
        }
        patterns.push(pattern);
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

/// Reads a pattern; one that names a folder names all in it.
fn read(pattern: &str, is_negated: bool, workspace: &Path) -> Result<Pattern, String> {
    let home = pattern.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let (mut base, rest) = match home {
        Some(rest) => (std::env::var("HOME").unwrap_or_default().into(), rest),
        None if pattern.starts_with('/') => (PathBuf::from("/"), pattern),
        None => (workspace.to_owned(), pattern),
    };
    let is_folder = rest.ends_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.pop().is_none() => drop(base.pop()),
            ".." => {}
            part if parts.is_empty() && !part.contains(GLOB) => base.push(part),
            part => parts.push(part),
        }
    }
    let own = parts.join("/");
    let mut texts = Vec::new();
    if !is_folder {
        texts.push(own.clone());
    }
    if is_folder || !own.ends_with("**") {
        texts.push(if own.is_empty() { "**".to_owned() } else { format!("{own}/**") });
    }
    let globs = texts.iter().map(|text| {
        let glob = GlobBuilder::new(&without_braces(text))
            .literal_separator(true)
            .backslash_escape(true)
            .build();
        Ok(glob.map_err(|error| error.kind().to_string())?.compile_matcher())
    });
    Ok(Pattern { is_negated, base, globs: globs.collect::<Result<_, String>>()? })
}

/// Returns a pattern in which braces mean nothing, as they do here: outside of classes each is made one.
fn without_braces(pattern: &str) -> String {
    let mut text = String::with_capacity(pattern.len());
    let mut is_class = false;
    for char in pattern.chars() {
        match char {
            '{' | '}' if !is_class => text.extend(['[', char, ']']),
            other => text.push(other),
        }
        is_class = char == '[' || (is_class && char != ']');
    }
    text
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
        let mut is_named = false;
        for pattern in &self.patterns {
            let Ok(below) = path.strip_prefix(&pattern.base) else { continue };
            if pattern.globs.iter().any(|glob| glob.is_match(below)) {
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
