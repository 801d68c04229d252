//! Runs, as they are made and as people look at them.

use muster_core::concurrency::{Arrival, Claimant, Group, Newcomer};
use muster_core::id::{EventId, RepoId, RunId, Sha};
use muster_core::run::{Conclusion, JobState, Reason, Run};
use muster_core::trust::Trust;
use muster_workflow::expr::Contexts;
use muster_workflow::from_event;
use muster_workflow::text::one_line;
use muster_workflow::workflow::{Queue, Workflow};
use serde_json::Value as Json;
use sqlx::{AnyConnection, FromRow};

use super::{
    Page, Store, StoreError, claims, jobs, new_id, next_number, read_trust, reports, repositories,
};

/// The numbers of a run, which it has before it is made: its own file may ask for them.
#[derive(Debug, Clone)]
pub(crate) struct Allotted {
    pub(crate) workflow_id: String,
    /// Unique on this server.
    pub(crate) number: i64,
    /// The workflow's own count.
    pub(crate) run_number: i64,
}

/// A run to be made.
#[derive(Debug)]
pub(crate) struct NewRun {
    pub(crate) numbers: Allotted,
    pub(crate) path: String,
    pub(crate) workflow_name: String,
    pub(crate) title: String,
    pub(crate) source: String,
    /// The workflows that it calls: names and texts.
    pub(crate) called: Vec<(String, String)>,
    pub(crate) github: Json,
    /// The context `vars`.
    pub(crate) vars: Json,
    pub(crate) event_name: &'static str,
    pub(crate) git_ref: String,
    /// The commit that statuses are for.
    pub(crate) sha: Sha,
    /// The commit that is checked out.
    pub(crate) tested: Sha,
    /// Of a pull request, the commit that its head was merged into.
    pub(crate) base: Option<Sha>,
    pub(crate) pull_request: Option<i64>,
    pub(crate) trust: Trust,
    pub(crate) shadow: bool,
    pub(crate) unserved: Vec<String>,
    pub(crate) concurrency: Option<Group>,
    /// Whether its branch had moved on before it was heard of.
    pub(crate) late: bool,
    pub(crate) run: Run,
}

/// A run that is not over, as the engine needs it.
#[derive(Debug)]
pub(crate) struct ActiveRun {
    pub(crate) id: RunId,
    pub(crate) repository: RepoId,
    pub(crate) number: i64,
    pub(crate) attempt: i64,
    pub(crate) sha: Sha,
    pub(crate) tested: Sha,
    /// How far its author was trusted when it was planned.
    pub(crate) trust: Trust,
    pub(crate) path: String,
    pub(crate) source: String,
    /// The workflows that it calls: names and texts.
    pub(crate) called: Vec<(String, String)>,
    pub(crate) github: Json,
    /// The context `vars`: a run that is done again sees what it saw.
    pub(crate) vars: Json,
    /// Whether another CI may publish the names of its jobs.
    pub(crate) shadow: bool,
    /// The ids of the jobs that are stored, by their places.
    pub(crate) job_ids: Vec<String>,
    pub(crate) run: Run,
}

impl ActiveRun {
    /// Returns what the conditions of its jobs can see; `workflow` is its own.
    pub(crate) fn contexts(&self, workflow: &Workflow) -> Contexts {
        let mut contexts = Contexts::new();
        contexts.set("github", &self.github);
        contexts.set("vars", &self.vars);
        contexts.set("inputs", from_event(workflow, &contexts));
        contexts
    }
}

/// What moves in an active run from outside.
#[derive(Debug, FromRow)]
pub(crate) struct Order {
    pub(crate) id: String,
    pub(crate) attempt: i64,
    held: i64,
    cancel_code: Option<String>,
    cancel_text: Option<String>,
}

impl Order {
    /// Returns true when the run waits for its turn.
    pub(crate) fn is_held(&self) -> bool {
        self.held != 0
    }

    /// Returns why the run is to be cancelled.
    pub(crate) fn cancel(&self) -> Option<Reason> {
        Some(Reason::new(self.cancel_code.as_deref()?, self.cancel_text.clone()?))
    }
}

