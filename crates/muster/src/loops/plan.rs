//! From an event to its outcome: runs, or the reason why there are none.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_core::change::{Change, GitRef, RunFacts, github_context, is_late_push, skip_mark};
use muster_core::concurrency::group_of;
use muster_core::id::Sha;
use muster_core::outcome::{Outcome, UNWANTED};
use muster_core::pull::Known;
use muster_core::run::{Reason, Run};
use muster_core::trust::{Protection, Standing, Trust, admit, approval};
use muster_forge::github::Payload;
use muster_sys::clock;
use muster_workflow::expr::Contexts;
use muster_workflow::text::one_line;
use muster_workflow::trigger::{ChangedFiles, Event, Verdict, judge, unserved};
use muster_workflow::workflow::Workflow;
use muster_workflow::{Workflows, cibuild, fill_in, read};

use serde_json::Value as Json;

use super::lanes::Lanes;
use super::{AFTER_FAILURE, Shared, Step};
use crate::called::{gather, plan_all};
use crate::git::workflows::{self, Files, MAX_FILES};
use crate::git::{Actions, GitError, Merge, Mirror, Remote};
use crate::secrets::chosen;
use crate::store::events::{Decision, FileVerdict, LONGEST_WAIT_MS, PendingEvent};
use crate::store::repositories::Repository;
use crate::store::runs::NewRun;

/// How many events are taken at once.
const EVENTS: i64 = 32;

pub(super) struct Plan {
    planner: Planner,
    lanes: Lanes,
}

/// Decides events.
#[derive(Clone)]
struct Planner {
    shared: Arc<Shared>,
}

/// How many bytes of files all workflows of a commit may call together.
const MAX_CALLED: usize = 32 << 20;

/// How often an event that cannot be decided is tried again: for about three days.
const MAX_FAILURES: i64 = 440;
/// How often a commit may be missing: what a webhook tells of can be there a moment later.
const MAX_MISSING: i64 = 4;
/// How often the repository of a workflow that is called may be out of reach: for about four minutes.
const MAX_LOOKS: i64 = 8;

/// A change at a commit that can be tested.
struct Subject {
    /// The commit that is tested: of a pull request muster's own merge.
    tested: Sha,
    /// Of a pull request, the commit that its head was merged into.
    base: Option<Sha>,
    /// The message that may ask for no run, and whose first line is the title of a push.
    message: String,
    files: Files,
    changed: ChangedFiles,
}

/// What the repository says of a change.
struct Looked {
    /// Of a push to a branch, where that branch is now.
    branch_at: Option<Sha>,
    /// Whether the repository itself was asked for it.
    asked: bool,
    subject: Result<Subject, Nothing>,
}

/// Why there is nothing to test.
enum Nothing {
    /// The event has this outcome.
    Decided(Outcome),
    /// The repository cannot be reached now.
    Later(anyhow::Error),
    /// The commit is not in it, or not yet.
    Missing(Sha),
    /// The pull request of this number has another head in the repository itself.
    MovedOn(i64, Sha),
}

impl From<Outcome> for Nothing {
    fn from(outcome: Outcome) -> Self {
        Self::Decided(outcome)
    }
}

