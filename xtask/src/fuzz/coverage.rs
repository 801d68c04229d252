//! How many lines of the language the fuzzing reaches, counted by the compiler's own instruments.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use muster_sys::process::Program;
use serde_json::Value as Json;

use super::targets::TARGETS;

/// The least share of lines that is reached, in percent.
const BAR: f64 = 90.0;

/// What is counted.
const COUNTED: &str = "crates/muster-workflow/src/";

/// One of LLVM's programs may take so long, and write so much.
const LONGEST: Duration = Duration::from_secs(120);
const MOST_BYTES: usize = 8 << 20;

/// Builds this program with instruments, runs it, and reads what they say.
pub(super) fn run(cases: u64, seed: u64) -> anyhow::Result<()> {
    let folder = crate::top().join("target/coverage");
    let raw = folder.join("raw");
    if raw.exists() {
        std::fs::remove_dir_all(&raw)?;
    }
    let [merge, export] = [tool("llvm-profdata")?, tool("llvm-cov")?];
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let build = ["build", "--quiet", "--package", "xtask"];
    let target = text(&folder);
    let instruments =
        [("RUSTFLAGS", "-Cinstrument-coverage"), ("CARGO_TARGET_DIR", target.as_str())];
    crate::run("cargo", &build, &instruments)?;
    let program = text(&folder.join("debug/xtask"));
    let into = text(&raw.join("%p.profraw"));
    let (cases, seed) = (cases.to_string(), seed.to_string());
    for target in TARGETS.iter().filter(|target| target.is_language) {
        let arguments = ["fuzz", target.name, "--cases", &cases, "--seed", &seed];
        crate::run(&program, &arguments, &[("LLVM_PROFILE_FILE", &into)])?;
    }
    let merged = text(&folder.join("merged"));
    crate::run(&text(&merge), &["merge", "-sparse", "-o", &merged, &text(&raw)], &[])?;
    let output = Program::new(export)
        .args(["export", "-summary-only", &program, "-instr-profile", &merged, COUNTED])
        .dir(crate::top())
        .output(LONGEST, MOST_BYTES)
        .context("cannot read what the instruments say")?;
    report(&serde_json::from_slice(&output.stdout)?).context("the instruments say nothing")?
}

/// Prints the lines of each file and of all; `None` where `export` is not what `llvm-cov export` writes.
fn report(export: &Json) -> Option<anyhow::Result<()>> {
    let data = export.pointer("/data/0")?;
    let lines = |of: &Json| {
        let number = |name: &str| of.pointer("/lines")?.get(name)?.as_f64();
        Some((number("count")?, number("covered")?, number("percent")?))
    };
    for file in data.get("files")?.as_array()? {
        let (count, covered, percent) = lines(file.get("summary")?)?;
        let name = file.get("filename")?.as_str()?;
        let name = name.rsplit_once(COUNTED).map_or(name, |(_, name)| name);
        crate::say(&format!("{percent:6.2} %  {covered:4} of {count:4}  {name}"));
    }
    let (count, covered, percent) = lines(data.get("totals")?)?;
    crate::say(&format!("coverage: {covered} of {count} lines, {percent:.2} % (>= {BAR} %)"));
    Some(if percent < BAR {
        Err(anyhow::anyhow!("the fuzzing reaches fewer than {BAR} % of the lines"))
    } else {
        Ok(())
    })
}

/// Finds one of LLVM's programs: beside the compiler, or of the same version in `PATH`.
fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let said = |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Program::new("rustc")
            .args(arguments)
            .envs(std::env::vars_os())
            .output(LONGEST, MOST_BYTES)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let version = said(&["--version", "--verbose"])?;
    let value = |key: &str| version.lines().find_map(|line| line.strip_prefix(key));
    let host = value("host: ").context("rustc does not say its host")?;
    let major = value("LLVM version: ").and_then(|version| version.split('.').next());
    let major = major.context("rustc does not say its version of LLVM")?;
    let sysroot = said(&["--print", "sysroot"])?;
    let beside = Path::new(sysroot.trim()).join("lib/rustlib").join(host).join("bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = format!("{name}-{major}");
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(&named));
    match [beside].into_iter().chain(&mut places).find(|place| place.is_file()) {
        Some(tool) => Ok(tool),
        None => bail!(
            "`{named}` is not here; `rustup component add llvm-tools` brings it, or Debian's package llvm-{major}"
        ),
    }
}
