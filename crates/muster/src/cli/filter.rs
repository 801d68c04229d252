//! `muster filter`: what the filters of `on` let through.

use anyhow::{Context as _, bail};
use muster_workflow::diagnostic::Span;
use muster_workflow::pattern::{Filter, Patterns};
use serde::Deserialize;
use serde_json::json;

use super::{CANNOT_RUN, GREEN, lines, print};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Read lines of `{"patterns", "inputs", "kind"}` from standard input, and answer each with a line.
    #[arg(long, required = true)]
    batch: bool,
}

/// One question: does a workflow with these patterns run for these branches, tags or paths?
#[derive(Deserialize)]
struct Case {
    patterns: Vec<String>,
    inputs: Vec<String>,
    kind: Kind,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Include,
    Ignore,
}

pub(crate) fn run(_: &Arguments) -> anyhow::Result<u8> {
    let mut exit = GREEN;
    for (number, line) in lines().enumerate() {
        let line = line.context("cannot read standard input")?;
        match runs(&line) {
            Ok(runs) => print(json!({ "run": runs })),
            Err(error) => {
                exit = CANNOT_RUN;
                let message = format!("line {} of the input: {error:#}", number + 1);
                print(json!({"error": {"kind": "input", "message": message}}));
            }
        }
    }
    Ok(exit)
}

fn runs(line: &[u8]) -> anyhow::Result<bool> {
    let case: Case = serde_json::from_slice(line)?;
    let mut problems = Vec::new();
    let patterns = case.patterns.iter().map(|text| (text.as_str(), Span::default()));
    let patterns = Patterns::read(patterns, &mut problems);
    if !problems.is_empty() {
        let said: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
        bail!("{}", said.join("; "));
    }
    let filter = match case.kind {
        Kind::Include => Filter::Include(patterns),
        Kind::Ignore => Filter::Ignore(patterns),
    };
    Ok(filter.passes(&case.inputs))
}
