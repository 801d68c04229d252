//! A job beside one that uses up what it can.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Child;
use std::thread::JoinHandle;
use std::time::Duration;

use muster_sys::clock;
use muster_sys::process::Program;

use super::run::git;
use super::{Figure, Target, median};

const TIMES: usize = 7;
const LIMIT: Duration = Duration::from_secs(120);

/// What a job does that uses up what it can, after it has said that it begins.
const HOGS: [(&str, &str); 4] = [
    (
        "beside 200 busy processes",
        "for i in $(seq 200); do (while :; do :; done) & done; echo begun; wait",
    ),
    (
        "beside one that wants all memory",
        "echo begun; while :; do python3 -c 'held = [bytearray(1 << 20) for _ in range(900)]'; done",
    ),
    (
        "beside one that fills the disk",
        "echo begun; while :; do head -c 268435456 /dev/zero > big; rm big; done",
    ),
    ("beside a flood of output", "echo begun; yes flood"),
];

/// Some work of one process: computing, starting programs, writing files.
const WORK: &str = "for i in $(seq 300000); do :; done
          for i in $(seq 200); do /bin/true; echo $i > file$i; done";

pub(super) fn figures(muster: &Path) -> anyhow::Result<Vec<Figure>> {
    let (work, hog) = (tempfile::tempdir()?, tempfile::tempdir()?);
    workflow(work.path(), WORK)?;
    let alone = time(muster, work.path())?;
    let mut figures =
        vec![Figure::new("a job in a sandbox, alone", alone, "ms", Target::OfTheMachine)];
    for (name, script) in HOGS {
        workflow(hog.path(), script)?;
        // A machine that is shared is faster at one time than at another.
        let alone = time(muster, work.path())?;
        let hog = Hog::begin(muster, hog.path())?;
        let beside = time(muster, work.path())?;
        drop(hog);
        let slower = (beside / alone - 1.0) * 100.0;
        figures.push(Figure::new(name, slower, "% more", Target::AtMost(20.0)));
    }
    Ok(figures)
}

fn workflow(folder: &Path, script: &str) -> anyhow::Result<()> {
    let workflows = folder.join(".github/workflows");
    std::fs::create_dir_all(&workflows)?;
    let text = format!(
        "on: push\njobs:\n  a:\n    runs-on: linux\n    steps:\n      - run: |\n          {script}\n"
    );
    std::fs::write(workflows.join("ci.yml"), text)?;
    git(folder, &["init", "--quiet", "."])?;
    Ok(())
}

fn muster_run(muster: &Path, folder: &Path) -> Program {
    Program::new(muster)
        .args(["run", "--isolation", "sandbox"])
        .dir(folder)
        .env("HOME", folder)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
}

fn time(muster: &Path, folder: &Path) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    for _ in 0..TIMES {
        let start = clock::monotonic();
        let output = muster_run(muster, folder).output(LIMIT, 16 << 20)?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        let said = String::from_utf8_lossy(&output.stdout);
        anyhow::ensure!(output.status.success(), "it failed: {said}");
    }
    Ok(median(&mut times))
}

/// A job that uses up what it can. Dropping it ends it.
struct Hog {
    child: Child,
    reader: Option<JoinHandle<()>>,
}

impl Hog {
    /// Starts it, and waits until it uses up what it can.
    fn begin(muster: &Path, folder: &Path) -> anyhow::Result<Self> {
        let talk = muster_run(muster, folder).converse()?;
        let mut output = BufReader::new(talk.output);
        let mut hog = Self { child: talk.child, reader: None };
        let mut line = String::new();
        while !line.trim_end().ends_with("begun") {
            line.clear();
            anyhow::ensure!(output.read_line(&mut line)? > 0, "it ended before it began");
        }
        // What it says from here on has to go somewhere.
        let read = move || drop(std::io::copy(&mut output, &mut std::io::sink()));
        hog.reader = Some(std::thread::spawn(read));
        Ok(hog)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // As a person ends it: so it ends its job.
        drop(Program::new("kill").arg(self.child.id().to_string()).output(LIMIT, 1 << 10));
        drop(self.child.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}
