//! `/api/v1/dispatches`: people ask for a workflow (`workflow_dispatch`).
//!
//! All that is wrong with what is asked for is told at once, as GitHub does; what is taken is an event like any other,
//! stored before it is answered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path as At, State};
use axum::http::StatusCode;
use muster_core::change::{Change, Dispatch, GitRef, Person};
use muster_core::id::Sha;
use muster_sys::clock;
use muster_workflow::expr::Contexts;
use muster_workflow::inputs;
use muster_workflow::trigger::{ChangedFiles, Verdict, judge};
use muster_workflow::workflow::Workflow;
use muster_workflow::{diagnostic, read};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::api::repository_named;
use super::error::Problem;
use crate::git::workflows::{self, Files, MAX_FILES};
use crate::git::{GitError, Mirror, Remote};
use crate::loops::Shared;
use crate::store::audit::Deed;

/// GitHub's bounds on what is filled in
/// ([workflow_dispatch](https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows#workflow_dispatch)):
/// how many inputs, and how many characters together.
const MAX_INPUTS: usize = 25;
const MAX_TEXT: usize = 65_535;
/// The largest body, in bytes: a character can be escaped six times as long.
pub(super) const MAX_BODY: usize = 8 * MAX_TEXT;
/// How long one waits for others that ask, and for the repository.
const PATIENCE: Duration = Duration::from_secs(50);
const BUSY: &str = "others ask for workflows, and it took too long to come to this: ask again";
const SLOW: &str = "the repository took too long to answer: ask again";
/// The most problems of a file that are told.
const MOST_PROBLEMS: usize = 10;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// The repository's name.
    repository: String,
    /// The workflow: the path of its file, the file's name, or its own.
    workflow: String,
    /// A branch or tag, by its short or full name; the default branch without one.
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    /// What is filled in: texts, numbers, `true` and `false`.
    #[serde(default)]
    inputs: BTreeMap<String, Value>,
}

/// `POST /api/v1/dispatches`
pub(super) async fn dispatch(
    State(shared): State<Arc<Shared>>,
    Json(asked): Json<Asked>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    // Who hangs up has asked all the same: it is done to its end.
    let work = take(Arc::clone(&shared), asked);
    let answer = shared.errands.spawn("dispatch", work).await.map_err(anyhow::Error::from)??;
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

async fn take(shared: Arc<Shared>, asked: Asked) -> Result<Value, Problem> {
    let inputs = texts(asked.inputs)?;
    // Nobody removes the mirror meanwhile.
    let _mirrors = shared.mirrors.read().await;
    let repository = repository_named(&shared, &asked.repository).await?;
    let gone = || Problem::not_found(format!("repository `{}`", asked.repository));
    let look = Look {
        mirror: shared.data.mirror(&repository.id()),
        remote: shared.remote(&repository)?,
        git_ref: asked.git_ref.unwrap_or_else(|| repository.default_branch.clone()),
        workflow: asked.workflow,
        inputs,
    };
    // One at a time: two that fetch the same would be in each other's way, and who waits holds no thread.
    let busy = |_| Problem::new(StatusCode::SERVICE_UNAVAILABLE, BUSY);
    let turn = timeout(PATIENCE, shared.dispatching.lock()).await.map_err(busy)?;
    let looked = timeout(PATIENCE, tokio::task::spawn_blocking(move || look.look())).await;
    drop(turn);
    let looked = looked.map_err(|_| Problem::new(StatusCode::GATEWAY_TIMEOUT, SLOW))?;
    let dispatch = match looked.map_err(anyhow::Error::from)? {
        Ok(dispatch) => dispatch,
        // Its mirror went with it.
        Err(_) if shared.store.repository(&repository.id()).await?.is_none() => {
            return Err(gone());
        }
        Err(problem) => return Err(problem),
    };
    let (workflow, git_ref) = (dispatch.workflow.clone(), dispatch.git_ref.full());
    let sha = dispatch.sha.to_string();
    let subject = format!("{} {workflow}", repository.name);
    let deed = Deed { action: "workflow.dispatch", subject: &subject, detail: &git_ref };
    let (change, now) = (Change::Dispatch(dispatch), clock::now_ms());
    let number = shared.store.dispatch(&repository.id(), change, &deed, now).await?;
    let number = number.ok_or_else(gone)?;
    shared.wake.plan.notify_one();
    Ok(json!({ "event": number, "workflow": workflow, "ref": git_ref, "sha": sha }))
}

/// `GET /api/v1/dispatches/EVENT`: what became of one.
pub(super) async fn outcome(
    State(shared): State<Arc<Shared>>,
    At(number): At<i64>,
) -> Result<Json<Value>, Problem> {
    let found = shared.store.dispatched(number).await?;
    let found = found.ok_or_else(|| Problem::not_found(format!("dispatch {number}")))?;
    // What was found out when it was planned.
    let is_refused = found.outcome == "accepted" && found.run.is_none() && found.reason.is_some();
    let outcome = if is_refused { "refused" } else { found.outcome.as_str() };
    Ok(Json(json!({
        "event": number,
        "outcome": outcome,
        "reason": found.reason,
        "run": found.run,
    })))
}

/// Reads what is filled in as texts.
fn texts(given: BTreeMap<String, Value>) -> Result<BTreeMap<String, String>, Problem> {
    if given.len() > MAX_INPUTS {
        return Err(bad(&[format!("{} inputs are given, {MAX_INPUTS} at most", given.len())]));
    }
    let mut wrong = Vec::new();
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in given {
        if let Some(other) = texts.keys().find(|known| known.eq_ignore_ascii_case(&name)) {
            wrong.push(format!("input `{name}` is given twice, as `{other}`, too"));
        }
        let text = match value {
            Value::String(text) if text.contains('\0') => {
                wrong.push(format!("input `{name}` has a NUL: programs could not be given it"));
                continue;
            }
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                wrong.push(format!("input `{name}` must be a text, a number, true or false"));
                continue;
            }
        };
        texts.insert(name, text);
    }
    let length: usize = texts.values().map(|text| text.chars().count()).sum();
    if length > MAX_TEXT {
        wrong.push(format!("the inputs have {length} characters together, {MAX_TEXT} at most"));
    }
    if wrong.is_empty() { Ok(texts) } else { Err(bad(&wrong)) }
}

