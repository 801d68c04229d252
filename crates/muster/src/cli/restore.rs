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

use super::backup::{BELOW, KNOWN_HOSTS, copy_files};
use super::{GREEN, print, runtime};
use crate::config::Config;
use crate::data::Data;
use crate::store::Store;

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
    if let Err(error) = replace(&config, &data, &backup, &aside, &fresh) {
        if data.is_restoring() {
            return Err(error.context(format!("the restore was cut off ({there}): do it again")));
        }
        // Nothing was touched yet.
        fs::remove_dir_all(&aside)?;
        return Err(error);
    }
    print(format!("restored from {}", arguments.backup.display()));
    print(there);
    print(
        "Webhooks that came after the backup are not known any more: send them again from the code host's list. \
         Pushes to repositories that are watched are found by themselves.",
    );
    Ok(GREEN)
}

/// Makes all that is new in `fresh`, and puts it in the place of what is there, which goes to `aside`.
fn replace(
    config: &Config,
    data: &Data,
    backup: &Path,
    aside: &Path,
    fresh: &Path,
) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let url = config.database.as_deref();
    let database = runtime.block_on(Store::unpack_backup(url, backup, fresh))?;
    let mut names = Vec::new();
    for (what, below) in BELOW {
        // A copy of the database alone leaves these as they are.
        if backup.join(below).is_dir() {
            let count = copy_files(&backup.join(below), &fresh.join(below))?;
            print(format!("{what}: {count}"));
            names.push(below.to_owned());
        }
    }
    let known_hosts = backup.join(KNOWN_HOSTS);
    if known_hosts.is_file() {
        fs::copy(known_hosts, fresh.join(KNOWN_HOSTS))?;
        names.push(KNOWN_HOSTS.to_owned());
    }
    sync(fresh)?;
    data.mark_as_restoring()?;
    match (url, &database) {
        (Some(url), dump) => runtime.block_on(Store::replace_all(url, dump, aside))?,
        (None, _) => {
            let file = data.database();
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // What is in the log of a database is part of it until all of it is away.
            for ending in ["-shm", "-wal"] {
                move_if_there(&data.folder().join(format!("{name}{ending}")), aside)?;
            }
            names.insert(0, name);
        }
    }
    for name in &names {
        move_if_there(&data.folder().join(name), aside)?;
        fs::rename(fresh.join(name), data.folder().join(name))?;
    }
    File::open(data.folder())?.sync_all()?;
    data.restored()?;
    fs::remove_dir_all(fresh)?;
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
