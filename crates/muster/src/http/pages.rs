//! The pages, simple now: runs, one run, one job with its log, one commit, webhooks, the outbox.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{Html, Response};

use super::api::{CommitFacts, find_commit, find_job};
use super::error::Problem;
use crate::data::NO_ROOM;
use crate::logs::{self, Line};
use crate::loops::Shared;
use crate::services::Artifact;
use crate::store::Page;
use crate::store::deliveries::{DeliveriesOf, DeliveryRow};
use crate::store::jobs::{AnnotationRow, JobRow, StepRow};
use crate::store::outbox::Untold;
use crate::store::runs::RunRow;

/// How many runs the home page shows.
const RUNS: i64 = 50;
/// How many rows the pages of webhooks and of the outbox have.
const ROWS: i64 = 200;
/// How many bytes of a log stand in the page itself; the rest comes after it.
const LOG_BYTES: u64 = 2 << 20;

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage {
    runs: Vec<RunRow>,
    problems: Vec<(String, String)>,
}

/// `GET /`
pub(super) async fn home(State(shared): State<Arc<Shared>>) -> Result<Html<String>, Problem> {
    let runs = shared.store.newest_runs(Page::newest(RUNS)).await?;
    let repositories = shared.store.repositories().await?.into_iter();
    let room = (!shared.data.has_room()).then(|| {
        let what = format!("{NO_ROOM}; webhooks are refused, and no job is started");
        ("muster".to_owned(), what)
    });
    let problems = repositories
        .filter_map(|repository| Some((repository.name, repository.problem?)))
        .chain(room)
        .collect();
    Ok(Html(HomePage { runs, problems }.render()?))
}

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage {
    run: RunRow,
    jobs: Vec<JobRow>,
    artifacts: Vec<Artifact>,
    unserved: Vec<String>,
}

/// `GET /runs/NUMBER`
pub(super) async fn run(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<i64>,
) -> Result<Html<String>, Problem> {
    let run = shared.store.run(number).await?;
    let run = run.ok_or_else(|| Problem::not_found(format!("run {number}")))?;
    let jobs = shared.store.shown_jobs_of(&run.id, run.attempt).await?;
    let artifacts = shared.services.artifacts_of(&run.id).await?;
    let unserved = serde_json::from_str(&run.unserved).map_err(anyhow::Error::from)?;
    Ok(Html(RunPage { run, jobs, artifacts, unserved }.render()?))
}

/// `GET /runs/NUMBER/artifacts/NAME`: its file.
pub(super) async fn artifact(
    State(shared): State<Arc<Shared>>,
    Path((number, name)): Path<(i64, String)>,
) -> Result<Response, Problem> {
    let run = shared.store.run(number).await?;
    let run = run.ok_or_else(|| Problem::not_found(format!("run {number}")))?;
    let found = shared.services.artifact(&run.id, &name).await?;
    found.ok_or_else(|| Problem::not_found(format!("artifact `{name}` of run {number}")))
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    job: JobRow,
    run: RunRow,
    steps: Vec<StepRow>,
    annotations: Vec<AnnotationRow>,
    attempt: i64,
    attempts: usize,
    lines: Vec<Line>,
    /// How many KiB stand before them.
    left_out: u64,
    /// Why there are none, where that is no matter of course.
    unreadable: Option<String>,
    next: u64,
    /// Whether more will come.
    live: bool,
}

/// `GET /jobs/NUMBER`
pub(super) async fn job(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<i64>,
) -> Result<Html<String>, Problem> {
    let (job, run) = find_job(&shared, number).await?;
    let attempts = shared.store.attempts_of(&job.ran_as).await?;
    let attempt = attempts.last().map_or(0, |(attempt, _)| *attempt);
    let steps = shared.store.steps_of(&job.ran_as).await?;
    let mut steps: Vec<StepRow> =
        steps.into_iter().filter(|step| step.attempt == attempt).collect();
    let mut annotations = shared.store.annotations_of(&job.ran_as).await?;
    annotations.retain(|row| row.attempt == attempt);
    for step in &mut steps {
        let plain =
            step.summary.as_deref().map(|text| anstream::adapter::strip_str(text).to_string());
        step.summary = plain;
    }
    let path = shared.data.log(&job.ran_as, attempt);
    let read = tokio::task::spawn_blocking(move || {
        let (mut lines, mut complete) = (Vec::new(), false);
        // The end is what people look for.
        let from = logs::last(&path, LOG_BYTES)?;
        let mut next = from;
        while next < from + LOG_BYTES && !complete {
            let piece = logs::read(&path, next)?;
            if piece.next == next {
                break;
            }
            lines.extend(piece.lines);
            (next, complete) = (piece.next, piece.complete);
        }
        Ok::<_, std::io::Error>((lines, from, next))
    });
    let (lines, from, next, unreadable) = match read.await.map_err(anyhow::Error::from)? {
        Ok((lines, from, next)) => (lines, from, next, None),
        Err(error) => (Vec::new(), 0, 0, Some(error.to_string())),
    };
    let attempts = attempts.len();
    let left_out = from.div_ceil(1024);
    let live = job.job.state.conclusion().is_none();
    Ok(Html(
        JobPage {
            job,
            run,
            steps,
            annotations,
            attempt,
            attempts,
            lines,
            left_out,
            unreadable,
            next,
            live,
        }
        .render()?,
    ))
}

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    deliveries: Vec<DeliveryRow>,
}

/// `GET /deliveries`
pub(super) async fn deliveries(State(shared): State<Arc<Shared>>) -> Result<Html<String>, Problem> {
    let deliveries =
        shared.store.newest_deliveries(Page::newest(ROWS), &DeliveriesOf::default()).await?;
    Ok(Html(DeliveriesPage { deliveries }.render()?))
}

#[derive(Template)]
#[template(path = "outbox.html")]
struct OutboxPage {
    all_is_told: bool,
    /// A title, what the rows are about, and the rows.
    sections: [(&'static str, &'static str, Vec<Untold>); 2],
}

/// `GET /outbox`
pub(super) async fn outbox(State(shared): State<Arc<Shared>>) -> Result<Html<String>, Problem> {
    let reports = shared.store.untold_reports(ROWS).await?;
    let notices = shared.store.untold_notices(ROWS).await?;
    let all_is_told = reports.is_empty() && notices.is_empty();
    let sections = [
        ("Verdicts that the code host does not show yet", "Context", reports),
        ("Notices that somebody has not got", "Branch", notices),
    ];
    Ok(Html(OutboxPage { all_is_told, sections }.render()?))
}

#[derive(Template)]
#[template(path = "commit.html")]
struct CommitPage {
    sha: String,
    commit: CommitFacts,
}

/// `GET /commits/SHA`
pub(super) async fn commit(
    State(shared): State<Arc<Shared>>,
    Path(sha): Path<String>,
) -> Result<Html<String>, Problem> {
    let commit = find_commit(&shared, &sha).await?;
    Ok(Html(CommitPage { sha, commit }.render()?))
}
