//! What a step writes, from its pipe through the masks to who reads the log.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use muster_sys::clock;
use muster_sys::process::Program;

use super::{Figure, Target, git};

const LIMIT: Duration = Duration::from_secs(300);
/// How many secrets are looked for.
const SECRETS: usize = 50;
/// How much is written, in MiB: with lines, and without any.
const WITH_LINES: u32 = 256;
const WITHOUT: u32 = 1024;

pub(super) fn figures(muster: &Path) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    git(folder.path(), &["init", "--quiet", "."])?;
    let mut secrets = String::new();
    for number in 0..SECRETS {
        writeln!(secrets, "SECRET_{number}=\"{number}-{}/+& x\"", "s3cr3t".repeat(6))?;
    }
    std::fs::write(folder.path().join("secrets"), secrets)?;
    let line =
        "2026-01-01T00:00:00Z [info] compiled module 4711 of 9000: src/very/long/path/to/file.rs";
    let (_, empty) = job(muster, folder.path(), "true")?;
    let write = format!("yes '{line}' | head -c {WITH_LINES}M");
    let (_, full) = job(muster, folder.path(), &write)?;
    let speed = f64::from(WITH_LINES) * 1.048_576 / (full - empty);
    let write =
        format!("head -c {WITHOUT}M /dev/zero | tr '\\0' x; echo; grep VmHWM /proc/$PPID/status");
    let (told, _) = job(muster, folder.path(), &write)?;
    let peak = told.lines().find_map(|line| line.split_once("VmHWM:")?.1.split_whitespace().next());
    let peak: f64 = peak.with_context(|| format!("no memory is told in {told}"))?.parse()?;
    Ok(vec![
        Figure::new("log through 50 secrets", speed, "MB/s", Target::AtLeast(100.0)),
        Figure::new(
            "1 GiB without a line's end, memory",
            peak / 1024.0,
            "MiB",
            Target::AtMost(64.0),
        ),
    ])
}

/// Runs a job of one step; returns the end of what was told, and how many seconds it took.
fn job(muster: &Path, folder: &Path, script: &str) -> anyhow::Result<(String, f64)> {
    let workflows = folder.join(".github/workflows");
    std::fs::create_dir_all(&workflows)?;
    let text = format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: |\n          {script}\n"
    );
    std::fs::write(workflows.join("ci.yml"), text)?;
    let start = clock::monotonic();
    // The last bytes are enough: of a line without an end each part is one.
    let output = Program::new("sh")
        .args(["-c", "\"$1\" run --isolation none --secret-file secrets | tail -c 2000"])
        .arg("sh")
        .arg(muster)
        .dir(folder)
        .env("HOME", folder)
        .env("PATH", std::env::var("PATH")?)
        .output(LIMIT, 1 << 20)?;
    let took = start.elapsed().as_secs_f64();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(told.contains("ci.yml: success"), "it failed: {told}");
    Ok((told, took))
}