/// What is looked for in a repository.
struct Look {
    mirror: PathBuf,
    remote: Remote,
    git_ref: String,
    workflow: String,
    inputs: BTreeMap<String, String>,
}

impl Look {
    /// Finds the workflow, and checks that it can be asked for so.
    fn look(self) -> Result<Dispatch, Problem> {
        let failed = |error: GitError| {
            Problem::new(StatusCode::BAD_GATEWAY, format!("the repository cannot be read: {error}"))
        };
        let mirror = Mirror::open(self.mirror).map_err(failed)?;
        // Another that fetches it may have been in the way.
        let fetched =
            mirror.fetch(&self.remote, None).or_else(|_| mirror.fetch(&self.remote, None));
        fetched.map_err(failed)?;
        let (git_ref, sha) = find_ref(&mirror, &self.git_ref)
            .ok_or_else(|| Problem::not_found(format!("branch or tag `{}`", self.git_ref)))?;
        let files = workflows::of(&mirror, &sha).map_err(failed)?;
        let files = files.ok_or_else(|| {
            bad(&[format!("{} has more than {MAX_FILES} workflow files", sha.short())])
        })?;
        let (path, text, workflow) = find_workflow(files, &self.workflow, &git_ref)?;
        let dispatch = Dispatch {
            git_ref,
            sha,
            workflow: path,
            inputs: self.inputs,
            // There is one token.
            sender: Person { id: None, login: "admin".to_owned() },
        };
        check(&workflow, &text, dispatch)
    }
}

/// Finds a branch or else a tag, by its short or full name.
fn find_ref(mirror: &Mirror, name: &str) -> Option<(GitRef, Sha)> {
    let names = [name.to_owned(), format!("refs/heads/{name}"), format!("refs/tags/{name}")];
    names.iter().find_map(|name| {
        let git_ref = GitRef::parse(name)?;
        Some((git_ref, mirror.resolve(name)?))
    })
}

/// Finds a workflow by the path of its file, the name of that, or its own name.
fn find_workflow(
    files: Files,
    wanted: &str,
    git_ref: &GitRef,
) -> Result<(String, String, Workflow), Problem> {
    let file = |path: &str| Path::new(path).file_name().is_some_and(|name| name == wanted);
    let paths: Vec<String> = files.iter().map(|(path, _)| path.clone()).collect();
    let is_named = |text: &Option<String>| {
        let workflow = text.as_deref().and_then(|text| read(text).ok());
        workflow.is_some_and(|workflow| workflow.name.as_deref() == Some(wanted))
    };
    let mut found: Vec<_> =
        files.iter().filter(|(path, _)| path == wanted || file(path)).cloned().collect();
    if found.is_empty() {
        found = files.into_iter().filter(|(_, text)| is_named(text)).collect();
    }
    let name = git_ref.short();
    match <[_; 1]>::try_from(found) {
        Ok([(path, Some(text))]) => {
            let workflow = read(&text).map_err(|problems| refused(&path, &text, &problems))?;
            Ok((path, text, workflow))
        }
        Ok([(path, None)]) => Err(bad(&[format!("{path} is larger than 1 MiB or no UTF-8")])),
        Err(found) if found.is_empty() => {
            let there = if paths.is_empty() { "none".to_owned() } else { paths.join(", ") };
            Err(Problem::not_found(format!("workflow `{wanted}` in `{name}`, which has: {there}")))
        }
        Err(several) => {
            let paths: Vec<String> = several.into_iter().map(|(path, _)| path).collect();
            let why = format!("`{wanted}` may be {}: say which by its path", paths.join(" or "));
            Err(bad(&[why]))
        }
    }
}

/// Checks that a workflow can be asked for, and so.
fn check(workflow: &Workflow, text: &str, dispatch: Dispatch) -> Result<Dispatch, Problem> {
    let path = dispatch.workflow.clone();
    let given: Vec<(String, String)> = dispatch.inputs.clone().into_iter().collect();
    let change = Change::Dispatch(dispatch.clone());
    if let Verdict::Skip(why) = judge(workflow, &change.event(ChangedFiles::Unknown)) {
        return Err(bad(&[format!("{path}: {why}")]));
    }
    if !workflow.unsupported.is_empty() {
        return Err(refused(&path, text, &workflow.unsupported));
    }
    let mut contexts = Contexts::new();
    contexts.set("github", &json!({ "event_name": change.event_name(), "event": {} }));
    inputs(workflow, &given, &contexts).map_err(|wrong| bad(&wrong))?;
    Ok(dispatch)
}

/// Says what is wrong with a file, a line each.
fn refused(path: &str, text: &str, problems: &[diagnostic::Problem]) -> Problem {
    let told = problems.iter().take(MOST_PROBLEMS).map(|problem| problem.one_line(path, text));
    bad(&told.collect::<Vec<_>>())
}

fn bad(wrong: &[String]) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, wrong.join("\n"))
}
