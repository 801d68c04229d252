//! What happened, each with exactly one current outcome.

use muster_core::change::{Change, LAST_HEARD, PullRequestAction};
use muster_core::id::{EventId, RepoId, Sha};
use muster_core::outcome::Outcome;
use muster_core::pull::{self, Known};
use sqlx::AnyConnection;

use super::audit::{self, Deed, Owned};
use super::runs::{NewRun, insert as insert_run};
use super::{Store, StoreError, due, new_id, next_number, pull_requests, reports, repositories};

/// The longest that an event waits for another try.
pub(crate) const LONGEST_WAIT_MS: i64 = 600_000;

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

/// What became of one workflow file of an event.
#[derive(Debug)]
pub(crate) struct FileVerdict {
    pub(crate) path: String,
    /// `ran`, `skipped` or `refused`.
    pub(crate) outcome: &'static str,
    pub(crate) reason: Option<String>,
}

/// What became of an event for one workflow.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Dispatched {
    pub(crate) outcome: String,
    pub(crate) reason: Option<String>,
    /// The number of its run, where it has one.
    pub(crate) run: Option<i64>,
}

/// All that follows from an event, stored together.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) outcome: Outcome,
    pub(crate) files: Vec<FileVerdict>,
    pub(crate) runs: Vec<NewRun>,
    /// Of a push to a branch, where that branch is now, where that was looked up.
    pub(crate) branch_at: Option<Sha>,
}

impl Decision {
    /// Nothing but an outcome.
    pub(crate) fn nothing(outcome: Outcome) -> Self {
        Self { outcome, files: Vec::new(), runs: Vec::new(), branch_at: None }
    }
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
        _ => None,
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
    // Those of a ref are decided one after the other. What brings no verdict waits for none, and holds up none.
    .bind(if change.workflow().is_some() { id.clone() } else { change.full_ref() })
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

/// Ends what still runs for a pull request that is closed.
async fn close(db: &mut AnyConnection, repository: &RepoId, number: i64) -> Result<(), StoreError> {
    let reason = pull::closed(number);
    sqlx::query(
        "UPDATE runs SET cancel_code = $4, cancel_text = $3 WHERE repository_id = $1 \
         AND pull_request = $2 AND conclusion IS NULL AND cancel_code IS NULL",
    )
    .bind(repository.as_str())
    .bind(number)
    .bind(reason.text)
    .bind(reason.code)
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
    number: i64,
    known: &Known,
    now: i64,
) -> Result<(), StoreError> {
    let waiting: Vec<(String, String)> = sqlx::query_as(
        "SELECT id, sha FROM events WHERE repository_id = $1 AND pull_request = $2 \
         AND outcome = 'waiting' AND sha IS NOT NULL ORDER BY number",
    )
    .bind(repository.as_str())
    .bind(number)
    .fetch_all(&mut *db)
    .await?;
    for (id, sha) in waiting {
        let sha = stored_sha(&sha)?;
        let Some(reason) = pull::ends_waiting(number, known, &sha) else { continue };
        sqlx::query(
            "UPDATE events SET outcome = 'dead', reason_code = $2, reason_text = $3 WHERE id = $1",
        )
        .bind(id)
        .bind(reason.code)
        .bind(reason.text)
        .execute(&mut *db)
        .await?;
        reports::refresh(db, repository, &sha, now).await?;
    }
    Ok(())
}

fn stored_sha(text: &str) -> Result<Sha, StoreError> {
    Sha::parse(text).map_err(StoreError::unreadable("event"))
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
                    let sha = stored_sha(sha)?;
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

    /// Returns the events that wait and are due, none of which another of its ref is before and none of a
    /// repository in `without`, the oldest first, at most `limit`.
    pub(crate) async fn pending_events(
        &self,
        now: i64,
        without: &[RepoId],
        limit: i64,
    ) -> Result<Vec<PendingEvent>, StoreError> {
        let (others, due) = (repositories::none_of(without, 3), due(LONGEST_WAIT_MS));
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT id, number, repository_id, change, failures FROM events \
             WHERE outcome = 'pending' AND {due} AND NOT EXISTS \
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

    /// Stores that somebody has asked for a workflow, and that they have; returns the number of the event, `None` where the
    /// repository is gone.
    pub(crate) async fn dispatch(
        &self,
        repository: &RepoId,
        change: Change,
        deed: &Deed<'_>,
        now: i64,
    ) -> Result<Option<i64>, StoreError> {
        let (repository, deed) = (repository.clone(), Owned::from(deed));
        self.write(move |db| {
            Box::pin(async move {
                if !repositories::is_there(db, &repository).await? {
                    return Ok(None);
                }
                let id = insert(db, &repository, &change, None, now).await?;
                audit::insert(db, &deed, now).await?;
                let query = sqlx::query_scalar("SELECT number FROM events WHERE id = $1");
                Ok(Some(query.bind(id.as_str()).fetch_one(db).await?))
            })
        })
        .await
    }

    /// Returns what became of an event that brings no verdict; `None` where there is none of this number.
    pub(crate) async fn dispatched(&self, number: i64) -> Result<Option<Dispatched>, StoreError> {
        let query = sqlx::query_as(
            "SELECT e.outcome, COALESCE(f.reason, e.reason_text) AS reason, r.number AS run FROM events e \
             LEFT JOIN runs r ON r.event_id = e.id LEFT JOIN verdicts_on_files f ON f.event_id = e.id \
             WHERE e.number = $1 AND e.subject = e.id",
        );
        Ok(query.bind(number).fetch_optional(self.reads()).await?)
    }

    /// Returns the commits that a ref was heard to be at before an event of it came, of the last
    /// [`LAST_HEARD`].
    pub(crate) async fn heard_before(&self, event: &PendingEvent) -> Result<Vec<Sha>, StoreError> {
        let query = sqlx::query_scalar(
            "SELECT sha FROM events WHERE repository_id = $1 AND subject = $2 AND number < $3 \
             AND sha IS NOT NULL ORDER BY number DESC LIMIT $4",
        );
        let query = query.bind(event.repository.as_str()).bind(event.change.full_ref());
        let heard: Vec<String> = query
            .bind(event.number)
            .bind(i64::try_from(LAST_HEARD).unwrap_or(i64::MAX))
            .fetch_all(self.reads())
            .await?;
        heard.iter().map(|sha| stored_sha(sha)).collect()
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
        let (sha, subject) = (event.change.sha().cloned(), event.change.full_ref());
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
                let late = match pull {
                    Some((number, head)) => {
                        let known = pull_requests::known(&mut *db, &repository, number).await?;
                        pull::is_current(known.as_ref(), number, &head).err()
                    }
                    None => None,
                };
                let decision = match late {
                    Some(reason) => Decision::nothing(Outcome::Ignored(reason)),
                    None => decision,
                };
                let outcome = decision.outcome;
                let (code, text) =
                    outcome.reason().map(|reason| (reason.code.clone(), reason.text.clone())).unzip();
                let done = sqlx::query(
                    "UPDATE events SET outcome = $2, reason_code = $3, reason_text = $4, decided_at = $5 \
                     WHERE id = $1 AND outcome = 'pending'",
                )
                .bind(id.as_str())
                .bind(outcome.as_str())
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
                if let Some(at) = decision.branch_at {
                    repositories::put_ref(db, &repository, &subject, &at).await?;
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
