//! `/api/v1`: what the command line and other programs use.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use futures_util::stream::unfold;
use muster_core::id::Sha;
use muster_core::run::Reason;
use muster_core::trust::Protection;
use muster_sys::{clock, files};
use serde::Deserialize;
use serde_json::{Value, json};

use super::audit::note;
use super::error::Problem;
use crate::git::{GitError, Mirror, Remote, ls_remote};
use crate::logs;
use crate::loops::Shared;
use crate::store::Page;
use crate::store::jobs::{AnnotationRow, JobRow, StepRow};
use crate::store::outbox::Untold;
use crate::store::reports::Unsent;
use crate::store::repositories::Repository;
use crate::store::runs::RunRow;

/// How many rows of a list are shown where nobody says how many, and at most.
const ROWS: i64 = 100;
const MOST_ROWS: i64 = 1000;
/// How many rows of the outbox are shown, of each kind.
const OUTBOX: i64 = 200;

/// `GET /.well-known/openid-configuration`: what clouds ask who vouches for jobs.
pub(super) async fn discovery(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.services.issuer().discovery())
}

/// `GET /.well-known/jwks`
pub(super) async fn identity_keys(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(shared.services.issuer().keys().await?))
}

/// Returns the repository of a name.
pub(super) async fn repository_named(shared: &Shared, name: &str) -> Result<Repository, Problem> {
    let repositories = shared.store.repositories().await?;
    let found = repositories.into_iter().find(|repository| repository.name == name);
    found.ok_or_else(|| Problem::not_found(format!("repository `{name}`")))
}

/// `GET /api/v1/repositories`
pub(super) async fn repositories(
    State(shared): State<Arc<Shared>>,
) -> Result<Json<Value>, Problem> {
    let repositories = shared.store.repositories().await?;
    let list: Vec<Value> = repositories
        .iter()
        .map(|repository| {
            json!({
                "id": repository.number,
                "name": repository.name,
                "location": repository.shown_location(),
                "kind": repository.kind(),
                "default_branch": repository.default_branch,
                "protected": repository.protected_patterns(),
                "seen_at": repository.seen_at,
                "problem": repository.problem,
            })
        })
        .collect();
    Ok(Json(json!({ "repositories": list })))
}

/// What adds a repository.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewRepository {
    name: String,
    /// A path or URL; without one the repository is at GitHub.
    location: Option<String>,
    /// Whether the repository is reached with a key of its own.
    #[serde(default)]
    deploy_key: bool,
}

/// `POST /api/v1/repositories`
pub(super) async fn add_repository(
    State(shared): State<Arc<Shared>>,
    Json(new): Json<NewRepository>,
) -> Result<impl IntoResponse, Problem> {
    let bad = |message: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, message);
    let name_fits = !new.name.is_empty()
        && new.name.len() <= 200
        && new
            .name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'))
        && new.name.split('/').all(|part| !part.is_empty() && !part.starts_with(['.', '-']));
    if !name_fits {
        return Err(bad(
            "a name has 1 to 200 letters, digits, `-`, `_`, `.` and `/`, and no part of it starts with `.` or `-`",
        ));
    }
    let Some(location) = new.location else {
        let name = add_github_repository(&shared, &new.name).await?;
        note(&shared, "repository.add", &name, "at GitHub").await?;
        return Ok((StatusCode::CREATED, Json(json!({ "name": name }))));
    };
    let known = ["/", "https://", "http://", "ssh://", "git://", "file://"];
    if !known.iter().any(|start| location.starts_with(start)) && !is_ssh(&location) {
        return Err(bad("a location is an absolute path or a URL that git understands"));
    }
    if new.deploy_key && !is_ssh(&location) {
        return Err(bad(
            "a deploy key opens a repository that is reached by SSH, such as git@host:owner/name.git",
        ));
    }
    let taken = shared.store.repositories().await?.into_iter().find(|known| known.name == new.name);
    if let Some(known) = taken {
        let (name, at) = (&known.name, known.shown_location());
        return Err(bad(&format!("repository `{name}` is already there, at {at}")));
    }
    let key = new.deploy_key.then(|| shared.data.new_key(&new.name));
    let (asked, name, new_key) = (location.clone(), new.name.clone(), key.clone());
    let looked = tokio::task::spawn_blocking(move || {
        let public = new_key.as_ref().map(|key| key.public(&name)).transpose()?;
        Ok::<_, GitError>((ls_remote(&Remote::new(asked, new_key)), public))
    });
    let looked = looked.await.map_err(anyhow::Error::from)?;
    let (refs, public) = looked.map_err(|error| bad(&error.to_string()))?;
    let refs = refs.map_err(|error| {
        let key = public.map(|key| {
            format!(
                "\nIts deploy key is\n{key}\nLet it in at the code host, with the right to write if \
                 verdicts are to be notes there, and add the repository again."
            )
        });
        bad(&format!("cannot look at {location}: {error}{}", key.unwrap_or_default()))
    })?;
    let branch = refs.default_branch.unwrap_or_else(|| "main".to_owned());
    let (store, name) = (&shared.store, new.name.clone());
    let id = store.add_repository(name, location, branch, None, clock::now_ms()).await?;
    if let Some(key) = key {
        key.become_of(&shared.data.deploy_key(&id)).map_err(anyhow::Error::from)?;
    }
    note(&shared, "repository.add", &new.name, "").await?;
    shared.wake.watch.notify_one();
    Ok((StatusCode::CREATED, Json(json!({ "name": new.name }))))
}

