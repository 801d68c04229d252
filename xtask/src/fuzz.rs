//! `cargo xtask fuzz`: what strangers write, changed at random, against what reads it.
//!
//! Each target has a folder of inputs in `corpus`, which are changed by a seeded generator. What makes a target
//! panic, or breaks what always holds for it, is made smaller and stored there; so it is tried ever after.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fastrand::Rng;
use muster_core::change::GitRef;
use muster_core::id::Sha;
use muster_forge::github::{Payload, Signature, decode, sign, verify};
use muster_runner::spool::Record;
use muster_sys::clock;
use muster_workflow::diagnostic::Span;
use muster_workflow::expr::{Contexts, Scope, parse};
use muster_workflow::pattern::Patterns;
use muster_workflow::trigger::{ChangedFiles, Event, Target as Ref, judge};
use muster_workflow::workflow::Workflow;
use muster_workflow::{Called, Found, check, conformance, lint, plan, preview, read};

/// What is read, by what, and what its texts are made of.
struct Target {
    name: &'static str,
    try_it: fn(&[u8]),
    /// The suites of which every file is an input.
    suites: &'static [&'static str],
    words: &'static [&'static str],
}

const TARGETS: [Target; 7] = [
    Target {
        name: "workflow",
        try_it: workflow,
        suites: &["real", "lint", "schemastore"],
        words: &[
            "on:",
            " push",
            "jobs:",
            "  a:\n",
            "    needs: ",
            "    runs-on: x\n",
            "    steps:\n",
            "      - run: ",
            "strategy:",
            "matrix:",
            "include:",
            "exclude:",
            "fail-fast:",
            "${{ ",
            " }}",
            "if: ",
            "[",
            "]",
            "{",
            "}",
            "&a ",
            "*a",
            "<<: ",
            "|\n",
            ">-\n",
            "? ",
            "- ",
            "!!str ",
            "---\n",
            "\t",
            "\u{feff}",
            "9223372036854775808",
            "1e999",
            ".inf",
            "~",
            "'",
            "\"",
            "#",
        ],
    },
    Target {
        name: "expression",
        try_it: expression,
        suites: &[],
        words: &[
            "github",
            "matrix",
            "needs",
            "env",
            ".",
            "*",
            "[",
            "]",
            "(",
            ")",
            ",",
            "!",
            "==",
            "!=",
            "<",
            ">=",
            "&&",
            "||",
            "'",
            "''",
            "null",
            "true",
            "NaN",
            "Infinity",
            "-0",
            "0xFFFFFFFFF",
            "1e309",
            "contains",
            "startsWith",
            "format",
            "join",
            "toJSON",
            "fromJSON",
            "hashFiles",
            "success()",
            "always()",
            "'{0}{{}}{1'",
            "{",
            "}",
        ],
    },
    Target {
        name: "filter",
        try_it: filter,
        suites: &[],
        words: &[
            "*", "**", "**/", "?", "+", "[", "]", "[a-z]", "!", "\\", "/", "\n", "é", "{", "}", ".",
        ],
    },
    Target {
        name: "case",
        try_it: case,
        suites: &["reader"],
        words: &[
            "---\n",
            "include-source: true\n",
            "max-depth: 3\n",
            "uses: ./b.yml\n",
            "secrets: inherit\n",
            "permissions: write-all\n",
            "on: workflow_call\n",
            "inputs:",
            "type: number",
            "${{ insert }}: ",
            "    ",
        ],
    },
    Target {
        name: "webhook",
        try_it: webhook,
        suites: &[],
        words: &[
            "payload=",
            "%7B",
            "%",
            "%zz",
            "+",
            "&",
            "{",
            "}",
            "[",
            "]",
            "\"",
            ":",
            ",",
            "null",
            "true",
            "\\ud83d",
            "\\u0000",
            "1e999",
            "-1",
            "18446744073709551616",
            "\"ref\":",
            "\"repository\":",
            "\"sender\":",
            "\"head_commit\":",
            "\"action\":",
            "\"pull_request\":",
        ],
    },
    Target {
        name: "spool",
        try_it: spool,
        suites: &[],
        words: &[
            "o ",
            "p ",
            "e ",
            "r ",
            " 0 ",
            " 18446744073709551616 ",
            "-1",
            "\n",
            "{",
            "}",
            "\"event\":",
        ],
    },
    Target {
        name: "ref",
        try_it: git_ref,
        suites: &[],
        words: &[
            "refs/heads/",
            "refs/tags/",
            "refs/",
            "/",
            "..",
            "@{",
            ".lock",
            "~",
            "^",
            ":",
            "-",
            "\u{7f}",
        ],
    },
];

