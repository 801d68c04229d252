//! `muster restore`: a backup in the place of what is there.
//!
//! All that is new is made whole beside the old first; then names change, under a mark that keeps servers away
//! until the last one has. A restore that was cut off is done again.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use muster_sys::clock;
use rustix::fs::{FlockOperation, flock};
use tokio::runtime::Runtime;

use super::backup::{BELOW, KNOWN_HOSTS, copy_files};
use super::{GREEN, print, runtime};
use crate::config::Config;
use crate::data::Data;
use crate::store::{Store, StoreError};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    config: PathBuf,
    /// The folder that `muster backup` has made, or a copy of the database alone.
    backup: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let config = Config::load(&arguments.config)?;
    let backup = arguments.backup.canonicalize();
    let backup = backup.with_context(|| format!("cannot find {}", arguments.backup.display()))?;
    // Held until all is done: no server starts in between.
    let data = Data::open_to_restore(&config.data)?;
    may_write(data.folder())?;
    no_job_runs(&data.logs())?;
    let aside = data.backups().join(format!("replaced-{}", clock::now_ms()));
    let fresh = aside.join("fresh");
    fs::create_dir_all(&fresh).with_context(|| format!("cannot make {}", fresh.display()))?;
    let there = format!("what was there is in {}", aside.display());
    let runtime = runtime()?;
    let fresh_ones = match stage(&config, &runtime, &backup, &fresh) {
        Ok(fresh_ones) => fresh_ones,
        Err(error) => {
            // Nothing was touched yet.
            fs::remove_dir_all(&aside)?;
            return Err(error);
        }
    };
    // From here on what is aside is what was there, and stays.
    let was_cut_off = data.is_restoring();
    data.mark_as_restoring()?;
    let put = put_in_place(&config, &runtime, &data, &fresh_ones, &aside, &fresh);
    if let Err(error) = put {
        if !was_cut_off && matches!(error.downcast_ref(), Some(StoreError::Taken)) {
            data.restored()?;
            return Err(error);
        }
        return Err(error.context(format!("the restore was cut off ({there}): do it again")));
    }
    data.restored()?;
    // It is empty.
    drop(fs::remove_dir_all(&fresh));
    print(format!("restored from {}", arguments.backup.display()));
    print(there);
    print(
        "Webhooks that came after the backup are not known any more: send them again from the code host's list. \
         Pushes to repositories that are watched are found by themselves.",
    );
    Ok(GREEN)
}

/// What takes the place of what is there.
struct Fresh {
    /// The database, or its dump.
    database: PathBuf,
    /// Files and folders beside it.
    names: Vec<&'static str>,
}

/// Makes all that is new in `fresh`, whole and durable.
fn stage(config: &Config, runtime: &Runtime, backup: &Path, fresh: &Path) -> anyhow::Result<Fresh> {
    let url = config.database.as_deref();
    let database = runtime.block_on(Store::unpack_backup(url, backup, fresh))?;
    let mut names = Vec::new();
    for (what, below) in BELOW {
        // A copy of the database alone leaves these as they are.
        if backup.join(below).is_dir() {
            let count = copy_files(&backup.join(below), &fresh.join(below))?;
            print(format!("{what}: {count}"));
            names.push(below);
        }
    }
    let known_hosts = backup.join(KNOWN_HOSTS);
    if known_hosts.is_file() {
        fs::copy(known_hosts, fresh.join(KNOWN_HOSTS))?;
        names.push(KNOWN_HOSTS);
    }
    sync(fresh)?;
    Ok(Fresh { database, names })
}

/// Puts what is new in the place of what is there, which goes to `aside`.
fn put_in_place(
    config: &Config,
    runtime: &Runtime,
    data: &Data,
    new: &Fresh,
    aside: &Path,
    fresh: &Path,
) -> anyhow::Result<()> {
    if let Some(url) = &config.database {
        runtime.block_on(Store::replace_all(url, &new.database, aside))?;
    } else {
        let file = data.database();
        // What is in the log of a database is part of it until all of it is away.
        for ending in ["-shm", "-wal", ""] {
            move_if_there(&PathBuf::from(format!("{}{ending}", file.display())), aside)?;
        }
        fs::rename(&new.database, file)?;
    }
    for name in &new.names {
        move_if_there(&data.folder().join(name), aside)?;
        fs::rename(fresh.join(name), data.folder().join(name))?;
    }
    File::open(data.folder())?.sync_all()?;
    Ok(())
}

/// Sees that what is made will belong to who the data folder belongs to, and with it the server.
fn may_write(folder: &Path) -> anyhow::Result<()> {
    let (owner, us) = (fs::metadata(folder)?.uid(), rustix::process::geteuid().as_raw());
    if owner != us {
        bail!("{} belongs to user {owner}: run it as that user", folder.display());
    }
    Ok(())
}

/// Sees that no supervisor holds a log: jobs outlive a server.
fn no_job_runs(logs: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(logs)? {
        let path = entry?.path();
        let log = File::open(&path)?;
        if flock(&log, FlockOperation::NonBlockingLockShared).is_err() {
            bail!("a job still runs ({}): wait for its end, or end it", path.display());
        }
    }
    Ok(())
}

/// Makes a folder and all below it durable.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    File::open(folder)?.sync_all()
}

/// Moves a file or folder into another folder.
fn move_if_there(from: &Path, into: &Path) -> anyhow::Result<()> {
    match fs::rename(from, into.join(from.file_name().unwrap_or_default())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => bail!("cannot move {} away: {error}", from.display()),
        Ok(()) => Ok(()),
    }
}
