//! The suites of workflow files that are right, wrong, or bad style.

use std::path::Path;

use muster_workflow::{Files, check, lint};

use super::{Measured, files, read, short};

/// Each file is a workflow that GitHub takes.
pub(super) fn accepted(folder: &Path) -> Measured {
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

/// Each file is one of which nothing is to be said.
pub(super) fn silent(folder: &Path) -> Measured {
    let files = files(folder, &["yml", "yaml"])?;
    let mut missed = Vec::new();
    for file in &files {
        let source = read(file)?;
        if let Some(problem) = lint(&source, &()).first() {
            missed.push(problem.one_line(&short(file, folder), &source));
        }
    }
    Ok((files.len(), missed))
}

/// Each file is one that GitHub refuses.
pub(super) fn refused(folder: &Path) -> Measured {
    let files = files(folder, &["yml", "yaml", "json"])?;
    let mut missed = Vec::new();
    for file in &files {
        if check(&read(file)?).is_empty() {
            missed.push(format!("{} is taken", short(file, folder)));
        }
    }
    Ok((files.len(), missed))
}

/// The files of the folder that a suite's workflows are in, as of a repository.
struct Beside<'a>(&'a Path);

impl Files for Beside<'_> {
    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(path)).ok()
    }
}

/// Beside each workflow are the problems it has: each must be found, and at most one more.
pub(super) fn linted(folder: &Path) -> Measured {
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
            let found: Vec<(usize, String)> = lint(&source, &Beside(&folder))
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
