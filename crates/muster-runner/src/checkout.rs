//! `actions/checkout`, done natively: from a repository on this machine into the workspace.
//!
//! The workspace borrows the source's objects (git's alternates) instead of copying them, so that
//! history costs nothing, and is cut to `fetch-depth` as a fetch would cut it.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use muster_sys::process::{ProcessError, Program};
use serde::{Deserialize, Serialize};

use crate::spec::Source;

/// A checkout that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(600);
const MAX_OUTPUT: usize = 64 << 20;

/// The inputs of the action, evaluated.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// The branch, tag or commit; empty is the run's.
    pub git_ref: String,
    /// The folder below the workspace.
    pub path: String,
    /// How many commits of the history; 0 is all, empty is one.
    pub fetch_depth: String,
    /// What later steps show to the code host, where they are to.
    pub credentials: Option<Credentials>,
}

/// What git shows to a code host.
#[derive(Serialize, Deserialize)]
pub struct Credentials {
    /// The host.
    pub url: String,
    /// An access token.
    pub token: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "credentials for {}", self.url)
    }
}

/// What to check out, and where to.
#[derive(Debug, Serialize, Deserialize)]
pub struct CheckoutOrder {
    /// The repository.
    pub source: Source,
    /// What the step says.
    pub inputs: Inputs,
    /// The job's workspace.
    pub workspace: PathBuf,
}

/// What was checked out.
#[derive(Debug)]
pub struct CheckedOut {
    /// The commit.
    pub sha: String,
    /// The ref that it was found at; empty for a commit that was named itself.
    pub git_ref: String,
}

/// Why nothing was checked out.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The folder is not below the workspace.
    #[error("`path: {0}` leads out of the workspace")]
    OutsideWorkspace(String),
    /// The depth is no number.
    #[error("`fetch-depth: {0}` is no number")]
    NoDepth(String),
    /// There is no such ref or commit.
    #[error("`ref: {0}` is no branch, tag or commit of this repository")]
    NoRef(String),
    /// A file or folder cannot be made.
    #[error("cannot prepare {path}: {error}")]
    Prepare {
        /// The path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// git could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// git failed.
    #[error("git {command} failed: {message}")]
    Git {
        /// Its subcommand.
        command: String,
        /// What it said.
        message: String,
    },
}

/// Does a checkout. It is called in a process of the job's own, with no more rights than a step has.
///
/// # Errors
///
/// When an input makes no sense, or git refuses.
pub fn checkout(order: &CheckoutOrder) -> Result<CheckedOut, CheckoutError> {
    let CheckoutOrder { source, inputs, workspace } = order;
    let depth = match inputs.fetch_depth.trim() {
        "" => 1,
        text => text.parse().map_err(|_| CheckoutError::NoDepth(text.to_owned()))?,
    };
    let folder = inside(workspace, &inputs.path)?;
    let target = resolve(source, &inputs.git_ref)?;
    let prepare = |error| CheckoutError::Prepare { path: folder.clone(), error };
    empty(&folder).map_err(prepare)?;
    git(&["init", "--quiet", "--template=", "."], &folder)?;
    let dot_git = folder.join(".git");
    lay_out(source, inputs.credentials.as_ref(), &dot_git).map_err(prepare)?;
    if depth > 0 {
        let boundary = boundary(&folder, &target.sha, depth)?;
        fs::write(dot_git.join("shallow"), boundary.join("\n") + "\n").map_err(prepare)?;
    } else {
        copy_refs(source, &dot_git)?;
    }
    switch(&target, &folder, &dot_git).map_err(prepare)??;
    Ok(target)
}

/// Returns the folder that `path` means, which must lie in the workspace.
fn inside(workspace: &Path, path: &str) -> Result<PathBuf, CheckoutError> {
    let relative = Path::new(path);
    let stays = relative
        .components()
        .all(|component| matches!(component, Component::Normal(_) | Component::CurDir));
    if stays {
        Ok(workspace.join(relative))
    } else {
        Err(CheckoutError::OutsideWorkspace(path.to_owned()))
    }
}

/// Makes `folder` an empty folder, whatever an earlier step left there.
fn empty(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Finds the commit: of the run, or of the ref that the step names.
fn resolve(source: &Source, wanted: &str) -> Result<CheckedOut, CheckoutError> {
    let wanted = wanted.trim();
    if wanted.is_empty() || wanted == source.git_ref || wanted == source.sha {
        return Ok(CheckedOut { sha: source.sha.clone(), git_ref: source.git_ref.clone() });
    }
    let candidates = if wanted.starts_with("refs/") {
        vec![wanted.to_owned()]
    } else {
        vec![format!("refs/heads/{wanted}"), format!("refs/tags/{wanted}"), wanted.to_owned()]
    };
    for candidate in candidates {
        let is_ref = candidate.starts_with("refs/");
        let is_sha =
            matches!(candidate.len(), 40 | 64) && candidate.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_ref && !is_sha {
            continue;
        }
        let spec = format!("{candidate}^{{commit}}");
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &spec];
        if let Ok(sha) = git(&args, &source.git_dir) {
            let git_ref = if is_ref { candidate } else { String::new() };
            return Ok(CheckedOut { sha: sha.trim().to_owned(), git_ref });
        }
    }
    Err(CheckoutError::NoRef(wanted.to_owned()))
}