/// A run as people see it.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct RunRow {
    pub(crate) id: String,
    pub(crate) number: i64,
    pub(crate) repository: String,
    pub(crate) run_number: i64,
    pub(crate) attempt: i64,
    pub(crate) path: String,
    pub(crate) workflow_name: String,
    pub(crate) title: String,
    pub(crate) event_name: String,
    #[sqlx(rename = "ref")]
    pub(crate) git_ref: String,
    pub(crate) sha: String,
    /// What is checked out: of a pull request muster's own merge.
    pub(crate) tested_sha: String,
    /// Of a pull request, the commit that its head was merged into.
    pub(crate) base_sha: Option<String>,
    pub(crate) pull_request: Option<i64>,
    pub(crate) unserved: String,
    pub(crate) cancel_text: Option<String>,
    pub(crate) conclusion: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) concluded_at: Option<i64>,
}

impl RunRow {
    /// Returns the branch, tag or `refs/pull/5/merge` that it is for, as people say it.
    pub(crate) fn ref_name(&self) -> String {
        let of = |kind| self.git_ref.strip_prefix(kind);
        one_line(of("refs/heads/").or_else(|| of("refs/tags/")).unwrap_or(&self.git_ref))
    }
}

#[derive(FromRow)]
struct ActiveRow {
    repository_id: String,
    number: i64,
    attempt: i64,
    sha: String,
    tested_sha: String,
    trust: String,
    shadow: i64,
    path: String,
    source: String,
    called: String,
    github: String,
    vars: String,
}

const COLUMNS: &str = "r.id, r.number, p.name AS repository, r.run_number, r.attempt, r.path, \
     r.workflow_name, r.title, r.event_name, r.ref, r.sha, r.tested_sha, r.base_sha, \
     r.pull_request, r.unserved, r.cancel_text, r.conclusion, r.created_at, r.concluded_at \
     FROM runs r JOIN repositories p ON p.id = r.repository_id";

/// A run that is to run again: id, attempt, repository, commit, conclusion, concurrency group and its queue, trust.
type RerunRow = (String, i64, String, String, Option<String>, Option<String>, String, String);

/// Makes a run and its jobs.
pub(super) async fn insert(
    db: &mut AnyConnection,
    repository: &RepoId,
    event: &EventId,
    new: NewRun,
    now: i64,
) -> Result<(), StoreError> {
    let id = new_id();
    let (arrival, turn) = match &new.concurrency {
        Some(group) => {
            let newcomer = Newcomer {
                who: Claimant::run(new.numbers.number),
                callers: &[],
                trust: new.trust,
                late: new.late,
            };
            claims::join(db, repository, group, newcomer).await?
        }
        None => (Arrival { held: false, cancelled: None, cancels: Vec::new() }, 0),
    };
    let (cancel_code, cancel_text) =
        arrival.cancelled.map(|reason| (reason.code, reason.text)).unzip();
    let unserved =
        serde_json::to_string(&new.unserved).map_err(StoreError::unreadable("events"))?;
    let called =
        serde_json::to_string(&new.called).map_err(StoreError::unreadable("called workflows"))?;
    sqlx::query(
        "INSERT INTO runs (id, number, repository_id, workflow_id, event_id, run_number, attempt, \
         path, workflow_name, title, source, github, event_name, ref, sha, unserved, created_at, \
         concurrency_group, held, tested_sha, pull_request, trust, shadow, base_sha, \
         cancel_code, cancel_text, called, vars, turn, queue) \
         VALUES ($1, $2, $3, $4, $5, $6, 1, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
         $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29)",
    )
    .bind(id.as_str())
    .bind(new.numbers.number)
    .bind(repository.as_str())
    .bind(new.numbers.workflow_id)
    .bind(event.as_str())
    .bind(new.numbers.run_number)
    .bind(new.path)
    .bind(new.workflow_name)
    .bind(new.title)
    .bind(new.source)
    .bind(new.github.to_string())
    .bind(new.event_name)
    .bind(new.git_ref)
    .bind(new.sha.as_str())
    .bind(unserved)
    .bind(now)
    .bind(new.concurrency.as_ref().map(|group| group.name.as_str()))
    .bind(i64::from(arrival.held))
    .bind(new.tested.as_str())
    .bind(new.pull_request)
    .bind(new.trust.as_str())
    .bind(i64::from(new.shadow))
    .bind(new.base.as_ref().map(Sha::as_str))
    .bind(cancel_code)
    .bind(cancel_text)
    .bind(called)
    .bind(new.vars.to_string())
    .bind(turn)
    .bind(new.concurrency.map(|group| group.queue).unwrap_or_default().as_str())
    .execute(&mut *db)
    .await?;
    for (place, job) in new.run.jobs.iter().enumerate() {
        jobs::insert(db, &new_id(), &id, 1, place, job, None).await?;
    }
    Ok(())
}

