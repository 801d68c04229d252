//! Reading and planning workflow files.

use std::path::{Path, PathBuf};

use muster_sys::clock;
use muster_workflow::expr::Contexts;
use muster_workflow::{plan, read};

use super::{Figure, Target, median};

/// They are of this program's own libraries, whichever is measured.
pub(super) fn figures(_: &Path) -> anyhow::Result<Vec<Figure>> {
    let folder = crate::top().join("../shared/suites/real");
    if !folder.is_dir() {
        crate::say(&format!("plan: {} is absent, not measured", folder.display()));
        return Ok(Vec::new());
    }
    let mut times = Vec::new();
    for file in files(&folder)? {
        let source = std::fs::read_to_string(file)?;
        let start = clock::monotonic();
        if let Ok(workflow) = read(&source) {
            drop(plan(&workflow, &Contexts::new()));
        }
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let figure = Figure::new(
        "read + plan a real workflow file",
        median(&mut times),
        "ms",
        Target::AtMost(1.0),
    );
    Ok(vec![figure.rival("official parser 3.3 ms")])
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}
