//! Act's cases: workflows that are run, and must be green or not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use muster_sys::clock;
use muster_sys::files::copy_tree;
use muster_sys::process::Program;
use serde::Deserialize;
use tempfile::TempDir;

use super::{Measured, files, read};

/// No case takes longer.
const LIMIT: Duration = Duration::from_secs(120);
/// Cases that need more than their list says, and what that is.
const NEEDS: [(&str, &str); 2] = [
    ("networking", "an image in which it is root, and the packages of a distribution"),
    ("workflow_call_inputs", "a reader that takes inputs without a type, which GitHub refuses"),
];
/// What labels are there in the cases beside `ubuntu-latest`.
const LABELS: [&str; 3] = ["ubuntu-18.04", "ubuntu-16.04", "macos-latest"];
/// Actions that muster does itself.
const OWN: &str = "action:actions/checkout@";

/// What is expected of a case.
#[derive(Debug, Deserialize)]
struct Case {
    event: String,
    fails: bool,
    needs: Vec<String>,
}

/// The cases in a repository of their own.
struct Cases {
    tree: TempDir,
    home: TempDir,
    /// Those whose needs are met, with their files.
    met: Vec<(String, Case, Vec<PathBuf>)>,
}

impl Cases {
    /// Says what those need that are left out.
    fn of(folder: &Path) -> anyhow::Result<Self> {
        let cases: BTreeMap<String, Case> =
            serde_json::from_str(&read(&folder.join("expected.json"))?)?;
        let (tree, home) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let at = tree.path();
        copy_tree(folder, at, None)?;
        let git = |args: &[&str]| crate::bench::git(at, args);
        git(&["init", "--quiet", "--initial-branch=main", "."])?;
        git(&["remote", "add", "origin", "https://github.com/nektos/act.git"])?;
        git(&["add", "--all"])?;
        git(&["commit", "--quiet", "--message", "cases"])?;
        let mut met = Vec::new();
        for (name, case) in cases {
            let mut needs: Vec<String> =
                case.needs.iter().filter(|need| is_unmet(need, &case)).cloned().collect();
            let more = NEEDS.iter().filter(|(known, _)| *known == name);
            needs.extend(more.map(|(_, need)| (*need).to_owned()));
            if !needs.is_empty() {
                crate::say(&format!("  {name}: not run, it needs {}", needs.join(", ")));
                continue;
            }
            let files = files(&at.join(&name), &["yml", "yaml"])?;
            let files = files.into_iter().filter(|file| file.parent() == Some(&at.join(&name)));
            let files = files.collect();
            met.push((name, case, files));
        }
        Ok(Self { tree, home, met })
    }

    /// Has a program run a case; returns what is wrong, if anything is.
    fn judge(
        &self,
        case: &Case,
        files: &[PathBuf],
        program: impl Fn(&Path) -> anyhow::Result<Program>,
    ) -> anyhow::Result<Option<String>> {
        for file in files {
            let run = program(file)?
                .dir(self.tree.path())
                .env("PATH", crate::tools::path_with_node()?)
                .env("HOME", self.home.path());
            let output =
                run.output(LIMIT, 16 << 20).with_context(|| format!("{}", file.display()))?;
            let wanted = if case.fails { 1 } else { 0 };
            if output.status.code() != Some(wanted) {
                let told = String::from_utf8_lossy(&output.stdout).into_owned();
                let mut end: Vec<&str> = told.lines().rev().take(12).collect();
                end.reverse();
                let exit = output.status.code();
                return Ok(Some(format!("exit {exit:?}, not {wanted}\n{}", end.join("\n"))));
            }
        }
        Ok(None)
    }
}

/// Runs the cases whose needs are met, and says what the others need.
pub(super) fn executed(folder: &Path) -> Measured {
    // As the tests have it: built in another way it would be compiled once more.
    crate::run("cargo", &["test", "--workspace", "--locked", "--no-run", "--quiet"], &[])?;
    let muster = crate::top().join("target/debug/muster").canonicalize()?;
    let cases = Cases::of(folder)?;
    let mut missed = Vec::new();
    for (name, case, files) in &cases.met {
        if let Some(why) = cases.judge(case, files, |file| by_muster(&muster, file, case))? {
            missed.push(format!("{name}: {why}"));
        }
    }
    Ok((cases.met.len(), missed))
}

