//! `muster plan`: what of workflow files would run for an event, and why the rest would not.

use std::path::{Path, PathBuf};

use anyhow::bail;
use muster_core::change::skip_mark;
use muster_workflow::diagnostic::Problem;
use muster_workflow::expr::Contexts;
use muster_workflow::text::one_line;
use muster_workflow::trigger::{ChangedFiles, Event, Verdict, is_event, judge};
use muster_workflow::uses::Uses;
use muster_workflow::{Files as _, Preview, Text, Workflows, check, payload, preview, read};
use serde_json::{Value as Json, json};

use super::lint::{Repository, ours, problems, text, workflows_in};
use super::{CANNOT_RUN, GREEN, RED, complain, print, print_json, read_file, read_json};

/// More than a payload of GitHub has.
const MOST_BYTES: u64 = 25 << 20;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["check", "event"])))]
pub(crate) struct Arguments {
    /// A workflow file; without one, those of the repository that this folder is in.
    file: Option<PathBuf>,
    /// Say whether this file is a valid workflow for GitHub, whatever muster can run of it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["file", "event"])]
    check: Option<PathBuf>,
    /// The event, such as `push`.
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// What GitHub's webhook says of the event: a JSON file.
    #[arg(long, value_name = "FILE", requires = "event")]
    payload: Option<PathBuf>,
    /// The branch, tag or full ref that the event is about, where the payload does not say; of a pull request its base.
    #[arg(long, value_name = "REF", requires = "event")]
    r#ref: Option<String>,
    /// The files that the change touches, a line each; without it filters of paths pass.
    #[arg(long, value_name = "FILE", requires = "event")]
    changed_files: Option<PathBuf>,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// A line for each workflow and each job.
    Text,
    /// One JSON object.
    Json,
}

/// What becomes of a workflow.
struct Judged {
    file: String,
    name: String,
    /// Why it does not run.
    reason: Option<String>,
    jobs: Vec<Preview>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    if let Some(file) = &arguments.check {
        let (source, problems) = problems(file, check)?;
        text(&file.to_string_lossy(), &source, &problems);
        return Ok(if problems.is_empty() { GREEN } else { RED });
    }
    let name = arguments.event.as_deref().unwrap_or_default();
    if !is_event(name) {
        bail!("`{name}` is no event that starts a workflow");
    }
    let payload = match &arguments.payload {
        Some(file) => payload_in(file)?,
        None => json!({}),
    };
    let changed = match &arguments.changed_files {
        Some(file) => {
            let text = read_file(file, MOST_BYTES)?;
            let text = String::from_utf8_lossy(&text);
            let files = text.lines().filter(|line| !line.is_empty());
            ChangedFiles::Known(files.map(str::to_owned).collect())
        }
        None => ChangedFiles::Unknown,
    };
    let git_ref = arguments.r#ref.as_deref();
    let event = payload::event(name, &payload, git_ref, changed);
    let mut contexts = Contexts::new();
    contexts.set("github", &payload::github(name, &payload, git_ref));
    let files = match &arguments.file {
        Some(file) => vec![file.clone()],
        None => {
            let folders = ours()?.into_iter().map(|folder| workflows_in(&folder));
            folders.collect::<anyhow::Result<Vec<_>>>()?.into_iter().flatten().collect()
        }
    };
    // A push asks for no run with its last commit.
    let message = payload.pointer("/head_commit/message").and_then(Json::as_str);
    let mark = message.filter(|_| name == "push").and_then(skip_mark);
    let mut exit = GREEN;
    let mut judged = Vec::new();
    for file in files {
        match judge_file(&file, &event, mark, &contexts) {
            Ok(Ok(workflow)) => judged.push(workflow),
            Ok(Err((source, problems))) => {
                let path = file.to_string_lossy();
                match arguments.format {
                    Format::Text => text(&path, &source, &problems),
                    Format::Json => judged.push(refused(&path, &source, &problems)),
                }
                exit = exit.max(RED);
            }
            Err(error) => {
                complain(&error);
                exit = CANNOT_RUN;
            }
        }
    }
    match arguments.format {
        Format::Text => judged.iter().for_each(say),
        Format::Json => {
            let workflows: Vec<Json> = judged.iter().map(as_json).collect();
            print_json(&format_args!("{:#}", json!({ "workflows": workflows })));
        }
    }
    Ok(exit)
}