/// Returns whether git reaches a location by SSH: a URL, or `user@host:path`.
fn is_ssh(location: &str) -> bool {
    let plain = |text: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !text.is_empty() && !text.starts_with('-') && text.bytes().all(fits)
    };
    let short = || {
        let (user, rest) = location.split_once('@')?;
        let (host, path) = rest.split_once(':')?;
        Some(plain(user) && plain(host) && !path.is_empty())
    };
    location.starts_with("ssh://") || short().unwrap_or(false)
}

/// Looks a repository up at GitHub and adds it; returns its name there.
async fn add_github_repository(shared: &Shared, name: &str) -> Result<String, Problem> {
    let bad = |message: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, message);
    let Some(github) = &shared.github else {
        return Err(bad("a repository without a location is one at GitHub, and this server has no [github] in its configuration".to_owned()));
    };
    let now = clock::now_ms();
    let found = github.client.repository(name, now / 1000).await;
    let found = found.map_err(|error| bad(format!("GitHub does not show `{name}`: {error}")))?;
    let location = github.location(&found.full_name);
    let (id, branch) = (Some(found.id), found.default_branch);
    shared.store.add_repository(found.full_name.clone(), location, branch, id, now).await?;
    Ok(found.full_name)
}

/// `POST /api/v1/adopt/NAME`: ends the shadow of a repository.
pub(super) async fn adopt(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    if shared.store.adopt_repository(name.clone()).await? {
        note(&shared, "repository.adopt", &name, "").await?;
        Ok(Json(json!({ "name": name })))
    } else {
        Err(Problem::not_found(format!("repository `{name}`")))
    }
}

/// Which branches and tags of a repository are protected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Protect {
    /// Filter patterns; without any its default branch is protected.
    patterns: Option<Vec<String>>,
}

/// `PUT /api/v1/protection/NAME`
pub(super) async fn protect(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Json(Protect { patterns }): Json<Protect>,
) -> Result<StatusCode, Problem> {
    if let Some(patterns) = &patterns {
        let bad = |why| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, why);
        let is_line =
            |pattern: &String| pattern.trim() == *pattern && !pattern.chars().any(char::is_control);
        if !patterns.iter().all(is_line) {
            return Err(bad("a pattern is a line without blanks around it".to_owned()));
        }
        if patterns.iter().all(|pattern| pattern.starts_with('!')) {
            return Err(bad(
                "patterns that begin with `!` take away from others: name one".to_owned()
            ));
        }
        Protection::read(patterns.iter().map(String::as_str)).map_err(bad)?;
    }
    let detail = patterns.as_ref().map_or("the default branch".to_owned(), |all| all.join(" "));
    if shared.store.protect(name.clone(), patterns).await? {
        note(&shared, "repository.protect", &name, &detail).await?;
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found(format!("repository `{name}`")))
    }
}

/// `POST /api/v1/commits/SHA/approve`: lets a stranger's very commit run.
pub(super) async fn approve(
    State(shared): State<Arc<Shared>>,
    Path(sha): Path<String>,
) -> Result<Json<Value>, Problem> {
    let parsed = Sha::parse(&sha).map_err(|_| Problem::not_found(format!("commit {sha}")))?;
    let events = shared.store.approve(parsed, clock::now_ms()).await?;
    if events == 0 {
        let message = format!("nothing waits for an approval of {sha}");
        return Err(Problem::new(StatusCode::CONFLICT, message));
    }
    note(&shared, "commit.approve", &sha, "").await?;
    shared.wake.plan.notify_one();
    shared.wake.deliver.notify_one();
    Ok(Json(json!({ "sha": sha, "events": events })))
}

