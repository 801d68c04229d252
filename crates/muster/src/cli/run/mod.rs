//! `muster run`: the workflows of a work tree, here and now.
//!
//! The same engine, runner and supervisor as under the server; only the store is this process's
//! memory.

mod engine;
mod find;
mod screen;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use muster_core::change::{
    Change, GitRef, Person, PullRequest, PullRequestAction, RunFacts, github_context,
};
use muster_core::id::Sha;
use muster_core::run::Run;
use muster_runner::spec::Source;
use muster_sys::files;
use muster_workflow::expr::Contexts;
use muster_workflow::trigger::{ChangedFiles, Verdict, judge, unserved};
use muster_workflow::workflow::Workflow;
use muster_workflow::{diagnostic, plan, read};

use self::engine::Engine;
use self::find::WorkflowFile;
use self::screen::Screen;
use super::{CANNOT_RUN, GREEN, RED, complain};
use crate::config::{IsolationConfig, SandboxConfig};
use crate::git::{self, Head, WorkTree};
use crate::machine;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What stands between the steps and this machine; `none` runs them as you.
    #[arg(long, value_enum, default_value_t = IsolationConfig::Auto)]
    isolation: IsolationConfig,
    /// Give sandboxed jobs no network.
    #[arg(long)]
    no_network: bool,
    /// Run only this workflow file, whether or not the event starts it.
    #[arg(short = 'W', long, value_name = "FILE")]
    workflow: Option<PathBuf>,
    /// The event to run for: a push of the branch that is checked out, or a pull request from it to the
    /// default branch.
    #[arg(long, value_enum, value_name = "NAME", default_value_t = EventKind::Push)]
    event: EventKind,
    /// Run only this job and those that it needs.
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Run in the work tree itself instead of in an empty workspace.
    #[arg(long)]
    in_place: bool,
}

/// What the run pretends happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum EventKind {
    Push,
    PullRequest,
}

/// A workflow that will run.
struct Planned {
    file: WorkflowFile,
    workflow: Workflow,
    contexts: Contexts,
    github: serde_json::Value,
    run: Run,
    jobs: Vec<muster_workflow::PlannedJob>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let here = std::env::current_dir().context("cannot find the current folder")?;
    let tree = WorkTree::find(&here).context("muster run needs a git work tree")?;
    let mut screen = Screen::new();
    let Some(files) = find::workflows(&tree, arguments.workflow.as_deref(), &here, &mut screen)?
    else {
        return Ok(CANNOT_RUN);
    };
    let scratch = tempfile::Builder::new()
        .prefix("muster-run-")
        .tempdir()
        .context("cannot make a folder for the run")?;
    let scratch = Scratch(scratch.keep());
    let head = tree.head();
    let mut source = snapshot(&tree, &head, scratch.path(), arguments.in_place)?;
    let change = change(&tree, head, &source, arguments.event)?;
    source.git_ref = change.full_ref();
    let (planned, refused) = plan_all(&tree, files, arguments, &change, &mut screen)?;
    let nothing = planned.is_empty();
    let engine = Engine {
        folder: scratch.path().to_owned(),
        source,
        in_place: arguments.in_place.then(|| tree.top.clone()),
        labels: machine::labels(&[]),
        parallel: machine::cores(),
        isolation: arguments.isolation,
        sandbox: SandboxConfig { network: !arguments.no_network, ..SandboxConfig::default() },
    };
    let red = engine.run(planned, &mut screen)?;
    let (any_red, any_unable) = (red.red > 0, red.unable > 0 || refused > 0);
    if nothing && !any_unable {
        screen.line("nothing to run");
    }
    Ok(if any_red {
        RED
    } else if any_unable || nothing {
        CANNOT_RUN
    } else {
        GREEN
    })
}

/// The folder of a run. What jobs have closed or nested in it goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = files::remove_tree(&self.0) {
            complain(&anyhow::Error::new(error).context(format!("{} stays", self.0.display())));
        }
    }
}

/// Makes the commit that checkouts get: HEAD, or all files as they are on top of it.
fn snapshot(
    tree: &WorkTree,
    head: &Head,
    scratch: &Path,
    in_place: bool,
) -> anyhow::Result<Source> {
    let objects = scratch.join("objects");
    std::fs::create_dir(&objects).context("cannot make a folder for the snapshot")?;
    let sha = match (&head.commit, in_place) {
        (Some(head), true) => head.commit.clone(),
        (head, _) => tree
            .snapshot(&objects, head.as_ref())
            .context("cannot take a snapshot of the work tree")?,
    };
    let branch = head.branch.as_deref().unwrap_or("HEAD");
    Ok(Source {
        git_dir: tree.git_dir.clone(),
        extra_objects: Some(objects),
        sha: sha.to_string(),
        git_ref: format!("refs/heads/{branch}"),
        url: tree.git_dir.to_string_lossy().into_owned(),
    })
}