/// Runs the same cases by act, too, one beside the other, and says what each takes in all.
///
/// # Errors
///
/// Where act is right and muster is not, or faster.
pub(super) fn beside(folder: &Path, act: &Path) -> anyhow::Result<()> {
    crate::run("cargo", &["build", "--release", "--locked", "--package", "muster"], &[])?;
    let muster = crate::top().join("target/release/muster").canonicalize()?;
    let act = act.canonicalize()?;
    let cases = Cases::of(folder)?;
    let (mut right, mut took, mut worse) = ([0, 0], [Duration::ZERO; 2], Vec::new());
    for (name, case, files) in &cases.met {
        let mut wrong = [None, None];
        for (at, wrong) in wrong.iter_mut().enumerate() {
            let start = clock::monotonic();
            *wrong = cases.judge(case, files, |file| match at {
                0 => by_muster(&muster, file, case),
                _ => by_act(&act, file, case),
            })?;
            took[at] += start.elapsed();
            right[at] += usize::from(wrong.is_none());
        }
        if wrong[0].is_some() && wrong[1].is_none() {
            worse.push(name.as_str());
        }
    }
    for (at, name) in ["muster", "act"].iter().enumerate() {
        let (right, all, took) = (right[at], cases.met.len(), took[at].as_secs_f64());
        crate::say(&format!("{name}: {right} of {all}, {took:.1} s in all"));
    }
    if !worse.is_empty() {
        bail!("act is right, and muster is not: {}", worse.join(", "));
    }
    if took[0] > took[1] {
        bail!("act is faster");
    }
    Ok(())
}

fn by_muster(muster: &Path, file: &Path, case: &Case) -> anyhow::Result<Program> {
    let mut run = Program::new(muster)
        .args(["run", "--event", &case.event, "--actor", "nektos/act", "--env", "ACT=true", "-W"])
        .arg(file)
        // What act's own tests have for these.
        .args(LABELS.into_iter().flat_map(|label| ["--image".to_owned(), format!("{label}=host")]))
        .env("MUSTER_ACTIONS_FROM", "/nowhere");
    // An action that is not there is what this case is about.
    let given = if case.fails && case.needs.iter().all(|need| need.contains("test-override")) {
        Vec::new()
    } else {
        stand_ins()?
    };
    for (repository, folder) in given {
        run = run.arg("--action-dir").arg(format!("{repository}={}", folder.display()));
    }
    Ok(run)
}

fn by_act(act: &Path, file: &Path, case: &Case) -> anyhow::Result<Program> {
    let mut run = Program::new(act)
        .args([&case.event, "--env", "ACT=true", "-W"])
        .arg(file)
        .args(["-P", "ubuntu-latest=-self-hosted"])
        .args(
            LABELS.into_iter().flat_map(|label| ["-P".to_owned(), format!("{label}=-self-hosted")]),
        );
    for (repository, folder) in stand_ins()? {
        // It wants to know the ref, too.
        let refs = case.needs.iter().filter_map(|need| need.strip_prefix("action:"));
        let refs = refs.filter(|uses| uses.starts_with(&format!("{repository}/")));
        for (_, git_ref) in refs.filter_map(|uses| uses.split_once('@')) {
            let given = format!("{repository}@{git_ref}={}", folder.display());
            run = run.arg("--local-repository").arg(given);
        }
    }
    Ok(run)
}

/// Returns whether nothing here gives a case what it needs.
fn is_unmet(need: &str, case: &Case) -> bool {
    let is_there = |uses: &str| {
        let path = uses.split('@').next().unwrap_or_default();
        folder().join(path).is_dir()
    };
    match need.split_once(':') {
        Some(("action", uses)) => !need.starts_with(OWN) && !is_there(uses),
        // What is missing fails the case, as it is to.
        Some(("missing", _)) => !case.fails,
        _ => true,
    }
}

fn folder() -> PathBuf {
    crate::top().join("xtask/src/suites/stand-ins")
}

/// Returns the actions that stand for those that cannot be fetched: `owner/name` and the folder.
fn stand_ins() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for owner in fs::read_dir(folder())?.flatten().filter(|entry| entry.path().is_dir()) {
        for name in fs::read_dir(owner.path())?.flatten() {
            let repository =
                format!("{}/{}", owner.file_name().display(), name.file_name().display());
            found.push((repository, name.path().canonicalize()?));
        }
    }
    Ok(found)
}
