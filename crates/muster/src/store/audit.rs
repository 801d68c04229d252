//! What people have done.

use muster_sys::clock;
use sqlx::{AnyConnection, FromRow};

use super::{Page, Store, StoreError, next_number};

/// Who has the admin token: all people are one yet.
const ADMIN: &str = "admin";

/// Something that somebody has done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deed<'d> {
    /// What it was, such as `run.cancel`.
    pub(crate) action: &'d str,
    /// What it was done to, such as `run 7`.
    pub(crate) subject: &'d str,
    /// What else is to be known, never a secret; empty for nothing.
    pub(crate) detail: &'d str,
}

/// A deed that a transaction takes with it: what was done, to what, and what else is to be known.
#[derive(Debug, Clone)]
pub(super) struct Owned([String; 3]);

impl From<&Deed<'_>> for Owned {
    fn from(deed: &Deed<'_>) -> Self {
        Self([deed.action, deed.subject, deed.detail].map(str::to_owned))
    }
}

/// Notes a deed together with what else a transaction does.
pub(super) async fn insert(
    db: &mut AnyConnection,
    Owned([action, subject, detail]): &Owned,
    at: i64,
) -> Result<(), StoreError> {
    let number = next_number(db, "audit").await?;
    sqlx::query(
        "INSERT INTO audit (number, at, who, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(number)
    .bind(at)
    .bind(ADMIN)
    .bind(action.as_str())
    .bind(subject.as_str())
    .bind(detail.as_str())
    .execute(db)
    .await?;
    Ok(())
}

/// A deed, as it is stored.
#[derive(Debug, FromRow)]
pub(crate) struct Noted {
    pub(crate) number: i64,
    pub(crate) at: i64,
    pub(crate) who: String,
    pub(crate) action: String,
    pub(crate) subject: String,
    pub(crate) detail: String,
}

impl Store {
    /// Notes what somebody has done.
    pub(crate) async fn note(&self, deed: &Deed<'_>) -> Result<(), StoreError> {
        let (deed, at) = (Owned::from(deed), clock::now_ms());
        self.write(move |db| Box::pin(async move { insert(db, &deed, at).await })).await
    }

    /// Returns what was done, the newest first.
    pub(crate) async fn newest_deeds(&self, page: Page) -> Result<Vec<Noted>, StoreError> {
        let rows = sqlx::query_as(
            "SELECT number, at, who, action, subject, detail FROM audit WHERE number < $1 \
             ORDER BY number DESC LIMIT $2",
        );
        Ok(rows.bind(page.before).bind(page.limit).fetch_all(self.reads()).await?)
    }
}