/// Plans every workflow that the event starts; says why the others do not run, and how many of
/// them are refused.
fn plan_all(
    tree: &WorkTree,
    files: Vec<WorkflowFile>,
    arguments: &Arguments,
    change: &Change,
    screen: &mut Screen,
) -> anyhow::Result<(Vec<Planned>, usize)> {
    let sha = change.sha().context("the snapshot is no commit")?;
    let mut planned = Vec::new();
    let mut refused = 0;
    let mut jobs_found = false;
    for file in files {
        let workflow = match read(&file.text) {
            Ok(workflow) => workflow,
            Err(problems) => {
                refused += 1;
                screen.block(&diagnostic::render(&file.path, &file.text, &problems));
                continue;
            }
        };
        if arguments.workflow.is_none()
            && let Verdict::Skip(why) = judge(&workflow, &change.event(ChangedFiles::Unknown))
        {
            let wants = |name: &str| workflow.triggers.iter().any(|on| on.event == name);
            let hint = match arguments.event {
                EventKind::Push if wants("pull_request") => " (it is for `--event pull_request`)",
                EventKind::PullRequest if wants("push") => " (it is for `--event push`)",
                _ => "",
            };
            screen.line(&format!("{}: not run: {why}{hint}", file.path));
            continue;
        }
        if !workflow.unsupported.is_empty() {
            refused += 1;
            screen.block(&diagnostic::render(&file.path, &file.text, &workflow.unsupported));
            continue;
        }
        let never = unserved(&workflow);
        if !never.is_empty() {
            screen.line(&format!(
                "{}: these events start nothing yet: {}",
                file.path,
                never.join(", ")
            ));
        }
        let mut entry = match plan_one(tree, file, workflow, change, sha) {
            Ok(entry) => entry,
            Err((file, problems)) => {
                refused += 1;
                screen.block(&diagnostic::render(&file.path, &file.text, &problems));
                continue;
            }
        };
        if let Some(job) = &arguments.job {
            if !select(&mut entry, job) {
                continue;
            }
            jobs_found = true;
        }
        planned.push(entry);
    }
    if let (Some(job), false) = (&arguments.job, jobs_found) {
        anyhow::bail!("no workflow that runs has a job `{job}`");
    }
    Ok((planned, refused))
}

fn plan_one(
    tree: &WorkTree,
    file: WorkflowFile,
    workflow: Workflow,
    change: &Change,
    sha: &Sha,
) -> Result<Planned, (WorkflowFile, Vec<diagnostic::Problem>)> {
    let name = tree.top.file_name().map(|name| name.to_string_lossy().into_owned());
    let repository = format!("local/{}", name.unwrap_or_else(|| "repository".to_owned()));
    let git_ref = change.full_ref();
    let default_branch = match change {
        Change::PullRequest(pull) => &pull.base_ref,
        Change::Push { .. } | Change::Delete { .. } => {
            git_ref.strip_prefix("refs/heads/").unwrap_or("main")
        }
    };
    let facts = RunFacts {
        tested: sha,
        repository: &repository,
        default_branch,
        repository_url: &tree.top.to_string_lossy(),
        server_url: "https://github.com",
        api_url: "https://api.github.com",
        payload: None,
        workflow: workflow.name.as_deref().unwrap_or(&file.path),
        workflow_path: &file.path,
        run_id: 1,
        run_number: 1,
    };
    let github = github_context(change, &facts);
    let mut contexts = Contexts::new();
    contexts.set("github", &github);
    match plan(&workflow, &contexts) {
        Ok(jobs) => {
            let run = Run::new(&jobs);
            Ok(Planned { file, workflow, contexts, github, run, jobs })
        }
        Err(problems) => Err((file, problems)),
    }
}

/// Leaves only the job `id` and what it needs; returns false where there is no such job.
fn select(planned: &mut Planned, id: &str) -> bool {
    let mut wanted = vec![id.to_owned()];
    let mut next = 0;
    while let Some(id) = wanted.get(next).cloned() {
        next += 1;
        if let Some(job) = planned.workflow.job(&id) {
            wanted.extend(
                job.needs.iter().filter(|need| !wanted.contains(need)).cloned().collect::<Vec<_>>(),
            );
        }
    }
    let keep = |id: &str| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(id));
    planned.jobs.retain(|job| keep(&job.id));
    planned.run.jobs.retain(|job| keep(&job.id));
    planned.run.jobs.iter().any(|job| job.id.eq_ignore_ascii_case(id))
}

/// Returns what the run pretends happened: a push of the snapshot to the branch that is checked out, or a
/// pull request with it.
fn change(
    tree: &WorkTree,
    head: Head,
    source: &Source,
    event: EventKind,
) -> anyhow::Result<Change> {
    let sha = Sha::parse(&source.sha)?;
    let commit = git::commit(&tree.top, source.extra_objects.as_deref(), &sha);
    let commit = commit.context("cannot read the snapshot")?;
    let before = head.commit.map(|head| head.commit);
    let sender = std::env::var("USER").ok().map(|login| Person { id: None, login });
    if event == EventKind::Push {
        let git_ref =
            GitRef::parse(&source.git_ref).unwrap_or_else(|| GitRef::Branch("HEAD".to_owned()));
        return Ok(Change::Push { git_ref, before, head: commit, forced: false, sender });
    }
    let head_ref = head.branch.unwrap_or_else(|| "HEAD".to_owned());
    let base = tree.default_branch();
    let (base_ref, base) = match base {
        Some(base) => base,
        None => (head_ref.clone(), before.unwrap_or_else(|| sha.clone())),
    };
    let author = sender.unwrap_or(Person { id: None, login: commit.author_name });
    Ok(Change::PullRequest(PullRequest {
        number: 1,
        action: PullRequestAction::Opened,
        title: commit.message.lines().next().unwrap_or_default().to_owned(),
        draft: false,
        updated_at: commit.timestamp,
        sender: author.clone(),
        author,
        head: sha,
        head_ref,
        from_fork: false,
        base,
        base_ref,
    }))
}
