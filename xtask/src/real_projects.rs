//! `cargo xtask real-projects`: `muster run` on projects that nobody here wrote.
//!
//! Twenty packages of the crate registry whose published source has `.github/workflows`. What keeps most
//! of them from being green is what is worth building next; the table stands in `docs/conformance.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use muster_sys::process::{ProcessError, Program};
use muster_workflow::workflow::Action;

const PROJECTS: [(&str, &str); 20] = [
    ("anyhow", "1.0.104"),
    ("atoi", "2.0.0"),
    ("byteorder", "1.5.0"),
    ("cfg-if", "1.0.5"),
    ("crc", "3.4.0"),
    ("either", "1.19.0"),
    ("hex", "0.4.3"),
    ("httparse", "1.10.1"),
    ("itertools", "0.10.5"),
    ("log", "0.4.35"),
    ("once_cell", "1.21.4"),
    ("rustc-hash", "2.1.3"),
    ("semver", "1.0.28"),
    ("shlex", "2.0.1"),
    ("similar", "2.7.0"),
    ("spin", "0.9.9"),
    ("unarray", "0.1.4"),
    ("vcpkg", "0.2.15"),
    ("version_check", "0.9.5"),
    ("walkdir", "2.5.0"),
];
/// A project that takes longer is stopped, and is as good as red.
const LIMIT: Duration = Duration::from_secs(300);
/// What programs say when they do not get to a host.
const NO_NETWORK: [&str; 6] = [
    "Could not resolve host",
    "could not download",
    "dns error",
    "error sending request",
    "failed to lookup address",
    "failed to resolve address",
];
const PAGE: &str = "docs/conformance.md";

/// What became of a project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Became {
    Green,
    /// Green but for jobs whose labels nothing here serves.
    GreenHere(String),
    Red(Red),
    Refused(String),
    Nothing(String),
    TooLong,
}

/// Why a project is red.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Red {
    why: String,
    /// The commands of the step that failed, where they are plain.
    script: Option<String>,
}

impl Became {
    fn cell(&self) -> String {
        match self {
            Self::Green => "green".to_owned(),
            Self::GreenHere(labels) => {
                format!("green, but for {labels}, which nothing here serves")
            }
            Self::Red(red) => format!("red: {}", red.why),
            Self::Refused(why) => format!("refused: {why}"),
            Self::Nothing(why) => format!("nothing ran: {why}"),
            Self::TooLong => format!("stopped after {} s", LIMIT.as_secs()),
        }
    }

    /// What would have to be there for it to be green.
    fn blocked_by(&self) -> Option<String> {
        match self {
            Self::Green | Self::GreenHere(_) => None,
            Self::Red(Red { why, .. }) | Self::Refused(why) | Self::Nothing(why) => {
                Some(why.split(" (").next().unwrap_or(why).to_owned())
            }
            Self::TooLong => Some("time".to_owned()),
        }
    }
}

pub(crate) fn run() -> anyhow::Result<()> {
    crate::run("cargo", &["build", "--release", "--locked", "--package", "muster"], &[])?;
    let top = crate::top().canonicalize()?;
    let folder = top.join("target/real-projects");
    let sources = fetch(&folder)?;
    let mut table = String::from("| project | `none` | `sandbox` |\n|---|---|---|\n");
    let mut blocks: BTreeMap<String, usize> = BTreeMap::new();
    let mut green = [0, 0];
    for ((name, version), source) in PROJECTS.iter().zip(sources) {
        let tree = folder.join("trees").join(name);
        prepare(&source, &tree)?;
        let mut cells = Vec::new();
        for (place, isolation) in ["none", "sandbox"].into_iter().enumerate() {
            let became = judge(&top, &tree, isolation)?;
            green[place] += usize::from(became.blocked_by().is_none());
            if isolation == "sandbox" {
                *blocks.entry(became.blocked_by().unwrap_or_default()).or_default() += 1;
            }
            let by_hand = match &became {
                Became::Red(Red { script: Some(script), .. }) => {
                    let by_hand = by_hand(&top, &source, &folder.join("by-hand"), script)?;
                    format!("; by hand: {by_hand}")
                }
                _ => String::new(),
            };
            cells.push((became.cell() + &by_hand).replace('|', "\\|"));
        }
        crate::say(&format!("{name} {version}: {}", cells.join(" · ")));
        writeln!(table, "| {name} {version} | {} |", cells.join(" | "))?;
    }
    blocks.remove("");
    let mut blocks: Vec<_> = blocks.into_iter().collect();
    blocks.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut section = format!(
        "{} of 20 are green without isolation, {} in a sandbox.\n\n{table}\nWhat stands in the way, by \
         how many projects it blocks first:\n\n",
        green[0], green[1]
    );
    for (what, count) in &blocks {
        writeln!(section, "- {count} × {what}")?;
    }
    crate::page::put(PAGE, "real-projects", "cargo xtask real-projects", &section)?;
    crate::say(&format!("{PAGE}: {} and {} of 20 green", green[0], green[1]));
    Ok(())
}

