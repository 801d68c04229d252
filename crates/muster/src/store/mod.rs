//! The store: the only place with SQL. One file a table or a few that belong together.
//!
//! One schema and one set of queries for SQLite and PostgreSQL. Reads go to a pool; writes go only
//! through the [door], so that what must happen together does, and SQLite has one writer.

mod alone;
pub(crate) mod audit;
pub(crate) mod backlog;
pub(crate) mod backup;
pub(crate) mod claims;
pub(crate) mod deliveries;
mod door;
pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod notices;
pub(crate) mod outbox;
mod pull_requests;
pub(crate) mod reports;
pub(crate) mod repositories;
pub(crate) mod runs;
mod schedules;
pub(crate) mod secrets;
pub(crate) mod settings;

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use muster_core::trust::Trust;
use muster_sys::clock;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::Migrator;
use sqlx::{AnyConnection, AnyPool, Connection as _, Executor as _};
use tokio::sync::watch;

use alone::Alone;
use backup::Copy;
pub(crate) use door::BoxFuture;
use door::{Broken, Door};

use crate::task;

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations");

/// SQLite before this one can corrupt a database in WAL mode with several connections.
const SQLITE_AT_LEAST: (u32, u32, u32) = (3, 51, 3);

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The database refused or failed. Its error is no source: it says itself what caused it.
    #[error("database: {0}")]
    Database(sqlx::Error),
    /// The database file is not what SQLite has written.
    #[error("the database is damaged ({0}): `muster restore FOLDER` puts a backup in its place")]
    Damaged(String),
    /// The schema could not be brought up to date.
    #[error("database schema: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// What is stored cannot be read.
    #[error("stored {what} cannot be read: {error}")]
    Unreadable {
        /// What it is.
        what: &'static str,
        /// Why not.
        error: String,
    },
    /// The move is not allowed in this state.
    #[error("{0}")]
    Refused(String),
    /// The engine is one that muster must not use.
    #[error("SQLite {0} can corrupt its database; muster needs 3.51.3 or newer")]
    OldSqlite(String),
    /// Another server uses the database.
    #[error("another muster server uses this database: each needs its own")]
    Taken,
    /// The disk failed.
    #[error("the disk failed ({0}): what it has is read anew when muster is started again")]
    Disk(String),
    /// A copy of the database could not be taken, or not be used.
    #[error("the backup of the database: {0}")]
    Backup(String),
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match Broken::of(&error) {
            Some(Broken::File(said)) => Self::Damaged(said),
            Some(Broken::Disk(_)) | None => Self::Database(error),
        }
    }
}

/// What each connection to SQLite is told first.
const ON_SQLITE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                         PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 5000;";

/// Which rows of a long list are meant, by their numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// At most so many.
    pub(crate) limit: i64,
    /// Only those below this number.
    pub(crate) before: i64,
}

impl Page {
    /// Returns the page of the newest rows, so many at most.
    pub(crate) fn newest(limit: i64) -> Self {
        Self { limit, before: i64::MAX }
    }
}

impl StoreError {
    /// Says that a stored value is not what it must be.
    fn unreadable<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Unreadable { what, error: error.to_string() }
    }
}

/// The database, open.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    reads: AnyPool,
    door: Door,
    /// What keeps other servers away, where the data folder's lock does not.
    alone: Option<Alone>,
    /// What is found to be wrong with the database file, which is looked through once after the start.
    damage: Option<watch::Receiver<Option<String>>>,
}

impl Store {
    /// Opens the database at `url`, else the SQLite database `file`, which is made when it is not
    /// there, and brings its schema up to date; what was stored before is copied to `backups` first.
    pub(crate) async fn open(
        url: Option<&str>,
        file: &Path,
        backups: &Path,
    ) -> Result<Self, StoreError> {
        let of_file = sqlite_url(file, "rwc");
        let url = url.unwrap_or(&of_file);
        sqlx::any::install_default_drivers();
        let sqlite = url.starts_with("sqlite:");
        if sqlite && url == of_file {
            close_to_others(file)?;
        }
        let alone = if sqlite { None } else { Some(Alone::take(url).await?) };
        let reads = connect(url, if sqlite { 4 } else { 8 }, sqlite).await?;
        if sqlite {
            refuse_old_sqlite(&reads).await?;
        }
        // SQLite has one writer; everyone else would only wait for it.
        let writes = connect(url, if sqlite { 1 } else { 8 }, sqlite).await?;
        if let Some(from) = outdated(&reads, sqlite).await? {
            let name = format!("before-{}-{}", from + 1, clock::now_ms());
            Copy { folder: backups, name }.take(url, &reads).await?;
        }
        MIGRATIONS.run(&writes).await?;
        let damage = if sqlite { Some(look_for_damage(url)) } else { None };
        Ok(Self { reads, door: Door::open(writes, sqlite), alone, damage })
    }

    /// Waits until nothing may be written any more, and returns why: another server has taken the database,
    /// which can be when it was away for a while, the disk has failed, or the database file is damaged.
    pub(crate) async fn lost(&self) -> StoreError {
        let overtaken = async {
            match self.alone.clone() {
                Some(alone) => alone.overtaken().await,
                None => std::future::pending().await,
            }
        };
        let damaged = async {
            let Some(mut damage) = self.damage.clone() else { return std::future::pending().await };
            match damage.wait_for(Option::is_some).await {
                Ok(said) => said.clone().unwrap_or_default(),
                // It is whole.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = overtaken => StoreError::Taken,
            said = self.door.broken() => said,
            said = damaged => StoreError::Damaged(said),
        }
    }

    /// Copies the database at `url`, else `file`, while a server may use it; returns the copy.
    pub(crate) async fn back_up(
        url: Option<&str>,
        file: &Path,
        to: Copy<'_>,
    ) -> Result<std::path::PathBuf, StoreError> {
        let of_file = sqlite_url(file, "rw");
        let url = url.unwrap_or(&of_file);
        sqlx::any::install_default_drivers();
        let pool = connect(url, 1, url.starts_with("sqlite:")).await?;
        let copy = to.take(url, &pool).await;
        pool.close().await;
        copy
    }

    /// Does all of `work` in one transaction, or nothing of it.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.door.write(work).await
    }

