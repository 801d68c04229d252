//! Copies of the database, taken while it is in use.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_sys::process::Program;
use sqlx::{AnyConnection, AnyPool, Connection as _, Executor as _};

use super::alone::Alone;
use super::{Store, StoreError, sqlite_url};

/// A dump that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(6 * 3600);
/// What the programs of PostgreSQL go by, beside the address.
pub(crate) const POSTGRES_VARIABLES: [&str; 6] =
    ["PGPASSFILE", "PGPASSWORD", "PGSSLMODE", "PGSSLROOTCERT", "PGSERVICE", "PGSERVICEFILE"];

/// Where the copy of a database goes, without the ending that says its kind.
#[derive(Debug)]
pub(crate) struct Copy<'p> {
    pub(crate) folder: &'p Path,
    pub(crate) name: String,
}

impl Copy<'_> {
    /// Takes a copy that is of one moment; returns the file, which only we may read.
    ///
    /// # Errors
    ///
    /// When there is a file of that name, or the database or its program refuses.
    pub(super) async fn take(&self, url: &str, pool: &AnyPool) -> Result<PathBuf, StoreError> {
        let sqlite = url.starts_with("sqlite:");
        let ending = if sqlite { "db" } else { "dump" };
        let file = self.folder.join(format!("{}.{ending}", self.name));
        let refused = |error: &dyn std::fmt::Display| {
            StoreError::Backup(format!("{}: {error}", file.display()))
        };
        std::fs::create_dir_all(self.folder).map_err(|error| refused(&error))?;
        if file.exists() {
            return Err(refused(&"it is there already"));
        }
        // What is not whole does not look like a copy.
        let part = self.folder.join(format!("{}.part", self.name));
        let taken = take_part(url, pool, &part).await;
        let kept = taken.and_then(|()| keep(&part, &file).map_err(|error| refused(&error)));
        if let Err(error) = kept {
            drop(std::fs::remove_file(&part));
            return Err(error);
        }
        Ok(file)
    }
}

/// The names of a backup's database.
const SQLITE_COPY: &str = "muster.db";
const POSTGRES_COPY: &str = "muster.dump";

impl Store {
    /// Sees that the database of a backup (a folder, or the file itself) is of the kind that `url` names and whole.
    /// Returns a file with it: for SQLite a new one in `folder`, under the name that a server looks for.
    ///
    /// # Errors
    ///
    /// When it is not there, or not whole.
    pub(crate) async fn unpack_backup(
        url: Option<&str>,
        backup: &Path,
        folder: &Path,
    ) -> Result<PathBuf, StoreError> {
        let name = if url.is_none() { SQLITE_COPY } else { POSTGRES_COPY };
        let file = if backup.is_dir() { backup.join(name) } else { backup.to_owned() };
        let useless =
            |why: &dyn std::fmt::Display| StoreError::Backup(format!("{}: {why}", file.display()));
        if !file.is_file() {
            return Err(useless(&"it is not there"));
        }
        if url.is_some() {
            // What it lists must be all there.
            let list = Program::new("pg_restore").args(["--file=/dev/null"]).arg(&file);
            return run(list).map(|()| file.clone()).map_err(|said| useless(&said));
        }
        let fresh = folder.join(SQLITE_COPY);
        // A folder that a server had has a log beside it, which is part of the database.
        for ending in ["", "-wal"] {
            let (from, to) = (with_ending(&file, ending), with_ending(&fresh, ending));
            if ending.is_empty() || from.exists() {
                copy_for_us(&from, &to).map_err(|error| useless(&error))?;
            }
        }
        sqlx::any::install_default_drivers();
        let look = async {
            let mut connection = AnyConnection::connect(&sqlite_url(&fresh, "rw")).await?;
            let query = sqlx::query_scalar::<_, String>("PRAGMA integrity_check(1)");
            let said = query.fetch_one(&mut connection).await?;
            // One file, without a log.
            connection.execute("PRAGMA journal_mode = DELETE").await?;
            connection.close().await?;
            Ok::<_, sqlx::Error>(said)
        };
        match look.await {
            Ok(said) if said == "ok" => Ok(fresh),
            Ok(said) => Err(useless(&said)),
            Err(error) => Err(useless(&error)),
        }
    }

    /// Sees that nobody has anything in the database at `url`.
    ///
    /// # Errors
    ///
    /// When somebody has, or it does not answer.
    pub(crate) async fn is_empty(url: &str) -> Result<(), StoreError> {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(url).await?;
        let query = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = current_schema()";
        let tables: i64 = sqlx::query_scalar(query).fetch_one(&mut connection).await?;
        connection.close().await?;
        if tables > 0 {
            let why = format!("the database is not empty: it has {tables} tables");
            return Err(StoreError::Refused(why));
        }
        Ok(())
    }

