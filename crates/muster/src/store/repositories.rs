//! The repositories that muster watches, and the refs it has seen in them.

use muster_core::change::Change;
use muster_core::id::{RepoId, Sha};
use muster_core::trust::Protection;
use sqlx::{AnyConnection, FromRow};

use super::{Store, StoreError, events, new_id, next_number};

/// A watched repository.
#[derive(Debug, Clone, FromRow)]
pub(crate) struct Repository {
    id: String,
    /// Its number on this server.
    pub(crate) number: i64,
    /// Its name: `owner/name`, or any other for plain git.
    pub(crate) name: String,
    kind: String,
    /// A path, or a URL that git understands.
    pub(crate) location: String,
    adopted: i64,
    /// The branch that HEAD names there.
    pub(crate) default_branch: String,
    /// When its refs were first seen; what was there by then starts nothing.
    pub(crate) seen_at: Option<i64>,
    /// Why the last look at it failed.
    pub(crate) problem: Option<String>,
    protection: Option<String>,
}

impl Repository {
    /// Returns its id.
    pub(crate) fn id(&self) -> RepoId {
        RepoId::new(self.id.as_str())
    }

    /// Returns the location as it may be shown.
    pub(crate) fn shown_location(&self) -> String {
        without_password(&self.location)
    }

    /// Returns `github`, or `git` for any other.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns true when it lies at GitHub, and is heard of by webhooks.
    pub(crate) fn is_at_github(&self) -> bool {
        self.kind == "github"
    }

    /// Returns the patterns of branches and tags that are protected.
    pub(crate) fn protected_patterns(&self) -> Vec<&str> {
        match &self.protection {
            Some(patterns) => patterns.lines().collect(),
            None => vec![&self.default_branch],
        }
    }

    /// Returns which branches and tags are protected.
    pub(crate) fn protection(&self) -> Result<Protection, StoreError> {
        match &self.protection {
            Some(patterns) => {
                Protection::read(patterns.lines()).map_err(StoreError::unreadable("protection"))
            }
            None => Ok(Protection::Branch(self.default_branch.clone())),
        }
    }

    /// Returns true while another CI may publish the names of its jobs.
    pub(crate) fn is_in_shadow(&self) -> bool {
        self.is_at_github() && self.adopted == 0
    }
}

/// What a look at a repository found.
#[derive(Debug)]
pub(crate) struct Look {
    /// All refs that are there now.
    pub(crate) refs: Vec<(String, Sha)>,
    /// The branch that HEAD names.
    pub(crate) default_branch: String,
    /// What happened since the last look.
    pub(crate) changes: Vec<Change>,
}

/// Writes the condition that a row is of none of these repositories, whose ids are bound from `$first` on.
pub(super) fn none_of(repositories: &[RepoId], first: usize) -> String {
    let places = first..first + repositories.len();
    places.map(|place| format!(" AND repository_id <> ${place}")).collect()
}

/// Keeps others from changing what belongs to these repositories until the transaction ends: whoever
/// holds one goes first. (SQLite has one writer anyway.)
///
/// A transaction that changes events which another may change too holds their repositories before it
/// does, all at once: two that took them one by one could wait for each other.
pub(super) async fn hold(db: &mut AnyConnection, ids: &[&str]) -> Result<(), StoreError> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        sqlx::query("UPDATE repositories SET number = number WHERE id = $1")
            .bind(id)
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

const COLUMNS: &str =
    "id, number, name, kind, location, adopted, default_branch, seen_at, problem, protection";

/// Returns whether a repository is watched.
pub(super) async fn is_there(db: &mut AnyConnection, id: &RepoId) -> Result<bool, StoreError> {
    let query = sqlx::query_scalar("SELECT COUNT(*) FROM repositories WHERE id = $1");
    let count: i64 = query.bind(id.as_str()).fetch_one(db).await?;
    Ok(count > 0)
}

