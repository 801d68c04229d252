//! Where a repository is, and what opens it: a token, or a key of its own.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_sys::process::Program;

use super::GitError;
use crate::forge::Credentials;

/// What a repository may send at once, in bytes.
const DEFAULT: u64 = 10 << 30;
const KEYGEN_LIMIT: Duration = Duration::from_secs(30);

/// A repository somewhere.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(super) location: String,
    pub(super) access: Access,
    /// What it may send at once, in bytes.
    pub(super) max_fetch: u64,
}

/// What opens a repository.
#[derive(Debug)]
pub(super) enum Access {
    /// Nothing of muster's: it is open, or lets in whoever the server runs as.
    Own,
    Token(Credentials),
    Key(DeployKey),
}

impl Remote {
    /// Names a repository; `key` opens it, if there is one.
    pub(crate) fn new(location: String, key: Option<DeployKey>) -> Self {
        let key = key.filter(DeployKey::exists);
        Self { location, access: key.map_or(Access::Own, Access::Key), max_fetch: DEFAULT }
    }

    /// Names a repository that a token opens.
    pub(crate) fn with_token(location: String, credentials: Credentials) -> Self {
        Self { location, access: Access::Token(credentials), max_fetch: DEFAULT }
    }

    /// Bounds what it may send at once, in MiB, to other than its default.
    pub(crate) fn at_most(mut self, mib: u64) -> Self {
        self.max_fetch = mib.saturating_mul(1 << 20);
        self
    }

    /// Returns the program that git reaches the repository with, by SSH.
    pub(super) fn ssh(&self) -> String {
        // It asks nobody anything: there is nobody.
        let ssh = "ssh -o BatchMode=yes -o ConnectTimeout=15";
        match &self.access {
            Access::Own | Access::Token(_) => ssh.to_owned(),
            Access::Key(key) => {
                // The first key that a host shows is taken down; another one later is refused.
                let hosts = quoted(&format!("UserKnownHostsFile={}", as_value(&key.known_hosts)));
                let identity = quoted(&format!("IdentityFile={}", as_value(&key.file())));
                format!(
                    "{ssh} -F /dev/null -o IdentitiesOnly=yes -o {identity} \
                     -o StrictHostKeyChecking=accept-new -o {hosts}"
                )
            }
        }
    }
}

/// A path as a value of ssh's configuration, where `%` and spaces mean something.
fn as_value(path: &Path) -> String {
    format!("\"{}\"", path.to_string_lossy().replace('%', "%%"))
}

/// A word for the shell that git starts ssh with.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The key of one repository, which may not be made yet. Only its public half leaves the server.
#[derive(Debug, Clone)]
pub(crate) struct DeployKey {
    /// Holds this key and nothing else.
    pub(crate) folder: PathBuf,
    pub(crate) known_hosts: PathBuf,
}

impl DeployKey {
    fn file(&self) -> PathBuf {
        self.folder.join("key")
    }

    fn exists(&self) -> bool {
        self.file().is_file()
    }

    /// Returns the public half, of a new key where there is none yet; `name` is its comment.
    ///
    /// # Errors
    ///
    /// When `ssh-keygen` is not installed or fails.
    pub(crate) fn public(&self, name: &str) -> Result<String, GitError> {
        for path in [self.file(), self.known_hosts.clone()] {
            let path = path.to_string_lossy().into_owned();
            if let Some(word) = ["\"", "${", "\n"].into_iter().find(|word| path.contains(word)) {
                let why = format!("ssh cannot be told of {path}: to it {word:?} means something");
                return Err(GitError::Key(why));
            }
        }
        if !self.exists() {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(&self.folder);
            made.map_err(|error| GitError::Key(error.to_string()))?;
            // Under another name until both halves are there.
            let part = self.folder.join("part");
            drop(fs::remove_file(&part));
            keygen(
                &["-q", "-t", "ed25519", "-N", "", "-C", &format!("muster {name}"), "-f"],
                &part,
            )?;
            fs::rename(&part, self.file()).map_err(|error| GitError::Key(error.to_string()))?;
            // The public half is read from the private one.
            drop(fs::remove_file(part.with_extension("pub")));
        }
        let public = keygen(&["-y", "-P", "", "-f"], &self.file())?;
        // Older versions of ssh-keygen leave the comment out.
        let words: Vec<&str> = public.split_whitespace().take(2).collect();
        Ok(format!("{} muster {name}", words.join(" ")))
    }

    /// Gives the key its place for good.
    pub(crate) fn become_of(self, other: &Self) -> io::Result<()> {
        fs::rename(self.folder, &other.folder)
    }

    /// Removes the key.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// Runs `ssh-keygen` on a file; returns what it printed.
fn keygen(args: &[&str], file: &Path) -> Result<String, GitError> {
    let done = Program::new("ssh-keygen").args(args).arg(file).output(KEYGEN_LIMIT, 64 << 10);
    let done = done.map_err(|error| GitError::Key(error.to_string()))?;
    if !done.status.success() {
        return Err(GitError::Key(String::from_utf8_lossy(&done.stderr).trim().to_owned()));
    }
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}
