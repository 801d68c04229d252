//! `muster backup`: all that a server has stored, while it runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::{GREEN, print, runtime};
use crate::config::Config;
use crate::store::Store;
use crate::store::backup::Copy;

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
    let logs = copy_logs(&config.data.join("logs"), &folder.join("logs"))?;
    print(format!("logs: {logs} in {}", folder.join("logs").display()));
    print("Mirrors are fetched again; secrets that muster.toml names are not in it.");
    Ok(GREEN)
}

/// Copies all logs as long as they are now; returns how many.
fn copy_logs(from: &Path, to: &Path) -> anyhow::Result<usize> {
    fs::create_dir(to).with_context(|| format!("cannot make {}", to.display()))?;
    let mut count = 0;
    let at = || format!("cannot read {}", from.display());
    for entry in fs::read_dir(from).with_context(at)? {
        let entry = entry.with_context(at)?;
        match fs::copy(entry.path(), to.join(entry.file_name())) {
            Ok(_) => count += 1,
            // Its time was over in this very moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot copy {}", entry.path().display()));
            }
        }
    }
    Ok(count)
}
