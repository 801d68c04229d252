//! Secrets and variables: what people keep for jobs. A secret comes here sealed, and goes sealed.

use muster_core::id::RepoId;
use muster_core::secrets::Entry;
use muster_core::trust::Trust;
use sqlx::FromRow;

use super::{Store, StoreError, read_trust};

/// The most of one kind that a repository, or all together, may have for one environment, or for none. GitHub's
/// [limits](https://docs.github.com/en/actions/reference/security/secrets#limits-for-secrets) are from 100 on.
const MOST: i64 = 500;
/// What all values of these take together at most, in bytes of JSON: a job gets three such sets at most, which one pipe has to
/// hold, and all encodings of which are masked.
pub(crate) const MOST_BYTES: i64 = 128 << 10;
/// The scope of what is for all repositories.
const ALL: &str = "*";

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nobody reads it but jobs.
    Secret,
    /// Everybody with the right to may read it.
    Variable,
}

impl Kind {
    /// Returns the word, as it is stored.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Variable => "variable",
        }
    }

    fn read(word: &str) -> Result<Self, StoreError> {
        let found = [Self::Secret, Self::Variable].into_iter().find(|kind| kind.as_str() == word);
        found.ok_or_else(|| StoreError::unreadable("secret")(format!("`{word}` is no kind of it")))
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Variable => "variables",
        }
    }
}

/// Where one of them belongs; there is one of each name there.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// The repository that it is for; else it is for all.
    pub(crate) repository: Option<RepoId>,
    pub(crate) entry: Entry,
}

impl Place {
    fn scope(&self) -> &str {
        self.repository.as_ref().map_or(ALL, RepoId::as_str)
    }

    /// Returns a text that is that of no other place: a value that was sealed for this one is good for no other.
    pub(crate) fn seal(&self) -> String {
        let Entry { name, environment, trust, .. } = &self.entry;
        let environment = environment.as_deref().unwrap_or_default();
        let parts = [self.kind.as_str(), self.scope(), environment, trust.as_str(), name];
        serde_json::Value::from(parts.to_vec()).to_string()
    }
}

/// One of them, as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) place: Place,
    /// The name of its repository.
    pub(crate) repository: Option<String>,
    /// A secret's is sealed.
    pub(crate) value: String,
    pub(crate) changed_at: i64,
}

#[derive(FromRow)]
struct Row {
    kind: String,
    repository_id: Option<String>,
    repository: Option<String>,
    environment: String,
    trust: String,
    name: String,
    value: String,
    changed_at: i64,
}

impl Row {
    fn read(self) -> Result<Stored, StoreError> {
        let kind = Kind::read(&self.kind)?;
        let entry = Entry {
            name: self.name,
            of_repository: self.repository_id.is_some(),
            environment: Some(self.environment).filter(|name| !name.is_empty()),
            trust: read_trust(&self.trust)?,
        };
        let place = Place { kind, repository: self.repository_id.map(RepoId::new), entry };
        let (value, changed_at) = (self.value, self.changed_at);
        Ok(Stored { place, repository: self.repository, value, changed_at })
    }
}

const ROWS: &str = "SELECT s.kind, s.repository_id, p.name AS repository, s.environment, s.trust, s.name, s.value, \
     s.changed_at FROM secrets s LEFT JOIN repositories p ON p.id = s.repository_id";