    /// Puts a dump in the place of all that the database at `url` has, which is dumped into `aside` first.
    ///
    /// # Errors
    ///
    /// When a server runs on it, or PostgreSQL or its programs refuse.
    pub(crate) async fn replace_all(
        url: &str,
        dump_file: &Path,
        aside: &Path,
    ) -> Result<(), StoreError> {
        sqlx::any::install_default_drivers();
        let alone = Alone::take(url).await?;
        let (of, before) = (url.to_owned(), aside.join(POSTGRES_COPY));
        let dumped = tokio::task::spawn_blocking(move || dump(&of, &before)).await;
        dumped
            .map_err(|error| StoreError::Backup(error.to_string()))?
            .map_err(StoreError::Backup)?;
        // What a newer schema has beside that of the backup must not stay.
        let mut connection = AnyConnection::connect(url).await?;
        let query =
            "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = current_schema()";
        let tables: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut connection).await?;
        if !tables.is_empty() {
            let drop_all = format!("DROP TABLE {} CASCADE", tables.join(", "));
            sqlx::raw_sql(sqlx::AssertSqlSafe(drop_all)).execute(&mut connection).await?;
        }
        connection.close().await?;
        let (of, dump_file) = (url.to_owned(), dump_file.to_owned());
        let restored = tokio::task::spawn_blocking(move || {
            let (address, program) = postgres_program("pg_restore", &of);
            let how = ["--no-owner", "--single-transaction", "--no-password", "--dbname", &address];
            run(program.args(how).arg(&dump_file))
        });
        let restored = restored.await.map_err(|error| StoreError::Backup(error.to_string()))?;
        alone.let_go();
        restored.map_err(StoreError::Backup)
    }
}

fn with_ending(file: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", file.display()))
}

/// Copies a file into a new one, for us alone.
fn copy_for_us(from: &Path, to: &Path) -> io::Result<()> {
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut File::open(from)?, &mut new)?;
    new.sync_all()
}

/// Writes a copy into a new file, which only we may read.
async fn take_part(url: &str, pool: &AnyPool, part: &Path) -> Result<(), StoreError> {
    // One that a crash has left.
    drop(std::fs::remove_file(part));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part);
    made.map_err(|error| StoreError::Backup(format!("{}: {error}", part.display())))?;
    if url.starts_with("sqlite:") {
        let to = part.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO $1").bind(to).execute(pool).await?;
        return Ok(());
    }
    let (url, part) = (url.to_owned(), part.to_owned());
    let dumped = tokio::task::spawn_blocking(move || dump(&url, &part)).await;
    dumped.map_err(|error| StoreError::Backup(error.to_string()))?.map_err(StoreError::Backup)
}

/// Gives a copy its name once it is on stable storage.
fn keep(part: &Path, file: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    std::fs::rename(part, file)?;
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Has `pg_dump` write the database at `url`.
fn dump(url: &str, file: &Path) -> Result<(), String> {
    let (address, program) = postgres_program("pg_dump", url);
    let how = ["--format=custom", "--no-password", "--dbname", &address, "--file"];
    run(program.args(how).arg(file))
}

/// Names a program of PostgreSQL; returns the database's address for its arguments, too. A password in it goes
/// by the environment alone.
fn postgres_program(name: &str, url: &str) -> (String, Program) {
    let (address, password) = without_password(url);
    let passed = POSTGRES_VARIABLES.iter().chain(&["HOME"]);
    let passed = passed.filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let program = Program::new(name).envs(passed);
    (address, program.envs(password.map(|password| ("PGPASSWORD", password))))
}

fn run(program: Program) -> Result<(), String> {
    let output = program.output(LIMIT, 1 << 20).map_err(|error| {
        format!("{error}; a backup of PostgreSQL needs its client programs (postgresql-client)")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(if said.is_empty() { format!("its program ended with {}", output.status) } else { said })
}

/// Splits the password off an address, wherever it stands in it.
fn without_password(url: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_password = |pair: &&str| pair.starts_with("password=");
    let mut password = query
        .split('&')
        .find(is_password)
        .and_then(|pair| pair.split_once('='))
        .map(|(_, value)| value);
    let query: Vec<&str> = query.split('&').filter(|pair| !is_password(pair)).collect();
    let query = query.join("&");
    let end = before.find('/').unwrap_or(before.len());
    let (authority, path) = before.split_at(end);
    let mut authority = authority.to_owned();
    if let Some((user, host)) = authority.clone().rsplit_once('@')
        && let Some((user, given)) = user.split_once(':')
    {
        password = before.find(given).map(|at| &before[at..at + given.len()]);
        authority = format!("{user}@{host}");
    }
    let mark = if query.is_empty() { "" } else { "?" };
    (format!("{scheme}://{authority}{path}{mark}{query}"), password.map(decoded))
}

/// Takes the percent signs out of a part of an address.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_password_leaves_the_address() {
        let split = |url| without_password(url);
        let with = split("postgres://muster:p%40ss%2Fw@db.example.org/muster?sslmode=require");
        let address = "postgres://muster@db.example.org/muster?sslmode=require".to_owned();
        assert_eq!(with, (address.clone(), Some("p@ss/w".to_owned())));
        assert_eq!(split(&address), (address.clone(), None));
        let secret = split("postgres:///muster?user=m&password=a%20b&host=/run/postgresql");
        let socket = "postgres:///muster?user=m&host=/run/postgresql".to_owned();
        assert_eq!(secret, (socket, Some("a b".to_owned())));
        let socket = "postgres:///muster?host=/run/postgresql&user=m";
        assert_eq!(split(socket), (socket.to_owned(), None));
    }
}
