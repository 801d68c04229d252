//! `cargo xtask fuzz`: what strangers write, changed at random, against what reads it.
//!
//! Each target has a folder of inputs in `corpus`, which are changed by a seeded generator. What makes a target
//! panic, or breaks what always holds for it, is made smaller and stored there; so it is tried ever after.

mod coverage;
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fastrand::Rng;
use muster_sys::clock;

use self::targets::{TARGETS, Target};

/// So many changes are made to an input at most.
const MOST_CHANGES: usize = 6;
/// No input grows longer, in bytes.
const LONGEST: usize = 16 << 10;
/// No input may take longer.
const LONGEST_TIME: Duration = Duration::from_secs(1);
/// Nor take the process beyond so much memory, with all that it holds besides.
const MOST_MIB: u64 = 64;
/// The count that is asked of a release.
const ALL: u64 = 10_000_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only this target.
    target: Option<String>,
    /// How many inputs each target gets.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    cases: u64,
    /// Ten million inputs for each target.
    #[arg(long, conflicts_with = "cases")]
    all: bool,
    /// The seed of the generator.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// Say how many lines of the language are reached, and fail below 90 % of them.
    #[arg(long, conflicts_with_all = ["target", "all"])]
    coverage: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let cases = if arguments.all { ALL } else { arguments.cases };
    if arguments.coverage {
        return coverage::run(cases, arguments.seed);
    }
    let wanted =
        |target: &&Target| arguments.target.as_deref().is_none_or(|name| name == target.name);
    let targets: Vec<&Target> = TARGETS.iter().filter(wanted).collect();
    if targets.is_empty() {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        bail!("there is no such target; there are {}", names.join(", "));
    }
    for target in targets {
        let start = clock::monotonic();
        let Tried { count, slowest } = fuzz(target, cases, arguments.seed)?;
        crate::say(&format!(
            "{}: {count} inputs in {:.0} s, the slowest took {} ms",
            target.name,
            start.elapsed().as_secs_f64(),
            slowest.as_millis()
        ));
        if slowest > LONGEST_TIME {
            bail!("{}: an input took longer than {} s", target.name, LONGEST_TIME.as_secs());
        }
    }
    let peak = peak_mib()?;
    crate::say(&format!("at most {peak} MiB of memory were used, all inputs included"));
    if peak > MOST_MIB {
        bail!("that is more than {MOST_MIB} MiB");
    }
    Ok(())
}

/// Returns the most memory that this process has had, in MiB.
fn peak_mib() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmHWM")?;
    Ok(kib.trim().parse::<u64>()? >> 10)
}

/// What was tried.
struct Tried {
    count: u64,
    /// How long the slowest took.
    slowest: Duration,
}

/// Tries a target on its corpus as it is, and then on so many changed inputs.
fn fuzz(target: &Target, cases: u64, seed: u64) -> anyhow::Result<Tried> {
    let corpus = corpus(target)?;
    let mut rng = Rng::with_seed(seed);
    let mut slowest = Duration::ZERO;
    let kept = corpus.len() as u64;
    for case in 0..kept + cases {
        let input = match usize::try_from(case).ok().and_then(|place| corpus.get(place)) {
            Some(input) => input.clone(),
            None => changed(&mut rng, &corpus, target.words),
        };
        let start = clock::monotonic();
        if let Err(why) = stands(target, &input) {
            let smallest = smaller(target, input);
            let file = keep(target, &smallest)?;
            bail!("{}: {why}; `{}` does it again", target.name, file.display());
        }
        slowest = slowest.max(start.elapsed());
    }
    Ok(Tried { count: kept + cases, slowest })
}

fn folder(target: &Target) -> PathBuf {
    crate::top().join("xtask/corpus").join(target.name)
}

fn corpus(target: &Target) -> anyhow::Result<Vec<Vec<u8>>> {
    let folder = folder(target);
    let entries = fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    // The suites of others lie beside the project.
    for suite in target.suites {
        let folder = crate::top().join("../shared/suites").join(suite);
        if folder.is_dir() {
            files.extend(crate::suites::files(&folder, &["yml", "yaml"])?);
        }
    }
    // The same seed is the same run on every machine.
    files.sort();
    files.iter().map(|file| Ok(fs::read(file)?)).collect()
}

/// Makes an input out of those that there are.
fn changed(rng: &mut Rng, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = pick(rng, corpus).cloned().unwrap_or_default();
    for _ in 0..rng.usize(1..=MOST_CHANGES) {
        let from = rng.usize(0..=input.len());
        let to = (from + rng.usize(0..=32)).min(input.len());
        match rng.u8(0..7) {
            0 if from < input.len() => input[from] ^= 1 << rng.u8(0..8),
            1 => input.insert(from, rng.u8(..)),
            2 => drop(input.drain(from..to)),
            3 => {
                let part = input[from..to].to_vec();
                let times = rng.usize(1..=8);
                input.splice(to..to, part.repeat(times));
            }
            4 => {
                let other = pick(rng, corpus).cloned().unwrap_or_default();
                let start = rng.usize(0..=other.len());
                input.truncate(from);
                input.extend_from_slice(&other[start..]);
            }
            _ => {
                let word = pick(rng, words).copied().unwrap_or_default();
                input.splice(from..if rng.bool() { from } else { to }, word.bytes());
            }
        }
    }
    input.truncate(LONGEST);
    input
}

/// Returns one of several; `None` where there are none.
pub(crate) fn pick<'a, T>(rng: &mut Rng, all: &'a [T]) -> Option<&'a T> {
    if all.is_empty() { None } else { all.get(rng.usize(0..all.len())) }
}

/// Tries an input; returns what a panic said.
fn stands(target: &Target, input: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| (target.try_it)(input))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "it panics".to_owned())
    })
}

/// Takes parts out of an input as long as it still makes its target panic.
fn smaller(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let mut size = input.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < input.len() {
            let mut shorter = input.clone();
            shorter.drain(at..(at + size).min(input.len()));
            if stands(target, &shorter).is_err() {
                input = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    input
}

/// Stores an input among those that are tried ever after.
fn keep(target: &Target, input: &[u8]) -> anyhow::Result<PathBuf> {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in input {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let file = folder(target).join(format!("found-{hash:016x}"));
    fs::write(&file, input)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slice of it with each test run: all that was ever found, and some that is new.
    #[test]
    fn every_target_stands() {
        for target in &TARGETS {
            // A workflow takes a hundred times as long as a name.
            // Larger ones take longer each.
            let cases = match target.name {
                "workflow" | "filter" | "event" => 10_000,
                _ => 100_000,
            };
            if let Err(error) = fuzz(target, cases, 1) {
                panic!("{error:#}");
            }
        }
    }

    #[test]
    fn memory_is_measured() {
        assert!((1..100_000).contains(&peak_mib().unwrap()));
    }

    #[test]
    fn what_is_found_is_made_smaller() {
        let panics = |input: &[u8]| assert!(!input.contains(&b'!'), "found");
        let target =
            Target { name: "none", try_it: panics, suites: &[], is_language: false, words: &[] };
        assert_eq!(stands(&target, b"a!").unwrap_err(), "found");
        assert_eq!(smaller(&target, b"many more bytes! than needed".to_vec()), b"!");
    }
}
