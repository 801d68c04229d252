//! `muster backup`: all that a server has stored, while it runs.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{GREEN, print, runtime};
use crate::config::Config;
use crate::logs;
use crate::store::Store;
use crate::store::backup::Copy;

/// What there is beside the database: what it is, and its folder.
pub(super) const BELOW: [(&str, &str); 2] = [("logs", "logs"), ("deploy keys", "keys")];
pub(super) const KNOWN_HOSTS: &str = "known_hosts";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    config: PathBuf,
    /// The folder to make for it.
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let config = Config::load(&arguments.config)?;
    let folder = &arguments.folder;
    let database = config.data.join("muster.db");
    if config.database.is_none() && !database.exists() {
        bail!("there is no database in {}", config.data.display());
    }
    // An older backup is never written over.
    fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let copy = Copy { folder, name: "muster".to_owned() };
    let copied =
        runtime()?.block_on(Store::back_up(config.database.as_deref(), &database, copy))?;
    print(format!("database: {}", copied.display()));
    // After the database: what it knows of is there. Logs only grow.
    for (what, below) in BELOW {
        let to = folder.join(below);
        let count = copy_files(&config.data.join(below), &to)?;
        print(format!("{what}: {count} in {}", to.display()));
    }
    match copy_file(&config.data.join(KNOWN_HOSTS), folder) {
        // No host has been seen by a key yet.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        copied => drop(copied.context("cannot copy the known hosts")?),
    }
    let key = config.secrets_key_file();
    print("Mirrors are fetched again; what muster.toml names is not in it.");
    if key.exists() {
        // Who has the backup alone reads no secret.
        let why =
            "is not in it: keep a copy of it somewhere else, for without it no secret can be read";
        print(format!("The key of the secrets, {}, {why}.", key.display()));
    }
    Ok(GREEN)
}

/// Copies all files below a folder, as long as they are now, for us alone; returns how many.
pub(super) fn copy_files(from: &Path, to: &Path) -> anyhow::Result<usize> {
    fs::DirBuilder::new()
        .mode(0o700)
        .create(to)
        .with_context(|| format!("cannot make {}", to.display()))?;
    let mut count = 0;
    let at = || format!("cannot read {}", from.display());
    let entries = match fs::read_dir(from) {
        // A server of an older version has not made it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.with_context(at)?,
    };
    for entry in entries {
        let path = entry.with_context(at)?.path();
        if path.is_dir() {
            count += copy_files(&path, &to.join(path.file_name().unwrap_or_default()))?;
            continue;
        }
        let copied = match copy_file(&path, to) {
            // It was sealed in this very moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                copy_file(&logs::sealed_path(&path), to)
            }
            other => other,
        };
        match copied {
            Ok(_) => count += 1,
            // Its time was over.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot copy {}", path.display()));
            }
        }
    }
    Ok(count)
}

fn copy_file(file: &Path, to: &Path) -> io::Result<u64> {
    fs::copy(file, to.join(file.file_name().unwrap_or_default()))
}
