//! What has still to be told outside, or is given up, as people see it: reports to code hosts and notices.

use muster_core::outbox::NEVER;
use sqlx::FromRow;

use super::{Store, StoreError};

/// A report or a notice that somebody does not have.
#[derive(Debug, FromRow)]
pub(crate) struct Untold {
    pub(crate) repository: String,
    pub(crate) sha: String,
    /// What it is about: a context, or a branch.
    pub(crate) about: String,
    /// The state of that context, or the verdict on that branch.
    pub(crate) state: String,
    pub(crate) failures: i64,
    /// Why the last try failed.
    pub(crate) problem: Option<String>,
    given_up: i64,
}

impl Untold {
    /// Returns true when it is not tried again as it is.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up != 0
    }

    /// Says what becomes of it.
    pub(crate) fn fate(&self) -> &'static str {
        match (self.is_given_up(), self.failures) {
            (true, _) => "given up",
            (false, 0) => "waiting",
            (false, _) => "tried again",
        }
    }
}

impl Store {
    /// Returns the reports that the forge does not show yet, those that are given up first, at most
    /// `limit`.
    pub(crate) async fn untold_reports(&self, limit: i64) -> Result<Vec<Untold>, StoreError> {
        let query = sqlx::query_as(
            "SELECT p.name AS repository, r.sha, r.context AS about, r.state, r.failures, r.problem, \
             CASE WHEN r.next_try_at = $1 THEN 1 ELSE 0 END AS given_up \
             FROM reports r JOIN repositories p ON p.id = r.repository_id WHERE r.sent < r.version \
             ORDER BY given_up DESC, r.failures DESC, r.changed_at, r.context LIMIT $2",
        );
        Ok(query.bind(NEVER).bind(limit).fetch_all(self.reads()).await?)
    }

    /// Returns the notices that somebody has not got, the newest first, at most `limit`.
    pub(crate) async fn untold_notices(&self, limit: i64) -> Result<Vec<Untold>, StoreError> {
        let query = sqlx::query_as(
            "SELECT r.name AS repository, n.sha, n.branch AS about, n.verdict AS state, n.failures, \
             n.problem, CASE WHEN n.done_at IS NULL THEN 0 ELSE 1 END AS given_up \
             FROM notices n JOIN repositories r ON r.id = n.repository_id \
             WHERE n.done_at IS NULL OR n.problem IS NOT NULL ORDER BY n.number DESC LIMIT $1",
        );
        Ok(query.bind(limit).fetch_all(self.reads()).await?)
    }
}
