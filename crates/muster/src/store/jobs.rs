//! Jobs, their attempts and steps.

use muster_core::run::{Job, JobState, Work, in_order};
use muster_runner::spec::{Annotation, StepEvent, StepUsage};
use serde_json::json;
use sqlx::{AnyConnection, FromRow};

use super::runs::RunRow;
use super::{Store, StoreError, new_id, next_number};

/// A job and its place in the world.
#[derive(Debug, Clone)]
pub(crate) struct JobRow {
    pub(crate) id: String,
    pub(crate) number: i64,
    pub(crate) job: Job,
    /// The job whose attempts, steps and logs are this one's: itself, but for one that was carried
    /// over into a re-run.
    pub(crate) ran_as: String,
    pub(crate) queued_at: Option<i64>,
    pub(crate) started_at: Option<i64>,
    pub(crate) finished_at: Option<i64>,
    /// What it deploys to, and where that can be seen.
    pub(crate) environment: Option<String>,
    pub(crate) environment_url: Option<String>,
}

impl JobRow {
    /// Returns where its environment can be seen, if that is an address of the web: a job may say anything.
    pub(crate) fn link(&self) -> Option<&str> {
        let url = self.environment_url.as_deref()?;
        (url.starts_with("https://") || url.starts_with("http://")).then_some(url)
    }

    /// Returns how long the job ran, for people; nothing where it has not started.
    pub(crate) fn took(&self) -> String {
        match (self.started_at, self.finished_at) {
            (Some(started), Some(finished)) => crate::words::duration(finished - started),
            (Some(_), None) => "running".to_owned(),
            (None, _) => String::new(),
        }
    }
}

/// A job that has moved.
#[derive(Debug, Clone)]
pub(crate) struct Moved {
    pub(crate) id: String,
    pub(crate) job: Job,
    /// The place of one that is new.
    pub(crate) added: Option<usize>,
}

/// What was taken over from the spool of an attempt.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    pub(crate) job_id: String,
    pub(crate) attempt: i64,
    /// How far the spool has been read.
    pub(crate) to: i64,
    pub(crate) steps: Vec<StepEvent>,
    /// `finished` or `lost`, once the attempt is over.
    pub(crate) ended: Option<&'static str>,
}

/// An attempt whose supervisor runs, as far as is known.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct RunningAttempt {
    pub(crate) job_id: String,
    pub(crate) run_id: String,
    pub(crate) attempt: i64,
    pub(crate) taken: i64,
}

/// A step as people see it.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct StepRow {
    pub(crate) attempt: i64,
    pub(crate) step: i64,
    pub(crate) name: String,
    pub(crate) conclusion: Option<String>,
    pub(crate) started_at: Option<i64>,
    pub(crate) finished_at: Option<i64>,
    pub(crate) summary: Option<String>,
    /// JSON.
    usage: Option<String>,
}

impl StepRow {
    /// Returns what its programs have used, where that is known.
    pub(crate) fn usage(&self) -> Option<StepUsage> {
        serde_json::from_str(self.usage.as_deref()?).ok()
    }

    /// Returns how long it took and what it has used, for people.
    pub(crate) fn took(&self) -> String {
        let span = self.started_at.zip(self.finished_at);
        let took = span.map(|(started, finished)| crate::words::duration(finished - started));
        let usage = self.usage().map(|usage| crate::words::usage(&usage));
        [took, usage].into_iter().flatten().collect::<Vec<_>>().join(" · ")
    }
}

/// What a step of an attempt has told about the code.
#[derive(Debug, Clone)]
pub(crate) struct AnnotationRow {
    pub(crate) attempt: i64,
    pub(crate) step: i64,
    pub(crate) annotation: Annotation,
}

type Row = (
    String,
    i64,
    String,
    Option<String>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    Option<String>,
);

const COLUMNS: &str = "id, number, job, carried_from, queued_at, started_at, finished_at, environment, environment_url \
     FROM jobs";

/// Returns the jobs of an attempt of a run, in the order of the plan.
pub(super) async fn rows(
    db: &mut AnyConnection,
    run_id: &str,
    run_attempt: i64,
) -> Result<Vec<JobRow>, StoreError> {
    let rows = of_run(run_id, run_attempt).fetch_all(db).await?;
    rows.into_iter().map(parse).collect()
}

