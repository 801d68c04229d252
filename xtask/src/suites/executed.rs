//! Act's cases: workflows that are run, and must be green or not.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use muster_sys::files::copy_tree;
use muster_sys::process::Program;
use serde::Deserialize;

use super::{Measured, read};

/// No case takes longer.
const LIMIT: Duration = Duration::from_secs(120);
/// Cases that need more than their list says, and what that is.
const NEEDS: [(&str, &str); 2] = [
    ("networking", "an image in which it is root, and the packages of a distribution"),
    ("workflow_call_inputs", "a reader that takes inputs without a type, which GitHub refuses"),
];
/// Actions that muster does itself.
const OWN: &str = "action:actions/checkout@";

/// What is expected of a case.
#[derive(Debug, Deserialize)]
struct Case {
    event: String,
    fails: bool,
    needs: Vec<String>,
}

/// Runs the cases whose needs are met, and says what the others need.
pub(super) fn executed(folder: &Path) -> Measured {
    let cases: BTreeMap<String, Case> =
        serde_json::from_str(&read(&folder.join("expected.json"))?)?;
    // As the tests have it: built in another way it would be compiled once more.
    crate::run("cargo", &["test", "--workspace", "--locked", "--no-run", "--quiet"], &[])?;
    let muster = crate::top().join("target/debug/muster").canonicalize()?;
    let tree = tempfile::tempdir()?;
    let home = tempfile::tempdir()?;
    let at = tree.path();
    copy_tree(folder, at, None)?;
    let git = |args: &[&str]| crate::bench::git(at, args);
    git(&["init", "--quiet", "--initial-branch=main", "."])?;
    git(&["remote", "add", "origin", "https://github.com/nektos/act.git"])?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message", "cases"])?;
    let mut count = 0;
    let mut missed = Vec::new();
    for (name, case) in &cases {
        let mut needs: Vec<String> =
            case.needs.iter().filter(|need| is_unmet(need, case)).cloned().collect();
        needs.extend(
            NEEDS.iter().filter(|(known, _)| known == name).map(|(_, need)| (*need).to_owned()),
        );
        if !needs.is_empty() {
            crate::say(&format!("  {name}: not run, it needs {}", needs.join(", ")));
            continue;
        }
        count += 1;
        let mut files = fs::read_dir(at.join(name))?
            .map(|entry| Ok(entry?.path()))
            .collect::<anyhow::Result<Vec<PathBuf>>>()?;
        files.retain(|file| {
            file.extension().is_some_and(|ending| ending == "yml" || ending == "yaml")
        });
        files.sort();
        for file in files {
            if let Some(why) = judge(&muster, [at, home.path()], &file, case)? {
                missed.push(format!("{name}: {why}"));
                break;
            }
        }
    }
    Ok((count, missed))
}

/// Runs a case; returns what is wrong with it, if anything is.
fn judge(
    muster: &Path,
    [tree, home]: [&Path; 2],
    file: &Path,
    case: &Case,
) -> anyhow::Result<Option<String>> {
    let mut run = Program::new(muster)
        .args(["run", "--event", &case.event, "--actor", "nektos/act", "--env", "ACT=true", "-W"])
        .arg(file)
        // What act's own tests have for these.
        .args(
            ["ubuntu-18.04", "ubuntu-16.04", "macos-latest"]
                .into_iter()
                .flat_map(|label| ["--image".to_owned(), format!("{label}=host")]),
        )
        .dir(tree)
        .env("PATH", crate::tools::path_with_node()?)
        .env("HOME", home)
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
    let output = run.output(LIMIT, 16 << 20).with_context(|| format!("{}", file.display()))?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let wanted = if case.fails { 1 } else { 0 };
    Ok((output.status.code() != Some(wanted)).then(|| {
        let end: Vec<&str> = told.lines().rev().take(12).collect();
        format!(
            "exit {:?}, not {wanted}\n{}",
            output.status.code(),
            end.into_iter().rev().collect::<Vec<_>>().join("\n")
        )
    }))
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