impl Store {
    /// Keeps a value in the place of what was there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Refused`] when there are too many.
    pub(crate) async fn keep_value(
        &self,
        place: Place,
        value: String,
        bytes: i64,
        now: i64,
    ) -> Result<(), StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                let environment = place.entry.environment.clone().unwrap_or_default();
                sqlx::query(
                    "INSERT INTO secrets (scope, repository_id, environment, trust, name, kind, value, changed_at, bytes) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                     ON CONFLICT (scope, kind, environment, trust, name) \
                     DO UPDATE SET value = excluded.value, changed_at = excluded.changed_at, \
                     bytes = excluded.bytes",
                )
                .bind(place.scope())
                .bind(place.repository.as_ref().map(RepoId::as_str))
                .bind(environment.as_str())
                .bind(place.entry.trust.as_str())
                .bind(place.entry.name.as_str())
                .bind(place.kind.as_str())
                .bind(value)
                .bind(now)
                .bind(bytes)
                .execute(&mut *db)
                .await?;
                let (count, bytes): (i64, i64) = sqlx::query_as(
                    "SELECT COUNT(*), CAST(SUM(bytes) AS BIGINT) FROM secrets WHERE scope = $1 AND kind = $2 AND environment = $3",
                )
                .bind(place.scope())
                .bind(place.kind.as_str())
                .bind(environment.as_str())
                .fetch_one(db)
                .await?;
                if count > MOST || bytes > MOST_BYTES {
                    let kind = place.kind.plural();
                    return Err(StoreError::Refused(format!(
                        "all {kind} of one repository, or of all, for one environment, or for none, are at most {MOST} and \
                         take at most {MOST_BYTES} bytes together"
                    )));
                }
                Ok(())
            })
        })
        .await
    }

    /// Removes what has this name in a place, of the trust that is named. Without one there is to be only one: where there
    /// are several, nothing is removed. Returns the trust of each that was there.
    pub(crate) async fn remove_value(
        &self,
        place: Place,
        trust: Option<Trust>,
    ) -> Result<Vec<Trust>, StoreError> {
        self.write(move |db| {
            Box::pin(async move {
                let environment = place.entry.environment.as_deref().unwrap_or_default();
                let there: Vec<String> = sqlx::query_scalar(
                    "SELECT trust FROM secrets WHERE scope = $1 AND kind = $2 AND environment = $3 AND name = $4 \
                     ORDER BY trust",
                )
                .bind(place.scope())
                .bind(place.kind.as_str())
                .bind(environment)
                .bind(place.entry.name.as_str())
                .fetch_all(&mut *db)
                .await?;
                let there: Vec<Trust> =
                    there.iter().map(|word| read_trust(word)).collect::<Result<_, _>>()?;
                let is_meant = |known: &Trust| trust.is_none_or(|trust| trust == *known);
                let meant: Vec<Trust> = there.into_iter().filter(is_meant).collect();
                if let [only] = meant.as_slice() {
                    sqlx::query(
                        "DELETE FROM secrets WHERE scope = $1 AND kind = $2 AND environment = $3 AND name = $4 \
                         AND trust = $5",
                    )
                    .bind(place.scope())
                    .bind(place.kind.as_str())
                    .bind(environment)
                    .bind(place.entry.name.as_str())
                    .bind(only.as_str())
                    .execute(db)
                    .await?;
                }
                Ok(meant)
            })
        })
        .await
    }

    /// Returns all of a kind: by repository, environment and name, those for all repositories first.
    pub(crate) async fn values(&self, kind: Kind) -> Result<Vec<Stored>, StoreError> {
        let query = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "{ROWS} WHERE s.kind = $1 ORDER BY COALESCE(p.name, ''), s.environment, s.name, s.trust"
        )));
        let rows: Vec<Row> = query.bind(kind.as_str()).fetch_all(self.reads()).await?;
        rows.into_iter().map(Row::read).collect()
    }

    /// Returns those that may be for jobs of a repository: secrets, and variables.
    pub(crate) async fn values_for(
        &self,
        repository: &RepoId,
    ) -> Result<(Vec<Stored>, Vec<Stored>), StoreError> {
        let query = sqlx::query_as(sqlx::AssertSqlSafe(format!(
            "{ROWS} WHERE s.scope IN ($1, '{ALL}') ORDER BY s.name, s.scope"
        )));
        let rows: Vec<Row> = query.bind(repository.as_str()).fetch_all(self.reads()).await?;
        let all: Result<Vec<Stored>, StoreError> = rows.into_iter().map(Row::read).collect();
        Ok(all?.into_iter().partition(|stored| stored.place.kind == Kind::Secret))
    }
}
