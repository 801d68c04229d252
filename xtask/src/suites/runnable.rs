//! How many of the real files muster can run, and what keeps it from the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::bail;

use super::{files, read, short};

/// How many rows of what is in the way are told.
const ROWS: usize = 25;

#[derive(Default)]
pub(super) struct Figures {
    runnable: usize,
    /// What is not supported, with the files that have it, and those that have nothing else.
    lacks: BTreeMap<String, (usize, usize)>,
}

/// Reads all files and returns how many there are, and what was found.
pub(super) fn runnable(folder: &Path) -> anyhow::Result<(usize, Figures)> {
    let files = files(folder, &["yml", "yaml"])?;
    let mut figures = Figures::default();
    for file in &files {
        let Ok(workflow) = muster_workflow::read(&read(file)?) else {
            bail!("{} is refused", short(file, folder));
        };
        // An action is one thing at all its versions.
        let lacks: BTreeSet<String> = workflow
            .unsupported
            .iter()
            .map(|problem| {
                let what = problem.message.trim_end_matches(" is not supported yet");
                match what.split_once('@') {
                    Some((action, _)) => format!("{action}`"),
                    None => what.to_owned(),
                }
            })
            .collect();
        figures.runnable += usize::from(lacks.is_empty());
        let alone = usize::from(lacks.len() == 1);
        for lack in lacks {
            let (have, only) = figures.lacks.entry(lack).or_default();
            *have += 1;
            *only += alone;
        }
    }
    Ok((files.len(), figures))
}

impl Figures {
    fn rows(&self) -> Vec<(&String, &(usize, usize))> {
        let mut rows: Vec<_> = self.lacks.iter().collect();
        rows.sort_by_key(|(name, (have, only))| {
            (usize::MAX - have, usize::MAX - only, (*name).clone())
        });
        rows
    }

    /// Says all of it, a line each.
    pub(super) fn said(&self, files: usize) -> String {
        let mut said = format!("{} of {files} can be run whole", self.runnable);
        for (name, (have, only)) in self.rows() {
            let _ = write!(said, "\n{have:4} ({only} have nothing else)  {name}");
        }
        said
    }

    /// Writes the first rows as a table.
    pub(super) fn table(&self, files: usize) -> String {
        let mut table = format!("{} of {files} files can be run whole.\n\n", self.runnable);
        if self.rows().is_empty() {
            return table;
        }
        table.push_str(
            "| what is not supported yet | files that have it | nothing else |\n|---|---|---|\n",
        );
        for (name, (have, only)) in self.rows().into_iter().take(ROWS) {
            let _ = writeln!(table, "| {name} | {have} | {only} |");
        }
        table
    }
}
