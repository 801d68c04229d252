//! `/api/v1/dispatches`: people ask for a workflow (`workflow_dispatch`).
//!
//! All that is wrong with what is asked for is told at once, as GitHub does; what is taken is an event like any other,
//! stored before it is answered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

use super::audit::note;
use super::error::Problem;
use crate::git::workflows::{self, Files, MAX_FILES};
use crate::git::{GitError, Mirror, Remote};
use crate::loops::Shared;

/// GitHub's bounds on what is filled in
/// ([workflow_dispatch](https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows#workflow_dispatch)):
/// how many inputs, and how many characters together.
const MAX_INPUTS: usize = 25;
const MAX_TEXT: usize = 65_535;
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
    let repositories = shared.store.repositories().await?;
    let repository = repositories.iter().find(|known| known.name == asked.repository);
    let repository = repository
        .ok_or_else(|| Problem::not_found(format!("repository `{}`", asked.repository)))?;
    let looked = Look {
        mirror: shared.data.mirror(&repository.id()),
        remote: shared.remote(repository)?,
        git_ref: asked.git_ref.unwrap_or_else(|| repository.default_branch.clone()),
        workflow: asked.workflow,
        inputs: texts(asked.inputs)?,
    };
    // Nobody removes the mirror meanwhile.
    let mirrors = shared.mirrors.read().await;
    let looked = tokio::task::spawn_blocking(move || looked.look());
    let dispatch = looked.await.map_err(anyhow::Error::from)??;
    let (workflow, git_ref) = (dispatch.workflow.clone(), dispatch.git_ref.full());
    let sha = dispatch.sha.to_string();
    let change = Change::Dispatch(dispatch);
    let number = shared.store.dispatch(&repository.id(), change, clock::now_ms()).await?;
    drop(mirrors);
    shared.wake.plan.notify_one();
    note(&shared, "workflow.dispatch", &format!("{} {workflow}", repository.name), &git_ref)
        .await?;
    let answer = json!({ "event": number, "workflow": workflow, "ref": git_ref, "sha": sha });
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// `GET /api/v1/dispatches/EVENT`: what became of one.
pub(super) async fn outcome(
    State(shared): State<Arc<Shared>>,
    At(number): At<i64>,
) -> Result<Json<Value>, Problem> {
    let found = shared.store.dispatched(number).await?;
    let found = found.ok_or_else(|| Problem::not_found(format!("dispatch {number}")))?;
    Ok(Json(json!({
        "event": number,
        "outcome": found.outcome,
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
    let mut texts = BTreeMap::new();
    for (name, value) in given {
        let text = match value {
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                wrong.push(format!("input `{name}` must be a text, a number, true or false"));
                continue;
            }
        };
        texts.insert(name, text);
    }
    let length: usize = texts.iter().map(|(name, text)| name.len() + text.chars().count()).sum();
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
        mirror.fetch(&self.remote, None).map_err(failed)?;
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
    let change = Change::Dispatch(dispatch);
    if let Verdict::Skip(why) = judge(workflow, &change.event(ChangedFiles::Unknown)) {
        return Err(bad(&[format!("{path}: {why}")]));
    }
    if !workflow.unsupported.is_empty() {
        return Err(refused(&path, text, &workflow.unsupported));
    }
    let mut contexts = Contexts::new();
    contexts.set("github", &json!({ "event_name": change.event_name(), "event": {} }));
    inputs(workflow, &given, &contexts).map_err(|wrong| bad(&wrong))?;
    match change {
        Change::Dispatch(dispatch) => Ok(dispatch),
        _ => Err(bad(&["it is no dispatch".to_owned()])),
    }
}

/// Says what is wrong with a file, a line each.
fn refused(path: &str, text: &str, problems: &[diagnostic::Problem]) -> Problem {
    let told = problems.iter().take(MOST_PROBLEMS).map(|problem| problem.one_line(path, text));
    bad(&told.collect::<Vec<_>>())
}

fn bad(wrong: &[String]) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, wrong.join("\n"))
}
