//! From a `run` step to a command line.
//!
//! The flags are those of GitHub's runner for each shell name.

use std::path::{Path, PathBuf};

/// A script as it will be run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
}

/// Why a shell cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ShellError {
    #[error("shell `{0}` exists only on Windows")]
    WindowsOnly(String),
    #[error(
        "shell `{0}` is neither known (bash, sh, python, pwsh) nor a command with `{{0}}` for the script's path"
    )]
    Unknown(String),
    #[error("shell `{0}` is empty")]
    Empty(String),
    #[error("shell `{0}` is not installed on this machine (looked in PATH)")]
    Missing(String),
}

/// Returns the file name ending that a script for `shell` must have.
pub(crate) fn extension(shell: Option<&str>) -> &'static str {
    match shell.map(str::trim) {
        Some("python") => "py",
        Some("pwsh") => "ps1",
        _ => "sh",
    }
}

/// Returns the script text as the shell needs it.
pub(crate) fn prepare(shell: Option<&str>, script: &str) -> String {
    if shell.map(str::trim) != Some("pwsh") {
        return script.to_owned();
    }
    format!(
        "$ErrorActionPreference = 'stop'\n{script}\nif ((Test-Path -LiteralPath variable:\\LASTEXITCODE)) {{ exit $LASTEXITCODE }}\n"
    )
}

/// Builds the command for a script; without a shell it is bash where there is one, else sh. `find` looks
/// a program up as the step would.
pub(crate) fn invocation(
    shell: Option<&str>,
    script: &Path,
    find: impl Fn(&str) -> Option<PathBuf>,
) -> Result<Invocation, ShellError> {
    let script = script.to_string_lossy();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let template = match shell.map(str::trim) {
        None if find("bash").is_some() => words("bash -e {0}"),
        None | Some("sh") => words("sh -e {0}"),
        Some("bash") => words("bash --noprofile --norc -e -o pipefail {0}"),
        // Debian has the program under its longer name alone.
        Some("python") if find("python").is_none() => words("python3 {0}"),
        Some("python") => words("python {0}"),
        Some("pwsh") => vec!["pwsh".into(), "-command".into(), ". '{0}'".into()],
        Some(name @ ("cmd" | "powershell")) => {
            return Err(ShellError::WindowsOnly(name.to_owned()));
        }
        Some(custom) if custom.contains("{0}") => words(custom),
        Some(other) => return Err(ShellError::Unknown(other.to_owned())),
    };
    let mut line = template.into_iter().map(|word| word.replace("{0}", &script));
    let name =
        line.next().ok_or_else(|| ShellError::Empty(shell.unwrap_or_default().to_owned()))?;
    let program = find(&name).ok_or(ShellError::Missing(name))?;
    Ok(Invocation { program: program.to_string_lossy().into_owned(), args: line.collect() })
}
