//! The files through which a step sets variables, outputs and paths.
//!
//! Follows GitHub's
//! [environment files](https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#environment-files):
//! `name=value` lines and `name<<DELIMITER` blocks; whichever of `=` and `<<` comes first decides.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The most bytes that one of these files may hold.
const MAX_BYTES: u64 = 10 << 20;
/// The most bytes of a step's summary, GitHub's bound.
const MAX_SUMMARY_BYTES: u64 = 1 << 20;

/// The files of one step.
#[derive(Debug)]
pub(crate) struct CommandFiles {
    pub(crate) env: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) path: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) summary: PathBuf,
}

/// What a step said through its files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) env: Vec<(String, String)>,
    pub(crate) outputs: Vec<(String, String)>,
    pub(crate) paths: Vec<String>,
    pub(crate) summary: String,
}

/// Why a file that a step wrote cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{file}: cannot read it: {error}")]
    Read { file: &'static str, error: io::Error },
    #[error("{file}: it has {bytes} bytes, more than {max}")]
    TooLarge { file: &'static str, bytes: u64, max: u64 },
    #[error("{file}: invalid line `{line}`: write `name=value` or `name<<DELIMITER`")]
    NoAssignment { file: &'static str, line: String },
    #[error("{file}: the block `{name}` is never closed by its delimiter `{delimiter}`")]
    Unclosed { file: &'static str, name: String, delimiter: String },
    #[error("{file}: `{name}` cannot be set from a step")]
    Forbidden { file: &'static str, name: String },
}

impl CommandFiles {
    /// Makes empty files for step `step` in `folder`.
    pub(crate) fn create(folder: &Path, step: usize) -> io::Result<Self> {
        let make = |kind: &str| -> io::Result<PathBuf> {
            let path = folder.join(format!("{kind}_{step}"));
            fs::File::create_new(&path)?;
            Ok(path)
        };
        Ok(Self {
            env: make("set_env")?,
            output: make("set_output")?,
            path: make("add_path")?,
            state: make("save_state")?,
            summary: make("step_summary")?,
        })
    }

    /// Returns the variables that tell a step where its files are.
    pub(crate) fn variables(&self) -> [(&'static str, &Path); 5] {
        [
            ("GITHUB_ENV", &self.env),
            ("GITHUB_OUTPUT", &self.output),
            ("GITHUB_PATH", &self.path),
            ("GITHUB_STATE", &self.state),
            ("GITHUB_STEP_SUMMARY", &self.summary),
        ]
    }

    /// Reads what the step said, and takes the files away.
    pub(crate) fn read(&self) -> Result<Said, FileError> {
        let env = assignments("GITHUB_ENV", &text("GITHUB_ENV", &self.env, MAX_BYTES)?)?;
        if let Some((name, _)) =
            env.iter().find(|(name, value)| name.contains('\0') || value.contains('\0'))
        {
            return Err(FileError::Forbidden {
                file: "GITHUB_ENV",
                name: format!("{name} with a zero byte"),
            });
        }
        if let Some((name, _)) =
            env.iter().find(|(name, _)| name.eq_ignore_ascii_case("NODE_OPTIONS"))
        {
            return Err(FileError::Forbidden { file: "GITHUB_ENV", name: name.clone() });
        }
        let outputs =
            assignments("GITHUB_OUTPUT", &text("GITHUB_OUTPUT", &self.output, MAX_BYTES)?)?;
        let paths = text("GITHUB_PATH", &self.path, MAX_BYTES)?;
        let paths = paths.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let summary = text("GITHUB_STEP_SUMMARY", &self.summary, MAX_SUMMARY_BYTES)?;
        for (_, path) in self.variables() {
            // A file that stays only takes room until the job's folder goes.
            drop(fs::remove_file(path));
        }
        Ok(Said { env, outputs, paths, summary })
    }
}

/// Reads a file that a step wrote; it may have taken it away, or put something else there.
fn text(file: &'static str, path: &Path, max: u64) -> Result<String, FileError> {
    let read = |error| FileError::Read { file, error };
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        other => other.map_err(read)?,
    };
    if !metadata.is_file() {
        return Err(read(io::Error::other("it is no regular file any more")));
    }
    if metadata.len() > max {
        return Err(FileError::TooLarge { file, bytes: metadata.len(), max });
    }
    let bytes = fs::read(path).map_err(read)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
