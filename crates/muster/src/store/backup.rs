//! Copies of the database, taken while it is in use.

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
        // Made by us first, so that nobody else can read what comes into it.
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file)
            .map_err(|error| refused(&error))?;
        if sqlite {
            let to = file.to_string_lossy().into_owned();
            sqlx::query("VACUUM INTO $1").bind(to).execute(pool).await?;
        } else {
            let (url, file) = (url.to_owned(), file.clone());
            let dumped = tokio::task::spawn_blocking(move || dump(&url, &file)).await;
            dumped.map_err(|error| refused(&error))?.map_err(StoreError::Backup)?;
        }
        Ok(file)
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

/// Splits the password off an address.
fn without_password(url: &str) -> (String, Option<String>) {
    let Some((scheme, rest)) = url.split_once("://") else { return (url.to_owned(), None) };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((user, host)) = authority.rsplit_once('@') else { return (url.to_owned(), None) };
    let Some((user, password)) = user.split_once(':') else { return (url.to_owned(), None) };
    (format!("{scheme}://{user}@{host}{path}"), Some(decoded(password)))
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
        let socket = "postgres:///muster?host=/run/postgresql&user=m";
        assert_eq!(split(socket), (socket.to_owned(), None));
    }
}
