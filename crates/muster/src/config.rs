//! What an administrator can say of a server.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use muster_core::trust::Trust;
use muster_runner::spec::{ActionSource, Native};
use serde::Deserialize;

use crate::forge::GitHubConfig;
use crate::http::{Network, TlsConfig};
use crate::machine::{self, Images};
use crate::notices::NoticesConfig;
use crate::services::StorageConfig;

/// The configuration of a server; what the file does not say is as in [`Config::default`].
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The data folder.
    pub(crate) data: PathBuf,
    /// A PostgreSQL database to use instead of SQLite in the data folder.
    pub(crate) database: Option<String>,
    /// The address that people reach it at, without a slash at the end.
    pub(crate) public_url: String,
    /// Proxies in front of the server, whose word on who calls is believed.
    pub(crate) trusted_proxies: Vec<Network>,
    /// Whether everybody may read.
    pub(crate) public_read: bool,
    /// How many jobs run at once.
    pub(crate) jobs: usize,
    /// Labels that this machine serves beside the usual ones.
    pub(crate) labels: Vec<String>,
    /// Seconds between two looks at a repository on this machine that sends no nudge.
    pub(crate) poll_local_s: u64,
    /// Seconds between two looks at a repository elsewhere.
    pub(crate) poll_remote_s: u64,
    /// MiB above which what a repository sends at once is refused.
    pub(crate) max_fetch_mib: u64,
    /// After so many seconds without output a job is ended.
    pub(crate) idle_timeout_s: u64,
    /// Whether a stranger's commit runs, once it is approved, where there is no sandbox.
    pub(crate) approved_without_sandbox: bool,
    /// The certificate to serve under; without it the server speaks plain HTTP.
    pub(crate) tls: Option<TlsConfig>,
    /// The file of the key that secrets are sealed with; without one it is in the data folder.
    pub(crate) secrets_key_file: Option<PathBuf>,
    /// Where actions come from.
    pub(crate) actions: ActionsConfig,
    /// What stands between jobs and this machine.
    pub(crate) isolation: IsolationConfig,
    /// What sandboxes are like.
    pub(crate) sandbox: SandboxConfig,
    /// What stands for the machines that labels ask for.
    pub(crate) images: Images,
    /// What makes containers.
    pub(crate) containers: ContainersConfig,
    /// For people who look around in jobs that have failed.
    pub(crate) shell: ShellConfig,
    /// Where artifacts and caches are kept; without it in the data folder.
    pub(crate) storage: Option<StorageConfig>,
    /// How long things are kept.
    pub(crate) retention: RetentionConfig,
    /// Who is told when the verdict on a default branch changes.
    pub(crate) notices: NoticesConfig,
    /// GitHub, when the server works beside it.
    pub(crate) github: Option<GitHubConfig>,
}

/// What stands between jobs and this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IsolationConfig {
    /// A sandbox for each job; where this machine cannot make one, none for the code of members.
    Auto,
    /// A sandbox for each job, or it does not run.
    Sandbox,
    /// None: steps run as the user that muster runs as.
    None,
}

/// Where actions come from that are not in the workspace.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ActionsConfig {
    /// The code host, as git can reach it: the repository of `owner/name@ref` is `owner/name` below it.
    pub(crate) from: String,
    /// Folders in the place of repositories, by `owner/name` or `owner/name@ref`.
    pub(crate) given: BTreeMap<String, PathBuf>,
    /// Which of the actions that muster brings with it take the place of others.
    pub(crate) native: NativeConfig,
}

/// Which of the actions that muster brings with it take the place of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NativeConfig {
    /// Wherever muster has one.
    Always,
    /// But for those that are used at a commit.
    Unpinned,
    /// None.
    Never,
}

impl From<NativeConfig> for Native {
    fn from(wanted: NativeConfig) -> Self {
        match wanted {
            NativeConfig::Always => Self::Always,
            NativeConfig::Unpinned => Self::Unpinned,
            NativeConfig::Never => Self::Never,
        }
    }
}

impl Default for ActionsConfig {
    fn default() -> Self {
        Self {
            from: "https://github.com".to_owned(),
            given: BTreeMap::new(),
            native: NativeConfig::Unpinned,
        }
    }
}

impl ActionsConfig {
    /// Returns what a job is told of actions; `folder` keeps them.
    pub(crate) fn source(&self, folder: PathBuf, pinned: Vec<(String, String)>) -> ActionSource {
        let given = self.given.clone().into_iter().collect();
        let native = self.native.into();
        ActionSource { folder, from: self.from.clone(), given, native, pinned }
    }
}