fn of_run(
    run_id: &str,
    run_attempt: i64,
) -> sqlx::query::QueryAs<'_, sqlx::Any, Row, sqlx::any::AnyArguments> {
    sqlx::query_as(sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} WHERE run_id = $1 AND run_attempt = $2 ORDER BY place"
    )))
    .bind(run_id)
    .bind(run_attempt)
}

fn parse(row: Row) -> Result<JobRow, StoreError> {
    let (id, number, job, carried_from, queued_at, started_at, finished_at, environment, url) = row;
    let job = serde_json::from_str(&job).map_err(StoreError::unreadable("job"))?;
    let ran_as = carried_from.unwrap_or_else(|| id.clone());
    Ok(JobRow {
        id,
        number,
        job,
        ran_as,
        queued_at,
        started_at,
        finished_at,
        environment,
        environment_url: url,
    })
}

/// Makes a job. One that is `carried` over from an earlier attempt of the run keeps its times.
pub(super) async fn insert(
    db: &mut AnyConnection,
    id: &str,
    run_id: &str,
    run_attempt: i64,
    place: usize,
    job: &Job,
    carried: Option<&JobRow>,
) -> Result<(), StoreError> {
    let number = next_number(db, "jobs").await?;
    sqlx::query(
        "INSERT INTO jobs (id, number, run_id, run_attempt, place, name, job, status, \
         carried_from, queued_at, started_at, finished_at, environment, environment_url) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(id)
    .bind(number)
    .bind(run_id)
    .bind(run_attempt)
    .bind(i64::try_from(place).unwrap_or(i64::MAX))
    .bind(job.name.as_str())
    .bind(text(job)?)
    .bind(status(job))
    .bind(carried.map(|row| row.ran_as.as_str()))
    .bind(carried.and_then(|row| row.queued_at))
    .bind(carried.and_then(|row| row.started_at))
    .bind(carried.and_then(|row| row.finished_at))
    .bind(carried.and_then(|row| row.environment.clone()))
    .bind(carried.and_then(|row| row.environment_url.clone()))
    .execute(db)
    .await?;
    Ok(())
}

/// Stores a job that moved; the first time that it enters a state is kept.
pub(super) async fn update(
    db: &mut AnyConnection,
    id: &str,
    job: &Job,
    now: i64,
) -> Result<(), StoreError> {
    let at = |there: bool| if there { Some(now) } else { None };
    sqlx::query(
        "UPDATE jobs SET job = $2, status = $3, queued_at = COALESCE(queued_at, $4), \
         started_at = COALESCE(started_at, $5), finished_at = COALESCE(finished_at, $6), name = $7 \
         WHERE id = $1",
    )
    .bind(id)
    .bind(text(job)?)
    .bind(status(job))
    .bind(at(matches!(job.state, JobState::Queued { .. })))
    .bind(at(matches!(job.state, JobState::Running { .. } | JobState::Calling { .. })))
    .bind(at(matches!(job.state, JobState::Finished { .. })))
    .bind(job.name.as_str())
    .execute(&mut *db)
    .await?;
    if let JobState::Running { attempt, .. } = &job.state {
        sqlx::query(
            "INSERT INTO attempts (job_id, attempt, status, taken, started_at) \
             VALUES ($1, $2, 'running', 0, $3) ON CONFLICT (job_id, attempt) DO NOTHING",
        )
        .bind(id)
        .bind(i64::from(attempt.0))
        .bind(now)
        .execute(db)
        .await?;
    }
    Ok(())
}

/// Stores what was taken over from a spool.
pub(super) async fn take(db: &mut AnyConnection, taken: Taken, now: i64) -> Result<(), StoreError> {
    for event in taken.steps {
        step(db, &taken.job_id, taken.attempt, event).await?;
    }
    sqlx::query(
        "UPDATE attempts SET taken = $3, status = COALESCE($4, status), \
         finished_at = CASE WHEN $4 IS NULL THEN finished_at ELSE $5 END \
         WHERE job_id = $1 AND attempt = $2",
    )
    .bind(taken.job_id)
    .bind(taken.attempt)
    .bind(taken.to)
    .bind(taken.ended)
    .bind(now)
    .execute(db)
    .await?;
    Ok(())
}

async fn step(
    db: &mut AnyConnection,
    job_id: &str,
    attempt: i64,
    event: StepEvent,
) -> Result<(), StoreError> {
    let place = |step: usize| i64::try_from(step).unwrap_or(i64::MAX);
    let query = match event {
        StepEvent::Started { step, name, at } => sqlx::query(
            "INSERT INTO steps (job_id, attempt, step, name, started_at) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (job_id, attempt, step) DO NOTHING",
        )
        .bind(job_id)
        .bind(attempt)
        .bind(place(step))
        .bind(name)
        .bind(at),
        StepEvent::Finished { step, name, outcome, conclusion, at, usage } => sqlx::query(
            "INSERT INTO steps (job_id, attempt, step, name, finished_at, outcome, conclusion, usage) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
             ON CONFLICT (job_id, attempt, step) DO UPDATE SET finished_at = excluded.finished_at, \
             outcome = excluded.outcome, conclusion = excluded.conclusion, usage = excluded.usage",
        )
        .bind(job_id)
        .bind(attempt)
        .bind(place(step))
        .bind(name)
        .bind(at)
        .bind(outcome.as_str())
        .bind(conclusion.as_str())
        .bind(usage.map(|usage| json!(usage).to_string())),
        StepEvent::Summary { step, markdown } => {
            sqlx::query("UPDATE steps SET summary = $4 WHERE job_id = $1 AND attempt = $2 AND step = $3")
                .bind(job_id)
                .bind(attempt)
                .bind(place(step))
                .bind(markdown.replace('\0', "\u{fffd}"))
        }
        StepEvent::Environment { name, url } => {
            sqlx::query("UPDATE jobs SET environment = $2, environment_url = $3 WHERE id = $1")
                .bind(job_id)
                .bind(name.replace('\0', "\u{fffd}"))
                .bind(url.map(|url| url.replace('\0', "\u{fffd}")))
        }
        StepEvent::Uses { uses, sha } => sqlx::query(
            "INSERT INTO actions (run_id, uses, sha) SELECT run_id, $2, $3 FROM jobs WHERE id = $1 \
             ON CONFLICT (run_id, uses) DO NOTHING",
        )
        .bind(job_id)
        .bind(uses)
        .bind(sha),
        StepEvent::Annotated { step, annotation } => {
            let text = serde_json::to_string(&annotation);
            sqlx::query(
                "INSERT INTO annotations (id, job_id, attempt, step, annotation) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(new_id())
            .bind(job_id)
            .bind(attempt)
            .bind(place(step))
            .bind(text.map_err(StoreError::unreadable("annotation"))?)
        }
    };
    query.execute(db).await?;
    Ok(())
}

fn text(job: &Job) -> Result<String, StoreError> {
    serde_json::to_string(job).map_err(StoreError::unreadable("job"))
}

fn status(job: &Job) -> &'static str {
    match job.state {
        JobState::Waiting => "waiting",
        JobState::Pending { .. } => "pending",
        JobState::Queued { .. } => "queued",
        JobState::Running { .. } => "running",
        JobState::Calling { .. } => "calling",
        JobState::Finished { .. } => "finished",
    }
}

impl Store {
    /// Returns the jobs of an attempt of a run, by their places.
    pub(crate) async fn jobs_of(
        &self,
        run_id: &str,
        run_attempt: i64,
    ) -> Result<Vec<JobRow>, StoreError> {
        let rows = of_run(run_id, run_attempt).fetch_all(self.reads()).await?;
        rows.into_iter().map(parse).collect()
    }

    /// Returns the jobs of an attempt of a run that people see, in the order of their files and matrices.
    pub(crate) async fn shown_jobs_of(
        &self,
        run_id: &str,
        run_attempt: i64,
    ) -> Result<Vec<JobRow>, StoreError> {
        let rows = self.jobs_of(run_id, run_attempt).await?;
        let jobs: Vec<Job> = rows.iter().map(|row| row.job.clone()).collect();
        let mut rows: Vec<Option<JobRow>> = rows.into_iter().map(Some).collect();
        // Also those for which others will stand, as long as these are not there.
        let is_seen = |place: &usize| jobs[*place].is_shown() || jobs[*place].work != Work::Called;
        let places = in_order(&jobs).into_iter().filter(is_seen);
        Ok(places.filter_map(|place| rows[place].take()).collect())
    }

    /// Returns the job with this number, and its run.
    pub(crate) async fn job(&self, number: i64) -> Result<Option<(JobRow, RunRow)>, StoreError> {
        let query =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} WHERE number = $1")));
        let row: Option<Row> = query.bind(number).fetch_optional(self.reads()).await?;
        let Some(job) = row.map(parse).transpose()? else { return Ok(None) };
        let run: i64 = sqlx::query_scalar(
            "SELECT r.number FROM runs r JOIN jobs j ON j.run_id = r.id WHERE j.id = $1",
        )
        .bind(job.id.as_str())
        .fetch_one(self.reads())
        .await?;
        Ok(self.run(run).await?.map(|run| (job, run)))
    }

    /// Returns whether there is a job of this id.
    pub(crate) async fn has_job(&self, id: &str) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar("SELECT COUNT(*) FROM jobs WHERE id = $1").bind(id);
        let count: i64 = query.fetch_one(self.reads()).await?;
        Ok(count > 0)
    }

    /// Returns the attempts that are running, as far as is known.
    pub(crate) async fn running_attempts(&self) -> Result<Vec<RunningAttempt>, StoreError> {
        let query = sqlx::query_as(
            "SELECT a.job_id, j.run_id, a.attempt, a.taken FROM attempts a \
             JOIN jobs j ON j.id = a.job_id WHERE a.status = 'running'",
        );
        Ok(query.fetch_all(self.reads()).await?)
    }

    /// Returns whether an attempt of a job is running, as far as is known.
    pub(crate) async fn is_running(&self, job_id: &str, attempt: i64) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT COUNT(*) FROM attempts WHERE job_id = $1 AND attempt = $2 AND status = 'running'",
        );
        let count: i64 = query.bind(job_id).bind(attempt).fetch_one(self.reads()).await?;
        Ok(count > 0)
    }

    /// Returns the attempts of a job, as numbers, and whether each is running.
    pub(crate) async fn attempts_of(&self, job_id: &str) -> Result<Vec<(i64, bool)>, StoreError> {
        let rows: Vec<(i64, String)> = sqlx::query_as(
            "SELECT attempt, status FROM attempts WHERE job_id = $1 ORDER BY attempt",
        )
        .bind(job_id)
        .fetch_all(self.reads())
        .await?;
        Ok(rows.into_iter().map(|(attempt, status)| (attempt, status == "running")).collect())
    }

    /// Returns the commits of the actions that a run uses, by `owner/name@ref`.
    pub(crate) async fn actions_of(
        &self,
        run_id: &str,
    ) -> Result<Vec<(String, String)>, StoreError> {
        let query = sqlx::query_as("SELECT uses, sha FROM actions WHERE run_id = $1 ORDER BY uses");
        Ok(query.bind(run_id).fetch_all(self.reads()).await?)
    }

    /// Returns what the steps of a job have told about the code, in all its attempts.
    pub(crate) async fn annotations_of(
        &self,
        job_id: &str,
    ) -> Result<Vec<AnnotationRow>, StoreError> {
        let query = sqlx::query_as(
            "SELECT attempt, step, annotation FROM annotations WHERE job_id = $1 ORDER BY attempt, step, id",
        );
        let rows: Vec<(i64, i64, String)> = query.bind(job_id).fetch_all(self.reads()).await?;
        let rows = rows.into_iter().map(|(attempt, step, annotation)| {
            let annotation = serde_json::from_str(&annotation);
            let annotation = annotation.map_err(StoreError::unreadable("annotation"))?;
            Ok(AnnotationRow { attempt, step, annotation })
        });
        rows.collect()
    }

    /// Returns the steps of a job, of all its attempts.
    pub(crate) async fn steps_of(&self, job_id: &str) -> Result<Vec<StepRow>, StoreError> {
        let query = sqlx::query_as(
            "SELECT attempt, step, name, conclusion, started_at, finished_at, summary, usage FROM steps \
             WHERE job_id = $1 ORDER BY attempt, step",
        );
        Ok(query.bind(job_id).fetch_all(self.reads()).await?)
    }
}