impl Planner {
    /// Decides an event; `None` when its repository cannot be reached now.
    async fn decide(&self, event: &PendingEvent) -> anyhow::Result<Option<Decision>> {
        let Some(repository) = self.shared.store.repository(&event.repository).await? else {
            let reason = Reason::new("removed", "the repository was removed");
            return Ok(Some(Decision::nothing(Outcome::Ignored(reason))));
        };
        // Before the repository is looked at: what is heard meanwhile is newer than what it says.
        let known = match &event.change {
            Change::PullRequest(pull) => {
                self.shared.store.pull_request(&event.repository, pull.number).await?
            }
            _ => None,
        };
        let protection = repository.protection()?;
        let trust = match self.trust(event, known.as_ref(), &protection).await? {
            Ok(trust) => trust,
            Err(outcome) => return Ok(Some(Decision::nothing(outcome))),
        };
        let Looked { branch_at, asked, subject } = self.look(event, &repository).await?;
        if let (Change::PullRequest(pull), Some(known)) = (&event.change, known) {
            let head = match &subject {
                // What could not be fetched says nothing of the head.
                _ if !asked => None,
                Ok(_) | Err(Nothing::Decided(_)) => Some(&pull.head),
                Err(Nothing::MovedOn(_, head)) => Some(head),
                Err(Nothing::Later(_) | Nothing::Missing(_)) => None,
            };
            if let Some(head) = head {
                let store = &self.shared.store;
                let now = clock::now_ms();
                store.correct_head(&event.repository, pull.number, known, head, now).await?;
            }
        }
        let decision = match subject {
            Ok(_) if !trust.may_run() => Decision::nothing(match &event.change {
                Change::PullRequest(pull) => approval(pull),
                _ => Outcome::Accepted,
            }),
            Ok(subject) => {
                let late = self.is_late(event, branch_at.clone()).await?;
                self.judge_files(event, &repository, trust, subject, late).await?
            }
            Err(Nothing::MovedOn(number, head)) => {
                let text = format!("pull request {number} has moved on to {}", head.short());
                Decision::nothing(Outcome::Ignored(Reason::new("late", text)))
            }
            Err(Nothing::Decided(outcome)) => Decision::nothing(outcome),
            Err(Nothing::Missing(sha)) if event.failures >= MAX_MISSING => {
                let text = format!("commit {sha} is not in the repository any more");
                Decision::nothing(Outcome::Dead(Reason::new("gone", text)))
            }
            Err(Nothing::Missing(sha)) => {
                self.try_later(event, &anyhow::anyhow!("commit {sha} is not there")).await?;
                return Ok(None);
            }
            Err(Nothing::Later(error)) if event.failures >= MAX_FAILURES => {
                let text = format!("the repository could not be fetched: {error:#}");
                Decision::nothing(Outcome::Dead(Reason::new("unreachable", text)))
            }
            Err(Nothing::Later(error)) => {
                self.try_later(event, &error).await?;
                return Ok(None);
            }
        };
        Ok(Some(Decision { branch_at, ..decision }))
    }

    /// Returns whether a push comes after one that followed it at the code host.
    async fn is_late(&self, event: &PendingEvent, branch_at: Option<Sha>) -> anyhow::Result<bool> {
        let Some(sha) = event.change.sha().cloned() else { return Ok(false) };
        if branch_at.as_ref().is_none_or(|at| *at == sha) {
            return Ok(false);
        }
        let heard = self.shared.store.heard_before(event).await?;
        let mirror = Mirror::open(self.shared.data.mirror(&event.repository))?;
        let judge = move || {
            is_late_push(&sha, branch_at.as_ref(), &heard, |newer| mirror.is_ancestor(&sha, newer))
        };
        Ok(tokio::task::spawn_blocking(judge).await?)
    }

    /// Leaves an event for later, so that it holds up no other.
    async fn try_later(&self, event: &PendingEvent, error: &anyhow::Error) -> anyhow::Result<()> {
        tracing::warn!(event.number, error = format!("{error:#}"), "trying again later");
        let wait = (1_000 << event.failures.clamp(0, 16)).min(LONGEST_WAIT_MS);
        Ok(self.shared.store.event_failed(&event.id, clock::now_ms() + wait).await?)
    }

    /// Decides one event and stores what follows.
    async fn process(&self, event: &PendingEvent) -> anyhow::Result<()> {
        let Some(decision) = self.decide(event).await? else { return Ok(()) };
        tracing::info!(event.number, outcome = ?decision.outcome, "decided");
        self.shared.store.decide_event(event, decision, clock::now_ms()).await?;
        self.shared.wake.drive.notify_one();
        self.shared.wake.deliver.notify_one();
        self.shared.wake.notify.notify_one();
        Ok(())
    }

    /// Decides events of one repository, one after the other. What is wrong with one must not hold up the
    /// others.
    async fn process_all(&self, events: Vec<PendingEvent>) {
        for event in events {
            // Until runs are stored that say so, nothing else shows that the mirror is needed.
            let _mirrors = self.shared.mirrors.read().await;
            let Err(error) = self.process(&event).await else { continue };
            if let Err(error) = self.try_later(&event, &error).await {
                // It is still pending, and taken up again; the store has to recover first.
                tracing::error!(event.number, error = format!("{error:#}"), "not decided");
                tokio::time::sleep(AFTER_FAILURE).await;
                return;
            }
        }
    }

    /// Computes how far the change is trusted, or why it is not to be tested, now or at all.
    async fn trust(
        &self,
        event: &PendingEvent,
        known: Option<&Known>,
        protection: &Protection,
    ) -> anyhow::Result<Result<Trust, Outcome>> {
        let approved = match &event.change {
            Change::PullRequest(pull) => {
                self.shared.store.is_approved(&event.repository, &pull.head).await?
            }
            _ => false,
        };
        let cageless = self.shared.cageless.as_deref();
        let cageless = cageless.filter(|_| !self.shared.config.approved_without_sandbox);
        Ok(admit(&event.change, Standing { known, approved, cageless, protection }))
    }