/// So many changes are made to an input at most.
const MOST_CHANGES: usize = 6;
/// No input grows longer, in bytes.
const LONGEST: usize = 16 << 10;
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
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let cases = if arguments.all { ALL } else { arguments.cases };
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
    }
    Ok(())
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

fn workflow(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let told = lint(text, &());
    assert_eq!(check(text).is_empty(), read(text).is_ok(), "it is right and wrong");
    assert!(told.len() >= check(text).len().min(1), "lint says less than check");
    match read(text) {
        Ok(workflow) => {
            drop(plan(&workflow, &Contexts::new()));
            drop(preview(&workflow, &Contexts::new(), &Itself(Rc::new(workflow.clone()))));
            for name in ["push", "pull_request"] {
                let (action, target) = (Some("opened".to_owned()), Ref::Branch("main".to_owned()));
                let changed = ChangedFiles::Known(vec!["src/a.rs".to_owned()]);
                let name = name.to_owned();
                let event = Event { name, action, target, changed, follows: None, cron: None };
                drop(judge(&workflow, &event));
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "it is refused without a reason");
            for problem in problems {
                let (line, _) = problem.span.line_and_column(text);
                assert!(line <= text.lines().count() + 1, "a problem beyond the end");
            }
        }
    }
}

/// All that it calls is the workflow itself.
struct Itself(Rc<Workflow>);

impl Called for Itself {
    fn find(&self, _: &str) -> Found {
        Found::Workflow(Rc::clone(&self.0))
    }
}

fn filter(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let given = text.lines().map(|line| (line, Span::default()));
    let patterns = Patterns::read(given, &mut Vec::new());
    for input in ["main", "releases/10", "docs/a/b.md", "é", ""] {
        let _ = patterns.select(input);
    }
}

fn case(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    drop(conformance::reader("case.yml", text));
}

fn expression(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let names = ["github", "matrix", "needs", "env"];
    if let Ok(expr) = parse(text, Scope { contexts: &names, ..Scope::GITHUB }) {
        drop(expr.evaluate(&Contexts::new()));
    }
}

fn webhook(input: &[u8]) {
    let secrets = ["secret".to_owned()];
    let signature = sign(&secrets[0], input);
    let judged = verify(&secrets, Some(&signature), input);
    assert_eq!(judged, Signature::Right, "its own signature is not right");
    let mut other = input.to_vec();
    other.push(b' ');
    let judged = verify(&secrets, Some(&signature), &other);
    assert_eq!(judged, Signature::Wrong, "another body has its signature");
    for kind in ["application/json", "application/x-www-form-urlencoded"] {
        let Ok(payload) = Payload::find(kind, input) else { continue };
        assert!(payload.value().is_ok(), "what was looked through cannot be read");
        for event in ["ping", "push", "pull_request", "issues"] {
            drop(decode(event, &payload));
        }
    }
}

fn spool(input: &[u8]) {
    for line in input.split(|byte| *byte == b'\n') {
        if let Some(Record::Output { text, .. }) = Record::parse(line) {
            assert!(line.ends_with(text), "a record has other bytes than its line");
        }
    }
}

fn git_ref(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(parsed) = GitRef::parse(text) {
        assert_eq!(parsed.full(), text, "a ref is read as another");
    }
    if let Ok(sha) = Sha::parse(text) {
        assert_eq!(sha.as_str(), text, "a commit is read as another");
    }
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
                "workflow" | "filter" => 10_000,
                _ => 100_000,
            };
            if let Err(error) = fuzz(target, cases, 1) {
                panic!("{error:#}");
            }
        }
    }

    #[test]
    fn what_is_found_is_made_smaller() {
        let panics = |input: &[u8]| assert!(!input.contains(&b'!'), "found");
        let target = Target { name: "none", try_it: panics, suites: &[], words: &[] };
        assert_eq!(stands(&target, b"a!").unwrap_err(), "found");
        assert_eq!(smaller(&target, b"many more bytes! than needed".to_vec()), b"!");
    }
}
