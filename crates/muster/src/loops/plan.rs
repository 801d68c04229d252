//! From an event to its outcome: runs, or the reason why there are none.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use muster_core::change::{Change, RunFacts, github_context};
use muster_core::run::{Reason, Run};
use muster_sys::clock;
use muster_workflow::expr::{Contexts, EvalError};
use muster_workflow::trigger::{ChangedFiles, Event, Verdict, judge, unserved};
use muster_workflow::workflow::Workflow;
use muster_workflow::{cibuild, plan, read};

use super::{Shared, Step};
use crate::git::Mirror;
use crate::store::events::{Decision, FileVerdict, Outcome, PendingEvent};
use crate::store::repositories::Repository;
use crate::store::runs::{Group, NewRun};

/// How many events are taken at once, and how many workflow files one commit may have.
const EVENTS: i64 = 32;
const MAX_FILES: usize = 500;

pub(super) struct Plan {
    shared: Arc<Shared>,
}

/// What a commit has to run.
struct Found {
    files: Vec<(String, Option<String>)>,
    changed: ChangedFiles,
}

impl Plan {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn decide(&self, event: &PendingEvent) -> anyhow::Result<Decision> {
        let nothing = |outcome| Decision { outcome, files: Vec::new(), runs: Vec::new() };
        let Some(repository) = self.shared.store.repository(&event.repository).await? else {
            let reason = Reason::new("removed", "the repository was removed");
            return Ok(nothing(Outcome::Ignored(reason)));
        };
        if let Some(mark) = event.change.skip_mark() {
            let reason = Reason::new("skip-mark", format!("the commit message says {mark}"));
            return Ok(nothing(Outcome::Ignored(reason)));
        }
        let Change::Push { before, head, .. } = &event.change else {
            let reason = Reason::new("unwanted", "a deletion starts nothing");
            return Ok(nothing(Outcome::Ignored(reason)));
        };
        let mirror = self.shared.data.mirror(&event.repository);
        let (before, sha) = (before.clone(), head.sha.clone());
        let found = tokio::task::spawn_blocking(move || find(mirror, before.as_ref(), &sha));
        let found = match found.await? {
            Ok(found) => found,
            Err(error) => {
                let reason =
                    Reason::new("unreadable", format!("the commit cannot be read: {error:#}"));
                return Ok(nothing(Outcome::Dead(reason)));
            }
        };
        if found.files.is_empty() {
            let text = format!(
                "nothing to run: no .yml or .yaml in .muster/workflows or .github/workflows, and no executable {}",
                cibuild::PATH
            );
            return Ok(nothing(Outcome::Ignored(Reason::new("nothing", text))));
        }
        self.judge_files(event, &repository, found).await
    }

    async fn judge_files(
        &self,
        event: &PendingEvent,
        repository: &Repository,
        found: Found,
    ) -> anyhow::Result<Decision> {
        let trigger = event.change.event(found.changed);
        let mut files = Vec::new();
        let mut runs = Vec::new();
        for (path, text) in found.files {
            let (outcome, reason) =
                match self.judge_file(event, repository, &trigger, &path, text).await? {
                    Judged::Ran(run) => {
                        runs.push(*run);
                        ("ran", None)
                    }
                    Judged::Skipped(why) => ("skipped", Some(why)),
                    Judged::Refused(why) => ("refused", Some(why)),
                };
            files.push(FileVerdict { path, outcome, reason });
        }
        let refused = files.iter().any(|file| file.outcome == "refused");
        let outcome = if runs.is_empty() && !refused {
            Outcome::Ignored(Reason::new("unwanted", "no workflow wants this change"))
        } else {
            Outcome::Accepted
        };
        Ok(Decision { outcome, files, runs })
    }

