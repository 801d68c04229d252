//! The outbox: what the forge must see of each context of a commit, and what it has been sent.
//!
//! A row holds the state that is true now. Changing it counts `version` up; sending it writes down
//! which version was sent. So reports coalesce by themselves, a crash between sending and writing
//! sends once more the same, and an old state can never overtake a newer one.

use muster_core::id::{RepoId, Sha};
use muster_core::report::{
    EventFact, Facts, JobFact, NO_VERDICT, ROLL_UP, State, Status, statuses,
};
use muster_core::run::{Job, Reason};
use sqlx::{AnyConnection, FromRow};

use super::{Store, StoreError, notices, repositories};

/// A report, as far as sending it goes.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Unsent {
    pub(crate) repository_id: String,
    pub(crate) sha: String,
    pub(crate) context: String,
    pub(crate) state: String,
    pub(crate) description: String,
    pub(crate) path: String,
    pub(crate) version: i64,
    pub(crate) failures: i64,
    /// Why the last try to send it failed.
    pub(crate) problem: Option<String>,
}

/// A report that the forge will never take is a dead letter until its state changes: its next try is then.
pub(crate) const NEVER: i64 = i64::MAX;

/// Folds all that bears on a commit now, and stores what its contexts show.
///
/// Called in the transaction that changed any of it.
pub(super) async fn refresh(
    db: &mut AnyConnection,
    repository: &RepoId,
    sha: &Sha,
    now: i64,
) -> Result<(), StoreError> {
    // Two folds of one commit at the same time would each miss what the other's transaction changes.
    repositories::hold(db, &[repository.as_str()]).await?;
    let facts = facts(db, repository, sha).await?;
    let mut pending: Vec<String> = sqlx::query_scalar(
        "SELECT context FROM reports WHERE repository_id = $1 AND sha = $2 AND state = 'pending'",
    )
    .bind(repository.as_str())
    .bind(sha.as_str())
    .fetch_all(&mut *db)
    .await?;
    for status in statuses(&facts) {
        pending.retain(|context| *context != status.context);
        if status.context == ROLL_UP && status.state != State::Pending {
            notices::verdict(db, repository, sha, &status, now).await?;
        }
        upsert(db, repository, sha, status, now).await?;
    }
    // Nothing bears these names any more: a newer run of the commit has others.
    for context in pending {
        upsert(db, repository, sha, Status::superseded(context), now).await?;
    }
    Ok(())
}

/// Gathers all that bears on a commit: of each ref that it was at, the last event and the last run of
/// each file.
async fn facts(
    db: &mut AnyConnection,
    repository: &RepoId,
    sha: &Sha,
) -> Result<Facts, StoreError> {
    let jobs: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT j.job, r.number, r.held, r.shadow FROM jobs j JOIN runs r ON r.id = j.run_id \
         WHERE r.repository_id = $1 AND r.sha = $2 AND j.run_attempt = r.attempt \
         AND r.number = (SELECT MAX(l.number) FROM runs l WHERE l.repository_id = r.repository_id \
         AND l.sha = r.sha AND l.ref = r.ref AND l.path = r.path) \
         ORDER BY r.number, j.place",
    )
    .bind(repository.as_str())
    .bind(sha.as_str())
    .fetch_all(&mut *db)
    .await?;
    let jobs = jobs.into_iter().map(|(job, run, held, shadow)| {
        let job: Job = serde_json::from_str(&job).map_err(StoreError::unreadable("job"))?;
        let (name, state, continue_on_error) = (job.name, job.state, job.continue_on_error);
        let (held, shadow) = (held != 0, shadow != 0);
        Ok(JobFact { name, run, state, continue_on_error, held, shadow })
    });
    let jobs = jobs.collect::<Result<_, StoreError>>()?;
    let refused: Vec<(String, Option<String>)> = sqlx::query_as(
        "SELECT DISTINCT f.path, f.reason FROM verdicts_on_files f JOIN events e ON e.id = f.event_id \
         WHERE e.repository_id = $1 AND e.sha = $2 AND f.outcome = 'refused' AND \
         e.number = (SELECT MAX(l.number) FROM events l WHERE l.repository_id = e.repository_id \
         AND l.sha = e.sha AND l.subject = e.subject AND COALESCE(l.reason_code, '') <> $3) \
         ORDER BY f.path",
    )
    .bind(repository.as_str())
    .bind(sha.as_str())
    .bind(NO_VERDICT)
    .fetch_all(&mut *db)
    .await?;
    let refused =
        refused.into_iter().map(|(path, reason)| (path, reason.unwrap_or_default())).collect();
    let events: Vec<(String, Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT e.outcome, e.reason_code, e.reason_text FROM events e \
         WHERE e.repository_id = $1 AND e.sha = $2 AND \
         e.number = (SELECT MAX(l.number) FROM events l WHERE l.repository_id = e.repository_id \
         AND l.sha = e.sha AND l.subject = e.subject AND COALESCE(l.reason_code, '') <> $3) \
         ORDER BY e.number",
    )
    .bind(repository.as_str())
    .bind(sha.as_str())
    .bind(NO_VERDICT)
    .fetch_all(db)
    .await?;
    let events = events.into_iter().map(|(outcome, code, text)| {
        let reason = Reason::new(code.as_deref().unwrap_or_default(), text.unwrap_or_default());
        match outcome.as_str() {
            "accepted" => EventFact::Accepted,
            "ignored" => EventFact::Ignored(reason),
            "dead" => EventFact::Dead(reason),
            "waiting" => EventFact::Waiting(reason),
            _ => EventFact::Pending,
        }
    });
    Ok(Facts { jobs, refused, events: events.collect() })
}

