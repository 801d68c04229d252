//! Until when schedules were looked at.

use muster_core::change::Change;
use muster_core::id::RepoId;

use super::{Store, StoreError, events, repositories};

impl Store {
    /// Returns until when the schedules of a repository were looked at; `None` where it had none.
    pub(crate) async fn scheduled_at(
        &self,
        repository: &RepoId,
    ) -> Result<Option<i64>, StoreError> {
        let query = sqlx::query_scalar("SELECT scheduled_at FROM repositories WHERE id = $1");
        let found: Option<Option<i64>> =
            query.bind(repository.as_str()).fetch_optional(self.reads()).await?;
        Ok(found.flatten())
    }

    /// Stores until when schedules were looked at and, together with that, what is due.
    pub(crate) async fn schedule(
        &self,
        repository: &RepoId,
        until: Option<i64>,
        due: Vec<Change>,
        now: i64,
    ) -> Result<(), StoreError> {
        let repository = repository.clone();
        self.write(move |db| {
            Box::pin(async move {
                // It may have been removed meanwhile.
                if !repositories::is_there(db, &repository).await? {
                    return Ok(());
                }
                // Events come before their repository, as for all who store both: nobody waits for who waits for them.
                for change in &due {
                    events::insert(db, &repository, change, None, now).await?;
                }
                sqlx::query("UPDATE repositories SET scheduled_at = $2 WHERE id = $1")
                    .bind(repository.as_str())
                    .bind(until)
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}
