//! `muster run`, the whole process.

use std::path::Path;
use std::time::Duration;

use muster_sys::clock;
use muster_sys::process::Program;

use super::{Figure, Target, binary, median};

const TIMES: usize = 41;
const MORE_STEPS: usize = 100;
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn figures() -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    git(folder.path(), &["init", "--quiet", "."])?;
    let mut figures = Vec::new();
    let kinds = [
        ("none", "muster run, one echo, none", 25.0, "each further echo step, none"),
        ("sandbox", "muster run, one echo, sandbox", 45.0, "each further echo step, sandbox"),
    ];
    for (isolation, first, at_most, further) in kinds {
        let one = measure(folder.path(), isolation, 1)?;
        let many = measure(folder.path(), isolation, 1 + MORE_STEPS)?;
        #[expect(clippy::cast_precision_loss, reason = "a small count")]
        let each = (many - one) / MORE_STEPS as f64;
        figures.push(Figure::new(first, one, "ms", Target::AtMost(at_most)).rival("act 93 ms"));
        figures.push(Figure::new(further, each, "ms", Target::AtMost(2.0)).rival("act 4.8 ms"));
    }
    Ok(figures)
}

fn measure(folder: &Path, isolation: &str, steps: usize) -> anyhow::Result<f64> {
    let workflows = folder.join(".github/workflows");
    std::fs::create_dir_all(&workflows)?;
    let step = "      - run: echo hello\n";
    let text = format!(
        "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n{}",
        step.repeat(steps)
    );
    std::fs::write(workflows.join("ci.yml"), text)?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = clock::monotonic();
        let program = Program::new(binary())
            .args(["run", "--isolation", isolation])
            .dir(folder)
            .env("HOME", folder);
        let output = program.output(LIMIT, 16 << 20)?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        anyhow::ensure!(
            output.status.success(),
            "muster run failed: {}",
            String::from_utf8_lossy(&output.stdout)
        );
    }
    Ok(median(&mut times))
}

pub(crate) fn git(folder: &Path, args: &[&str]) -> anyhow::Result<String> {
    let output = Program::new("git")
        .args(args)
        .dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "Ana")
        .env("GIT_AUTHOR_EMAIL", "ana@example.org")
        .env("GIT_COMMITTER_NAME", "Ana")
        .env("GIT_COMMITTER_EMAIL", "ana@example.org")
        .output(LIMIT, 1 << 20)?;
    anyhow::ensure!(
        output.status.success(),
        "git {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
