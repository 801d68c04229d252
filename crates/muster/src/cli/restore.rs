//! `muster restore`: a backup in the place of what is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use muster_sys::clock;

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
    /// The folder that `muster backup` has made.
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let config = Config::load(&arguments.config)?;
    let from = &arguments.folder;
    // Held until all is done: no server starts in between.
    let data = Data::open(&config.data)?;
    let runtime = runtime()?;
    // What is there is looked at first: nothing is replaced by what is of no use.
    let database = config.database.as_deref();
    runtime.block_on(Store::look_at_backup(database, from))?;
    let aside = data.backups().join(format!("replaced-{}", clock::now_ms()));
    fs::create_dir(&aside).with_context(|| format!("cannot make {}", aside.display()))?;
    let fresh = aside.join("fresh");
    fs::create_dir(&fresh)?;
    for (what, below) in BELOW {
        let count = copy_files(&from.join(below), &fresh.join(below))
            .with_context(|| format!("cannot copy the {what} of {}", from.display()))?;
        print(format!("{what}: {count}"));
    }
    for name in BELOW.iter().map(|(_, below)| *below).chain([KNOWN_HOSTS]) {
        move_if_there(&data.folder().join(name), &aside.join(name))?;
    }
    for (_, below) in BELOW {
        fs::rename(fresh.join(below), data.folder().join(below))?;
    }
    match fs::copy(from.join(KNOWN_HOSTS), data.folder().join(KNOWN_HOSTS)) {
        // No host had been seen by a key.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        copied => drop(copied.context("cannot copy the known hosts")?),
    }
    fs::remove_dir(&fresh)?;
    // Last, for with it the server starts where the backup was taken.
    if database.is_none() {
        for ending in ["", "-wal", "-shm"] {
            let file = PathBuf::from(format!("{}{ending}", data.database().display()));
            move_if_there(&file, &aside.join(file.file_name().unwrap_or_default()))?;
        }
    }
    runtime.block_on(Store::restore(database, from, &data.database()))?;
    print(format!("restored from {}", from.display()));
    print(format!("what was there is in {}", aside.display()));
    print(
        "Webhooks that came after the backup are not known any more: send them again from the code host's list. \
         Pushes to repositories that are watched are found by themselves.",
    );
    Ok(GREEN)
}

fn move_if_there(from: &Path, to: &Path) -> anyhow::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => bail!("cannot move {} away: {error}", from.display()),
        Ok(()) => Ok(()),
    }
}
