//! The command line: one file a command, and what they share.

mod run;
mod supervise;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Exit codes that every command shares: green, red, cannot run.
pub(crate) const GREEN: u8 = 0;
pub(crate) const RED: u8 = 1;
pub(crate) const CANNOT_RUN: u8 = 2;

/// A self-hosted CI server that runs GitHub Actions workflows.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the workflows of this work tree here and now, uncommitted changes included.
    Run(run::Arguments),
    /// Run one job for the server or for `run` (used by muster itself).
    #[command(hide = true)]
    Supervise(supervise::Arguments),
}

/// Does what the command line says and returns the exit code.
pub(crate) fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Supervise(arguments) => supervise::run(&arguments),
    };
    ExitCode::from(done.unwrap_or_else(|error| {
        complain(&error);
        CANNOT_RUN
    }))
}

/// Writes an error and what caused it to standard error.
#[expect(clippy::print_stderr, reason = "this is the command line")]
fn complain(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}