impl Store {
    /// Adds a repository; refuses a name that is taken.
    pub(crate) async fn add_repository(
        &self,
        name: String,
        location: String,
        default_branch: String,
        forge_id: Option<i64>,
        now: i64,
    ) -> Result<RepoId, StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                let taken: Option<String> =
                    sqlx::query_scalar("SELECT location FROM repositories WHERE name = $1")
                        .bind(name.as_str())
                        .fetch_optional(&mut *db)
                        .await?;
                if let Some(location) = taken {
                    return Err(StoreError::Refused(format!(
                        "repository `{name}` is already there, at {location}"
                    )));
                }
                let id = new_id();
                let number = next_number(db, "repositories").await?;
                sqlx::query(
                    "INSERT INTO repositories (id, number, name, kind, location, forge_id, adopted, \
                     default_branch, added_at) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8)",
                )
                .bind(id.as_str())
                .bind(number)
.bind(name)
                .bind(if forge_id.is_some() { "github" } else { "git" })
                .bind(location)
                .bind(forge_id)
                .bind(default_branch)
                .bind(now)
                .execute(db)
                .await?;
                Ok(RepoId::new(id))
            })
        })
        .await
    }

    /// Removes a repository with all that is stored of it; returns its id, where there was one.
    pub(crate) async fn remove_repository(
        &self,
        name: String,
    ) -> Result<Option<RepoId>, StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                // Runs refer to events and workflows, which go with the repository.
                sqlx::query(
                    "DELETE FROM runs WHERE repository_id IN \
                     (SELECT id FROM repositories WHERE name = $1)",
                )
                .bind(name.as_str())
                .execute(&mut *db)
                .await?;
                let id: Option<String> =
                    sqlx::query_scalar("DELETE FROM repositories WHERE name = $1 RETURNING id")
                        .bind(name)
                        .fetch_optional(db)
                        .await?;
                Ok(id.map(RepoId::new))
            })
        })
        .await
    }

    /// Returns all repositories by name.
    pub(crate) async fn repositories(&self) -> Result<Vec<Repository>, StoreError> {
        let query = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM repositories ORDER BY name"
        )));
        Ok(query.fetch_all(self.reads()).await?)
    }

    /// Returns the repositories that nothing is open of, and when something was last, the longest ago
    /// first.
    pub(crate) async fn idle_repositories(&self) -> Result<Vec<(RepoId, i64)>, StoreError> {
        let query = sqlx::query_as(
            "SELECT id, CASE WHEN ran > heard THEN ran ELSE heard END AS last FROM (SELECT r.id, \
             COALESCE((SELECT MAX(COALESCE(u.concluded_at, u.created_at)) FROM runs u \
             WHERE u.repository_id = r.id), r.added_at) AS ran, \
             COALESCE((SELECT MAX(e.received_at) FROM events e \
             WHERE e.repository_id = r.id), r.added_at) AS heard FROM repositories r \
             WHERE NOT EXISTS (SELECT 1 FROM runs u \
             WHERE u.repository_id = r.id AND u.conclusion IS NULL) AND NOT EXISTS \
             (SELECT 1 FROM events e WHERE e.repository_id = r.id AND e.outcome = 'pending')) AS idle \
             ORDER BY last",
        );
        let rows: Vec<(String, i64)> = query.fetch_all(self.reads()).await?;
        Ok(rows.into_iter().map(|(id, last)| (RepoId::new(id), last)).collect())
    }

    /// Returns the repository with this id.
    pub(crate) async fn repository(&self, id: &RepoId) -> Result<Option<Repository>, StoreError> {
        let query = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM repositories WHERE id = $1"
        )));
        Ok(query.bind(id.as_str()).fetch_optional(self.reads()).await?)
    }

    /// Returns the repository with this number at GitHub, and takes over the name and default branch that it had at a time
    /// (ISO 8601 in UTC), unless what is known is newer.
    pub(crate) async fn github_repository(
        &self,
        forge_id: i64,
        name: &str,
        default_branch: Option<String>,
        as_of: Option<String>,
    ) -> Result<Option<RepoId>, StoreError> {
        let row: Option<(String, String, String, Option<String>)> = sqlx::query_as(
            "SELECT id, name, default_branch, named_at FROM repositories \
             WHERE forge_id = $1 AND kind = 'github'",
        )
        .bind(forge_id)
        .fetch_optional(self.reads())
        .await?;
        let Some((id, known, known_branch, known_at)) = row else { return Ok(None) };
        let default_branch = default_branch.unwrap_or_else(|| known_branch.clone());
        let is_same = known == name && known_branch == default_branch;
        // A webhook that comes late has what was so then.
        if !is_same && (known_at.is_none() || as_of.is_none() || known_at <= as_of) {
            let (id, name) = (id.clone(), name.to_owned());
            self.write(move |db| {
                Box::pin(async move {
                    // A plain one keeps its name: what was said of that was not meant for one at GitHub.
                    let plain: Option<String> = sqlx::query_scalar(
                        "SELECT id FROM repositories WHERE name = $1 AND kind <> 'github'",
                    )
                    .bind(name.as_str())
                    .fetch_optional(&mut *db)
                    .await?;
                    let name = if plain.is_some() { known } else { name };
                    // Who had the name before has another now, of which nothing was heard yet.
                    sqlx::query(
                        "UPDATE repositories SET name = name || '#' || CAST(number AS TEXT) \
                         WHERE name = $2 AND id <> $1",
                    )
                    .bind(id.as_str())
                    .bind(name.as_str())
                    .execute(&mut *db)
                    .await?;
                    let query = sqlx::query(
                        "UPDATE repositories SET name = $2, named_at = $3, default_branch = $4 \
                         WHERE id = $1",
                    );
                    query.bind(id).bind(name).bind(as_of).bind(default_branch).execute(db).await?;
                    Ok(())
                })
            })
            .await?;
        }
        Ok(Some(RepoId::new(id)))
    }

    /// Ends the shadow of a repository; returns false where there is none.
    pub(crate) async fn adopt_repository(&self, name: String) -> Result<bool, StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                let query = sqlx::query("UPDATE repositories SET adopted = 1 WHERE name = $1");
                Ok(query.bind(name).execute(db).await?.rows_affected() > 0)
            })
        })
        .await
    }

    /// Says which branches and tags of a repository are protected, by patterns; without any its default branch is.
    /// Returns false where there is no such repository.
    pub(crate) async fn protect(
        &self,
        name: String,
        patterns: Option<Vec<String>>,
    ) -> Result<bool, StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                let query = sqlx::query("UPDATE repositories SET protection = $2 WHERE name = $1");
                let query = query.bind(name).bind(patterns.map(|patterns| patterns.join("\n")));
                Ok(query.execute(db).await?.rows_affected() > 0)
            })
        })
        .await
    }

    /// Returns the refs that the last look found.
    pub(crate) async fn refs(&self, id: &RepoId) -> Result<Vec<(String, Sha)>, StoreError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as("SELECT name, sha FROM refs WHERE repository_id = $1 ORDER BY name")
                .bind(id.as_str())
                .fetch_all(self.reads())
                .await?;
        rows.into_iter()
            .map(|(name, sha)| match Sha::parse(&sha) {
                Ok(sha) => Ok((name, sha)),
                Err(error) => Err(StoreError::unreadable("ref")(error)),
            })
            .collect()
    }

    /// Returns where a ref was seen, by its full name.
    pub(crate) async fn ref_at(&self, id: &RepoId, name: &str) -> Result<Option<Sha>, StoreError> {
        let query =
            sqlx::query_scalar("SELECT sha FROM refs WHERE repository_id = $1 AND name = $2");
        let found: Option<String> =
            query.bind(id.as_str()).bind(name).fetch_optional(self.reads()).await?;
        let read = |sha: String| Sha::parse(&sha).map_err(StoreError::unreadable("ref"));
        found.map(read).transpose()
    }

    /// Records a look: the refs as they are now and, together with them, what happened.
    pub(crate) async fn record_look(
        &self,
        id: &RepoId,
        look: Look,
        now: i64,
    ) -> Result<(), StoreError> {
        let id = id.clone();
        self.write(move |db| {
            Box::pin(async move {
                for change in &look.changes {
                    events::insert(db, &id, change, None, now).await?;
                }
                replace_refs(db, &id, &look.refs).await?;
                sqlx::query(
                    "UPDATE repositories SET default_branch = $2, problem = NULL, \
                     seen_at = COALESCE(seen_at, $3) WHERE id = $1",
                )
                .bind(id.as_str())
                .bind(look.default_branch)
                .bind(now)
                .execute(db)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Records why a look failed.
    pub(crate) async fn record_failed_look(
        &self,
        id: &RepoId,
        problem: String,
    ) -> Result<(), StoreError> {
        let id = id.clone();
        self.write(move |db| {
            Box::pin(async move {
                sqlx::query("UPDATE repositories SET problem = $2 WHERE id = $1")
                    .bind(id.as_str())
                    .bind(problem)
                    .execute(db)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}

/// Records where a ref is now.
pub(super) async fn put_ref(
    db: &mut AnyConnection,
    id: &RepoId,
    name: &str,
    sha: &Sha,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO refs (repository_id, name, sha) VALUES ($1, $2, $3) \
         ON CONFLICT (repository_id, name) DO UPDATE SET sha = excluded.sha",
    )
    .bind(id.as_str())
    .bind(name)
    .bind(sha.as_str())
    .execute(db)
    .await?;
    Ok(())
}

async fn replace_refs(
    db: &mut AnyConnection,
    id: &RepoId,
    refs: &[(String, Sha)],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM refs WHERE repository_id = $1")
        .bind(id.as_str())
        .execute(&mut *db)
        .await?;
    for (name, sha) in refs {
        sqlx::query("INSERT INTO refs (repository_id, name, sha) VALUES ($1, $2, $3)")
            .bind(id.as_str())
            .bind(name.as_str())
            .bind(sha.as_str())
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}

/// Takes the password out of a URL.
fn without_password(location: &str) -> String {
    let Some((scheme, rest)) = location.split_once("://") else { return location.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let Some((user, host)) = authority.rsplit_once('@') else { return location.to_owned() };
    let user = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{user}@{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn no_password_is_shown() {
        let shown = [
            "/srv/a:b@c.git",
            "git@host:team/app.git",
            "https://host/app.git",
            "https://me:p@ss:w0rd@host:8443/app@1.git",
            "ssh://git:secret@host",
        ];
        insta::assert_snapshot!(shown.map(without_password).join("\n"), @"
        /srv/a:b@c.git
        git@host:team/app.git
        https://host/app.git
        https://me@host:8443/app@1.git
        ssh://git@host
        ");
    }
}