    async fn judge_file(
        &self,
        event: &PendingEvent,
        repository: &Repository,
        trigger: &Event,
        path: &str,
        text: Option<String>,
    ) -> anyhow::Result<Judged> {
        let Some(text) = text else {
            return Ok(Judged::Refused("it is larger than 1 MiB or no UTF-8".to_owned()));
        };
        let first = |problems: &[muster_workflow::diagnostic::Problem]| {
            let more = problems.len().saturating_sub(1);
            let first = problems.first().map(|problem| {
                let (line, column) = problem.span.line_and_column(&text);
                format!("line {line}, column {column}: {}", problem.message)
            });
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            Judged::Refused(first.unwrap_or_default() + &more)
        };
        let workflow = match read(&text) {
            Ok(workflow) => workflow,
            Err(problems) => return Ok(first(&problems)),
        };
        if let Verdict::Skip(why) = judge(&workflow, trigger) {
            return Ok(Judged::Skipped(why));
        }
        let numbers = self.shared.store.allot_run(&event.repository, path).await?;
        let head = event.change.head().context("a push without a head")?;
        let name = workflow.name.clone().unwrap_or_else(|| path.to_owned());
        let facts = RunFacts {
            repository: &repository.name,
            default_branch: &repository.default_branch,
            repository_url: &repository.location,
            server_url: &self.shared.config.public_url,
            actor: &head.author_name,
            workflow: &name,
            workflow_path: path,
            run_id: numbers.number,
            run_number: numbers.run_number,
            run_attempt: 1,
        };
        let github = github_context(&event.change, &facts);
        let mut contexts = Contexts::new();
        contexts.set("github", &github);
        let jobs = match plan(&workflow, &contexts) {
            Ok(jobs) => jobs,
            Err(problems) => return Ok(first(&problems)),
        };
        let concurrency = match concurrency(&workflow, &contexts) {
            Ok(concurrency) => concurrency,
            Err(error) => return Ok(Judged::Refused(format!("`concurrency`: {error}"))),
        };
        let subject = head.message.lines().next().unwrap_or_default();
        Ok(Judged::Ran(Box::new(NewRun {
            numbers,
            path: path.to_owned(),
            workflow_name: name,
            title: title(&workflow, &contexts, subject),
            unserved: unserved(&workflow).into_iter().map(str::to_owned).collect(),
            source: text,
            github,
            event_name: event.change.event_name(),
            git_ref: event.change.git_ref().full(),
            sha: head.sha.clone(),
            concurrency,
            run: Run::new(&jobs),
        })))
    }
}

enum Judged {
    Ran(Box<NewRun>),
    Skipped(String),
    Refused(String),
}

/// Evaluates the workflow's concurrency group; an empty name is none.
fn concurrency(workflow: &Workflow, contexts: &Contexts) -> Result<Option<Group>, EvalError> {
    let Some(concurrency) = &workflow.concurrency else { return Ok(None) };
    let name = concurrency.group.text(contexts)?.to_lowercase();
    let cancel_in_progress = concurrency.cancel_in_progress.get(contexts)?;
    Ok(if name.is_empty() { None } else { Some(Group { name, cancel_in_progress }) })
}

/// Returns the run's title: `run-name`, else the commit's subject.
fn title(workflow: &Workflow, contexts: &Contexts, subject: &str) -> String {
    let named = workflow.run_name.as_ref().and_then(|name| name.text(contexts).ok());
    named.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| subject.to_owned())
}

impl Step for Plan {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        loop {
            let events = self.shared.store.pending_events(EVENTS).await?;
            if events.is_empty() {
                return Ok(Duration::from_secs(10));
            }
            for event in events {
                let decision = self.decide(&event).await?;
                tracing::info!(event.number, outcome = ?decision.outcome, "decided");
                self.shared.store.decide_event(&event, decision, clock::now_ms()).await?;
                self.shared.wake.drive.notify_one();
                self.shared.wake.deliver.notify_one();
            }
        }
    }
}

/// Finds the workflow files of a commit, else the conventional script.
fn find(
    mirror: PathBuf,
    before: Option<&muster_core::id::Sha>,
    sha: &muster_core::id::Sha,
) -> anyhow::Result<Found> {
    let mirror = Mirror::open(mirror)?;
    let listed = mirror.list(sha, &[".muster/workflows/", ".github/workflows/", cibuild::PATH])?;
    let in_folder = |folder: &str| -> Vec<(String, String)> {
        listed
            .iter()
            .filter(|(mode, _, path)| {
                mode.starts_with("100")
                    && path.starts_with(folder)
                    && (path.ends_with(".yml") || path.ends_with(".yaml"))
            })
            .map(|(_, object, path)| (object.clone(), path.clone()))
            .collect()
    };
    let mut files = in_folder(".muster/workflows/");
    if files.is_empty() {
        files = in_folder(".github/workflows/");
    }
    if files.len() > MAX_FILES {
        anyhow::bail!("it has {} workflow files, more than {MAX_FILES}", files.len());
    }
    let (objects, paths): (Vec<String>, Vec<String>) = files.into_iter().unzip();
    let texts = mirror.read(&objects)?;
    let mut files: Vec<(String, Option<String>)> = paths.into_iter().zip(texts).collect();
    if files.is_empty()
        && listed.iter().any(|(mode, _, path)| mode == "100755" && path == cibuild::PATH)
    {
        files.push((cibuild::PATH.to_owned(), Some(cibuild::WORKFLOW.to_owned())));
    }
    let changed = match before {
        Some(before) => mirror.changed_files(before, sha),
        None => ChangedFiles::Unknown,
    };
    Ok(Found { files, changed })
}