/// Has cargo fetch the packages, and returns where their sources are.
fn fetch(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let scratch = folder.join("fetch");
    fs::create_dir_all(scratch.join("src"))?;
    let mut manifest =
        "[package]\nname = \"fetch\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n".to_owned();
    for (name, version) in PROJECTS {
        writeln!(manifest, "{name} = {{ version = \"={version}\", default-features = false }}")?;
    }
    fs::write(scratch.join("Cargo.toml"), manifest)?;
    fs::write(scratch.join("src/lib.rs"), "")?;
    let output = Program::new("cargo")
        .args(["metadata", "--format-version", "1"])
        .envs(std::env::vars_os())
        .dir(&scratch)
        .output(LIMIT, 64 << 20)?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("cargo lists no packages")?;
    let find = |(name, version): &(&str, &str)| {
        let package = packages.iter().find(|p| p["name"] == **name && p["version"] == **version);
        let manifest = package.and_then(|package| package["manifest_path"].as_str());
        let folder = manifest.and_then(|manifest| Path::new(manifest).parent());
        folder.map(Path::to_owned).with_context(|| format!("cargo did not fetch {name} {version}"))
    };
    PROJECTS.iter().map(find).collect()
}

/// Makes a repository of a package's source, on the branch that its workflows speak of.
fn prepare(source: &Path, tree: &Path) -> anyhow::Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    fs::create_dir_all(tree)?;
    let copied = Program::new("cp")
        .args(["-R", "--no-preserve=mode", "."])
        .arg(tree)
        .dir(source)
        .output(LIMIT, 1 << 20)?;
    anyhow::ensure!(copied.status.success(), "cannot copy {}", source.display());
    // What cargo has put beside the project's own files.
    for name in [".cargo-ok", ".cargo_vcs_info.json"] {
        drop(fs::remove_file(tree.join(name)));
    }
    if tree.join("Cargo.toml.orig").exists() {
        fs::rename(tree.join("Cargo.toml.orig"), tree.join("Cargo.toml"))?;
    }
    let mut workflows = String::new();
    for file in fs::read_dir(tree.join(".github/workflows"))? {
        workflows.push_str(&fs::read_to_string(file?.path()).unwrap_or_default());
    }
    let branch =
        if workflows.contains("main") || !workflows.contains("master") { "main" } else { "master" };
    for args in [
        vec!["init", "--quiet", "--initial-branch", branch, "."],
        vec!["add", "--all", "--force"],
        vec!["commit", "--quiet", "--message", "As published"],
    ] {
        crate::bench::git(tree, &args)?;
    }
    Ok(())
}

fn judge(top: &Path, tree: &Path, isolation: &str) -> anyhow::Result<Became> {
    let muster = top.join("target/release/muster");
    let program = match isolation {
        // What nobody here wrote would change the machine: it sees one that cannot be changed.
        "none" => on_fixed_machine(top, tree)?.arg(muster),
        _ => Program::new(muster).envs(std::env::vars_os()),
    };
    let ran = program.args(["run", "--isolation", isolation]).dir(tree).output(LIMIT, 256 << 20);
    let output = match ran {
        Err(ProcessError::TooLong { .. }) => return Ok(Became::TooLong),
        other => other?,
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&output.stderr);
    Ok(match output.status.code() {
        Some(0) => Became::Green,
        Some(1 | 2) if green_here(&said).is_some() => {
            Became::GreenHere(green_here(&said).unwrap_or_default())
        }
        Some(1) => {
            let (why, step) = why_red(&said);
            let is_its_own = why.starts_with("a step failed");
            let script = step.filter(|_| is_its_own).and_then(|step| script_of(tree, &step));
            Became::Red(Red { why, script })
        }
        _ => why_not(&said),
    })
}

/// Starts a command line on this machine as it is, of which only a work tree can be changed.
fn on_fixed_machine(top: &Path, tree: &Path) -> anyhow::Result<Program> {
    let home = top.join("target/real-projects/home");
    fs::create_dir_all(&home)?;
    Ok(Program::new("bwrap")
        .args(["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"])
        .args(["--unshare-pid", "--die-with-parent", "--bind"])
        .args([&home, &home])
        .arg("--bind")
        .args([tree, tree])
        .envs(std::env::vars_os())
        .env("HOME", &home)
        .env("RUSTUP_HOME", rustup_home())
        .env("CARGO_HOME", home.join(".cargo")))
}

