//! `cargo xtask suites`: how much of what others have written down as right muster gets right.

mod differential;
mod executed;
mod expressions;
mod lint;
mod plans;
mod planted;
mod reader;
mod runnable;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Where the suites are.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Only suites whose name contains this.
    only: Option<String>,
    /// Say how many of the real files muster can run whole, and what keeps it from the others.
    #[arg(long)]
    runnable: bool,
    /// Run act's cases by this act, too, and compare: what each gets right, and in what time.
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["only", "write"])]
    act: Option<PathBuf>,
    /// Compare 100,000 generated expressions with GitHub's evaluator, and say what they covered.
    #[arg(long, conflicts_with_all = ["only", "write"])]
    all: bool,
    /// Write the figures into docs/conformance.md.
    #[arg(long, conflicts_with = "only")]
    write: bool,
}

/// A suite and the least that must be right: what was reached is never lost again.
struct Suite {
    name: &'static str,
    /// Where its cases are.
    folder: &'static str,
    floor: usize,
    /// What counts as right, for people.
    counts: &'static str,
    measure: Measure,
}

/// Returns how many cases there are, and what is missed.
type Measure = fn(&Path) -> Measured;

type Measured = anyhow::Result<(usize, Vec<String>)>;

const SUITES: [Suite; 13] = [
    Suite {
        name: "expressions",
        folder: "expressions",
        floor: 702,
        counts: "kind and value of GitHub's own evaluator cases, or the kind of the error",
        measure: expressions::expressions,
    },
    Suite {
        name: "differential",
        folder: "expressions",
        floor: 5_000,
        counts: "generated expressions: what GitHub's evaluator in npm gives (`--all`: 100,000)",
        measure: differential::slice,
    },
    Suite {
        name: "filters",
        folder: "filters",
        floor: 28,
        counts: "what act's table of patterns lets through",
        measure: expressions::filters,
    },
    Suite {
        name: "reader",
        folder: "reader",
        floor: 136,
        counts: "the template that GitHub's own parser makes, or the places of its errors",
        measure: reader::read_as_theirs,
    },
    Suite {
        name: "schemastore/ok",
        folder: "schemastore/ok",
        floor: 24,
        counts: "each is taken",
        measure: lint::accepted,
    },
    Suite {
        name: "schemastore/bad",
        folder: "schemastore/bad",
        floor: 13,
        counts: "each is refused",
        measure: lint::refused,
    },
    Suite {
        name: "lint/ok",
        folder: "lint/ok",
        floor: 57,
        counts: "actionlint's: of none anything is told",
        measure: lint::silent,
    },
    Suite {
        name: "lint/err",
        folder: "lint/err",
        floor: 78,
        counts: "actionlint's errors and examples: each expected line and rule, and at most one other line",
        measure: lint::linted,
    },
    Suite {
        name: "real/planned",
        folder: "real",
        floor: 434,
        counts: "each is planned for every event of its `on`, with payloads that GitHub has sent",
        measure: plans::planned,
    },
    Suite {
        name: "real/faults",
        folder: "real",
        floor: 996,
        counts: "a thousand files made of them, with one fault each, of 57 kinds: each is refused on its line, and nothing else is said",
        measure: planted::found,
    },
    Suite {
        name: "real/kept",
        folder: "real",
        floor: 40,
        counts: "the plans of forty of them are as they were",
        measure: plans::kept,
    },
    Suite {
        name: "run",
        folder: "run",
        floor: 29,
        counts: "act's cases whose needs are met, run: each green, or red where it is to be",
        measure: executed::executed,
    },
    Suite {
        name: "real",
        folder: "real",
        floor: 434,
        counts: "files that ran on GitHub: each is taken",
        measure: lint::accepted,
    },
];

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.all {
        let (cases, mut missed, covered) = differential::all()?;
        crate::say(covered.trim_end());
        let different = missed.len();
        // Made short, many are the same.
        missed.dedup();
        missed.iter().take(50).for_each(|miss| crate::say(&format!("  {miss}")));
        crate::say(&format!("differential: {} of {cases}", cases - different));
        if different * 1_000 > cases {
            bail!("more than one in a thousand is not as GitHub's evaluator has it");
        }
        return Ok(());
    }
    let folder = arguments.dir.clone().unwrap_or_else(|| crate::top().join("../shared/suites"));
    if !folder.is_dir() {
        // They lie beside the project, never inside it.
        if arguments.dir.is_some() || std::env::var_os("CI").is_some() {
            bail!("the suites are not in {}", folder.display());
        }
        crate::say(&format!("skipped: the suites are not in {}", folder.display()));
        return Ok(());
    }
    if arguments.write {
        plans::keep(&folder.join("real"))?;
    }
    if let Some(act) = &arguments.act {
        return executed::beside(&folder.join("run"), act);
    }
    if arguments.runnable {
        let (files, figures) = runnable::runnable(&folder.join("real"))?;
        crate::say(&figures.said(files));
        return Ok(());
    }
    let mut below = Vec::new();
    let mut table = String::from("| suite | right | what counts |\n|---|---|---|\n");
    for suite in SUITES {
        if arguments.only.as_ref().is_some_and(|only| !suite.name.contains(only.as_str())) {
            continue;
        }
        let (cases, missed) = (suite.measure)(&folder.join(suite.folder))
            .with_context(|| format!("suite {}", suite.name))?;
        let right = cases - missed.len();
        crate::say(&format!("{}: {right} of {cases}", suite.name));
        missed.iter().for_each(|miss| crate::say(&format!("  {miss}")));
        let _ = writeln!(table, "| `{}` | {right} of {cases} | {} |", suite.name, suite.counts);
        if right < suite.floor {
            below.push(format!("{}: {right}, it was {}", suite.name, suite.floor));
        }
    }
    if !below.is_empty() {
        bail!("less is right than before: {}", below.join("; "));
    }
    if arguments.write {
        const PAGE: &str = "docs/conformance.md";
        const COMMAND: &str = "cargo xtask suites --write";
        crate::page::put(PAGE, "suites", COMMAND, &table)?;
        let (files, figures) = runnable::runnable(&folder.join("real"))?;
        crate::page::put(PAGE, "runnable", COMMAND, &figures.table(files))?;
    }
    Ok(())
}

/// Returns the files below a folder with one of these endings, in order.
pub(crate) fn files(folder: &Path, endings: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path, endings)?);
        } else if path.extension().is_some_and(|ending| endings.iter().any(|e| ending == *e)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn short(file: &Path, folder: &Path) -> String {
    file.strip_prefix(folder).unwrap_or(file).display().to_string()
}
