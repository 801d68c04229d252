//! Copies of the database, taken while it is in use.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_sys::process::Program;
use sqlx::{AnyConnection, AnyPool, Connection as _};

use super::alone::Alone;
use super::{Store, StoreError};

/// A dump that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(6 * 3600);
/// What the programs of PostgreSQL go by, beside the address.
const PASSED_ON: [&str; 7] = [
    "HOME",
    "PGPASSFILE",
    "PGPASSWORD",
    "PGSSLMODE",
    "PGSSLROOTCERT",
    "PGSERVICE",
    "PGSERVICEFILE",
];

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
    /// Sees that a backup's database is there, is of the kind that `url` names, and is whole.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub(crate) async fn look_at_backup(url: Option<&str>, folder: &Path) -> Result<(), StoreError> {
        let file = folder.join(if url.is_none() { SQLITE_COPY } else { POSTGRES_COPY });
        let useless =
            |why: &dyn std::fmt::Display| StoreError::Backup(format!("{}: {why}", file.display()));
        if !file.is_file() {
            return Err(useless(&"it is not there"));
        }
        if url.is_some() {
            // What it lists must be all there.
            let list = Program::new("pg_restore").args(["--file=/dev/null"]).arg(&file);
            return run(list).map_err(|said| useless(&said));
        }
        sqlx::any::install_default_drivers();
        // Nothing is to be written beside a backup, so not even a journal is made.
        let url = format!("sqlite://{}?mode=ro&immutable=1", file.display());
        let look = async {
            let mut connection = AnyConnection::connect(&url).await?;
            let query = sqlx::query_scalar::<_, String>("PRAGMA integrity_check(1)");
            query.fetch_one(&mut connection).await
        };
        match look.await {
            Ok(said) if said == "ok" => Ok(()),
            Ok(said) => Err(useless(&said)),
            Err(error) => Err(useless(&error)),
        }
    }

    /// Puts a backup's database in the place of the one at `url`, else makes `file` of it, while no server runs.
    ///
    /// # Errors
    ///
    /// When one runs, or the backup cannot be read, or not be written there.
    pub(crate) async fn restore(
        url: Option<&str>,
        folder: &Path,
        file: &Path,
    ) -> Result<(), StoreError> {
        let Some(url) = url else {
            let copied = copy_durably(&folder.join(SQLITE_COPY), file);
            return copied
                .map_err(|error| StoreError::Backup(format!("{}: {error}", file.display())));
        };
        sqlx::any::install_default_drivers();
        let alone = Alone::take(url).await?;
        let (url, dump) = (url.to_owned(), folder.join(POSTGRES_COPY));
        let restored = tokio::task::spawn_blocking(move || {
            let (address, program) = postgres_program("pg_restore", &url);
            let how = ["--clean", "--if-exists", "--no-owner", "--single-transaction"];
            run(program.args(how).args(["--no-password", "--dbname", &address]).arg(&dump))
        });
        let restored = restored.await.map_err(|error| StoreError::Backup(error.to_string()))?;
        alone.let_go();
        restored.map_err(StoreError::Backup)
    }
}

/// Copies a file, for us alone, so that it is whole where it has its name.
fn copy_durably(from: &Path, to: &Path) -> io::Result<()> {
    let part = to.with_extension("part");
    drop(std::fs::remove_file(&part));
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
    std::fs::copy(from, &part)?;
    std::fs::set_permissions(&part, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    keep(&part, to)
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
    let passed = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
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
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
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