/// What makes containers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ContainersConfig {
    /// The socket at which Docker or Podman listens; looked for where they usually do.
    pub(crate) socket: Option<PathBuf>,
}

/// What sandboxes are like, and what jobs may use, in one or not.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SandboxConfig {
    /// What of the world jobs reach.
    pub(crate) network: NetworkConfig,
    /// The most memory of one job, in MiB.
    pub(crate) memory_mib: u64,
    /// The most processes and threads of one job.
    pub(crate) processes: u32,
    /// The most that one job has on disk, in MiB.
    pub(crate) disk_mib: u64,
    /// The most files and folders that one job has.
    pub(crate) files: u64,
    /// Folders of programs that the jobs of members see, beside those in PATH.
    pub(crate) tools: Vec<PathBuf>,
}

/// For people who look around in jobs that have failed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ShellConfig {
    /// Minutes for which a job that has failed is kept as it is; 0 is not at all.
    pub(crate) keep_minutes: u64,
}

/// What of the world jobs reach, by how far their code is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub(crate) struct NetworkConfig {
    /// Of the approved commits of those who may not push; never all.
    pub(crate) approved: NetworkOf,
    /// Of those who may push.
    pub(crate) member: NetworkOf,
    /// Of protected refs.
    pub(crate) protected: NetworkOf,
}

/// What of the world the jobs of one trust reach.
pub(crate) type NetworkOf = muster_runner::egress::Network;

impl Default for NetworkConfig {
    fn default() -> Self {
        Self { approved: NetworkOf::None, member: NetworkOf::Open, protected: NetworkOf::Open }
    }
}

impl NetworkConfig {
    /// Returns that of a run that is trusted so far.
    pub(crate) fn of(&self, trust: Trust) -> &NetworkOf {
        match trust {
            Trust::Stranger => &NetworkOf::None,
            Trust::Approved => &self.approved,
            Trust::Member => &self.member,
            Trust::Protected => &self.protected,
        }
    }

    /// Returns one in which whoever may push reaches the same.
    pub(crate) fn for_members(network: NetworkOf) -> Self {
        Self { member: network.clone(), protected: network, ..Self::default() }
    }
}

impl TryFrom<toml::Value> for NetworkConfig {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let table = match value {
            toml::Value::Boolean(true) => return Ok(Self::default()),
            toml::Value::Boolean(false) => return Ok(Self::for_members(NetworkOf::None)),
            toml::Value::Table(table) => table,
            other => return network_of(&other).map(Self::for_members),
        };
        let mut config = Self::default();
        for (trust, value) in table {
            let network = network_of(&value)?;
            match &*trust {
                "approved" if network.is_open() => {
                    return Err("`approved` is of those who may not push: name hosts, or \"none\""
                        .to_owned());
                }
                "approved" => config.approved = network,
                "member" => config.member = network,
                "protected" => config.protected = network,
                other => {
                    return Err(format!(
                        "`{other}` is no trust: `approved`, `member` or `protected`"
                    ));
                }
            }
        }
        Ok(config)
    }
}

/// Reads "open", "none", or a list of hosts.
fn network_of(value: &toml::Value) -> Result<NetworkOf, String> {
    let wrong = || "a network is \"open\", \"none\", or a list of hosts".to_owned();
    match value {
        toml::Value::String(word) if word == "open" => Ok(NetworkOf::Open),
        toml::Value::String(word) if word == "none" => Ok(NetworkOf::None),
        toml::Value::Array(hosts) => {
            let hosts = hosts.iter().map(|host| host.as_str().ok_or_else(wrong)?.parse());
            Ok(NetworkOf::Only(hosts.collect::<Result<_, _>>()?))
        }
        _ => Err(wrong()),
    }
}

/// How long things are kept. Runs and their verdicts always are.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetentionConfig {
    /// Days after which a log is removed.
    pub(crate) log_days: i64,
    /// MiB of all logs together, above which the oldest are removed.
    pub(crate) log_mib: u64,
    /// Days after which the mirror of a repository that nothing happened in is removed.
    pub(crate) mirror_days: i64,
    /// MiB of all mirrors together, above which those that were idle longest are removed.
    pub(crate) mirror_mib: u64,
    /// Days after which an artifact is removed, unless its action asks for fewer.
    pub(crate) artifact_days: u64,
    /// Days after which a cache that nobody has used is removed.
    pub(crate) cache_days: u64,
    /// MiB of all caches of a repository, above which those that were used least are removed.
    pub(crate) cache_mib: u64,
    /// Days after which an image that was unpacked and that no job has used is removed.
    pub(crate) image_days: u64,
    /// Days after which a webhook is forgotten; code hosts send again for three.
    pub(crate) delivery_days: i64,
    /// Days after which a commit that nobody has approved waits no more.
    pub(crate) waiting_days: i64,
}