/// Stores what a context shows now; the same again changes nothing.
async fn upsert(
    db: &mut AnyConnection,
    repository: &RepoId,
    sha: &Sha,
    status: Status,
    now: i64,
) -> Result<(), StoreError> {
    // The address is kept without the server's own, which may change.
    let path = match status.run {
        Some(run) => format!("/runs/{run}"),
        None => format!("/commits/{sha}"),
    };
    sqlx::query(
        "INSERT INTO reports (repository_id, sha, context, state, description, path, \
         version, sent, changed_at, failures, next_try_at) \
         VALUES ($1, $2, $3, $4, $5, $6, 1, 0, $7, 0, 0) \
         ON CONFLICT (repository_id, sha, context) DO UPDATE SET \
         state = excluded.state, description = excluded.description, path = excluded.path, \
         version = reports.version + 1, changed_at = excluded.changed_at, next_try_at = 0, failures = 0 \
         WHERE reports.state <> excluded.state OR reports.description <> excluded.description \
         OR reports.path <> excluded.path",
    )
    .bind(repository.as_str())
    .bind(sha.as_str())
    .bind(status.context)
    .bind(status.state.as_str())
    .bind(status.description)
    .bind(path)
    .bind(now)
    .execute(db)
    .await?;
    Ok(())
}

impl Store {
    /// Returns reports that are due, of no repository in `without`, verdicts first, at most `limit`.
    pub(crate) async fn due_reports(
        &self,
        now: i64,
        without: &[RepoId],
        limit: i64,
    ) -> Result<Vec<Unsent>, StoreError> {
        let others = repositories::none_of(without, 3);
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT repository_id, sha, context, state, description, path, version, failures, problem \
             FROM reports WHERE sent < version AND next_try_at <= $1 {others} \
             ORDER BY CASE WHEN state = 'pending' THEN 1 ELSE 0 END, changed_at LIMIT $2"
        )))
        .bind(now)
        .bind(limit);
        for repository in without {
            query = query.bind(repository.as_str());
        }
        Ok(query.fetch_all(self.reads()).await?)
    }

    /// Returns when the next report becomes due that is not due yet.
    pub(crate) async fn next_report_at(&self) -> Result<Option<i64>, StoreError> {
        let query = sqlx::query_scalar("SELECT MIN(next_try_at) FROM reports WHERE sent < version");
        Ok(query.fetch_one(self.reads()).await?)
    }

    /// Returns all reports of a commit, by context.
    pub(crate) async fn reports_of(
        &self,
        repository: &RepoId,
        sha: &Sha,
    ) -> Result<Vec<Unsent>, StoreError> {
        let query = sqlx::query_as(
            "SELECT repository_id, sha, context, state, description, path, version, failures, problem \
             FROM reports WHERE repository_id = $1 AND sha = $2 ORDER BY context",
        );
        Ok(query.bind(repository.as_str()).bind(sha.as_str()).fetch_all(self.reads()).await?)
    }

    /// Records that these versions are what the forge shows.
    pub(crate) async fn reports_sent(&self, sent: Vec<Unsent>, now: i64) -> Result<(), StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                for report in sent {
                    sqlx::query(
                        "UPDATE reports SET sent = $4, sent_at = $5, failures = 0, problem = NULL \
                         WHERE repository_id = $1 AND sha = $2 AND context = $3 AND sent < $4",
                    )
                    .bind(report.repository_id)
                    .bind(report.sha)
                    .bind(report.context)
                    .bind(report.version)
                    .bind(now)
                    .execute(&mut *db)
                    .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Records that a report could not be sent, and when to try again.
    pub(crate) async fn report_failed(
        &self,
        report: &Unsent,
        problem: String,
        next_try_at: i64,
    ) -> Result<(), StoreError> {
        let report = report.clone();
        self.write(move |db| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE reports SET failures = failures + 1, problem = $4, next_try_at = $5 \
                     WHERE repository_id = $1 AND sha = $2 AND context = $3 AND version = $6",
                )
                .bind(report.repository_id)
                .bind(report.sha)
                .bind(report.context)
                .bind(problem)
                .bind(next_try_at)
                .bind(report.version)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }
}
