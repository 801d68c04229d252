//! The project's own commands: `cargo xtask check`, `cargo xtask test`, `cargo xtask bench`,
//! `cargo xtask real-projects`, `cargo xtask sim`, `cargo xtask fuzz`, `cargo xtask masks`.

mod bench;
mod check;
mod fuzz;
mod needs;
mod page;
mod promises;
mod real_projects;
mod sim;
mod suites;
mod test;
mod tools;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser;
use muster_sys::process::Program;

/// The project's own commands.
#[derive(Debug, Parser)]
enum Command {
    /// Format, promises, dependencies, clippy with warnings as errors, and the docs build.
    Check,
    /// Measure the release binary against the figures it must reach.
    Bench(bench::Arguments),
    /// Change what strangers write at random, and see that what reads it stands.
    Fuzz(fuzz::Arguments),
    /// Look for a secret that masks let through: random secrets in all their forms, cut at random edges, in a release build.
    Masks {
        /// How many cases.
        #[arg(long, default_value_t = 1_000_000)]
        cases: u64,
    },
    /// Run the workflows of twenty projects that nobody here wrote, and write what became of them.
    RealProjects,
    /// Tell stories of a world where everything goes wrong, and check the laws after each thing that happens.
    Sim(sim::Arguments),
    /// Say how much of the conformance suites is right.
    Suites(suites::Arguments),
    /// Install what the tests need, then run them all.
    Test(test::Arguments),
}

fn main() -> ExitCode {
    muster_testkit::provide_tls();
    let done = match Command::parse() {
        Command::Check => check::run(),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Masks { cases } => masks(cases),
        Command::RealProjects => real_projects::run(),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::Suites(arguments) => suites::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "this is the command line")]
fn say(line: &str) {
    eprintln!("{line}");
}

/// Runs the property of the masks as often.
fn masks(cases: u64) -> anyhow::Result<()> {
    let args = ["test", "--release", "--locked", "-p", "muster-runner", "--lib"];
    let args = [&args[..], &["--", "masks_know_no_edges"]].concat();
    run("cargo", &args, &[("PROPTEST_CASES", &cases.to_string())])?;
    say(&format!("{cases} cases, 0 leaks"));
    Ok(())
}

/// Returns the project's top folder.
fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Runs a program with our environment and outputs; an exit code other than 0 is an error.
fn run(program: &str, args: &[&str], more: &[(&str, &str)]) -> anyhow::Result<()> {
    let line = format!("{program} {}", args.join(" "));
    say(&format!("+ {line}"));
    let mut child = Program::new(program)
        .args(args)
        .envs(std::env::vars_os())
        .envs(more.iter().copied())
        .dir(top())
        .inherit()
        .with_context(|| format!("cannot run `{line}`"))?;
    let status = child.wait()?;
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}
