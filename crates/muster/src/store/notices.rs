//! Verdicts on default branches that changed, and who was told.

use muster_core::id::{RepoId, Sha};
use muster_core::report::Status;
use sqlx::{AnyConnection, FromRow};

use super::{Store, StoreError, new_id, next_number};

/// A notice that somebody has still to be told.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Notice {
    pub(crate) id: String,
    pub(crate) repository: String,
    pub(crate) sha: String,
    pub(crate) branch: String,
    pub(crate) verdict: String,
    pub(crate) was: Option<String>,
    pub(crate) description: String,
    pub(crate) at: i64,
    told: String,
    pub(crate) failures: i64,
}

impl Notice {
    /// Returns true when a channel has it already.
    pub(crate) fn was_told(&self, channel: &str) -> bool {
        self.told.contains(&format!(",{channel},"))
    }
}

/// Records the verdict on a commit; where it is the default branch's and not what it was, that is a
/// notice.
///
/// Called in the transaction that changed the verdict.
pub(super) async fn verdict(
    db: &mut AnyConnection,
    repository: &RepoId,
    sha: &Sha,
    status: &Status,
    now: i64,
) -> Result<(), StoreError> {
    let (branch, was, last): (String, Option<String>, Option<i64>) = sqlx::query_as(
        "SELECT default_branch, verdict, verdict_event FROM repositories WHERE id = $1",
    )
    .bind(repository.as_str())
    .fetch_one(&mut *db)
    .await?;
    let event: Option<i64> = sqlx::query_scalar(
        "SELECT MAX(number) FROM events WHERE repository_id = $1 AND sha = $2 AND subject = $3",
    )
    .bind(repository.as_str())
    .bind(sha.as_str())
    .bind(format!("refs/heads/{branch}"))
    .fetch_one(&mut *db)
    .await?;
    let verdict = status.state.as_str();
    let Some(event) = event.filter(|event| last.is_none_or(|last| *event >= last)) else {
        return Ok(());
    };
    sqlx::query("UPDATE repositories SET verdict = $2, verdict_event = $3 WHERE id = $1")
        .bind(repository.as_str())
        .bind(verdict)
        .bind(event)
        .execute(&mut *db)
        .await?;
    // A branch that has always been green is no news.
    if was.as_deref().unwrap_or("success") == verdict {
        return Ok(());
    }
    let number = next_number(db, "notices").await?;
    sqlx::query(
        "INSERT INTO notices (id, number, repository_id, sha, branch, verdict, was, description, at, \
         told, failures, next_try_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, ',', 0, 0)",
    )
    .bind(new_id())
    .bind(number)
    .bind(repository.as_str())
    .bind(sha.as_str())
    .bind(branch)
    .bind(verdict)
    .bind(was)
    .bind(status.description.as_str())
    .bind(now)
    .execute(db)
    .await?;
    Ok(())
}

impl Store {
    /// Returns notices that are due, the oldest first, at most `limit`.
    pub(crate) async fn due_notices(
        &self,
        now: i64,
        limit: i64,
    ) -> Result<Vec<Notice>, StoreError> {
        let query = sqlx::query_as(
            "SELECT n.id, r.name AS repository, n.sha, n.branch, n.verdict, n.was, n.description, \
             n.at, n.told, n.failures FROM notices n JOIN repositories r ON r.id = n.repository_id \
             WHERE n.done_at IS NULL AND n.next_try_at <= $1 ORDER BY n.number LIMIT $2",
        );
        Ok(query.bind(now).bind(limit).fetch_all(self.reads()).await?)
    }

    /// Records that a channel has a notice.
    pub(crate) async fn notice_told(&self, id: &str, channel: &str) -> Result<(), StoreError> {
        let (id, channel) = (id.to_owned(), channel.to_owned());
        self.write(move |db| {
            Box::pin(async move {
                sqlx::query("UPDATE notices SET told = told || $2 WHERE id = $1")
                    .bind(id)
                    .bind(format!("{channel},"))
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Records that nobody has still to be told, or, with a problem, that it is given up.
    pub(crate) async fn notice_done(
        &self,
        id: &str,
        problem: Option<String>,
        now: i64,
    ) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.write(move |db| {
            Box::pin(async move {
                sqlx::query("UPDATE notices SET done_at = $2, problem = $3 WHERE id = $1")
                    .bind(id)
                    .bind(now)
                    .bind(problem)
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Records why somebody could not be told, and when to try again.
    pub(crate) async fn notice_failed(
        &self,
        id: &str,
        problem: String,
        next_try_at: i64,
    ) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.write(move |db| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE notices SET failures = failures + 1, problem = $2, next_try_at = $3 \
                     WHERE id = $1",
                )
                .bind(id)
                .bind(problem)
                .bind(next_try_at)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }
}
