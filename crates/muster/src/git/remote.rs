//! Where a repository is, and what opens it: a token, or a key of its own.

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
    /// Names a repository; a key that was made for it opens it.
    pub(crate) fn new(location: String, key: DeployKey) -> Self {
        let access = if key.exists() { Access::Key(key) } else { Access::Own };
        Self { location, access, max_fetch: DEFAULT }
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
                let identity = quoted(&format!("IdentityFile={}", as_value(&key.file)));
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
    pub(crate) file: PathBuf,
    pub(crate) known_hosts: PathBuf,
}

impl DeployKey {
    fn exists(&self) -> bool {
        self.file.is_file()
    }

    /// Returns the public half, of a new key where there is none yet; `name` is its comment.
    ///
    /// # Errors
    ///
    /// When `ssh-keygen` is not installed or fails.
    pub(crate) fn public(&self, name: &str) -> Result<String, GitError> {
        if !self.exists() {
            let made = Program::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", &format!("muster {name}"), "-f"])
                .arg(&self.file)
                .output(KEYGEN_LIMIT, 64 << 10)?;
            if !made.status.success() {
                let message = String::from_utf8_lossy(&made.stderr).trim().to_owned();
                return Err(GitError::Key(message));
            }
        }
        let public = std::fs::read_to_string(self.public_file());
        let public = public.map_err(|error| GitError::Key(error.to_string()))?;
        Ok(public.trim().to_owned())
    }

    /// Removes the key.
    pub(crate) fn remove(&self) -> std::io::Result<()> {
        for file in [&self.file, &self.public_file()] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                done => done?,
            }
        }
        Ok(())
    }

    fn public_file(&self) -> PathBuf {
        let mut name = self.file.as_os_str().to_owned();
        name.push(".pub");
        name.into()
    }
}
