//! What this machine gives to a job.

mod images;
mod tools;

pub(crate) use self::images::{Image, Images};

use std::path::{Path, PathBuf};

use muster_core::labels::Labels;
use muster_core::trust::Trust;
use muster_runner::spec::{Cage, DiskLimits, Isolation, Kit, Lodging};
use muster_sys::sandbox::{Layers, Layout, Limits, Sandbox, SandboxError};

use self::tools::View;
use crate::config::{IsolationConfig, SandboxConfig};

/// Variables that a step gets from muster's own environment. All others stay behind: they may be
/// secrets, and a job must not depend on how muster was started.
const PASSED_ON: [&str; 11] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TZ",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "PYENV_ROOT",
    "NVM_DIR",
];

/// Returns the variables of a step that runs as the caller.
pub(crate) fn callers_environment() -> Vec<(String, String)> {
    PASSED_ON
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// Returns the labels that this machine serves, `more`, and those of images.
pub(crate) fn labels(more: &[String], images: &Images) -> Labels {
    let more: Vec<String> = more.iter().chain(images.labels()).cloned().collect();
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "x64",
        other => other,
    };
    Labels::of_linux(arch, &more)
}

/// Returns the machine's name.
pub(crate) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns how many jobs this machine runs at once where configuration says nothing.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns where something is kept between jobs of the caller: `tools`, `actions`.
pub(crate) fn callers_cache(what: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("muster").join(what)
}

/// Returns the variables of a step under the server: a home of its own, and this machine's tools.
pub(crate) fn servers_environment(home: &Path) -> Vec<(String, String)> {
    let mut environment = callers_environment();
    // Tools that a version manager installed below the server's home stay reachable without it.
    let servers_home = std::env::var_os("HOME").map(PathBuf::from);
    let has = |name: &str, list: &[(String, String)]| list.iter().any(|(known, _)| known == name);
    if let Some(servers_home) = servers_home {
        for (name, below) in
            [("RUSTUP_HOME", ".rustup"), ("PYENV_ROOT", ".pyenv"), ("NVM_DIR", ".nvm")]
        {
            let folder = servers_home.join(below);
            if !has(name, &environment) && folder.is_dir() {
                environment.push((name.to_owned(), folder.to_string_lossy().into_owned()));
            }
        }
    }
    environment.retain(|(name, _)| !matches!(name.as_str(), "HOME" | "CARGO_HOME"));
    environment.push(("HOME".to_owned(), home.to_string_lossy().into_owned()));
    environment
}

/// For whom a job runs, which decides who its steps are where there is no sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    /// Whoever calls muster: the steps are that user.
    Caller,
    /// A server: under root the steps are a user of their own.
    Server,
}

/// Returns what stands between a job and this machine; `group` names the job on it.
///
/// Code of members may fall back to none where configuration does not insist; a stranger's never
/// does by itself: where it may run without a sandbox, that was decided before it was started.
pub(crate) fn isolation(
    wanted: IsolationConfig,
    sandbox: &SandboxConfig,
    trust: Trust,
    host: Host,
    group: &str,
) -> Isolation {
    let member = trust >= Trust::Member;
    let kit = |view| {
        with_language(if member { tools::installed(view, &sandbox.tools) } else { tools::system() })
    };
    let (memory_bytes, processes) = (sandbox.memory_mib << 20, sandbox.processes);
    let lodging = || {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let can_be_hidden =
            |home: &PathBuf| home.is_absolute() && home.parent().is_some() && home.is_dir();
        let (kit, hidden) = (kit(View::GUEST), home.filter(can_be_hidden));
        Lodging { kit, group: group.to_owned(), hidden, memory_bytes, processes }
    };
    let guest = || (host == Host::Server).then(lodging);
    let cage = || Cage {
        group: group.to_owned(),
        kit: kit(View::SANDBOX),
        network: sandbox.network.of(trust).clone(),
        memory_bytes,
        processes,
        walls: trust == Trust::Protected,
    };
    match wanted {
        IsolationConfig::None => Isolation::None { why: None, guest: guest() },
        IsolationConfig::Auto if member => Isolation::Auto { cage: cage(), guest: guest() },
        IsolationConfig::Auto | IsolationConfig::Sandbox => Isolation::Sandbox(cage()),
    }
}

/// Returns the socket of the container engine: the one that is configured, else that which its other clients would take.
pub(crate) fn engine(configured: Option<&PathBuf>) -> Option<PathBuf> {
    let named = || {
        let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())?;
        Some(PathBuf::from(host.strip_prefix("unix://").unwrap_or(&host)))
    };
    let own = || {
        let folder = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)?;
        let sockets = ["docker.sock", "podman/podman.sock"].map(|name| folder.join(name));
        sockets.into_iter().find(|socket| socket.exists())
    };
    configured.cloned().or_else(named).or_else(own)
}

/// Returns how much a job may have on disk.
pub(crate) fn disk(sandbox: &SandboxConfig) -> DiskLimits {
    DiskLimits { mib: sandbox.disk_mib, files: sandbox.files }
}

/// Adds the words for language and time that this process has.
fn with_language(mut kit: Kit) -> Kit {
    let words = ["LANG", "LC_ALL", "TZ"];
    let ours = callers_environment().into_iter();
    kit.environment.extend(ours.filter(|(name, _)| words.contains(&name.as_str())));
    kit
}

/// Makes a sandbox as for a stranger's job, and ends it: can this machine make one, and of what?
pub(crate) fn try_sandbox() -> Result<Layers, SandboxError> {
    let config = SandboxConfig::default();
    let layout = Layout {
        name: format!("try-{}", std::process::id()),
        root: None,
        binds: Vec::new(),
        links: Vec::new(),
        network: false,
        doorway: None,
        user: muster_sys::sandbox::user_of_its_own()?,
        limits: Limits { memory_bytes: config.memory_mib << 20, processes: config.processes },
        walls: false,
    };
    Ok(Sandbox::start(&layout)?.layers())
}

/// Returns the share of this machine's memory that one of as many jobs as it has cores can have, in MiB.
pub(crate) fn memory_share_mib() -> u64 {
    let total = rustix::system::sysinfo();
    let bytes = total.totalram.saturating_mul(total.mem_unit.into());
    ((bytes >> 20) / cores() as u64).max(1024)
}
