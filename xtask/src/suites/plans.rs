//! The real files, planned: each for every event of its own `on`, with a payload that GitHub has sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use muster_workflow::expr::Contexts;
use muster_workflow::trigger::{ChangedFiles, Verdict, judge};
use muster_workflow::{Text, Workflows, payload, preview, read as read_workflow};
use serde_json::{Value as Json, json};

use super::{Measured, files, read, short};

/// Of so many files the whole plan is kept, to see what changes.
const KEPT: usize = 40;

/// So many payloads of each event are tried.
const PAYLOADS_OF_EACH: usize = 3;

const PAYLOADS: &str =
    "target/npm/node_modules/@octokit/webhooks-examples/api.github.com/index.json";

/// The plans that are kept.
const PLANS: &str = "xtask/src/suites/plans.txt";

/// Reads a workflow with those of its folder that it calls.
fn with_siblings(file: &Path, source: &str) -> anyhow::Result<Workflows> {
    let Ok(workflow) = read_workflow(source) else { bail!("{} is refused", file.display()) };
    let folder = file.parent().context("a file is in a folder")?;
    Ok(Workflows::gather(workflow, &mut |uses| {
        let uses = uses.to_string();
        let name = uses.strip_prefix("./.github/workflows/");
        match name.and_then(|name| std::fs::read_to_string(folder.join(name)).ok()) {
            Some(text) => Text::Here(text),
            None => Text::NotHere,
        }
    }))
}

/// Returns the payloads by event.
fn payloads() -> anyhow::Result<BTreeMap<String, Vec<Json>>> {
    let path = crate::top().join(PAYLOADS);
    if !path.is_file() {
        crate::needs::install_data()?;
    }
    let events: Vec<Json> = serde_json::from_str(&read(&path)?)?;
    let mut payloads = BTreeMap::new();
    for event in events {
        let name = event["name"].as_str().context("an event has a name")?.to_owned();
        payloads.insert(name, event["examples"].as_array().cloned().unwrap_or_default());
    }
    Ok(payloads)
}

/// Each file is planned for each of its events; each workflow of its folder that it calls is found.
pub(super) fn planned(folder: &Path) -> Measured {
    let payloads = payloads()?;
    let files = files(folder, &["yml", "yaml"])?;
    let mut missed = Vec::new();
    for file in &files {
        if let Err(error) = plan_all(file, &payloads) {
            missed.push(format!("{}: {error:#}", short(file, folder)));
        }
    }
    Ok((files.len(), missed))
}

fn plan_all(file: &Path, payloads: &BTreeMap<String, Vec<Json>>) -> anyhow::Result<()> {
    let workflows = with_siblings(file, &read(file)?)?;
    for trigger in &workflows.root().triggers {
        let nothing = [json!({})];
        // What a pull request's target gets is what it gets.
        let name = match trigger.event.as_str() {
            "pull_request_target" => "pull_request",
            name => name,
        };
        let payloads = payloads.get(name).map_or(nothing.as_slice(), Vec::as_slice);
        for payload in payloads.iter().take(PAYLOADS_OF_EACH) {
            plan(&workflows, &trigger.event, payload)?;
        }
    }
    Ok(())
}

/// Plans one file for one event, and writes what comes of it.
fn plan(workflows: &Workflows, name: &str, payload: &Json) -> anyhow::Result<String> {
    let event = payload::event(name, payload, None, ChangedFiles::Unknown);
    let mut contexts = Contexts::new();
    contexts.set("github", &payload::github(name, payload, None));
    let mut written = match judge(workflows.root(), &event) {
        Verdict::Run => format!("{name}\n"),
        Verdict::Skip(why) => format!("{name}: {why}\n"),
    };
    let jobs = match preview(workflows, &contexts) {
        Ok(jobs) => jobs,
        Err(problems) => {
            let problem = problems.first().map(|problem| problem.message.clone());
            bail!("for `{name}`: {}", problem.unwrap_or_default());
        }
    };
    for job in jobs {
        let is_lost = job.reason.as_ref().is_some_and(|why| {
            why.contains("cannot be planned") || (why.contains("`./") && why.contains("not here"))
        });
        if let (true, Some(why)) = (is_lost, &job.reason) {
            bail!("for `{name}`: job `{}`: {why}", job.name);
        }
        let mark = if job.runs { "+" } else { "-" };
        let why = job.reason.map_or(String::new(), |why| format!(": {why}"));
        writeln!(written, "  {mark} {}{why}", job.name)?;
    }
    Ok(written)
}

/// The plans of some files are as they were, for the first payload of each event that starts them.
pub(super) fn kept(folder: &Path) -> Measured {
    let now = plans(folder)?;
    let before = std::fs::read_to_string(crate::top().join(PLANS)).unwrap_or_default();
    let of = |text: &str| -> BTreeMap<String, String> {
        let parts = text.split("\n\n").filter_map(|part| part.trim().split_once('\n'));
        parts.map(|(name, plan)| (name.to_owned(), plan.to_owned())).collect()
    };
    let (now, before) = (of(&now), of(&before));
    let changed = now.iter().filter(|(name, plan)| before.get(*name) != Some(plan));
    let missed = changed.map(|(name, plan)| format!("{name} is planned otherwise now:\n{plan}"));
    Ok((now.len(), missed.collect()))
}

/// Writes the plans anew.
pub(super) fn keep(folder: &Path) -> anyhow::Result<()> {
    std::fs::write(crate::top().join(PLANS), plans(folder)?)?;
    Ok(())
}

fn plans(folder: &Path) -> anyhow::Result<String> {
    let payloads = payloads()?;
    let all = files(folder, &["yml", "yaml"])?;
    // The same ones each time, from all over the folder.
    let step = all.len().div_ceil(KEPT).max(1);
    let chosen: Vec<&PathBuf> = all.iter().step_by(step).collect();
    let mut written = String::new();
    for file in chosen {
        let workflows = with_siblings(file, &read(file)?)?;
        writeln!(written, "{}", short(file, folder))?;
        for trigger in &workflows.root().triggers {
            let payload = payloads.get(&trigger.event).and_then(|of| of.first());
            let payload = payload.cloned().unwrap_or_else(|| json!({}));
            written.push_str(&plan(&workflows, &trigger.event, &payload)?);
        }
        written.push('\n');
    }
    Ok(written)
}
