//! `cargo xtask suites`: how much of what others have written down as right muster gets right.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use muster_workflow::check;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Where the suites are.
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
    /// Only suites whose name contains this, with each case that is missed.
    only: Option<String>,
}

/// A suite and the least that must be right: what was reached is never lost again.
struct Suite {
    name: &'static str,
    floor: usize,
    measure: Measure,
}

/// Returns how many cases there are, and what is missed.
type Measure = fn(&Path) -> anyhow::Result<(usize, Vec<String>)>;

const SUITES: [Suite; 5] = [
    Suite { name: "schemastore/ok", floor: 24, measure: accepted },
    Suite { name: "schemastore/bad", floor: 11, measure: refused },
    Suite { name: "lint/ok", floor: 57, measure: accepted },
    Suite { name: "lint/err", floor: 24, measure: linted },
    Suite { name: "real", floor: 434, measure: accepted },
];

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = arguments.dir.clone().unwrap_or_else(|| crate::top().join("../shared/suites"));
    if !folder.is_dir() {
        // They lie beside the project, never inside it.
        if arguments.dir.is_some() || std::env::var_os("CI").is_some() {
            bail!("the suites are not in {}", folder.display());
        }
        crate::say(&format!("skipped: the suites are not in {}", folder.display()));
        return Ok(());
    }
    let mut below = Vec::new();
    for suite in SUITES {
        if arguments.only.as_ref().is_some_and(|only| !suite.name.contains(only.as_str())) {
            continue;
        }
        let (cases, missed) = (suite.measure)(&folder.join(suite.name))
            .with_context(|| format!("suite {}", suite.name))?;
        let right = cases - missed.len();
        crate::say(&format!("{}: {right} of {cases}", suite.name));
        if arguments.only.is_some() || right < suite.floor {
            missed.iter().for_each(|miss| crate::say(&format!("  {miss}")));
        }
        if right < suite.floor {
            below.push(format!("{}: {right}, it was {}", suite.name, suite.floor));
        }
    }
    if !below.is_empty() {
        bail!("less is right than before: {}", below.join("; "));
    }
    Ok(())
}

/// Each file is a workflow that GitHub takes.
fn accepted(folder: &Path) -> anyhow::Result<(usize, Vec<String>)> {
    let files = files(folder, &["yml", "yaml", "json"])?;
    let mut missed = Vec::new();
    for file in &files {
        let source = read(file)?;
        let problems = check(&source);
        if let Some(problem) = problems.first() {
            missed.push(problem.one_line(&short(file, folder), &source));
        }
    }
    Ok((files.len(), missed))
}

/// Each file is one that GitHub refuses.
fn refused(folder: &Path) -> anyhow::Result<(usize, Vec<String>)> {
    let files = files(folder, &["yml", "yaml", "json"])?;
    let mut missed = Vec::new();
    for file in &files {
        if check(&read(file)?).is_empty() {
            missed.push(format!("{} is taken", short(file, folder)));
        }
    }
    Ok((files.len(), missed))
}

/// Beside each workflow are the problems it has: each must be found, and at most one more.
fn linted(folder: &Path) -> anyhow::Result<(usize, Vec<String>)> {
    let mut missed = Vec::new();
    let mut cases = 0;
    for folder in [folder.to_owned(), folder.with_file_name("examples")] {
        for file in files(&folder, &["yml", "yaml"])? {
            let beside = file.with_extension("out");
            if !beside.is_file() {
                continue;
            }
            let wanted = read(&beside)?;
            let wanted: Vec<(usize, String)> = wanted.lines().filter_map(place).collect();
            if wanted.is_empty() {
                continue;
            }
            cases += 1;
            let source = read(&file)?;
            let found: Vec<(usize, String)> = check(&source)
                .iter()
                .map(|problem| (problem.line(&source), problem.rule.name().to_owned()))
                .collect();
            let absent: Vec<_> = wanted.iter().filter(|place| !found.contains(place)).collect();
            let more: Vec<_> = found.iter().filter(|place| !wanted.contains(place)).collect();
            if !absent.is_empty() || more.len() > 1 {
                let name = short(&file, &folder);
                missed.push(format!("{name}: not found {absent:?}, found beside {more:?}"));
            }
        }
    }
    Ok((cases, missed))
}

/// Reads `name:line:column: message [rule]`; rows of other programs, and of no line, do not count.
fn place(row: &str) -> Option<(usize, String)> {
    // A row may be a regular expression, in slashes.
    let row = row.trim().trim_end_matches('/').trim_end_matches('$');
    let rule = row.rsplit_once('[')?.1.trim_end_matches(['\\', ']']).to_owned();
    let line = row.split(':').find_map(|part| part.parse().ok()).filter(|line| *line > 0)?;
    (!matches!(rule.as_str(), "shellcheck" | "pyflakes")).then_some((line, rule))
}

fn files(folder: &Path, endings: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
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