    /// Brings the commit here and looks at it.
    async fn look(&self, event: &PendingEvent, repository: &Repository) -> anyhow::Result<Looked> {
        let mirror = self.shared.data.mirror(&event.repository);
        let change = event.change.clone();
        // What is watched was fetched when it was looked at.
        let fetch =
            repository.is_at_github().then(|| self.shared.remote(repository)).transpose()?;
        Ok(tokio::task::spawn_blocking(move || look(mirror, &change, fetch)).await?)
    }

    async fn judge_files(
        &self,
        event: &PendingEvent,
        repository: &Repository,
        trust: Trust,
        mut subject: Subject,
        late: bool,
    ) -> anyhow::Result<Decision> {
        let trigger =
            event.change.event(std::mem::replace(&mut subject.changed, ChangedFiles::Unknown));
        let payload = match self.shared.store.delivery_of_event(event.id.as_str()).await? {
            Some(body) => Some(Payload::find(&body.content_type, &body.bytes()?)?.value()?),
            None => None,
        };
        let (_, vars) = self.shared.store.values_for(&event.repository).await?;
        let vars = chosen(&vars, trust, None).into_iter();
        let vars = vars.map(|var| (var.place.entry.name.clone(), Json::from(var.value.as_str())));
        let vars = Json::Object(vars.collect());
        let mut files = Vec::new();
        let mut runs = Vec::new();
        let mut called = 0;
        let found = std::mem::take(&mut subject.files);
        let about = About { event, repository, trust, subject, late, payload, vars };
        for (path, text) in found {
            let (outcome, reason) = match self.judge_file(&about, &trigger, &path, text).await? {
                Judged::Ran(run) => {
                    called += run.called.iter().map(|(_, text)| text.len()).sum::<usize>();
                    if called > MAX_CALLED {
                        let most = MAX_CALLED >> 20;
                        let why =
                            format!("the workflows of a commit call at most {most} MiB of files");
                        ("refused", Some(why))
                    } else {
                        runs.push(*run);
                        ("ran", None)
                    }
                }
                Judged::Skipped(why) => ("skipped", Some(why)),
                Judged::Refused(why) => ("refused", Some(why)),
            };
            let reason = reason.map(|reason| one_line(&reason));
            files.push(FileVerdict { path: one_line(&path), outcome, reason });
        }
        let refused = files.iter().any(|file| file.outcome == "refused");
        let outcome = if runs.is_empty() && !refused {
            Outcome::Ignored(Reason::new(UNWANTED, "no workflow wants this change"))
        } else {
            Outcome::Accepted
        };
        Ok(Decision { outcome, files, runs, branch_at: None })
    }

    async fn judge_file(
        &self,
        about: &About<'_>,
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
        if !workflow.unsupported.is_empty() {
            return Ok(first(&workflow.unsupported));
        }
        let About { event, repository, subject, .. } = about;
        let workflows = self.with_called(event, &subject.tested, workflow).await?;
        let workflow = workflows.root();
        let numbers = self.shared.store.allot_run(&event.repository, path).await?;
        let name = workflow.name.clone().unwrap_or_else(|| path.to_owned());
        let (server_url, api_url, repository_url) = self.addresses(repository);
        let facts = RunFacts {
            tested: &subject.tested,
            repository: &repository.name,
            default_branch: &repository.default_branch,
            repository_url: &repository_url,
            server_url: &server_url,
            api_url: &api_url,
            payload: about.payload.clone(),
            workflow: &name,
            workflow_path: path,
            protected: about.trust == Trust::Protected,
            run_id: numbers.number,
            run_number: numbers.run_number,
        };
        let mut github = github_context(&event.change, &facts);
        let mut contexts = Contexts::new();
        contexts.set("github", &github);
        contexts.set("vars", &about.vars);
        if let Err(wrong) = fill_in(workflow, &[], &mut github, &mut contexts) {
            return Ok(Judged::Refused(wrong.join("; ")));
        }
        let jobs = match plan_all(&workflows, &contexts) {
            Ok(jobs) => jobs,
            Err(problems) => return Ok(first(&problems)),
        };
        let group = match group_of(&event.change, path, workflow, &contexts) {
            Ok(group) => group,
            Err(error) => return Ok(Judged::Refused(format!("`concurrency`: {error}"))),
        };
        let plain_title = match &event.change {
            Change::PullRequest(pull) => pull.title.as_str(),
            // As GitHub calls it.
            Change::Dispatch(_) | Change::Due(_) => &name,
            Change::Push { .. } | Change::Delete { .. } => {
                subject.message.lines().next().unwrap_or_default()
            }
        };
        Ok(Judged::Ran(Box::new(NewRun {
            numbers,
            path: one_line(path),
            workflow_name: one_line(&name),
            title: one_line(&title(workflow, &contexts, plain_title)),
            unserved: unserved(workflow).into_iter().map(str::to_owned).collect(),
            source: text,
            called: workflows.texts().map(|(n, t)| (n.to_owned(), t.to_owned())).collect(),
            github,
            vars: about.vars.clone(),
            event_name: event.change.event_name(),
            git_ref: event.change.full_ref(),
            sha: event.change.sha().unwrap_or(&subject.tested).clone(),
            tested: subject.tested.clone(),
            base: subject.base.clone(),
            pull_request: event.change.pull_request(),
            trust: about.trust,
            // Only what the other CI runs too is published twice.
            shadow: repository.is_in_shadow() && path.starts_with(".github/"),
            concurrency: group,
            late: about.late,
            run: Run::new(&jobs),
        })))
    }

