//! `muster run`: the workflows of a work tree, here and now.
//!
//! The same engine, runner and supervisor as under the server; only the store is this process's
//! memory.

mod engine;
mod find;
mod groups;
mod screen;
mod secrets;
mod services;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use muster_core::change::{
    Change, GitRef, Person, PullRequest, PullRequestAction, RunFacts, github_context,
};
use muster_core::id::Sha;
use muster_core::run::Run;
use muster_runner::egress::{Hosts, Network};
use muster_runner::forget_unused;
use muster_runner::spec::{ActionSource, Source};
use muster_sys::files;
use muster_workflow::expr::{Contexts, Object};
use muster_workflow::trigger::{ChangedFiles, Event, Verdict, is_event, judge, unserved};
use muster_workflow::{Files as _, Workflows, diagnostic, fill_in, payload, read};
use rustix::fs::{FlockOperation, flock};

use self::engine::Engine;
use self::find::WorkflowFile;
use self::screen::{Form, News, Screen};
use super::lint::Repository;
use super::plan::payload_in;
use super::{CANNOT_RUN, GREEN, RED, complain};
use crate::called::{gather, plan_all};
use crate::config::{IsolationConfig, NativeConfig, NetworkConfig, RetentionConfig, SandboxConfig};
use crate::git::{self, Actions, Head, WorkTree};
use crate::machine::{self, Image, Images};
use crate::shell;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What stands between the steps and this machine; `none` runs them as you.
    #[arg(long, value_enum, default_value_t = IsolationConfig::Auto)]
    isolation: IsolationConfig,
    /// Give sandboxed jobs no network.
    #[arg(long)]
    no_network: bool,
    /// Let sandboxed jobs reach these hosts alone: HOST, *.DOMAIN, either with :PORT.
    #[arg(long, value_name = "HOST", conflicts_with = "no_network")]
    allow_host: Vec<Hosts>,
    /// Run only this workflow file, whether or not the event starts it.
    #[arg(short = 'W', long, value_name = "FILE")]
    workflow: Option<PathBuf>,
    /// The event to run for: a push of the branch that is checked out, a pull request from it to the
    /// default branch, or any other that `on` can name.
    #[arg(long, value_name = "NAME", default_value = "push")]
    event: String,
    /// What GitHub's webhook says of the event: a JSON file.
    #[arg(long, value_name = "FILE")]
    payload: Option<PathBuf>,
    /// An input of `workflow_dispatch`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    input: Vec<(String, String)>,
    /// A value of the context `vars`.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    var: Vec<(String, String)>,
    /// Who is said to have done it; without a word you.
    #[arg(long, value_name = "LOGIN")]
    actor: Option<String>,
    /// A variable that all steps have, unless the workflow says otherwise.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    env: Vec<(String, String)>,
    /// What stands for the machine that a label asks for: `host` is this one; a folder, an archive or `docker://NAME`
    /// is an image.
    #[arg(long, value_name = "LABEL=IMAGE", value_parser = image)]
    image: Vec<(String, Image)>,
    /// A secret; without a value, that of the variable of this name. On a command line a value can be seen by others.
    #[arg(long, value_name = "NAME[=VALUE]")]
    secret: Vec<String>,
    /// A file of secrets: lines `NAME=VALUE`, as in `.env` files.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// A folder in the place of the repository of an action.
    #[arg(long, value_name = "OWNER/NAME[@REF]=FOLDER", value_parser = action_folder)]
    action_dir: Vec<(String, PathBuf)>,
    /// The code host that actions come from, as git can reach it: repositories are `owner/name` below it.
    #[arg(long, value_name = "ADDRESS", default_value = "https://github.com")]
    #[arg(env = "MUSTER_ACTIONS_FROM")]
    actions_from: String,
    /// Which actions are muster's own instead of those that are named.
    #[arg(long, value_enum, default_value_t = NativeConfig::Unpinned)]
    native: NativeConfig,
    /// Run only this job and those that it needs.
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Run only legs of matrices that have this value.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    matrix: Vec<(String, String)>,
    /// Leave the artifacts of the run in this folder; without it they go with the run.
    #[arg(long, value_name = "FOLDER")]
    artifacts: Option<PathBuf>,
    /// Keep jobs that fail for so many minutes, for `muster shell` to look around in.
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=24 * 60))]
    keep: Option<u64>,
    /// Run in the work tree itself instead of in an empty workspace.
    #[arg(long)]
    in_place: bool,
    /// Tell what happens as JSON, an object a line.
    #[arg(long)]
    json: bool,
    /// Show plain lines, on a terminal too.
    #[arg(long, conflicts_with = "json")]
    plain: bool,
}

