//! Faults that are planted in the real files, one each: every one must be found on its line.

use std::path::Path;

use fastrand::Rng;
use muster_workflow::check;

use super::{Measured, files, read, short};
use crate::fuzz::pick;

/// So many files are made.
const CASES: usize = 1_000;

/// Where a fault can be planted: the parts of a file, as far as they stand in block style.
struct Parts<'a> {
    lines: Vec<&'a str>,
    /// The lines of `on`, where that is a mapping: its events.
    events: Vec<usize>,
    jobs: Vec<Job>,
}

struct Job {
    /// The line of its id.
    at: usize,
    /// The lines of its keys, all of one indentation.
    keys: Vec<usize>,
    steps: Vec<Step>,
}

struct Step {
    /// The line of its `-`.
    at: usize,
    /// The lines of its keys, the first beside the `-`.
    keys: Vec<usize>,
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn is_code(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#')
}

/// Returns the lines below `from` that stand directly within it, as long as all are further in.
fn children(lines: &[&str], from: usize, outer: usize) -> Vec<usize> {
    let below = (from + 1..lines.len())
        .filter(|at| is_code(lines[*at]))
        .take_while(|at| indent(lines[*at]) > outer);
    let below: Vec<usize> = below.collect();
    let Some(inner) = below.first().map(|at| indent(lines[*at])) else { return Vec::new() };
    below.into_iter().filter(|at| indent(lines[*at]) == inner).collect()
}

impl<'a> Parts<'a> {
    fn of(source: &'a str) -> Self {
        let lines: Vec<&str> = source.lines().collect();
        let top = |key: &str| {
            lines
                .iter()
                .position(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim() == ":"))
        };
        let events = top("on").map_or(Vec::new(), |at| children(&lines, at, 0));
        let mut jobs = Vec::new();
        for at in top("jobs").map_or(Vec::new(), |at| children(&lines, at, 0)) {
            let keys = children(&lines, at, indent(lines[at]));
            let steps = keys.iter().find(|key| lines[**key].trim() == "steps:");
            let steps = steps.map_or(Vec::new(), |steps| Self::steps(&lines, *steps));
            // A job in flow style has none.
            if !keys.is_empty() {
                jobs.push(Job { at, keys, steps });
            }
        }
        Self { lines, events, jobs }
    }

    fn steps(lines: &[&str], from: usize) -> Vec<Step> {
        let outer = indent(lines[from]);
        let starts: Vec<usize> = (from + 1..lines.len())
            .filter(|at| is_code(lines[*at]))
            .take_while(|at| {
                let inner = indent(lines[*at]);
                inner > outer || (inner == outer && lines[*at].trim_start().starts_with("- "))
            })
            .collect();
        let Some(dash) = starts.first().map(|at| indent(lines[*at])) else { return Vec::new() };
        let is_start =
            |at: &usize| indent(lines[*at]) == dash && lines[*at].trim_start().starts_with("- ");
        let mut steps: Vec<Step> = Vec::new();
        for at in starts {
            if is_start(&at) {
                steps.push(Step { at, keys: vec![at] });
            } else if indent(lines[at]) == dash + 2
                && let Some(step) = steps.last_mut()
            {
                step.keys.push(at);
            }
        }
        steps
    }

    fn has(&self, keys: &[usize], name: &str) -> bool {
        keys.iter().any(|key| self.key(*key) == name)
    }

    fn key(&self, at: usize) -> &str {
        let line = self.lines[at].trim_start().trim_start_matches("- ");
        line.split(':').next().unwrap_or_default()
    }
}

/// A file with a fault in it.
struct Planted {
    source: String,
    /// The line of the fault, from 1.
    line: usize,
}

