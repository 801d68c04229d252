//! What happened, each with exactly one current outcome.

use muster_core::change::{Change, PullRequest, PullRequestAction};
use muster_core::id::{EventId, RepoId, Sha};
use muster_core::run::Reason;
use sqlx::AnyConnection;

use super::runs::{NewRun, insert as insert_run};
use super::{Store, StoreError, new_id, next_number, reports, repositories};

/// An event that waits for its outcome.
#[derive(Debug)]
pub(crate) struct PendingEvent {
    pub(crate) id: EventId,
    pub(crate) number: i64,
    pub(crate) repository: RepoId,
    pub(crate) change: Change,
    /// How often it could not be looked at.
    pub(crate) failures: i64,
}

/// What became of an event.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// These runs were made, and these files judged.
    Accepted,
    /// Somebody must approve the commit first.
    Waiting(Reason),
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
    delivery: Option<&str>,
    now: i64,
) -> Result<EventId, StoreError> {
    let id = new_id();
    let number = next_number(db, "events").await?;
    let sha = change.sha();
    let pull = match change {
        Change::PullRequest(pull) => Some(pull),
        Change::Push { .. } | Change::Delete { .. } => None,
    };
    let text = serde_json::to_string(change).map_err(StoreError::unreadable("change"))?;
    sqlx::query(
        "INSERT INTO events (id, number, repository_id, received_at, change, sha, pull_request, \
         delivery_id, subject, failures, next_try_at, outcome) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0, 'pending')",
    )
    .bind(id.as_str())
    .bind(number)
    .bind(repository.as_str())
    .bind(now)
    .bind(text)
    .bind(sha.map(Sha::as_str))
    .bind(pull.map(|pull| pull.number))
    .bind(delivery)
    .bind(change.full_ref())
    .execute(&mut *db)
    .await?;
    if let Some(pull) = pull.filter(|pull| pull.action == PullRequestAction::Closed) {
        close(db, repository, pull.number).await?;
    }
    if let Some(sha) = sha {
        // The commit turns pending with the receipt, before anything of it is known.
        reports::refresh(db, repository, sha, now).await?;
    }
    Ok(EventId::new(id))
}

/// Returns why nothing follows from an event of a pull request that has moved on since.
async fn late(
    db: &mut AnyConnection,
    repository: &RepoId,
    pull: Option<(i64, Sha)>,
) -> Result<Option<Reason>, StoreError> {
    let Some((number, head)) = pull else { return Ok(None) };
    let known: Option<(String, i64)> = sqlx::query_as(
        "SELECT head, open FROM pull_requests WHERE repository_id = $1 AND number = $2",
    )
    .bind(repository.as_str())
    .bind(number)
    .fetch_optional(db)
    .await?;
    let current = known.is_none_or(|(known, open)| known == head.as_str() && open != 0);
    let text = format!("pull request {number} has moved on, or is closed");
    Ok(if current { None } else { Some(Reason::new("late", text)) })
}

/// Ends what still runs for a pull request that is closed.
async fn close(db: &mut AnyConnection, repository: &RepoId, number: i64) -> Result<(), StoreError> {
    let text = format!("pull request {number} was closed");
    sqlx::query(
        "UPDATE runs SET cancel_code = 'closed', cancel_text = $3 WHERE repository_id = $1 \
         AND pull_request = $2 AND conclusion IS NULL AND cancel_code IS NULL",
    )
    .bind(repository.as_str())
    .bind(number)
    .bind(text.as_str())
    .execute(&mut *db)
    .await?;
    Ok(())
}

/// Holds the repositories of the events that wait and for which `condition` on `$1` is true.
async fn hold_waiting<'q, T>(
    db: &mut AnyConnection,
    condition: &'static str,
    value: T,
) -> Result<(), StoreError>
where
    T: sqlx::Encode<'q, sqlx::Any> + sqlx::Type<sqlx::Any> + Send + 'q,
{
    let ids: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
        "SELECT DISTINCT repository_id FROM events WHERE outcome = 'waiting' AND {condition}"
    )))
    .bind(value)
    .fetch_all(&mut *db)
    .await?;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    repositories::hold(db, &ids).await
}

