//! Copies of the database, taken while it is in use.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_sys::process::Program;
use sqlx::AnyPool;

use super::StoreError;

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

/// Has `pg_dump` write the database at `url`. A password in it goes by the environment alone.
fn dump(url: &str, file: &Path) -> Result<(), String> {
    let (address, password) = without_password(url);
    let passed = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let program = Program::new("pg_dump")
        .args(["--format=custom", "--no-password", "--dbname", &address, "--file"])
        .arg(file)
        .envs(passed)
        .envs(password.map(|password| ("PGPASSWORD", password)));
    let output = program.output(LIMIT, 1 << 20).map_err(|error| {
        format!("{error}; a backup of PostgreSQL needs its client programs (postgresql-client)")
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("pg_dump: {}", String::from_utf8_lossy(&output.stderr).trim()))
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