/// Lends the source's objects to the new repository, names its origin, and leaves there what opens it, as GitHub's action
/// does.
fn lay_out(source: &Source, credentials: Option<&Credentials>, dot_git: &Path) -> io::Result<()> {
    let mut alternates = String::new();
    for objects in source.extra_objects.iter().chain([&source.git_dir.join("objects")]) {
        alternates.push_str(&objects.to_string_lossy());
        alternates.push('\n');
    }
    fs::create_dir_all(dot_git.join("objects/info"))?;
    fs::write(dot_git.join("objects/info/alternates"), alternates)?;
    let mut config = fs::OpenOptions::new().append(true).open(dot_git.join("config"))?;
    writeln!(
        config,
        "[remote \"origin\"]\n\turl = {}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n[gc]\n\tauto = 0",
        quoted(&source.url)
    )?;
    if let Some(Credentials { url, token }) = credentials {
        let login = BASE64_STANDARD.encode(format!("x-access-token:{token}"));
        let host = quoted(&format!("{}/", url.trim_end_matches('/')));
        let header = quoted(&format!("AUTHORIZATION: basic {login}"));
        writeln!(config, "[http {host}]\n\textraheader = {header}")?;
    }
    Ok(())
}

/// Quotes a value for a git configuration file.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Returns the commits at which a history of `depth` commits ends.
fn boundary(folder: &Path, sha: &str, depth: usize) -> Result<Vec<String>, CheckoutError> {
    if depth == 1 {
        return Ok(vec![sha.to_owned()]);
    }
    let list = git(&["rev-list", "--topo-order", "--parents", sha], folder)?;
    let mut depths: HashMap<&str, usize> = HashMap::from([(sha, 1)]);
    let mut boundary = Vec::new();
    // Children come before their parents, so each depth is final when its commit is reached.
    for line in list.lines() {
        let mut names = line.split(' ');
        let commit = names.next().unwrap_or_default();
        match depths.get(commit).copied() {
            Some(at) if at >= depth => boundary.push(commit.to_owned()),
            Some(at) => {
                for parent in names {
                    let best = depths.entry(parent).or_insert(at + 1);
                    *best = (*best).min(at + 1);
                }
            }
            None => {}
        }
    }
    Ok(boundary)
}

/// Gives the new repository all branches (as origin's) and tags of the source.
fn copy_refs(source: &Source, dot_git: &Path) -> Result<(), CheckoutError> {
    let format = "--format=%(objectname) %(refname)";
    let refs = git(&["for-each-ref", format, "refs/heads", "refs/tags"], &source.git_dir)?;
    let packed: String = refs
        .lines()
        .map(|line| line.replacen(" refs/heads/", " refs/remotes/origin/", 1) + "\n")
        .collect();
    let path = dot_git.join("packed-refs");
    fs::write(&path, packed).map_err(|error| CheckoutError::Prepare { path, error })
}

/// Writes the files of the commit and puts HEAD where GitHub's action puts it.
fn switch(
    target: &CheckedOut,
    folder: &Path,
    dot_git: &Path,
) -> io::Result<Result<(), CheckoutError>> {
    let branch = target.git_ref.strip_prefix("refs/heads/");
    if let Some(branch) = branch {
        write_ref(dot_git, &format!("refs/remotes/origin/{branch}"), &target.sha)?;
        write_ref(dot_git, &target.git_ref, &target.sha)?;
        fs::write(dot_git.join("HEAD"), format!("ref: {}\n", target.git_ref))?;
    } else {
        if target.git_ref.starts_with("refs/tags/") {
            write_ref(dot_git, &target.git_ref, &target.sha)?;
        }
        fs::write(dot_git.join("HEAD"), format!("{}\n", target.sha))?;
    }
    let read = git(&["read-tree", "--reset", "-u", "HEAD"], folder).map(drop);
    Ok(read)
}

fn write_ref(dot_git: &Path, name: &str, sha: &str) -> io::Result<()> {
    let path = dot_git.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, format!("{sha}\n"))
}

/// Runs git with nothing of the machine's configuration.
fn git(args: &[&str], folder: &Path) -> Result<String, CheckoutError> {
    let output = Program::new("git")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_COUNT", "2")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_CONFIG_KEY_1", "core.hooksPath")
        .env("GIT_CONFIG_VALUE_1", "/dev/null")
        .env("LC_ALL", "C")
        .args(args)
        .dir(folder)
        .output(LIMIT, MAX_OUTPUT)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(CheckoutError::Git { command: args[0].to_owned(), message });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
