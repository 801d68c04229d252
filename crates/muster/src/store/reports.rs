//! The outbox: what the forge must see of each context of a commit, and what it has been sent.
//!
//! A row holds the state that is true now. Changing it counts `version` up; sending it writes down
//! which version was sent. So reports coalesce by themselves, a crash between sending and writing
//! sends once more the same, and an old state can never overtake a newer one.

use muster_core::id::{RepoId, Sha};
use muster_core::outbox::LONGEST_WAIT_MS;
use muster_core::outcome::Outcome;
use muster_core::report::{EventFact, Facts, ROLL_UP, RunFact, State, Status, changes};
use muster_core::run::Job;
use sqlx::{AnyConnection, FromRow};

use super::{Store, StoreError, due, notices, repositories};

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

/// What the address of a run begins with, on this server.
const RUNS: &str = "/runs/";

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
    let stored = stored(db, repository, sha).await?;
    for status in changes(&stored, &facts) {
        if status.context == ROLL_UP && status.state != State::Pending {
            notices::verdict(db, repository, sha, &status, now).await?;
        }
        save(db, repository, sha, status, now).await?;
    }
    Ok(())
}

/// Returns what the contexts of a commit show, as it is stored.
async fn stored(
    db: &mut AnyConnection,
    repository: &RepoId,
    sha: &Sha,
) -> Result<Vec<Status>, StoreError> {
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT context, state, description, path FROM reports WHERE repository_id = $1 AND sha = $2",
    )
    .bind(repository.as_str())
    .bind(sha.as_str())
    .fetch_all(db)
    .await?;
    let status = |(context, state, description, path): (String, String, String, String)| {
        let state = State::parse(&state)
            .ok_or_else(|| format!("`{state}` is no state"))
            .map_err(StoreError::unreadable("report"))?;
        let run = path.strip_prefix(RUNS).and_then(|number| number.parse().ok());
        Ok(Status { context, state, description, run })
    };
    rows.into_iter().map(status).collect()
}

/// An event of a commit: number, ref, and its outcome's word, code and text.
type EventRow = (i64, String, String, Option<String>, Option<String>);

/// Gathers all that there is of a commit.
async fn facts(
    db: &mut AnyConnection,
    repository: &RepoId,
    sha: &Sha,
) -> Result<Facts, StoreError> {
    let rows: Vec<(String, i64, String, String, i64, i64)> = sqlx::query_as(
        "SELECT j.job, r.number, r.ref, r.path, r.held, r.shadow FROM jobs j \
         JOIN runs r ON r.id = j.run_id WHERE r.repository_id = $1 AND r.sha = $2 \
         AND r.event_name NOT IN ('workflow_dispatch', 'schedule') AND j.run_attempt = r.attempt ORDER BY r.number, j.place",
    )
    .bind(repository.as_str())
    .bind(sha.as_str())
    .fetch_all(&mut *db)
    .await?;
    let mut runs: Vec<RunFact> = Vec::new();
    for (job, number, git_ref, path, held, shadow) in rows {
        let job: Job = serde_json::from_str(&job).map_err(StoreError::unreadable("job"))?;
        match runs.last_mut().filter(|run| run.number == number) {
            Some(run) => run.jobs.push(job),
            None => runs.push(RunFact {
                number,
                git_ref,
                path,
                held: held != 0,
                shadow: shadow != 0,
                jobs: vec![job],
            }),
        }
    }
    let rows: Vec<EventRow> = sqlx::query_as(
        "SELECT number, subject, outcome, reason_code, reason_text FROM events \
         WHERE repository_id = $1 AND sha = $2 ORDER BY number",
    )
    .bind(repository.as_str())
    .bind(sha.as_str())
    .fetch_all(&mut *db)
    .await?;
    let mut events: Vec<EventFact> = Vec::new();
    for (number, git_ref, word, code, text) in rows {
        let outcome = Outcome::parse(&word, code, text);
        events.push(EventFact { number, git_ref, outcome, refused: Vec::new() });
    }
    let refused: Vec<(i64, String, Option<String>)> = sqlx::query_as(
        "SELECT e.number, f.path, f.reason FROM verdicts_on_files f JOIN events e ON e.id = f.event_id \
         WHERE e.repository_id = $1 AND e.sha = $2 AND f.outcome = 'refused'",
    )
    .bind(repository.as_str())
    .bind(sha.as_str())
    .fetch_all(db)
    .await?;
    for (number, path, reason) in refused {
        if let Some(event) = events.iter_mut().find(|event| event.number == number) {
            event.refused.push((path, reason.unwrap_or_default()));
        }
    }
    Ok(Facts::of(events, runs))
}

/// Stores what a context shows now, which is not what it showed before.
async fn save(
    db: &mut AnyConnection,
    repository: &RepoId,
    sha: &Sha,
    status: Status,
    now: i64,
) -> Result<(), StoreError> {
    // The address is kept without the server's own, which may change.
    let path = match status.run {
        Some(run) => format!("{RUNS}{run}"),
        None => format!("/commits/{sha}"),
    };
    sqlx::query(
        "INSERT INTO reports (repository_id, sha, context, state, description, path, \
         version, sent, changed_at, failures, next_try_at) \
         VALUES ($1, $2, $3, $4, $5, $6, 1, 0, $7, 0, 0) \
         ON CONFLICT (repository_id, sha, context) DO UPDATE SET \
         state = excluded.state, description = excluded.description, path = excluded.path, \
         version = reports.version + 1, changed_at = excluded.changed_at, next_try_at = 0, failures = 0",
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
        let (others, due) = (repositories::none_of(without, 3), due(LONGEST_WAIT_MS));
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT repository_id, sha, context, state, description, path, version, failures, problem \
             FROM reports WHERE sent < version AND {due} {others} \
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
                // Who folds a commit changes its reports too, in another order.
                let ids: Vec<&str> = sent.iter().map(|one| one.repository_id.as_str()).collect();
                repositories::hold(db, &ids).await?;
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