fn stored_sha(text: &str) -> Result<Sha, StoreError> {
    Sha::parse(text).map_err(StoreError::unreadable("run"))
}

impl Store {
    /// Allots the numbers of the next run of a workflow file.
    pub(crate) async fn allot_run(
        &self,
        repository: &RepoId,
        path: &str,
    ) -> Result<Allotted, StoreError> {
        let (repository, path) = (repository.clone(), path.to_owned());
        self.write(move |db| {
            Box::pin(async move {
                let number = next_number(db, "runs").await?;
                let workflow = next_number(db, "workflows").await?;
                let (workflow_id, run_number): (String, i64) = sqlx::query_as(
                    "INSERT INTO workflows (id, number, repository_id, path, runs) \
                     VALUES ($1, $2, $3, $4, 1) \
                     ON CONFLICT (repository_id, path) DO UPDATE SET runs = workflows.runs + 1 \
                     RETURNING id, runs",
                )
                .bind(new_id())
                .bind(workflow)
                .bind(repository.as_str())
                .bind(path)
                .fetch_one(db)
                .await?;
                Ok(Allotted { workflow_id, number, run_number })
            })
        })
        .await
    }

    /// Returns what is asked of the runs that are not over.
    pub(crate) async fn orders(&self) -> Result<Vec<Order>, StoreError> {
        let query = sqlx::query_as(
            "SELECT id, attempt, held, cancel_code, cancel_text FROM runs \
             WHERE conclusion IS NULL ORDER BY number",
        );
        Ok(query.fetch_all(self.reads()).await?)
    }

    /// Returns an active run with its current jobs.
    pub(crate) async fn active_run(&self, id: &str) -> Result<Option<ActiveRun>, StoreError> {
        let row: Option<ActiveRow> = sqlx::query_as(
            "SELECT repository_id, number, attempt, sha, tested_sha, trust, shadow, path, source, called, github, \
             vars FROM runs WHERE id = $1 AND conclusion IS NULL",
        )
        .bind(id)
        .fetch_optional(self.reads())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (job_ids, jobs) =
            self.jobs_of(id, row.attempt).await?.into_iter().map(|row| (row.id, row.job)).unzip();
        Ok(Some(ActiveRun {
            id: RunId::new(id),
            repository: RepoId::new(row.repository_id),
            number: row.number,
            attempt: row.attempt,
            sha: stored_sha(&row.sha)?,
            tested: stored_sha(&row.tested_sha)?,
            trust: read_trust(&row.trust)?,
            path: row.path,
            source: row.source,
            called: serde_json::from_str(&row.called)
                .map_err(StoreError::unreadable("called workflows"))?,
            github: serde_json::from_str(&row.github).map_err(StoreError::unreadable("context"))?,
            vars: serde_json::from_str(&row.vars).map_err(StoreError::unreadable("variables"))?,
            shadow: row.shadow != 0,
            job_ids,
            run: Run::of(jobs),
        }))
    }

    /// Stores jobs that moved and, with them, the run's conclusion and what the forge must see.
    pub(crate) async fn save_moves(
        &self,
        run: &ActiveRun,
        moved: Vec<jobs::Moved>,
        conclusion: Option<Conclusion>,
        taken: Vec<jobs::Taken>,
        now: i64,
    ) -> Result<(), StoreError> {
        let (id, repository, sha) = (run.id.clone(), run.repository.clone(), run.sha.clone());
        let attempt = run.attempt;
        self.write(move |db| {
            Box::pin(async move {
                let any_moved = !moved.is_empty();
                if any_moved || conclusion.is_some() {
                    // Before any of its rows, as everybody does: two that did it the other way round would wait for
                    // each other.
                    repositories::hold(db, &[repository.as_str()]).await?;
                }
                for taken in taken {
                    jobs::take(db, taken, now).await?;
                }
                for jobs::Moved { id: job, job: moved, added } in moved {
                    if let Some(place) = added {
                        let run = id.as_str();
                        jobs::insert(db, &job, run, attempt, place, &moved, None).await?;
                    }
                    jobs::update(db, &job, &moved, now).await?;
                    if let (JobState::Pending { .. }, Some(claim)) = (&moved.state, &moved.claim) {
                        claims::seat(db, &repository, &job, claim).await?;
                    }
                }
                if let Some(conclusion) = conclusion {
                    sqlx::query("UPDATE runs SET conclusion = $2, concluded_at = $3 WHERE id = $1")
                        .bind(id.as_str())
                        .bind(conclusion.as_str())
                        .bind(now)
                        .execute(&mut *db)
                        .await?;
                }
                if any_moved || conclusion.is_some() {
                    reports::refresh(db, &repository, &sha, now).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Asks for the end of a run; refuses one that is over.
    pub(crate) async fn cancel_run(&self, number: i64, reason: Reason) -> Result<(), StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE runs SET cancel_code = COALESCE(cancel_code, $2), \
                     cancel_text = COALESCE(cancel_text, $3) WHERE number = $1 AND conclusion IS NULL",
                )
                .bind(number)
                .bind(reason.code)
                .bind(reason.text)
                .execute(db)
                .await?;
                if done.rows_affected() == 0 {
                    return Err(StoreError::Refused(format!("run {number} is over, or there is none")));
                }
                Ok(())
            })
        })
        .await
    }