/// Reads what a webhook says: a JSON object.
pub(super) fn payload_in(file: &Path) -> anyhow::Result<Json> {
    let payload = read_json(file, MOST_BYTES)?;
    if !payload.is_object() {
        bail!("{} is no payload: it must be a JSON object", file.display());
    }
    Ok(payload)
}

type Wrong = (String, Vec<Problem>);

fn judge_file(
    file: &Path,
    event: &Event,
    mark: Option<&str>,
    contexts: &Contexts,
) -> anyhow::Result<Result<Judged, Wrong>> {
    let mut workflow = None;
    let (source, problems) = problems(file, |source| match read(source) {
        Ok(read) => {
            workflow = Some(read);
            Vec::new()
        }
        Err(problems) => problems,
    })?;
    let Some(workflow) = workflow else { return Ok(Err((source, problems))) };
    let path = file.to_string_lossy().into_owned();
    let mut judged = Judged {
        name: workflow.name.clone().unwrap_or_else(|| path.clone()),
        file: path,
        reason: None,
        jobs: Vec::new(),
    };
    if let Verdict::Skip(why) = judge(&workflow, event) {
        judged.reason = Some(why);
        return Ok(Ok(judged));
    }
    if let Some(mark) = mark {
        judged.reason = Some(format!("the message of its commit has `{mark}`"));
        return Ok(Ok(judged));
    }
    let mut contexts = contexts.clone();
    contexts.extend("github", "workflow", judged.name.as_str());
    // Others of its repository are here, those of other repositories are not looked for.
    let repository = Repository::of(file);
    let workflows = Workflows::gather(workflow, &mut |uses| {
        let text = match uses {
            Uses::Local(path) => path.strip_prefix("./").and_then(|path| repository.read(path)),
            _ => None,
        };
        text.map_or(Text::NotHere, Text::Here)
    });
    match preview(&workflows, &contexts) {
        Ok(jobs) => {
            judged.jobs = jobs;
            Ok(Ok(judged))
        }
        Err(problems) => Ok(Err((source, problems))),
    }
}

/// A workflow that is wrong: it does not run, and each problem is a line of the reason.
fn refused(file: &str, source: &str, problems: &[Problem]) -> Judged {
    let lines: Vec<String> =
        problems.iter().map(|problem| problem.one_line(file, source)).collect();
    Judged {
        file: file.to_owned(),
        name: file.to_owned(),
        reason: Some(lines.join("\n")),
        jobs: Vec::new(),
    }
}

fn say(judged: &Judged) {
    let mut file = one_line(&judged.file);
    if judged.name != judged.file {
        file = format!("{file} ({})", one_line(&judged.name));
    }
    match &judged.reason {
        Some(why) => print(format!("{file} does not run: {}", one_line(why))),
        None => print(format!("{file} runs:")),
    }
    let width = judged.jobs.iter().map(|job| job.name.chars().count()).max().unwrap_or(0);
    for job in &judged.jobs {
        let name = one_line(&job.name);
        let what = if job.runs { "runs" } else { "does not run" };
        let why = job.reason.as_deref().map_or(String::new(), |why| format!(": {}", one_line(why)));
        print(format!("  {name:width$}  {what}{why}"));
    }
}

fn as_json(judged: &Judged) -> Json {
    let jobs = judged.jobs.iter().map(|job| {
        json!({
            "id": job.id,
            "name": job.name,
            "needs": job.needs,
            "matrix": job.matrix.to_json(),
            "run": job.runs,
            "reason": job.reason,
        })
    });
    json!({
        "file": judged.file,
        "name": judged.name,
        "run": judged.reason.is_none(),
        "reason": judged.reason,
        "jobs": jobs.collect::<Vec<_>>(),
    })
}
