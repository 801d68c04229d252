//! `cargo xtask check`.

use crate::{run as command, tools};

pub(crate) fn run() -> anyhow::Result<()> {
    command("cargo", &["fmt", "--all", "--check"], &[])?;
    crate::promises::check()?;
    dependencies()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    command("cargo", &clippy, &[])?;
    let doc = ["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"];
    command("cargo", &doc, &[("RUSTDOCFLAGS", "-D warnings")])
}

/// Holds the dependencies to `deny.toml`, and finds those that nothing uses.
///
/// Known faults in them (`cargo deny check advisories`) are not looked up: the list is fetched from a code
/// host, which not every machine reaches.
fn dependencies() -> anyhow::Result<()> {
    let machete = tools::install("cargo-machete", "0.9.2")?;
    command(&machete.to_string_lossy(), &["--skip-target-dir"], &[])?;
    let deny = tools::install("cargo-deny", "0.20.2")?;
    let checks = ["--locked", "check", "bans", "licenses", "sources"];
    command(&deny.to_string_lossy(), &checks, &[])
}
