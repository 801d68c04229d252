//! Verdicts on default branches that changed, and who was told.

use muster_core::id::{RepoId, Sha};
use muster_core::report::Status;
use sqlx::{AnyConnection, FromRow};

use super::{Store, StoreError, due, new_id, next_number};

/// The longest that a notice waits for another try.
pub(crate) const LONGEST_WAIT_MS: i64 = 3_600_000;

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
    let (branch, was): (String, Option<String>) =
        sqlx::query_as("SELECT default_branch, verdict FROM repositories WHERE id = $1")
            .bind(repository.as_str())
            .fetch_one(&mut *db)
            .await?;
    // The branch's verdict is that of the commit that it is at: what was heard last may be late.
    let at: Option<String> =
        sqlx::query_scalar("SELECT sha FROM refs WHERE repository_id = $1 AND name = $2")
            .bind(repository.as_str())
            .bind(format!("refs/heads/{branch}"))
            .fetch_optional(&mut *db)
            .await?;
    if at.as_deref() != Some(sha.as_str()) {
        return Ok(());
    }
    let verdict = status.state.as_str();
    sqlx::query("UPDATE repositories SET verdict = $2 WHERE id = $1")
        .bind(repository.as_str())
        .bind(verdict)
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
    /// Returns the oldest notice that is due and that none of its repository is before: the last word
    /// comes last.
    pub(crate) async fn due_notice(&self, now: i64) -> Result<Option<Notice>, StoreError> {
        let due = due(LONGEST_WAIT_MS).replace("next_try_at", "n.next_try_at");
        let query = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT n.id, r.name AS repository, n.sha, n.branch, n.verdict, n.was, n.description, \
             n.at, n.told, n.failures FROM notices n JOIN repositories r ON r.id = n.repository_id \
             WHERE n.done_at IS NULL AND {due} AND NOT EXISTS \
             (SELECT 1 FROM notices o WHERE o.repository_id = n.repository_id \
             AND o.done_at IS NULL AND o.number < n.number) ORDER BY n.number LIMIT 1",
        )));
        Ok(query.bind(now).fetch_optional(self.reads()).await?)
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