/// Ends what waits for the approval of a commit that is not the head of its pull request any more, or
/// of one that is closed.
pub(super) async fn end_waiting(
    db: &mut AnyConnection,
    repository: &RepoId,
    pull: &PullRequest,
    now: i64,
) -> Result<(), StoreError> {
    let closed = pull.action == PullRequestAction::Closed;
    let (code, text) = if closed {
        ("closed", format!("pull request {} was closed", pull.number))
    } else {
        ("superseded", format!("pull request {} has a newer head", pull.number))
    };
    let ended: Vec<String> = sqlx::query_scalar(
        "UPDATE events SET outcome = 'dead', reason_code = $3, reason_text = $4 \
         WHERE repository_id = $1 AND pull_request = $2 AND outcome = 'waiting' \
         AND (sha <> $5 OR $6 = 1) RETURNING sha",
    )
    .bind(repository.as_str())
    .bind(pull.number)
    .bind(code)
    .bind(text)
    .bind(pull.head.as_str())
    .bind(i64::from(closed))
    .fetch_all(&mut *db)
    .await?;
    for sha in ended {
        let sha = Sha::parse(&sha)
            .map_err(|error| StoreError::Unreadable { what: "event", error: error.to_string() })?;
        reports::refresh(db, repository, &sha, now).await?;
    }
    Ok(())
}