    /// Starts a new attempt of a run that is over: of all its jobs, or only of those that are not
    /// green and those that need them. Returns the attempt's number.
    pub(crate) async fn rerun(
        &self,
        number: i64,
        failed_only: bool,
        now: i64,
    ) -> Result<i64, StoreError> {
        self.write(move |db| {
            Box::pin(async move {
let row: Option<RerunRow> = sqlx::query_as(
                    "SELECT id, attempt, repository_id, sha, conclusion, concurrency_group, queue, trust FROM runs \
                     WHERE number = $1",
                )
                .bind(number)
                .fetch_optional(&mut *db)
                .await?;
                let Some((id, attempt, repository, sha, conclusion, group, queue, trust)) = row else {
                    return Err(StoreError::Refused(format!("there is no run {number}")));
                };
                if conclusion.is_none() {
                    return Err(StoreError::Refused(format!("run {number} is not over yet")));
                }
                let rows = jobs::rows(db, &id, attempt).await?;
                let jobs = rows.iter().map(|row| row.job.clone()).collect();
                let mut run = Run::of(jobs);
                let Some(places) = run.again(failed_only) else {
                    return Err(StoreError::Refused(format!("run {number} has no job that is not green")));
                };
                let attempt = attempt + 1;
                let repository = RepoId::new(repository);
                // A re-run takes its turn like any other, and ends nobody that runs.
                let (held, turn) = match group {
                    Some(name) => {
                        let queue = Queue::parse(&queue).unwrap_or_default();
                        let group = Group { name, cancel_in_progress: false, queue };
                        let (who, trust) = (Claimant::run(number), read_trust(&trust)?);
                        let newcomer = Newcomer { who, callers: &[], trust, late: false };
                        let (arrival, turn) = claims::join(db, &repository, &group, newcomer).await?;
                        (arrival.held, turn)
                    }
                    None => (false, 0),
                };
                for (place, (job, before)) in run.jobs.iter().zip(places).enumerate() {
                    let carried = job.state.conclusion().map(|_| &rows[before]);
                    jobs::insert(db, &new_id(), &id, attempt, place, job, carried).await?;
                }
                sqlx::query(
                    "UPDATE runs SET attempt = $2, conclusion = NULL, concluded_at = NULL, \
                     cancel_code = NULL, cancel_text = NULL, held = $3, turn = $4 WHERE id = $1",
                )
                .bind(id.as_str())
                .bind(attempt)
                .bind(i64::from(held))
                .bind(turn)
                .execute(&mut *db)
                .await?;
                let sha = Sha::parse(&sha)
                    .map_err(StoreError::unreadable("run"))?;
                reports::refresh(db, &repository, &sha, now).await?;
                Ok(attempt)
            })
        })
        .await
    }

    /// Returns a page of runs, the newest first.
    pub(crate) async fn newest_runs(&self, page: Page) -> Result<Vec<RunRow>, StoreError> {
        let query = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} WHERE r.number < $1 ORDER BY r.number DESC LIMIT $2"
        )));
        Ok(query.bind(page.before).bind(page.limit).fetch_all(self.reads()).await?)
    }

    /// Returns the run with this number.
    pub(crate) async fn run(&self, number: i64) -> Result<Option<RunRow>, StoreError> {
        let query =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} WHERE r.number = $1")));
        Ok(query.bind(number).fetch_optional(self.reads()).await?)
    }
}
