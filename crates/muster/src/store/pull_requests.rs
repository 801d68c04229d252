//! Pull requests as they were last heard of.

use muster_core::change::PullRequest;
use muster_core::id::{RepoId, Sha};
use muster_core::pull::{Known, hear};
use muster_core::run::Reason;
use sqlx::{AnyConnection, AnyExecutor};

use super::{Store, StoreError, events, repositories};

/// Returns what is known of a pull request.
pub(super) async fn known<'e>(
    db: impl AnyExecutor<'e>,
    repository: &RepoId,
    number: i64,
) -> Result<Option<Known>, StoreError> {
    let row: Option<(String, String, i64)> = sqlx::query_as(
        "SELECT head, updated_at, open FROM pull_requests WHERE repository_id = $1 AND number = $2",
    )
    .bind(repository.as_str())
    .bind(number)
    .fetch_optional(db)
    .await?;
    let known = row.map(|(head, updated_at, open)| {
        let head = Sha::parse(&head).map_err(StoreError::unreadable("pull request"))?;
        Ok(Known { head, updated_at, open: open != 0 })
    });
    known.transpose()
}

/// Takes down what an event says of a pull request, and ends what waits no more; returns the reason where
/// it comes too late to count.
pub(super) async fn take_down(
    db: &mut AnyConnection,
    repository: &RepoId,
    pull: &PullRequest,
    at: i64,
) -> Result<Option<Reason>, StoreError> {
    let before = known(&mut *db, repository, pull.number).await?;
    let now = match hear(before.as_ref(), pull) {
        Ok(now) => now,
        Err(late) => return Ok(Some(late)),
    };
    sqlx::query(
        "INSERT INTO pull_requests (repository_id, number, head, updated_at, open) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (repository_id, number) DO UPDATE SET \
         head = excluded.head, updated_at = excluded.updated_at, open = excluded.open",
    )
    .bind(repository.as_str())
    .bind(pull.number)
    .bind(now.head.as_str())
    .bind(now.updated_at.as_str())
    .bind(i64::from(now.open))
    .execute(&mut *db)
    .await?;
    events::end_waiting(db, repository, pull.number, &now, at).await?;
    Ok(None)
}

impl Store {
    /// Returns what was last heard of a pull request.
    pub(crate) async fn pull_request(
        &self,
        repository: &RepoId,
        number: i64,
    ) -> Result<Option<Known>, StoreError> {
        known(self.reads(), repository, number).await
    }

    /// Records the head that a pull request has in the repository itself, unless it was heard since
    /// that it is another than `known`. What was told of that head and held for late is looked at again:
    /// webhooks of one second do not say which of them is the last.
    pub(crate) async fn correct_head(
        &self,
        repository: &RepoId,
        number: i64,
        known: Known,
        head: &Sha,
        now: i64,
    ) -> Result<(), StoreError> {
        if known.head == *head {
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
                .bind(known.head.as_str())
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
                .execute(&mut *db)
                .await?;
                let known = Known { head, ..known };
                events::end_waiting(db, &repository, number, &known, now).await
            })
        })
        .await
    }
}
