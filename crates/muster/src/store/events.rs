//! What happened, each with exactly one current outcome.

use muster_core::change::Change;
use muster_core::id::{EventId, RepoId, Sha};
use muster_core::run::Reason;
use sqlx::AnyConnection;

use super::runs::{NewRun, insert as insert_run};
use super::{Store, StoreError, new_id, next_number, reports};

/// An event that waits for its outcome.
#[derive(Debug)]
pub(crate) struct PendingEvent {
    pub(crate) id: EventId,
    pub(crate) number: i64,
    pub(crate) repository: RepoId,
    pub(crate) change: Change,
}

/// What became of an event.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// These runs were made, and these files judged.
    Accepted,
    /// Nothing was to be done, for this reason.
    Ignored(Reason),
    /// It could not be processed, for this reason.
    Dead(Reason),
}

/// What became of one workflow file of an event.
#[derive(Debug)]
pub(crate) struct FileVerdict {
    pub(crate) path: String,
    /// `ran`, `skipped` or `refused`.
    pub(crate) outcome: &'static str,
    pub(crate) reason: Option<String>,
}

/// All that follows from an event, stored together.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) outcome: Outcome,
    pub(crate) files: Vec<FileVerdict>,
    pub(crate) runs: Vec<NewRun>,
}

/// Stores a change as an event that waits.
pub(super) async fn insert(
    db: &mut AnyConnection,
    repository: &RepoId,
    change: &Change,
    now: i64,
) -> Result<EventId, StoreError> {
    let id = new_id();
    let number = next_number(db, "events").await?;
    let sha = change.head().map(|head| head.sha.as_str());
    let text = serde_json::to_string(change).map_err(StoreError::unreadable("change"))?;
    sqlx::query(
        "INSERT INTO events (id, number, repository_id, received_at, change, sha, outcome) \
         VALUES ($1, $2, $3, $4, $5, $6, 'pending')",
    )
    .bind(id.as_str())
    .bind(number)
    .bind(repository.as_str())
    .bind(now)
    .bind(text)
    .bind(sha)
    .execute(&mut *db)
    .await?;
    if let Some(head) = change.head() {
        // The commit turns pending with the receipt, before anything of it is known.
        reports::refresh(db, repository, &head.sha, now).await?;
    }
    Ok(EventId::new(id))
}

impl Store {
    /// Returns the events that wait, the oldest first, at most `limit`.
    pub(crate) async fn pending_events(&self, limit: i64) -> Result<Vec<PendingEvent>, StoreError> {
        let rows: Vec<(String, i64, String, String)> = sqlx::query_as(
            "SELECT id, number, repository_id, change FROM events \
             WHERE outcome = 'pending' ORDER BY number LIMIT $1",
        )
        .bind(limit)
        .fetch_all(self.reads())
        .await?;
        rows.into_iter()
            .map(|(id, number, repository, change)| {
                let change =
                    serde_json::from_str(&change).map_err(StoreError::unreadable("change"))?;
                Ok(PendingEvent {
                    id: EventId::new(id),
                    number,
                    repository: RepoId::new(repository),
                    change,
                })
            })
            .collect()
    }

    /// Returns the workflow files of a commit with what became of each: path, outcome, reason.
    pub(crate) async fn files_of(
        &self,
        repository: &RepoId,
        sha: &Sha,
    ) -> Result<Vec<(String, String, Option<String>)>, StoreError> {
        let query = sqlx::query_as(
            "SELECT DISTINCT f.path, f.outcome, f.reason FROM verdicts_on_files f \
             JOIN events e ON e.id = f.event_id \
             WHERE e.repository_id = $1 AND e.sha = $2 ORDER BY f.path, f.outcome",
        );
        Ok(query.bind(repository.as_str()).bind(sha.as_str()).fetch_all(self.reads()).await?)
    }

    /// Stores what follows from an event; an event that has its outcome already is left as it is.
    pub(crate) async fn decide_event(
        &self,
        event: &PendingEvent,
        decision: Decision,
        now: i64,
    ) -> Result<(), StoreError> {
        let (id, repository) = (event.id.clone(), event.repository.clone());
        let sha = event.change.head().map(|head| head.sha.clone());
        self.write(move |db| {
            Box::pin(async move {
                let (outcome, reason) = match decision.outcome {
                    Outcome::Accepted => ("accepted", None),
                    Outcome::Ignored(reason) => ("ignored", Some(reason)),
                    Outcome::Dead(reason) => ("dead", Some(reason)),
                };
                let (code, text) = reason.map(|reason| (reason.code, reason.text)).unzip();
                let done = sqlx::query(
                    "UPDATE events SET outcome = $2, reason_code = $3, reason_text = $4, decided_at = $5 \
                     WHERE id = $1 AND outcome = 'pending'",
                )
                .bind(id.as_str())
                .bind(outcome)
                .bind(code)
                .bind(text)
                .bind(now)
                .execute(&mut *db)
                .await?;
                if done.rows_affected() == 0 {
                    return Ok(());
                }
                for file in decision.files {
                    sqlx::query(
                        "INSERT INTO verdicts_on_files (event_id, path, outcome, reason) \
                         VALUES ($1, $2, $3, $4)",
                    )
                    .bind(id.as_str())
                    .bind(file.path)
                    .bind(file.outcome)
                    .bind(file.reason)
                    .execute(&mut *db)
                    .await?;
                }
                for run in decision.runs {
                    insert_run(db, &repository, &id, run, now).await?;
                }
                if let Some(sha) = sha {
                    reports::refresh(db, &repository, &sha, now).await?;
                }
                Ok(())
            })
        })
        .await
    }
}
