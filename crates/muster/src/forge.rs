//! The code host that this server works beside, with its secrets.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use muster_forge::github::Client;
use rustix::fs::{FileType, Mode, mknodat};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// What the configuration says of GitHub.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct GitHubConfig {
    /// Where people find repositories.
    pub(crate) url: String,
    /// Where the API is.
    pub(crate) api_url: String,
    /// Where git finds repositories; without a word where people do.
    pub(crate) git_url: Option<String>,
    /// The file with the personal access token; without one `MUSTER_GITHUB_TOKEN` has it.
    pub(crate) token_file: Option<PathBuf>,
    /// The file with the webhook's secrets, one a line.
    pub(crate) webhook_secret_file: Option<PathBuf>,
    /// Whether webhooks without a signature count; only on a loopback address.
    pub(crate) allow_unsigned: bool,
}

impl Default for GitHubConfig {
    fn default() -> Self {
        Self {
            url: "https://github.com".to_owned(),
            api_url: "https://api.github.com".to_owned(),
            git_url: None,
            token_file: None,
            webhook_secret_file: None,
            allow_unsigned: false,
        }
    }
}

/// GitHub, ready to be talked with.
#[derive(Debug)]
pub(crate) struct GitHub {
    pub(crate) config: GitHubConfig,
    pub(crate) client: Client,
    /// The webhook's secrets: several while one takes the place of another.
    secrets: Vec<SecretString>,
    token: SecretString,
}

impl GitHub {
    /// Reads the secrets that the configuration names.
    pub(crate) fn open(config: &GitHubConfig, loopback: bool) -> anyhow::Result<Self> {
        let token = match &config.token_file {
            Some(file) => read_secret(file)?,
            None => std::env::var("MUSTER_GITHUB_TOKEN").unwrap_or_default(),
        };
        let token = token.trim().to_owned();
        if token.is_empty() {
            bail!("[github] needs a token: name `token_file`, or set MUSTER_GITHUB_TOKEN");
        }
        let secrets: Vec<SecretString> = match &config.webhook_secret_file {
            Some(file) => read_secret(file)?
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .map(SecretString::from)
                .collect(),
            None => Vec::new(),
        };
        if secrets.is_empty() && !config.allow_unsigned {
            bail!("[github] needs `webhook_secret_file`, a file with the webhook's secret");
        }
        if config.allow_unsigned && !loopback {
            bail!(
                "[github] `allow_unsigned` is only for a server that listens on a loopback address, and has no `trusted_proxies`"
            );
        }
        let client = Client::new(&config.api_url, token.clone())?;
        Ok(Self { config: config.clone(), client, secrets, token: token.into() })
    }

    /// Returns the webhook's secrets.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect()
    }

    /// Returns where git finds a repository.
    pub(crate) fn location(&self, name: &str) -> String {
        let base = self.config.git_url.as_ref().unwrap_or(&self.config.url);
        format!("{}/{name}.git", base.trim_end_matches('/'))
    }

    /// Lends the token to one git command.
    pub(crate) fn credentials(&self) -> io::Result<Credentials> {
        Credentials::new("x-access-token", &self.token)
    }
}

/// Reads a file that holds a secret.
pub(crate) fn read_secret(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// A user name and a token for one git command, which fetches them through a pipe: they stand in no
/// argument, no variable and no file's content.
#[derive(Debug)]
pub(crate) struct Credentials {
    folder: tempfile::TempDir,
    /// Open as long as the credentials may be read: what was written waits in the pipe.
    _pipe: fs::File,
}

impl Credentials {
    fn new(user: &str, token: &SecretString) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("muster-credentials-").tempdir()?;
        let path = folder.path().join("pipe");
        mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        let mut pipe = fs::OpenOptions::new().read(true).write(true).open(&path)?;
        pipe.write_all(
            format!("username={user}\npassword={}\n", token.expose_secret()).as_bytes(),
        )?;
        Ok(Self { folder, _pipe: pipe })
    }

    /// Returns the credential helper for git's configuration.
    pub(crate) fn helper(&self) -> String {
        // The folder's name is muster's own: it holds no quote.
        let pipe = self.folder.path().join("pipe");
        format!("!f() {{ test \"$1\" = get && head -n 2 '{}'; }}; f", pipe.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::{Git, Remote};

    #[test]
    fn git_gets_the_token_through_the_helper() {
        let credentials =
            Credentials::new("x-access-token", &SecretString::from("s3cret".to_owned())).unwrap();
        let helper = credentials.helper();
        let remote = Remote::with_token("https://github.com".to_owned(), credentials);
        let filled = Git::new(Path::new("/"), "credential")
            .to(&remote)
            .arg("fill")
            .input("protocol=https\nhost=github.com\n\n")
            .text()
            .unwrap();
        assert!(filled.contains("username=x-access-token\npassword=s3cret"), "{filled}");
        assert!(!helper.contains("s3cret"));
    }
}