/// `DELETE /api/v1/repositories/NAME`
pub(super) async fn remove_repository(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let id = shared.store.remove_repository(name.clone()).await?;
    let id = id.ok_or_else(|| Problem::not_found(format!("repository `{name}`")))?;
    // Its jobs are told to end.
    shared.wake.drive.notify_one();
    let (mirror, key) = (shared.data.mirror(&id), shared.data.deploy_key(&id));
    // The repository is gone; what of it cannot be removed now goes with what belongs to nothing.
    let removed = tokio::task::spawn_blocking(move || {
        if let Err(error) = key.remove() {
            tracing::warn!(%error, "a deploy key cannot be removed");
        }
        let gone = mirror.with_extension("gone");
        if std::fs::rename(&mirror, &gone).is_ok()
            && let Err(error) = files::remove_tree(&gone)
        {
            tracing::warn!(path = %gone.display(), %error, "a mirror cannot be removed");
        }
    });
    removed.await.map_err(anyhow::Error::from)?;
    // Last: a note that cannot be written keeps none of this from being done.
    note(&shared, "repository.remove", &name, "").await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /api/v1/outbox`: what has still to be told, and what is given up.
pub(super) async fn outbox(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let reports = shared.store.untold_reports(OUTBOX).await?;
    let notices = shared.store.untold_notices(OUTBOX).await?;
    let list = |untold: &[Untold], about: &str, state: &str| -> Vec<Value> {
        let rows = untold.iter().map(|row| {
            json!({
                "repository": row.repository,
                "sha": row.sha,
                about: row.about,
                state: row.state,
                "fate": row.fate(),
                "failures": row.failures,
                "problem": row.problem,
            })
        });
        rows.collect()
    };
    Ok(Json(json!({
        "reports": list(&reports, "context", "state"),
        "notices": list(&notices, "branch", "verdict"),
    })))
}

/// Which rows of a list are asked for: `?limit=N&before=ID`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    pub(super) limit: Option<i64>,
    pub(super) before: Option<i64>,
}

impl Asked {
    pub(super) fn page(&self) -> Page {
        let limit = self.limit.unwrap_or(ROWS).clamp(1, MOST_ROWS);
        Page { limit, before: self.before.unwrap_or(i64::MAX) }
    }
}

/// `GET /api/v1/runs`: the newest first.
pub(super) async fn runs(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Problem> {
    let runs = shared.store.newest_runs(asked.page()).await?;
    let list: Vec<Value> = runs.iter().map(|run| run_json(&shared, run)).collect();
    Ok(Json(json!({ "runs": list })))
}

/// `GET /api/v1/runs/NUMBER`
pub(super) async fn run(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<i64>,
) -> Result<Json<Value>, Problem> {
    let run = find(&shared, number).await?;
    let mut jobs = Vec::new();
    for row in shared.store.shown_jobs_of(&run.id, run.attempt).await? {
        let steps = shared.store.steps_of(&row.ran_as).await?;
        let annotations = shared.store.annotations_of(&row.ran_as).await?;
        jobs.push(job_json(&shared, &row, &steps, &annotations));
    }
    let mut json = run_json(&shared, &run);
    json["jobs"] = jobs.into();
    let artifacts = shared.services.artifacts_of(&run.id).await?.into_iter().map(|artifact| {
        let mut url = shared.config.public_url.parse::<reqwest::Url>().ok();
        if let Some(Ok(mut path)) = url.as_mut().map(reqwest::Url::path_segments_mut) {
            path.pop_if_empty().extend([
                "runs",
                &run.number.to_string(),
                "artifacts",
                &artifact.name,
            ]);
        }
        json!({
            "id": artifact.id,
            "name": artifact.name,
            "size": artifact.size,
            "digest": artifact.digest,
            "created_at": artifact.created_at,
            "expires_at": artifact.expires_at,
            "url": url.map(String::from),
        })
    });
    json["artifacts"] = artifacts.collect();
    Ok(Json(json))
}

/// `POST /api/v1/runs/NUMBER/cancel`
pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<i64>,
) -> Result<Json<Value>, Problem> {
    find(&shared, number).await?;
    let reason = Reason::new("cancelled", "cancelled by the administrator");
    shared.store.cancel_run(number, reason).await?;
    note(&shared, "run.cancel", &format!("run {number}"), "").await?;
    shared.wake.drive.notify_one();
    Ok(Json(json!({ "run": number })))
}

/// What a re-run is of.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rerun {
    /// Only the jobs that are not green, and those that need them.
    #[serde(default)]
    failed: bool,
}

/// `POST /api/v1/runs/NUMBER/rerun`
pub(super) async fn rerun(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<i64>,
    rerun: Option<Json<Rerun>>,
) -> Result<Json<Value>, Problem> {
    let run = find(&shared, number).await?;
    let _mirrors = shared.mirrors.read().await;
    bring_back(&shared, &run).await?;
    let failed = rerun.map(|Json(rerun)| rerun).unwrap_or_default().failed;
    let attempt = shared.store.rerun(number, failed, clock::now_ms()).await?;
    let what = if failed { "what was not green" } else { "" };
    note(&shared, "run.rerun", &format!("run {number}"), what).await?;
    shared.wake.drive.notify_one();
    shared.wake.deliver.notify_one();
    Ok(Json(json!({ "run": number, "attempt": attempt })))
}

/// Brings the commit of a run here again where the mirror is without it, or was removed: fetches it, or
/// merges once more.
async fn bring_back(shared: &Shared, run: &RunRow) -> Result<(), Problem> {
    let parse = |sha: &String| Sha::parse(sha).map_err(anyhow::Error::from);
    let (head, tested) = (parse(&run.sha)?, parse(&run.tested_sha)?);
    let base = run.base_sha.as_ref().map(parse).transpose()?;
    let repositories = shared.store.repositories().await?;
    let repository = repositories.iter().find(|found| found.name == run.repository);
    let repository = repository.ok_or_else(|| Problem::not_found(run.repository.clone()))?;
    let (mirror, remote) = (shared.data.mirror(&repository.id()), shared.remote(repository)?);
    let (pull_request, wanted) = (run.pull_request, tested.clone());
    let there = tokio::task::spawn_blocking(move || {
        let mirror = Mirror::open(mirror)?;
        if mirror.has(&wanted) {
            return Ok(());
        }
        mirror.fetch(&remote, pull_request)?;
        for sha in base.iter().chain([if base.is_some() { &head } else { &wanted }]) {
            if !mirror.has(sha) {
                mirror.fetch_commit(&remote, sha)?;
            }
        }
        if let Some(base) = base {
            // The same two commits always give the same merge.
            mirror.merge(&base, &head, &format!("refs/muster/again/{wanted}"))?;
        }
        if !mirror.has(&wanted) {
            let answer = "another merge than before".to_owned();
            return Err(GitError::Answer { command: "merge-tree".to_owned(), answer });
        }
        Ok::<_, GitError>(())
    });
    let there = there.await.map_err(anyhow::Error::from)?;
    there.map_err(|error| {
        let message = format!(
            "commit {tested} is not on this server any more, and cannot be fetched again: {error}; push it anew"
        );
        Problem::new(StatusCode::CONFLICT, message)
    })
}

/// `GET /api/v1/commits/SHA`: what the commit shows, and what became of its workflow files.
pub(super) async fn commit(
    State(shared): State<Arc<Shared>>,
    Path(sha): Path<String>,
) -> Result<Json<Value>, Problem> {
    let facts = find_commit(&shared, &sha).await?;
    let statuses: Vec<Value> = facts
        .reports
        .iter()
        .map(|report| {
            json!({
                "context": report.context,
                "state": report.state,
                "description": report.description,
                "url": format!("{}{}", shared.config.public_url, report.path),
                "problem": report.problem,
            })
        })
        .collect();
    let files: Vec<Value> = facts
        .files
        .iter()
        .map(
            |(path, outcome, reason)| json!({ "path": path, "outcome": outcome, "reason": reason }),
        )
        .collect();
    Ok(Json(json!({
        "sha": sha,
        "repository": facts.repository,
        "statuses": statuses,
        "files": files,
    })))
}

/// All that is known of a commit.
pub(super) struct CommitFacts {
    pub(super) repository: String,
    pub(super) reports: Vec<Unsent>,
    /// Path, outcome and reason of each workflow file.
    pub(super) files: Vec<(String, String, Option<String>)>,
}

/// Finds a commit in the first repository that has heard of it.
pub(super) async fn find_commit(shared: &Shared, sha: &str) -> Result<CommitFacts, Problem> {
    let missing = || Problem::not_found(format!("commit {sha}"));
    let sha = Sha::parse(sha).map_err(|_| missing())?;
    for repository in shared.store.repositories().await? {
        let reports = shared.store.reports_of(&repository.id(), &sha).await?;
        if !reports.is_empty() {
            let files = shared.store.files_of(&repository.id(), &sha).await?;
            return Ok(CommitFacts { repository: repository.name, reports, files });
        }
    }
    Err(missing())
}

/// `GET /api/v1/jobs/NUMBER/log`: what the steps wrote, of the newest attempt.
pub(super) async fn log(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<i64>,
) -> Result<impl IntoResponse, Problem> {
    let (job, _) = find_job(&shared, number).await?;
    let attempts = shared.store.attempts_of(&job.ran_as).await?;
    let newest = attempts.last().map_or(0, |(attempt, _)| *attempt);
    let path = shared.data.log(&job.ran_as, newest);
    // Piece by piece: a log may be larger than memory.
    let pieces = unfold(0, move |from| {
        let path = path.clone();
        async move {
            if from == u64::MAX {
                return None;
            }
            let read = tokio::task::spawn_blocking(move || logs::raw(&path, from)).await;
            match read {
                Ok(Ok((_, next))) if next == from => None,
                Ok(Ok((text, next))) => Some((Ok(text), next)),
                // The client has the status already; the other jobs of the run are still to be shown.
                Ok(Err(error)) => Some((Ok(unreadable(&error)), u64::MAX)),
                Err(error) => Some((Err(std::io::Error::other(error)), from)),
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(pieces)))
}

fn unreadable(error: &std::io::Error) -> Vec<u8> {
    format!("muster: the rest of this log cannot be read: {error}\n").into_bytes()
}

/// Finds a job, and its run.
pub(super) async fn find_job(shared: &Shared, number: i64) -> Result<(JobRow, RunRow), Problem> {
    let found = shared.store.job(number).await?;
    found.ok_or_else(|| Problem::not_found(format!("job {number}")))
}

async fn find(shared: &Shared, number: i64) -> Result<RunRow, Problem> {
    shared.store.run(number).await?.ok_or_else(|| Problem::not_found(format!("run {number}")))
}

fn run_json(shared: &Shared, run: &RunRow) -> Value {
    json!({
        "id": run.number,
        "repository": run.repository,
        "workflow": run.workflow_name,
        "path": run.path,
        "run_number": run.run_number,
        "attempt": run.attempt,
        "title": run.title,
        "event": run.event_name,
        "ref": run.git_ref,
        "sha": run.sha,
        "status": if run.conclusion.is_some() { "completed" } else { "in_progress" },
        "conclusion": run.conclusion,
        "created_at": run.created_at,
        "concluded_at": run.concluded_at,
        "url": format!("{}/runs/{}", shared.config.public_url, run.number),
    })
}

fn job_json(
    shared: &Shared,
    row: &JobRow,
    steps: &[StepRow],
    annotations: &[AnnotationRow],
) -> Value {
    let newest = steps.last().map_or(0, |step| step.attempt);
    let steps: Vec<Value> = steps
        .iter()
        .filter(|step| step.attempt == newest)
        .map(|step| {
            json!({
                "number": step.step,
                "name": step.name,
                "conclusion": step.conclusion,
                "started_at": step.started_at,
                "completed_at": step.finished_at,
                "usage": step.usage(),
            })
        })
        .collect();
    let annotations: Vec<Value> = annotations
        .iter()
        .filter(|row| row.attempt == newest)
        .map(|row| {
            let mut annotation = json!(row.annotation);
            annotation["step"] = row.step.into();
            annotation
        })
        .collect();
    json!({
        "id": row.number,
        "name": row.job.name,
        "status": row.job.state.as_str(),
        "conclusion": row.job.state.conclusion().map(|conclusion| conclusion.as_str()),
        "reason": row.job.state.reason(),
        "queued_at": row.queued_at,
        "started_at": row.started_at,
        "completed_at": row.finished_at,
        "steps": steps,
        "annotations": annotations,
        "environment": row.environment.as_ref().map(|name| {
            json!({ "name": name, "url": row.environment_url })
        }),
        "url": format!("{}/jobs/{}", shared.config.public_url, row.number),
    })
}