/// What can be planted.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// A line beside the keys of the workflow.
    Workflow(&'static str),
    /// Lines beside the keys of a job that has no such key yet; the fault is on the last of them.
    Job(&'static str, &'static [&'static str]),
    /// A line beside the keys of a step that has the first key and not the second.
    Step(&'static str, &'static str, &'static str),
    /// Another text for a `run` of one line.
    Run(&'static str),
    /// Another text for a key, wherever it stands.
    Value(&'static str, &'static str),
    /// Another name for a key of a job.
    Rename(&'static str, &'static str),
    /// Another event.
    Event(&'static str),
    /// A step of its own.
    Alone(&'static str),
    /// A job of its own, at the end.
    Extra(&'static str),
    /// A key of a job twice.
    Twice,
    /// A job that needs itself.
    Itself,
    /// A job that has no runner.
    Homeless,
    /// A job twice.
    JobTwice,
}

const FAULTS: &[Fault] = &[
    Fault::Workflow("unknwon: 1"),
    Fault::Workflow("run-name: ${{ hashFiles('a') }}"),
    Fault::Workflow("description: ${{ github.ref"),
    Fault::Job("timeout-minutes", &["timeout-minutes: soon"]),
    Fault::Job("continue-on-error", &["continue-on-error: maybe"]),
    Fault::Job("needs", &["needs: [nowhere-at-all]"]),
    Fault::Job("if", &["if: secrets.TOKEN != ''"]),
    Fault::Job("if", &["if: github.ref == \"main\""]),
    Fault::Job("if", &["if: github.ref =="]),
    Fault::Job("name", &["name: ${{ steps.a.outputs.b }}"]),
    Fault::Job("permissions", &["permissions:", "  contents: admin"]),
    Fault::Job("permissions", &["permissions:", "  content: read"]),
    Fault::Job("permissions", &["permissions: all"]),
    Fault::Job("strategy", &["strategy:", "  matrix:", "    x: []"]),
    Fault::Job("strategy", &["strategy:", "  fail-fast: maybe"]),
    Fault::Job("strategy", &["strategy:", "  max-paralel: 1"]),
    Fault::Job("concurrency", &["concurrency:", "  group: a", "  cancel_in_progress: true"]),
    Fault::Job("environment", &["environment:", "  nmae: production"]),
    Fault::Job("container", &["container:", "  image:"]),
    Fault::Job("env", &["env:", "  A: [1, 2]"]),
    Fault::Job("outputs", &["outputs: none"]),
    Fault::Job("env", &["env: *nowhere"]),
    Fault::Job("stepz", &["stepz: []"]),
    Fault::Job("defaults", &["defaults:", "  run:", "    shel: bash"]),
    Fault::Step("run", "commnd", "commnd: a"),
    Fault::Step("run", "with", "with: {a: b}"),
    Fault::Step("uses", "shell", "shell: bash"),
    Fault::Step("uses", "run", "run: make"),
    Fault::Step("run", "id", "id: 1st"),
    Fault::Step("run", "id", "id: __own"),
    Fault::Step("run", "timeout-minutes", "timeout-minutes: long"),
    Fault::Step("run", "env", "env: nothing"),
    Fault::Step("run", "if", "if: runner.os = 'Linux'"),
    Fault::Step("run", "if", "if: unknown()"),
    Fault::Run("echo ${{ github.ref"),
    Fault::Run("echo ${{ }}"),
    Fault::Run("echo ${{ upper(github.ref) }}"),
    Fault::Run("echo ${{ contains('a') }}"),
    Fault::Run("echo ${{ github.ref == }}"),
    Fault::Run("echo ${{ gihub.ref }}"),
    Fault::Run("echo ${{ success() }}"),
    Fault::Run("{a: b}"),
    Fault::Value("uses", "checkout"),
    Fault::Value("cron", "'61 * * * *'"),
    Fault::Value("types", "[opend]"),
    Fault::Rename("runs-on", "run-on"),
    Fault::Rename("steps", "step"),
    Fault::Event("pull_requests"),
    Fault::Alone("- name: nothing to do"),
    Fault::Alone("- text"),
    Fault::Alone("\t- run: a"),
    Fault::Extra("1st"),
    Fault::Extra("__own"),
    Fault::Twice,
    Fault::Itself,
    Fault::Homeless,
    Fault::JobTwice,
];

/// Plants a fault; `None` where the file has no place for it.
fn plant(source: &str, fault: Fault, random: &mut Rng) -> Option<Planted> {
    let parts = Parts::of(source);
    let mut lines: Vec<String> = parts.lines.iter().map(|line| (*line).to_owned()).collect();
    let inside = |at: usize| " ".repeat(indent(parts.lines[at]));
    let jobs: Vec<&Job> = parts.jobs.iter().filter(|job| parts.has(&job.keys, "runs-on")).collect();
    let at = match fault {
        Fault::Workflow(line) => {
            let key = line.split(':').next().unwrap_or_default();
            if parts.lines.iter().any(|line| line.starts_with(&format!("{key}:"))) {
                return None;
            }
            lines.push(line.to_owned());
            lines.len() - 1
        }
        Fault::Job(key, new) => {
            let fit: Vec<&&Job> = jobs.iter().filter(|job| !parts.has(&job.keys, key)).collect();
            let before = pick(random, &fit)?.keys[0];
            let pad = inside(before);
            for (place, line) in new.iter().enumerate() {
                lines.insert(before + place, format!("{pad}{line}"));
            }
            before + new.len() - 1
        }
        Fault::Step(has, lacks, new) => {
            let steps = parts.jobs.iter().flat_map(|job| &job.steps);
            let fit =
                steps.filter(|step| parts.has(&step.keys, has) && !parts.has(&step.keys, lacks));
            let fit: Vec<&Step> = fit.collect();
            let step = pick(random, &fit)?;
            // The new key comes first, and takes the dash.
            let dash = inside(step.at);
            let rest =
                parts.lines[step.at].trim_start().trim_start_matches("- ").trim_start().to_owned();
            lines[step.at] = format!("{dash}  {rest}");
            lines.insert(step.at, format!("{dash}- {new}"));
            step.at
        }
        Fault::Run(text) => {
            let is_one_line = |at: &&usize| {
                parts.key(**at) == "run"
                    && parts.lines[**at].split_once(": ").is_some_and(|(_, run)| {
                        !run.trim().is_empty()
                            && !run.trim_start().starts_with(['|', '>', '\'', '"'])
                    })
            };
            let keys = parts.jobs.iter().flat_map(|job| &job.steps).flat_map(|step| &step.keys);
            let fit: Vec<&usize> = keys.filter(is_one_line).collect();
            let at = **pick(random, &fit)?;
            let (key, _) = parts.lines[at].split_once(": ")?;
            lines[at] = format!("{key}: {text}");
            at
        }
        Fault::Value(key, text) => {
            let has_value = |at: &usize| {
                let line = parts.lines[*at].trim_start().trim_start_matches("- ");
                line.strip_prefix(key)
                    .is_some_and(|rest| rest.starts_with(": ") && rest.trim().len() > 1)
            };
            let is_in_step = |at: &usize| {
                parts.jobs.iter().flat_map(|job| &job.steps).any(|step| step.keys.contains(at))
            };
            let fit: Vec<usize> = (0..lines.len())
                .filter(|at| is_code(parts.lines[*at]) && has_value(at))
                .filter(|at| key != "uses" || is_in_step(at))
                // An event of the file's own may have any activity.
                .filter(|at| key != "types" || parts.lines[*at].contains("opened"))
                .collect();
            let at = *pick(random, &fit)?;
            let (before, _) = parts.lines[at].split_once(": ")?;
            lines[at] = format!("{before}: {text}");
            at
        }
        Fault::Rename(key, name) => {
            let keys: Vec<usize> = parts
                .jobs
                .iter()
                .flat_map(|job| job.keys.iter().copied())
                .filter(|at| parts.key(*at) == key)
                .collect();
            let at = *pick(random, &keys)?;
            lines[at] = parts.lines[at].replacen(key, name, 1);
            at
        }
        Fault::Event(name) => {
            let plain =
                parts.events.iter().filter(|at| parts.lines[**at].trim_end().ends_with(':'));
            let plain: Vec<&usize> = plain.collect();
            let at = **pick(random, &plain)?;
            lines[at] = format!("{}{name}:", inside(at));
            at
        }
        Fault::Alone(step) => {
            let steps: Vec<&Step> = parts.jobs.iter().flat_map(|job| &job.steps).collect();
            let before = pick(random, &steps)?.at;
            lines.insert(before, format!("{}{step}", inside(before)));
            before
        }
        Fault::Extra(id) => {
            let job = parts.jobs.last()?;
            let pad = inside(job.at);
            let before = parts.jobs[0].at;
            let rest = [format!("{pad}  runs-on: x"), format!("{pad}  steps: [{{run: a}}]")];
            lines.splice(before..before, [format!("{pad}{id}:")].into_iter().chain(rest));
            before
        }
        Fault::Twice => {
            let job = pick(random, &jobs)?;
            let runs_on = *job.keys.iter().find(|at| parts.key(**at) == "runs-on")?;
            let pad = inside(runs_on);
            let last = *job.keys.last()?;
            if parts.lines[last].trim() == "steps:" && last > runs_on {
                lines.insert(last, format!("{pad}runs-on: again"));
                last
            } else {
                return None;
            }
        }
        Fault::Itself => {
            let fit: Vec<&&Job> =
                jobs.iter().filter(|job| !parts.has(&job.keys, "needs")).collect();
            let job = pick(random, &fit)?;
            let pad = inside(job.keys[0]);
            lines.insert(job.keys[0], format!("{pad}needs: {}", parts.key(job.at)));
            job.keys[0]
        }
        Fault::Homeless => {
            let one_line = |at: &usize| {
                parts.lines[*at].trim_end().len() > parts.lines[*at].find(':').unwrap_or(0) + 1
            };
            let fit: Vec<(&&Job, usize)> = jobs
                .iter()
                .filter_map(|job| {
                    let at = *job.keys.iter().find(|at| parts.key(**at) == "runs-on")?;
                    one_line(&at).then_some((job, at))
                })
                .collect();
            let (job, at) = pick(random, &fit)?;
            lines.remove(*at);
            job.at
        }
        Fault::JobTwice => {
            let first = parts.jobs.first()?;
            let id = parts.lines[first.at].to_owned();
            let pad = inside(first.at);
            let again = [id, format!("{pad}  runs-on: x"), format!("{pad}  steps: [{{run: a}}]")];
            lines.splice(first.at..first.at, again);
            // The second of the two is the one too many.
            first.at + 3
        }
    };
    Some(Planted { source: lines.join("\n") + "\n", line: at + 1 })
}

/// Each file with a fault is refused on the line of the fault.
pub(super) fn found(folder: &Path) -> Measured {
    let sources: Vec<(String, String)> = files(folder, &["yml", "yaml"])?
        .iter()
        .map(|file| Ok((short(file, folder), read(file)?)))
        .collect::<anyhow::Result<_>>()?;
    let mut random = Rng::with_seed(1);
    let mut missed = Vec::new();
    let mut cases = 0;
    while cases < CASES {
        let fault = FAULTS[cases % FAULTS.len()];
        let (name, source) = &sources[random.usize(0..sources.len())];
        let Some(planted) = plant(source, fault, &mut random) else { continue };
        cases += 1;
        let problems = check(&planted.source);
        let lines: Vec<usize> =
            problems.iter().map(|problem| problem.line(&planted.source)).collect();
        if !lines.contains(&planted.line) || lines.len() > 1 {
            let said: Vec<String> = problems
                .iter()
                .take(3)
                .map(|problem| problem.one_line("", &planted.source))
                .collect();
            missed.push(format!(
                "{fault:?} in {name} on line {}: {}",
                planted.line,
                said.join(" / ")
            ));
        }
    }
    Ok((cases, missed))
}
