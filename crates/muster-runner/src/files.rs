//! The files through which a step sets variables, outputs and paths.
//!
//! Follows GitHub's
//! [environment files](https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#environment-files):
//! `name=value` lines and `name<<DELIMITER` blocks; whichever of `=` and `<<` comes first decides.

use std::io;
use std::path::{Path, PathBuf};

use crate::ground::Ground;

const ENV: &str = "GITHUB_ENV";
const OUTPUT: &str = "GITHUB_OUTPUT";
const PATH: &str = "GITHUB_PATH";
const STATE: &str = "GITHUB_STATE";
const SUMMARY: &str = "GITHUB_STEP_SUMMARY";

/// A variable that no step may set: it changes what the actions of others do.
pub(crate) const NODE_OPTIONS: &str = "NODE_OPTIONS";

/// The most bytes that one of these files may hold.
const MAX_BYTES: u64 = 10 << 20;
/// The most bytes of a step's summary, GitHub's bound.
pub(crate) const MAX_SUMMARY_BYTES: u64 = 1 << 20;

/// The files of one step, by their names among the job's temporary ones.
#[derive(Debug)]
pub(crate) struct CommandFiles {
    /// The variable that tells the step where the file is, and the file.
    files: [(&'static str, String, PathBuf); 5],
}

/// What a step said through its files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) outputs: Vec<(String, String)>,
    /// What an action keeps for its end.
    pub(crate) state: Vec<(String, String)>,
    pub(crate) paths: Vec<String>,
    pub(crate) summary: String,
}

impl Said {
    /// Adds what was said later.
    pub(crate) fn extend(&mut self, later: Self) {
        self.env.extend(later.env);
        self.outputs.extend(later.outputs);
        self.state.extend(later.state);
        self.paths.extend(later.paths);
        self.summary.push_str(&later.summary);
    }
}

/// Why a file that a step wrote cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{file}: cannot read it: {error}")]
    Read { file: &'static str, error: io::Error },
    #[error("{file}: it has more than {max} bytes")]
    TooLarge { file: &'static str, max: u64 },
    #[error("{file}: invalid line `{line}`: write `name=value` or `name<<DELIMITER`")]
    NoAssignment { file: &'static str, line: String },
    #[error("{file}: the block `{name}` is never closed by its delimiter `{delimiter}`")]
    Unclosed { file: &'static str, name: String, delimiter: String },
    #[error("{file}: `{name}` cannot be set from a step")]
    Forbidden { file: &'static str, name: String },
    #[error("{file}: `{name}` holds a zero byte, which no variable can")]
    Zero { file: &'static str, name: String },
}

impl CommandFiles {
    /// Makes empty files for step `step`.
    pub(crate) fn create(ground: &Ground, step: usize) -> io::Result<Self> {
        let make = |variable, kind: &str| -> io::Result<(&'static str, String, PathBuf)> {
            let name = format!("{kind}_{step}");
            let inside = ground.write(&name, b"")?;
            Ok((variable, name, inside))
        };
        Ok(Self {
            files: [
                make(ENV, "set_env")?,
                make(OUTPUT, "set_output")?,
                make(PATH, "add_path")?,
                make(STATE, "save_state")?,
                make(SUMMARY, "step_summary")?,
            ],
        })
    }

    /// Returns the variables that tell a step where its files are.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.files.iter().map(|(variable, _, inside)| (*variable, inside.as_path()))
    }

    /// Reads what the step said, and takes the files away. What it may not say is left out, and why is told.
    pub(crate) fn read(&self, ground: &Ground) -> Result<(Said, Vec<FileError>), FileError> {
        let text = |variable, max| self.text(ground, variable, max);
        let mut env = assignments(ENV, &text(ENV, MAX_BYTES)?)?;
        if let Some((name, _)) =
            env.iter().find(|(name, value)| name.contains('\0') || value.contains('\0'))
        {
            return Err(FileError::Zero { file: ENV, name: name.replace('\0', "\u{fffd}") });
        }
        let refused = env.extract_if(.., |(name, _)| name.eq_ignore_ascii_case(NODE_OPTIONS));
        let refused = refused.map(|(name, _)| FileError::Forbidden { file: ENV, name }).collect();
        let outputs = assignments(OUTPUT, &text(OUTPUT, MAX_BYTES)?)?;
        let state = assignments(STATE, &text(STATE, MAX_BYTES)?)?;
        let paths = text(PATH, MAX_BYTES)?;
        let paths = paths.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let summary = text(SUMMARY, MAX_SUMMARY_BYTES)?;
        for (_, name, _) in &self.files {
            ground.remove(name);
        }
        Ok((Said { env, outputs, state, paths, summary }, refused))
    }

    /// Reads a file that a step wrote; it may have taken it away, or put something else there.
    fn text(&self, ground: &Ground, file: &'static str, max: u64) -> Result<String, FileError> {
        let Some((_, name, _)) = self.files.iter().find(|(variable, ..)| *variable == file) else {
            return Ok(String::new());
        };
        let bytes = ground.read(name, max).map_err(|error| FileError::Read { file, error })?;
        let bytes = bytes.unwrap_or_default();
        if bytes.len() as u64 > max {
            return Err(FileError::TooLarge { file, max });
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Reads `name=value` lines and `name<<DELIMITER` blocks.
pub(crate) fn assignments(
    file: &'static str,
    text: &str,
) -> Result<Vec<(String, String)>, FileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    let mut read = Vec::new();
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let bad = || FileError::NoAssignment { file, line: line.to_owned() };
        let equals = line.find('=').unwrap_or(usize::MAX);
        let heredoc = line.find("<<").unwrap_or(usize::MAX);
        let at = equals.min(heredoc);
        if at == usize::MAX || at == 0 {
            return Err(bad());
        }
        let name = line[..at].to_owned();
        if equals < heredoc {
            read.push((name, line[at + 1..].to_owned()));
            continue;
        }
        let delimiter = &line[at + 2..];
        if delimiter.is_empty() {
            return Err(bad());
        }
        let mut value = Vec::new();
        loop {
            match lines.next() {
                Some(line) if line == delimiter => break,
                Some(line) => value.push(line),
                None => {
                    let delimiter = delimiter.to_owned();
                    return Err(FileError::Unclosed { file, name, delimiter });
                }
            }
        }
        read.push((name, value.join("\n")));
    }
    Ok(read)
}