/// What the run pretends happened.
struct Happening {
    /// What is in the repository for it: a push, or a pull request.
    change: Change,
    /// What `on` is asked about.
    event: Event,
    /// What the webhook says, where there is one.
    payload: Option<serde_json::Value>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Reads which label an image serves.
fn image(text: &str) -> Result<(String, Image), String> {
    match text.split_once('=') {
        Some((label, image)) if !label.is_empty() && !image.is_empty() => {
            Ok((label.to_owned(), image.to_owned().into()))
        }
        _ => Err("write LABEL=IMAGE".to_owned()),
    }
}

fn action_folder(text: &str) -> Result<(String, PathBuf), String> {
    let (name, folder) = text.split_once('=').ok_or("write OWNER/NAME[@REF]=FOLDER")?;
    if name.split('@').next().is_none_or(|name| name.split('/').count() != 2) {
        return Err(format!("`{name}` names no repository: write OWNER/NAME[@REF]"));
    }
    let folder = std::fs::canonicalize(folder).map_err(|error| format!("{folder}: {error}"))?;
    Ok((name.to_owned(), folder))
}

/// A workflow that will run.
struct Planned {
    file: WorkflowFile,
    workflows: Workflows,
    contexts: Contexts,
    github: serde_json::Value,
    run: Run,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let here = std::env::current_dir().context("cannot find the current folder")?;
    let tree = WorkTree::find(&here).context("muster run needs a git work tree")?;
    let secrets = secrets::gather(&arguments.secret, arguments.secret_file.as_deref())?;
    let form = match (arguments.json, arguments.plain) {
        (true, _) => Form::Json,
        (_, true) => Form::Plain,
        _ => Form::Auto,
    };
    let mut screen = Screen::new(form);
    let Some(files) = find::workflows(&tree, arguments.workflow.as_deref(), &here, &mut screen)?
    else {
        return Ok(CANNOT_RUN);
    };
    let scratch = tempfile::Builder::new()
        .prefix("muster-run-")
        // What jobs make in it is nobody else's, whatever its mode is.
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .tempdir()
        .context("cannot make a folder for the run")?;
    let scratch = Scratch::hold(scratch.keep())?;
    let head = tree.head();
    let mut source = snapshot(&tree, &head, scratch.path(), arguments.in_place)?;
    let happening = happening(&tree, head, &source, arguments)?;
    source.git_ref = happening.change.full_ref();
    let actions = ActionSource {
        folder: machine::callers_cache("actions"),
        from: arguments.actions_from.clone(),
        given: arguments.action_dir.clone(),
        native: arguments.native.into(),
        pinned: Vec::new(),
    };
    let mut images = Images(arguments.image.iter().cloned().collect());
    images.resolve(&here).map_err(|why| anyhow::anyhow!("--image {why}"))?;
    // As on a server that says nothing else.
    let unused = RetentionConfig::default().unused_images();
    if let Err(error) = forget_unused(&machine::callers_cache("images"), unused) {
        complain(&anyhow::Error::new(error).context("images that nobody uses stay"));
    }
    let (planned, refused) =
        plan_files(&tree, files, arguments, &happening, &actions, &mut screen)?;
    let nothing = planned.is_empty();
    let engine = Engine {
        folder: scratch.path().to_owned(),
        source,
        in_place: arguments.in_place.then(|| tree.top.clone()),
        labels: machine::labels(&[], &images),
        images,
        keep_s: arguments.keep.map(|minutes| minutes * 60),
        parallel: machine::cores(),
        isolation: arguments.isolation,
        sandbox: SandboxConfig { network: network(arguments), ..SandboxConfig::default() },
        secrets,
        env: arguments.env.clone(),
        repository: sha_of(&tree.top),
        artifacts: arguments.artifacts.clone(),
        actions,
    };
    let red = engine.run(planned, &mut screen)?;
    let (any_red, any_unable) = (red.red > 0, red.unable > 0 || refused > 0);
    if nothing && !any_unable {
        screen.tell(News::Note("nothing to run"));
    }
    screen.end().context("cannot write all to standard output")?;
    Ok(if any_red {
        RED
    } else if any_unable || nothing {
        CANNOT_RUN
    } else {
        GREEN
    })
}

/// Returns what of the world the jobs reach.
fn network(arguments: &Arguments) -> NetworkConfig {
    NetworkConfig::for_members(match &*arguments.allow_host {
        [] if arguments.no_network => Network::None,
        [] => Network::Open,
        hosts => Network::Only(hosts.to_vec()),
    })
}

/// Names a work tree, as a part of paths.
fn sha_of(top: &Path) -> String {
    crate::token::hash(&top.to_string_lossy())[..32].to_owned()
}

/// The folder of a run. What jobs have closed or nested in it goes with it.
struct Scratch {
    folder: PathBuf,
    /// Held for as long as the run goes on.
    lock: File,
}

impl Scratch {
    fn hold(folder: PathBuf) -> anyhow::Result<Self> {
        let lock = shell::hold_run(&folder).context("cannot hold the folder of the run")?;
        Ok(Self { folder, lock })
    }

    fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The last that keeps a job of it removes it then.
        if flock(&self.lock, FlockOperation::Unlock).is_ok() && shell::kept_below(&self.folder) {
            return;
        }
        if let Err(error) = files::remove_tree(&self.folder) {
            let stays = format!("{} stays", self.folder.display());
            complain(&anyhow::Error::new(error).context(stays));
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
fn plan_files(
    tree: &WorkTree,
    files: Vec<WorkflowFile>,
    arguments: &Arguments,
    happening: &Happening,
    actions: &ActionSource,
    screen: &mut Screen,
) -> anyhow::Result<(Vec<Planned>, usize)> {
    let sha = happening.change.sha().context("the snapshot is no commit")?;
    let mut planned = Vec::new();
    let mut refused = 0;
    let mut jobs_found = false;
    for file in files {
        let workflow = match read(&file.text) {
            Ok(workflow) => workflow,
            Err(problems) => {
                refused += 1;
                screen.tell(News::Refused {
                    path: &file.path,
                    text: &file.text,
                    problems: &problems,
                });
                continue;
            }
        };
        if arguments.workflow.is_none()
            && let Verdict::Skip(why) = judge(&workflow, &happening.event)
        {
            let wants = |name: &str| workflow.triggers.iter().any(|on| on.event == name);
            let others = ["push", "pull_request", "workflow_dispatch"];
            let other = others.iter().find(|name| **name != arguments.event && wants(name));
            let hint = other.map_or(String::new(), |name| format!(" (it is for `--event {name}`)"));
            let why = format!("{why}{hint}");
            screen.tell(News::NotRun { path: &file.path, why: &why });
            continue;
        }
        if !workflow.unsupported.is_empty() {
            refused += 1;
            let problems = &workflow.unsupported;
            screen.tell(News::Refused { path: &file.path, text: &file.text, problems });
            continue;
        }
        let mut never = unserved(&workflow);
        never.retain(|event| *event != arguments.event);
        if !never.is_empty() {
            let (path, events) = (&file.path, never.join(", "));
            let note = format!("{path}: under the server these events start nothing yet: {events}");
            screen.tell(News::Note(&note));
        }
        let own = Repository::at(&tree.top);
        let workflows = gather(workflow, |path| Ok(own.read(path)), Actions::new(actions));
        let mut entry = match plan_one(tree, file, workflows, happening, sha, arguments)? {
            Ok(entry) => entry,
            Err((file, problems)) => {
                refused += 1;
                screen.tell(News::Refused {
                    path: &file.path,
                    text: &file.text,
                    problems: &problems,
                });
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
    workflows: Workflows,
    happening: &Happening,
    sha: &Sha,
    arguments: &Arguments,
) -> anyhow::Result<Result<Planned, (WorkflowFile, Vec<diagnostic::Problem>)>> {
    let Happening { change, event, payload } = happening;
    let name = tree.top.file_name().map(|name| name.to_string_lossy().into_owned());
    let local = || format!("local/{}", name.unwrap_or_else(|| "repository".to_owned()));
    let repository = tree.origin().unwrap_or_else(local);
    let git_ref = change.full_ref();
    let default_branch = match change {
        Change::PullRequest(pull) => &pull.base_ref,
        _ => git_ref.strip_prefix("refs/heads/").unwrap_or("main"),
    };
    let facts = RunFacts {
        tested: sha,
        repository: &repository,
        default_branch,
        repository_url: &tree.top.to_string_lossy(),
        server_url: "https://github.com",
        api_url: "https://api.github.com",
        payload: payload.clone(),
        workflow: workflows.root().name.as_deref().unwrap_or(&file.path),
        workflow_path: &file.path,
        protected: false,
        run_id: 1,
        run_number: 1,
    };
    let mut github = github_context(change, &facts);
    if event.name != change.event_name() {
        let told = payload.clone().unwrap_or_else(|| serde_json::json!({}));
        let said = payload::github(&event.name, &told, None);
        for field in ["event", "event_name", "head_ref", "base_ref"] {
            github[field] = said[field].clone();
        }
    }
    let mut contexts = Contexts::new();
    contexts.set("github", &github);
    contexts.set("vars", arguments.var.iter().cloned().collect::<Object>());
    let filled = fill_in(workflows.root(), &arguments.input, &mut github, &mut contexts);
    if let Err(wrong) = filled {
        anyhow::bail!("{}: {}", file.path, wrong.join("; "));
    }
    Ok(match plan_all(&workflows, &contexts) {
        Ok(jobs) => {
            let run = Run::choosing(jobs, arguments.matrix.clone());
            Ok(Planned { file, workflows, contexts, github, run })
        }
        Err(problems) => Err((file, problems)),
    })
}

/// Leaves only the job `id` and what it needs; returns false where there is no such job.
fn select(planned: &mut Planned, id: &str) -> bool {
    let mut wanted = vec![id.to_owned()];
    let mut next = 0;
    while let Some(id) = wanted.get(next).cloned() {
        next += 1;
        if let Some(job) = planned.workflows.root().job(&id) {
            wanted.extend(
                job.needs.iter().filter(|need| !wanted.contains(need)).cloned().collect::<Vec<_>>(),
            );
        }
    }
    let keep = |id: &str| wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(id));
    planned.run.jobs.retain(|job| keep(&job.id));
    planned.run.jobs.iter().any(|job| job.id.eq_ignore_ascii_case(id))
}

/// Returns what the run pretends happened.
fn happening(
    tree: &WorkTree,
    head: Head,
    source: &Source,
    arguments: &Arguments,
) -> anyhow::Result<Happening> {
    let name = arguments.event.as_str();
    if !is_event(name) {
        anyhow::bail!("`{name}` is no event that starts a workflow");
    }
    let payload = arguments.payload.as_deref().map(payload_in).transpose()?;
    let change = change(tree, head, source, arguments)?;
    let event = if name == change.event_name() {
        change.event(ChangedFiles::Unknown)
    } else {
        let told = payload.clone().unwrap_or_else(|| serde_json::json!({}));
        payload::event(name, &told, Some(&change.full_ref()), ChangedFiles::Unknown)
    };
    Ok(Happening { change, event, payload })
}

/// Returns what is in the repository for an event: a push of the snapshot to the branch that is checked out, or a
/// pull request with it.
fn change(
    tree: &WorkTree,
    head: Head,
    source: &Source,
    arguments: &Arguments,
) -> anyhow::Result<Change> {
    let sha = Sha::parse(&source.sha)?;
    let commit = git::commit(&tree.top, source.extra_objects.as_deref(), &sha);
    let commit = commit.context("cannot read the snapshot")?;
    let before = head.commit.map(|head| head.commit);
    let login = arguments.actor.clone().or_else(|| std::env::var("USER").ok());
    let sender = login.map(|login| Person { id: None, login });
    if arguments.event != "pull_request" {
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
