//! Programs of the crate registry that check the project.

use std::path::PathBuf;

use crate::run;

/// Installs a program of the crate registry into the target folder, once, and returns where it is.
///
/// Without optimisation: it is compiled more slowly than it ever runs.
pub(crate) fn install(name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let root = crate::top().join("target/tools").join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.is_file() {
        let crate_version = format!("{name}@{version}");
        let root = root.to_string_lossy();
        let args = ["install", "--debug", "--locked", "--root", &root, &crate_version];
        let builds = crate::top().join("target/tools/builds");
        run("cargo", &args, &[("CARGO_TARGET_DIR", &builds.to_string_lossy())])?;
        std::fs::remove_dir_all(builds)?;
    }
    Ok(program)
}

/// Returns a `PATH` that leads to the Node.js that the test command installs.
pub(crate) fn path_with_node() -> anyhow::Result<String> {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    let node = crate::top().join("target/npm/node_modules").join(format!("node-linux-{arch}/bin"));
    Ok(format!("{}:{}", node.canonicalize()?.display(), std::env::var("PATH")?))
}