    /// Reads the workflows that one calls: of the commit that is tested, and of other repositories.
    ///
    /// # Errors
    ///
    /// When one of another repository cannot be had now; it is tried again a few times.
    async fn with_called(
        &self,
        event: &PendingEvent,
        tested: &Sha,
        workflow: Workflow,
    ) -> anyhow::Result<Workflows> {
        if workflow.jobs.iter().all(|job| job.call.is_none()) {
            return Ok(Workflows::alone(workflow));
        }
        let mirror = Mirror::open(self.shared.data.mirror(&event.repository))?;
        let source = self.shared.config.actions.source(self.shared.data.actions(), Vec::new());
        let (tested, may_wait) = (tested.clone(), event.failures < MAX_LOOKS);
        let gathered = tokio::task::spawn_blocking(move || {
            let own = |path: &str| mirror.file(&tested, path).map_err(|error| error.to_string());
            let unreachable = Mutex::new(None);
            let workflows = gather(workflow, own, Actions::new(&source).telling(&unreachable));
            (workflows, unreachable.into_inner().unwrap_or_else(PoisonError::into_inner))
        });
        match gathered.await? {
            (_, Some(why)) if may_wait => anyhow::bail!("{why}"),
            (workflows, _) => Ok(workflows),
        }
    }

    /// Returns where the code host, its API and the repository are, for people and programs.
    fn addresses(&self, repository: &Repository) -> (String, String, String) {
        match &self.shared.github {
            Some(github) if repository.is_at_github() => {
                let url = github.config.url.trim_end_matches('/');
                let repository_url = format!("{url}/{}", repository.name);
                (
                    url.to_owned(),
                    github.config.api_url.trim_end_matches('/').to_owned(),
                    repository_url,
                )
            }
            _ => {
                let url = &self.shared.config.public_url;
                (url.clone(), format!("{url}/api/v3"), repository.shown_location())
            }
        }
    }
}

/// What the files of one event are judged with.
struct About<'a> {
    event: &'a PendingEvent,
    repository: &'a Repository,
    trust: Trust,
    subject: Subject,
    /// Whether its branch had moved on before it was heard of.
    late: bool,
    payload: Option<Json>,
    /// The context `vars`.
    vars: Json,
}

enum Judged {
    Ran(Box<NewRun>),
    Skipped(String),
    Refused(String),
}

/// Returns the run's title: `run-name`, else the commit's subject.
fn title(workflow: &Workflow, contexts: &Contexts, subject: &str) -> String {
    let named = workflow.run_name.as_ref().and_then(|name| name.text(contexts).ok());
    named.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| subject.to_owned())
}

impl Plan {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { planner: Planner { shared }, lanes: Lanes::default() }
    }
}

impl Step for Plan {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        while self.lanes.has_room() {
            let store = &self.planner.shared.store;
            let events = store.pending_events(clock::now_ms(), &self.lanes.busy(), EVENTS).await?;
            let Some(first) = events.first() else { break };
            let repository = first.repository.clone();
            let Some(lane) = self.lanes.enter(&repository) else { break };
            let its_own = events.into_iter().filter(|event| event.repository == repository);
            let (planner, its_own) = (self.planner.clone(), its_own.collect());
            let errands = &self.planner.shared.errands;
            drop(errands.spawn("plan", async move {
                planner.process_all(its_own).await;
                lane.leave();
                // There may be more of it.
                planner.shared.wake.plan.notify_one();
            }));
        }
        Ok(Duration::from_secs(1))
    }
}

