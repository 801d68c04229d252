//! `muster conformance`: answers to the cases of others, in their form.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use muster_workflow::conformance;

use super::{GREEN, print, read_file};

/// More than a case has.
const MOST_BYTES: u64 = 16 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Debug, clap::Subcommand)]
enum Suite {
    /// What GitHub's own parser makes of a workflow file: its template, or its errors.
    Reader {
        /// A case: options, a workflow, the workflows that it calls, with lines `---` between them.
        file: PathBuf,
    },
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let Suite::Reader { file } = &arguments.suite;
    let case = read_file(file, MOST_BYTES)?;
    let case =
        String::from_utf8(case).with_context(|| format!("{} is no UTF-8", file.display()))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let answer = conformance::reader(&name, &case)
        .map_err(|why| anyhow!("{} is no case: {why}", file.display()))?;
    print(format!("{answer:#}"));
    Ok(GREEN)
}
