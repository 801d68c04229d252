//! What this machine gives to a job.

use std::path::{Path, PathBuf};

use muster_core::labels::Labels;

/// Variables that a step gets from muster's own environment. All others stay behind: they may be
/// secrets, and a job must not depend on how muster was started.
const PASSED_ON: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
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

/// Returns the labels that this machine serves, and `more`.
pub(crate) fn labels(more: &[String]) -> Labels {
    let arch = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "x64",
        other => other,
    };
    Labels::of_linux(arch, more)
}

/// Returns the machine's name.
pub(crate) fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns how many jobs this machine runs at once where configuration says nothing.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns where tools are kept between jobs of the caller.
pub(crate) fn callers_tool_cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("muster").join("tools")
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