    /// Returns what read queries run on.
    fn reads(&self) -> &AnyPool {
        &self.reads
    }

    /// Finishes what is being written and closes the database.
    pub(crate) async fn close(&self) {
        self.door.close().await;
        self.reads.close().await;
        if let Some(alone) = &self.alone {
            alone.let_go();
        }
    }
}

/// Writes the address of a database file, whatever its name is, opened in a mode of SQLite's.
fn sqlite_url(file: &Path, mode: &str) -> String {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let escaped = |byte: u8| match byte {
        b'%' | b'?' | b'#' => format!("%{byte:02X}"),
        other => char::from(other).to_string(),
    };
    // Bytes that are no ASCII go as they are: the address is text, and so is the name in it.
    let name = file.to_string_lossy();
    let name: String =
        name.chars().map(|c| u8::try_from(c).map_or_else(|_| c.to_string(), escaped)).collect();
    format!("sqlite://{name}?mode={mode}")
}

async fn connect(url: &str, connections: u32, sqlite: bool) -> Result<AnyPool, StoreError> {
    if sqlite {
        // A pool tries again for half a minute, and then says only that it did.
        let mut first = AnyConnection::connect(url).await?;
        first.execute(ON_SQLITE).await?;
        first.close().await?;
    }
    let pool = AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(30))
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if sqlite {
                    connection.execute(ON_SQLITE).await?;
                }
                Ok(())
            })
        })
        .connect(url)
        .await?;
    Ok(pool)
}

/// Looks through the database file beside all else, for that takes seconds where it is large.
fn look_for_damage(url: &str) -> watch::Receiver<Option<String>> {
    let (tell, found) = watch::channel(None);
    let url = url.to_owned();
    let look = async move {
        // A connection of its own, which a server that ends need not wait for.
        let look = async {
            let mut connection = AnyConnection::connect(&url).await?;
            let query = sqlx::query_scalar::<_, String>("PRAGMA quick_check(1)");
            Ok::<_, StoreError>(query.fetch_one(&mut connection).await?)
        };
        match look.await {
            Ok(said) if said == "ok" => {}
            Ok(said) | Err(StoreError::Damaged(said)) => drop(tell.send_replace(Some(said))),
            Err(error) => tracing::warn!(%error, "the database was not looked through"),
        }
    };
    drop(task::spawn("damage", look));
    found
}

/// Returns the version of the schema that is there, when it is older than ours; none for a new database.
async fn outdated(pool: &AnyPool, sqlite: bool) -> Result<Option<i64>, StoreError> {
    let known = if sqlite {
        "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'"
    } else {
        "SELECT COUNT(*) FROM information_schema.tables \
         WHERE table_schema = current_schema() AND table_name = '_sqlx_migrations'"
    };
    let known: i64 = sqlx::query_scalar(known).fetch_one(pool).await?;
    if known == 0 {
        return Ok(None);
    }
    let query = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations");
    let version = query.fetch_one(pool).await?;
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max();
    let version: Option<i64> = version;
    Ok(version.filter(|version| Some(*version) < newest))
}

/// Makes the database file, and what it has beside it, readable for us alone: it holds the bodies of
/// webhooks, of private repositories too.
fn close_to_others(file: &Path) -> Result<(), StoreError> {
    let refused = |error: std::io::Error| StoreError::Database(sqlx::Error::Io(error));
    OpenOptions::new().append(true).create(true).mode(0o600).open(file).map_err(refused)?;
    for ending in ["", "-wal", "-shm"] {
        let path = format!("{}{ending}", file.display());
        match std::fs::set_permissions(path, Permissions::from_mode(0o600)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            done => done.map_err(refused)?,
        }
    }
    Ok(())
}

async fn refuse_old_sqlite(pool: &AnyPool) -> Result<(), StoreError> {
    let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(pool).await?;
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    if (next(), next(), next()) < SQLITE_AT_LEAST {
        return Err(StoreError::OldSqlite(version));
    }
    Ok(())
}

/// Reads how far a run is trusted, or must be.
fn read_trust(word: &str) -> Result<Trust, StoreError> {
    Trust::parse(word).ok_or_else(|| StoreError::unreadable("trust")(format!("`{word}` is none")))
}

/// Returns the next number of `name`, unique on this server.
async fn next_number(db: &mut AnyConnection, name: &'static str) -> Result<i64, StoreError> {
    let number = sqlx::query_scalar(
        "INSERT INTO counters (name, value) VALUES ($1, 1) \
         ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value",
    )
    .bind(name)
    .fetch_one(db)
    .await?;
    Ok(number)
}

/// Writes the condition that a row is due at the time bound as `$1`, where none waits longer than `longest`
/// milliseconds: as [`muster_core::outbox::is_due`] has it.
fn due(longest: i64) -> String {
    let never = muster_core::outbox::NEVER;
    format!("(next_try_at <= $1 OR (next_try_at > $1 + {longest} AND next_try_at < {never}))")
}

/// Makes an id that sorts by time.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
