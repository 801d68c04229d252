//! `cargo xtask check`.

use crate::run as command;

pub(crate) fn run() -> anyhow::Result<()> {
    command("cargo", &["fmt", "--all", "--check"], &[])?;
    crate::promises::check()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    command("cargo", &clippy, &[])?;
    let doc = ["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"];
    command("cargo", &doc, &[("RUSTDOCFLAGS", "-D warnings")])
}