impl RetentionConfig {
    /// Returns how long an image that was unpacked stays without being used.
    pub(crate) fn unused_images(&self) -> Duration {
        Duration::from_secs(self.image_days.saturating_mul(24 * 3600))
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            log_days: 90,
            log_mib: 10 << 10,
            mirror_days: 90,
            mirror_mib: 50 << 10,
            artifact_days: 90,
            cache_days: 7,
            cache_mib: 10 << 10,
            image_days: 30,
            delivery_days: 30,
            waiting_days: 30,
        }
    }
}

impl Default for SandboxConfig {
    fn default() -> Self {
        let memory_mib = machine::memory_share_mib();
        let (processes, disk_mib, files) = (4096, 32 << 10, 4_000_000);
        Self {
            network: NetworkConfig::default(),
            memory_mib,
            processes,
            disk_mib,
            files,
            tools: Vec::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4567)),
            data: PathBuf::from("muster-data"),
            database: None,
            public_url: String::new(),
            trusted_proxies: Vec::new(),
            public_read: false,
            jobs: machine::cores(),
            labels: Vec::new(),
            poll_local_s: 2,
            poll_remote_s: 30,
            max_fetch_mib: 10 << 10,
            idle_timeout_s: 3600,
            approved_without_sandbox: false,
            tls: None,
            secrets_key_file: None,
            actions: ActionsConfig::default(),
            isolation: IsolationConfig::Auto,
            sandbox: SandboxConfig::default(),
            images: Images::default(),
            containers: ContainersConfig::default(),
            shell: ShellConfig::default(),
            storage: None,
            retention: RetentionConfig::default(),
            notices: NoticesConfig::default(),
            github: None,
        }
    }
}

impl Config {
    /// Returns the file of the key that secrets are sealed with.
    pub(crate) fn secrets_key_file(&self) -> PathBuf {
        self.secrets_key_file.clone().unwrap_or_else(|| self.data.join("secrets-key"))
    }

    /// A configuration file that says what is so by default, and what it means.
    pub(crate) const COMMENTED: &str = include_str!("../assets/muster.toml");

    /// Reads a configuration file; without a file everything is as by default.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let mut config: Self =
            toml::from_str(&text).with_context(|| format!("{} cannot be used", path.display()))?;
        // A relative folder is meant from where the file stands, wherever muster is started.
        if let Some(folder) = path.parent() {
            config.data = folder.join(&config.data);
            for tool in &mut config.sandbox.tools {
                *tool = folder.join(&tool);
                if !tool.is_dir() {
                    anyhow::bail!(
                        "{}: [sandbox] tools: {} is no folder",
                        path.display(),
                        tool.display()
                    );
                }
            }
            for given in config.actions.given.values_mut() {
                *given = folder.join(&given);
                if !given.is_dir() {
                    let at = path.display();
                    anyhow::bail!("{at}: [actions.given]: {} is no folder", given.display());
                }
            }
            // A folder, not an address.
            if !config.actions.from.contains(':') {
                let from = folder.join(&config.actions.from);
                config.actions.from = from.to_string_lossy().into_owned();
            }
            let at = path.display();
            if let Err(why) = config.images.resolve(folder) {
                anyhow::bail!("{at}: [images] {why}");
            }
            if config.images.is_any_foreign() && config.isolation == IsolationConfig::None {
                anyhow::bail!("{at}: [images] take a sandbox, and `isolation` is \"none\"");
            }
            if let Some(socket) = &mut config.containers.socket {
                *socket = folder.join(&socket);
            }
            if let Some(file) = &mut config.secrets_key_file {
                *file = folder.join(&file);
            }
            if let Some(storage) = &mut config.storage {
                storage.resolve(folder);
            }
            if let Some(tls) = &mut config.tls {
                tls.certificate = folder.join(&tls.certificate);
                tls.key = folder.join(&tls.key);
            }
            for file in config.notices.files() {
                *file = folder.join(&file);
            }
            if let Some(github) = &mut config.github {
                for file in
                    [&mut github.token_file, &mut github.webhook_secret_file].into_iter().flatten()
                {
                    *file = folder.join(&file);
                }
            }
        }
        config.public_url = config.public_url.trim_end_matches('/').to_owned();
        Ok(config)
    }
}
