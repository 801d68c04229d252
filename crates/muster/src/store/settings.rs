//! Single values: the admin token's hash and the like.

use super::{Store, StoreError};

/// The name of the admin token's hash.
pub(crate) const ADMIN_TOKEN_HASH: &str = "admin_token_sha256";

/// The name of the time in which GitHub wants to hear nothing: its beginning and its end, in milliseconds
/// since 1970.
pub(crate) const GITHUB_QUIET: &str = "github_quiet_until";

impl Store {
    /// Returns the value of `name`.
    pub(crate) async fn setting(&self, name: &'static str) -> Result<Option<String>, StoreError> {
        let query = sqlx::query_scalar("SELECT value FROM settings WHERE name = $1").bind(name);
        Ok(query.fetch_optional(self.reads()).await?)
    }

    /// Sets the value of `name`.
    pub(crate) async fn set_setting(
        &self,
        name: &'static str,
        value: String,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO settings (name, value) VALUES ($1, $2) \
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                )
                .bind(name)
                .bind(value)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }
}
