//! What waits, in numbers.

use muster_core::outbox::NEVER;
use sqlx::FromRow;

use super::{Store, StoreError};

/// How much of each kind waits.
#[derive(Debug, Clone, Copy, FromRow)]
pub(crate) struct Backlog {
    pub(crate) webhooks: i64,
    pub(crate) events: i64,
    /// Events that wait for somebody's approval.
    pub(crate) approvals: i64,
    pub(crate) jobs_waiting: i64,
    pub(crate) jobs_queued: i64,
    pub(crate) jobs_running: i64,
    pub(crate) reports: i64,
    /// Reports that will not be sent as they are.
    pub(crate) given_up: i64,
}

impl Store {
    /// Asks the database for a word.
    pub(crate) async fn answers(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(self.reads()).await?;
        Ok(())
    }

    /// Returns what waits.
    pub(crate) async fn backlog(&self) -> Result<Backlog, StoreError> {
        let jobs = |status: &str| {
            format!(
                "(SELECT COUNT(*) FROM jobs j JOIN runs r ON r.id = j.run_id \
                 WHERE r.conclusion IS NULL AND j.run_attempt = r.attempt AND j.status = '{status}')"
            )
        };
        let query = format!(
            "SELECT (SELECT COUNT(*) FROM deliveries WHERE outcome = 'pending') AS webhooks, \
             (SELECT COUNT(*) FROM events WHERE outcome = 'pending') AS events, \
             (SELECT COUNT(*) FROM events WHERE outcome = 'waiting') AS approvals, \
             {} AS jobs_waiting, {} AS jobs_queued, {} AS jobs_running, \
             (SELECT COUNT(*) FROM reports WHERE sent < version AND next_try_at <> $1) AS reports, \
             (SELECT COUNT(*) FROM reports WHERE sent < version AND next_try_at = $1) AS given_up",
            jobs("waiting"),
            jobs("queued"),
            jobs("running"),
        );
        let query = sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(NEVER);
        Ok(query.fetch_one(self.reads()).await?)
    }
}