/// Gives a step's commands by hand, in a fresh copy of the project; says what came of that.
fn by_hand(top: &Path, source: &Path, tree: &Path, script: &str) -> anyhow::Result<&'static str> {
    prepare(source, tree)?;
    let shell = on_fixed_machine(top, tree)?.args(["bash", "-e", "-c", script]).dir(tree);
    match shell.output(LIMIT, 256 << 20) {
        Ok(output) if output.status.success() => Ok("green"),
        Ok(_) => Ok("red, too"),
        Err(ProcessError::TooLong { .. }) => Ok("stopped, too"),
        Err(error) => Err(error.into()),
    }
}

/// Finds the commands of a step by its display name, unless they hold expressions.
fn script_of(tree: &Path, step: &str) -> Option<String> {
    let files = fs::read_dir(tree.join(".github/workflows")).ok()?.flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let workflows: Vec<_> = texts.filter_map(|text| muster_workflow::read(&text).ok()).collect();
    let nothing = muster_workflow::expr::Contexts::new();
    let mut steps = workflows.iter().flat_map(|w| &w.jobs).flat_map(|job| &job.steps);
    steps.find_map(|of| match &of.action {
        Action::Run { script, .. } if of.display_name(&nothing) == step => {
            script.text(&nothing).ok().filter(|text| !text.contains("${{"))
        }
        _ => None,
    })
}

fn rustup_home() -> PathBuf {
    let home = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".rustup");
    std::env::var_os("RUSTUP_HOME").map_or_else(home, PathBuf::from)
}

/// Returns the labels that no runner serves, where all other jobs are green.
fn green_here(said: &str) -> Option<String> {
    let conclusions = ["success", "failure", "error", "cancelled", "timed_out", "skipped"];
    let jobs = said.lines().filter_map(|line| {
        let words =
            line.strip_prefix("  ")?.split("  ").map(str::trim).filter(|word| !word.is_empty());
        let words: Vec<&str> = words.collect();
        let conclusion = words.iter().position(|word| conclusions.contains(word))?;
        Some((words[conclusion], words.get(conclusion + 1).copied().unwrap_or_default()))
    });
    let mut labels = Vec::new();
    let mut green = 0;
    for (conclusion, why) in jobs {
        match (conclusion, why.strip_prefix("no runner serves the label ")) {
            ("success", _) => green += 1,
            ("skipped", _) => {}
            (_, Some(label)) => labels.push(label.to_owned()),
            _ => return None,
        }
    }
    labels.sort();
    labels.dedup();
    (green > 0 && !labels.is_empty()).then(|| labels.join(", "))
}

/// Names what the first step that failed had said last, in the words that order the work, and that step.
fn why_red(said: &str) -> (String, Option<String>) {
    let lines: Vec<&str> = said.lines().collect();
    let Some(end) = lines.iter().position(|line| line.contains("│ Error: ")) else {
        let why = said.lines().rfind(|line| line.contains("no runner serves")).map_or_else(
            || "no step failed".to_owned(),
            |line| line.split("  ").last().unwrap_or_default().to_owned(),
        );
        return (why, None);
    };
    let step = lines.iter().skip(end).find_map(|line| line.split_once("✗ "));
    let step = step.map_or("", |(_, name)| name.split(" [").next().unwrap_or(name));
    let prefix = lines[end].split("│").next().unwrap_or_default();
    let before: Vec<&str> =
        lines[..end].iter().copied().filter(|l| l.starts_with(prefix)).collect();
    let words = before.join("\n");
    let has = |needle: &str| words.contains(needle);
    let tools = has("rustup") || has("/opt/muster/tools/");
    let why = if has("Read-only file system") && tools {
        "rustup wants to change its toolchains"
    } else if NO_NETWORK.iter().any(|sign| has(sign)) {
        "wanted network"
    } else if let Some(line) = before.iter().rfind(|line| line.contains("command not found")) {
        return (format!("missing tool: {}", line.rsplit(": ").nth(1).unwrap_or(line)), None);
    } else {
        "a step failed"
    };
    // Without how long it took.
    let step = step.rsplitn(3, ' ').last().unwrap_or(step);
    let short: String = step.chars().take(60).collect();
    (format!("{why} ({short})"), Some(step.to_owned()))
}

/// Names what was refused, or why nothing ran.
fn why_not(said: &str) -> Became {
    match said.lines().find_map(|line| line.strip_prefix("error: ")) {
        Some(error) => {
            // The version of an action is of no interest.
            let error = match error.split_once('@') {
                Some((before, after)) => {
                    let rest = after.split_once('`').map_or("", |(_, rest)| rest);
                    format!("{before}`{rest}")
                }
                None => error.to_owned(),
            };
            Became::Refused(error)
        }
        None => {
            let line =
                said.lines().rfind(|line| line.contains("no runner") || line.contains("not run"));
            let line = line.map_or("", |line| line.split(": ").last().unwrap_or(line));
            Became::Nothing(line.trim().rsplit("  ").next().unwrap_or_default().to_owned())
        }
    }
}
