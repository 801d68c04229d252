//! `cargo xtask test`.

use std::time::Duration;

use anyhow::bail;
use muster_sys::process::Program;

use crate::needs;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What goes to `cargo test`, such as the name of a test.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let missing = needs::install();
    if !missing.is_empty() {
        bail!("the tests need what this machine lacks: {}", missing.join("; "));
    }
    if let Err(error) = needs::install_data() {
        // The tests that read the data say that it is absent, and fail where `CI` is set.
        crate::say(&format!("data for some tests could not be installed: {error:#}"));
    }
    if let Err(error) = needs::install_python() {
        crate::say(&format!("the storage for some tests could not be installed: {error:#}"));
    }
    if let Err(error) = needs::install_image() {
        crate::say(&format!("the image for some tests could not be made: {error:#}"));
    }
    let mut args = vec!["test", "--workspace", "--locked"];
    args.extend(arguments.rest.iter().map(String::as_str));
    // A snapshot that differs fails; nothing is written.
    crate::run("cargo", &args, &[("INSTA_UPDATE", "no")])?;
    if arguments.rest.is_empty() {
        count_stories()?;
        crate::suites::run(&crate::suites::Arguments::default())?;
    }
    Ok(())
}

/// Says how many server stories ran on each database.
fn count_stories() -> anyhow::Result<()> {
    let list =
        ["test", "--quiet", "--locked", "--package", "muster", "--test", "it", "--", "--list"];
    let output = Program::new("cargo")
        .args(list)
        .envs(std::env::vars_os())
        .dir(crate::top())
        .output(Duration::from_secs(600), 1 << 20)?;
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    let count = |database: &str| listed.lines().filter(|line| line.contains(database)).count();
    let (sqlite, postgres) = (count("::sqlite::"), count("::postgres::"));
    if sqlite == 0 || sqlite != postgres {
        bail!("{sqlite} stories on SQLite but {postgres} on PostgreSQL");
    }
    crate::say(&format!("stories on SQLite: {sqlite}, on PostgreSQL: {postgres}"));
    Ok(())
}