impl Store {
    /// Ends the waiting of commits that came before a time and that nobody has approved; returns how
    /// many.
    pub(crate) async fn expire_waiting(
        &self,
        before: i64,
        text: String,
        now: i64,
    ) -> Result<usize, StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                hold_waiting(db, "received_at < $1", before).await?;
                let mut ended: Vec<(String, String)> = sqlx::query_as(
                    "UPDATE events SET outcome = 'dead', reason_code = 'expired', reason_text = $2 \
                     WHERE outcome = 'waiting' AND received_at < $1 RETURNING repository_id, sha",
                )
                .bind(before)
                .bind(text)
                .fetch_all(&mut *db)
                .await?;
                ended.sort_unstable();
                for (repository, sha) in &ended {
                    let sha = Sha::parse(sha).map_err(|error| StoreError::Unreadable {
                        what: "event",
                        error: error.to_string(),
                    })?;
                    reports::refresh(db, &RepoId::new(repository), &sha, now).await?;
                }
                Ok(ended.len())
            })
        })
        .await
    }

    /// Approves a commit by its full name: what waits for it goes on. Returns how many events that
    /// are.
    pub(crate) async fn approve(&self, sha: Sha, now: i64) -> Result<u64, StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                hold_waiting(db, "sha = $1", sha.as_str()).await?;
                let mut repositories: Vec<String> = sqlx::query_scalar(
                    "UPDATE events SET outcome = 'pending', reason_code = NULL, reason_text = NULL \
                     WHERE sha = $1 AND outcome = 'waiting' RETURNING repository_id",
                )
                .bind(sha.as_str())
                .fetch_all(&mut *db)
                .await?;
                repositories.sort();
                for repository in &repositories {
                    sqlx::query(
                        "INSERT INTO approvals (repository_id, sha, approved_at) VALUES ($1, $2, $3) \
                         ON CONFLICT (repository_id, sha) DO NOTHING",
                    )
                    .bind(repository.as_str())
                    .bind(sha.as_str())
                    .bind(now)
                    .execute(&mut *db)
                    .await?;
                    reports::refresh(db, &RepoId::new(repository.as_str()), &sha, now).await?;
                }
                Ok(repositories.len() as u64)
            })
        })
        .await
    }

    /// Returns whether somebody approved this very commit.
    pub(crate) async fn is_approved(
        &self,
        repository: &RepoId,
        sha: &Sha,
    ) -> Result<bool, StoreError> {
        let row: Option<i64> = sqlx::query_scalar(
            "SELECT approved_at FROM approvals WHERE repository_id = $1 AND sha = $2",
        )
        .bind(repository.as_str())
        .bind(sha.as_str())
        .fetch_optional(self.reads())
        .await?;
        Ok(row.is_some())
    }

    /// Records that an event could not be looked at, and when to try again.
    pub(crate) async fn event_failed(
        &self,
        event: &EventId,
        next_try_at: i64,
    ) -> Result<(), StoreError> {
        let id = event.clone();
        self.write(move |db| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE events SET failures = failures + 1, next_try_at = $2 WHERE id = $1",
                )
                .bind(id.as_str())
                .bind(next_try_at)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Returns the newest head that was heard of for a pull request; none when it is not open.
    pub(crate) async fn head_of(
        &self,
        repository: &RepoId,
        number: i64,
    ) -> Result<Option<String>, StoreError> {
        let row: Option<(String, i64)> = sqlx::query_as(
            "SELECT head, open FROM pull_requests WHERE repository_id = $1 AND number = $2",
        )
        .bind(repository.as_str())
        .bind(number)
        .fetch_optional(self.reads())
        .await?;
        Ok(row.filter(|(_, open)| *open != 0).map(|(head, _)| head))
    }

    /// Records the head that a pull request has in the repository itself, unless it was heard since
    /// that it is another than `known`. What was told of that head and held for late is looked at again:
    /// webhooks of one second do not say which of them is the last.
    pub(crate) async fn correct_head(
        &self,
        repository: &RepoId,
        number: i64,
        known: String,
        head: &Sha,
    ) -> Result<(), StoreError> {
        if known == head.as_str() {
            return Ok(());
        }
        let (repository, head) = (repository.clone(), head.clone());
        self.write(move |db| {
            Box::pin(async move {
                repositories::hold(db, &[repository.as_str()]).await?;
                let corrected = sqlx::query(
                    "UPDATE pull_requests SET head = $4 \
                     WHERE repository_id = $1 AND number = $2 AND head = $3",
                )
                .bind(repository.as_str())
                .bind(number)
                .bind(known)
                .bind(head.as_str())
                .execute(&mut *db)
                .await?;
                if corrected.rows_affected() == 0 {
                    return Ok(());
                }
                sqlx::query(
                    "UPDATE events SET outcome = 'pending', reason_code = NULL, reason_text = NULL \
                     WHERE repository_id = $1 AND pull_request = $2 AND sha = $3 \
                     AND outcome = 'ignored' AND reason_code = 'late'",
                )
                .bind(repository.as_str())
                .bind(number)
                .bind(head.as_str())
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Returns the events that wait and are due, none of which another of its ref is before and none of a
    /// repository in `without`, the oldest first, at most `limit`.
    pub(crate) async fn pending_events(
        &self,
        now: i64,
        without: &[RepoId],
        limit: i64,
    ) -> Result<Vec<PendingEvent>, StoreError> {
        let others = repositories::none_of(without, 3);
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT id, number, repository_id, change, failures FROM events \
             WHERE outcome = 'pending' AND next_try_at <= $1 AND NOT EXISTS \
             (SELECT 1 FROM events o WHERE o.repository_id = events.repository_id \
             AND o.subject = events.subject AND o.outcome = 'pending' AND o.number < events.number) \
             {others} ORDER BY number LIMIT $2"
        )))
        .bind(now)
        .bind(limit);
        for repository in without {
            query = query.bind(repository.as_str());
        }
        let rows: Vec<(String, i64, String, String, i64)> = query.fetch_all(self.reads()).await?;
        rows.into_iter()
            .map(|(id, number, repository, change, failures)| {
                let change =
                    serde_json::from_str(&change).map_err(StoreError::unreadable("change"))?;
                Ok(PendingEvent {
                    id: EventId::new(id),
                    number,
                    repository: RepoId::new(repository),
                    change,
                    failures,
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
        let sha = event.change.sha().cloned();
        let pull = match &event.change {
            Change::PullRequest(pull) if pull.action != PullRequestAction::Closed => {
                Some((pull.number, pull.head.clone()))
            }
            _ => None,
        };
        self.write(move |db| {
            Box::pin(async move {
                repositories::hold(db, &[repository.as_str()]).await?;
                // The pull request may have moved on while the commit was fetched.
                let decision = match late(db, &repository, pull).await? {
                    Some(reason) => Decision {
                        outcome: Outcome::Ignored(reason),
                        files: Vec::new(),
                        runs: Vec::new(),
                    },
                    None => decision,
                };
                let (outcome, reason) = match decision.outcome {
                    Outcome::Accepted => ("accepted", None),
                    Outcome::Waiting(reason) => ("waiting", Some(reason)),
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
