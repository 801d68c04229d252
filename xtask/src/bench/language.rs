//! Reading and planning workflow files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_sys::clock;
use muster_sys::process::Program;
use muster_workflow::expr::{Contexts, Scope, parse};
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
    let rival = match official(&folder) {
        Ok(time) => format!("official parser {time:.2} ms, in this run"),
        Err(error) => format!("official parser not measured: {error:#}"),
    };
    Ok(vec![figure.rival(rival), evaluations()?])
}

/// Measures GitHub's own parser on the same files; returns the median in milliseconds.
fn official(folder: &Path) -> anyhow::Result<f64> {
    let package = "target/npm/node_modules/@actions/workflow-parser/dist/index.js";
    let script = crate::top().join("xtask/src/bench/official.mjs");
    let output = Program::new("node")
        .args([script, crate::top().join(package), folder.to_owned()])
        .output(Duration::from_secs(120), 1 << 20)?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    said.parse().map_err(|_| anyhow::anyhow!("{}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Counts how often a simple expression that was read is evaluated in a second.
fn evaluations() -> anyhow::Result<Figure> {
    const TIMES: u32 = 500_000;
    let expr = parse("github.ref == 'refs/heads/main' && !env.CI", Scope::GITHUB)?;
    let mut contexts = Contexts::new();
    contexts.set("github", &serde_json::json!({"event_name": "push", "ref": "refs/heads/main"}));
    let start = clock::monotonic();
    for _ in 0..TIMES {
        std::hint::black_box(expr.evaluate(std::hint::black_box(&contexts))?);
    }
    let a_second = f64::from(TIMES) / start.elapsed().as_secs_f64() / 1_000_000.0;
    Ok(Figure::new("simple evaluations a second", a_second, "M", Target::AtLeast(1.0)))
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