/// Brings the commit of a change here and looks at it.
fn look(mirror: PathBuf, change: &Change, fetch: Option<Remote>) -> Looked {
    let nothing = |why| Looked { branch_at: None, asked: false, subject: Err(why) };
    let mirror = match Mirror::open(mirror) {
        Ok(mirror) => mirror,
        Err(error) => return nothing(Nothing::Later(error.into())),
    };
    let Some(sha) = change.commit() else {
        return nothing(
            Outcome::Ignored(Reason::new(UNWANTED, "a deletion starts nothing")).into(),
        );
    };
    let mut branch_at = None;
    if let Some(remote) = fetch {
        if let Err(why) = fetch_change(&mirror, change, sha, &remote) {
            return nothing(why);
        }
        // What is watched is heard of in order; a webhook may come late.
        if let Change::Push { git_ref: git_ref @ GitRef::Branch(_), .. } = change {
            branch_at = mirror.resolve(&git_ref.full());
        }
    }
    if branch_at.as_ref() != Some(sha) && !mirror.has(sha) {
        return Looked { branch_at, asked: true, subject: Err(Nothing::Missing(sha.clone())) };
    }
    Looked { branch_at, asked: true, subject: subject(&mirror, change, sha) }
}

/// Brings the commit of a change here.
fn fetch_change(
    mirror: &Mirror,
    change: &Change,
    sha: &Sha,
    remote: &Remote,
) -> Result<(), Nothing> {
    mirror.fetch(remote, change.pull_request()).map_err(|error| match error {
        GitError::Refused { message, .. } if message.contains("couldn't find remote ref") => {
            Nothing::Missing(sha.clone())
        }
        // Trying again would bring as much again.
        error @ GitError::TooLarge { .. } => {
            Nothing::Decided(Outcome::Dead(Reason::new("too-large", error.to_string())))
        }
        error => Nothing::Later(error.into()),
    })
}

/// Reads what a commit that is here has to run.
fn subject(mirror: &Mirror, change: &Change, sha: &Sha) -> Result<Subject, Nothing> {
    let dead = |code: &str, text: String| Nothing::Decided(Outcome::Dead(Reason::new(code, text)));
    let unreadable =
        |error: GitError| dead("unreadable", format!("the commit cannot be read: {error}"));
    let pull = match change {
        Change::PullRequest(pull) => Some(pull),
        _ => None,
    };
    if let Some(pull) = pull {
        let head = mirror.resolve(&format!("refs/pull/{}/head", pull.number));
        if let Some(head) = head.filter(|head| head != sha) {
            return Err(Nothing::MovedOn(pull.number, head));
        }
    }
    let message = mirror.commit(sha).map_err(unreadable)?.message;
    // Such a mark is about what brought the commit.
    let is_of_commit = change.workflow().is_none();
    if let Some(mark) = skip_mark(&message).filter(|_| is_of_commit) {
        let reason = Reason::new("skip-mark", format!("the commit message says {mark}"));
        return Err(Outcome::Ignored(reason).into());
    }
    let mut merged_into = None;
    let (tested, before) = match (pull, change) {
        (Some(pull), _) => {
            let base = mirror.resolve(&format!("refs/heads/{}", pull.base_ref));
            let base =
                base.ok_or_else(|| dead("gone", format!("branch `{}` is gone", pull.base_ref)))?;
            let name = format!("refs/muster/pull/{}/merge", pull.number);
            match mirror.merge(&base, sha, &name).map_err(unreadable)? {
                Merge::Clean(merge) => {
                    let before = mirror.merge_base(&base, sha);
                    merged_into = Some(base);
                    (merge, before)
                }
                Merge::Conflict(files) => {
                    let text =
                        format!("It conflicts with `{}` in {}", pull.base_ref, files.join(", "));
                    return Err(dead("conflict", text));
                }
            }
        }
        (None, Change::Push { before, .. }) => (sha.clone(), before.clone()),
        (None, _) => (sha.clone(), None),
    };
    let files = workflows::of(mirror, &tested).map_err(unreadable)?;
    let Some(mut files) = files else {
        return Err(dead("too-many", format!("it has more than {MAX_FILES} workflow files")));
    };
    if let Some(only) = change.workflow() {
        files.retain(|(path, _)| path == only);
        if files.is_empty() {
            return Err(dead("gone", format!("{only} is not in the commit")));
        }
    }
    if files.is_empty() {
        let text = format!(
            "nothing to run: no .yml or .yaml in .muster/workflows or .github/workflows, and no executable {}",
            cibuild::PATH
        );
        return Err(Outcome::Ignored(Reason::new("nothing", text)).into());
    }
    let changed = match before {
        Some(before) => mirror.changed_files(&before, sha),
        None => ChangedFiles::Unknown,
    };
    Ok(Subject { tested, base: merged_into, message, files, changed })
}
