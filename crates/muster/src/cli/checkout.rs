//! `muster checkout`: what a step with `uses: actions/checkout` runs.
//!
//! A process of the job's own, in its sandbox, so that it can do no more than any other step: its
//! workspace may hold what an earlier step has put there.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use muster_runner::CheckoutOrder;

use super::{GREEN, RED, error_command, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file that says what to check out.
    order: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let at = || format!("cannot read {}", arguments.order.display());
    let order = fs::read(&arguments.order).with_context(at)?;
    let order: CheckoutOrder = serde_json::from_slice(&order).with_context(at)?;
    let target = match muster_runner::checkout(&order) {
        Ok(target) => target,
        Err(error) => {
            print(error_command(&error));
            return Ok(RED);
        }
    };
    let at = if target.git_ref.is_empty() { "" } else { " at " };
    print(format!("Checked out {}{at}{}", target.sha, target.git_ref));
    let outputs = std::env::var_os("GITHUB_OUTPUT").context("GITHUB_OUTPUT is not set")?;
    let mut outputs = OpenOptions::new().append(true).open(outputs)?;
    writeln!(outputs, "ref={}\ncommit={}", target.git_ref, target.sha)?;
    Ok(GREEN)
}
