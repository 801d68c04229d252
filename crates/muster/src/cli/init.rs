//! `muster init`: a configuration, an admin token, and what to do next.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use super::{GREEN, print, runtime};
use crate::config::Config;
use crate::data::Data;
use crate::git::hook;
use crate::store::Store;
use crate::store::settings::ADMIN_TOKEN_HASH;
use crate::token;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file to write, or to go by where it is there already.
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    config: PathBuf,
    /// Make a new admin token, which ends the one before.
    #[arg(long)]
    new_token: bool,
    /// Install the hook that tells muster at once of new commits, in this local repository.
    #[arg(long, value_name = "REPOSITORY")]
    hook: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    write_config(arguments)?;
    let config = Config::load(&arguments.config)?;
    if let Some(repository) = &arguments.hook {
        let nudge = Data::nudges_of(&config.data).context("cannot make the data folder")?;
        let hook = hook::install(repository, &nudge.join("hook"))?;
        print(format!("installed {}", hook.display()));
        return Ok(GREEN);
    }
    runtime()?.block_on(make_token(arguments, &config))
}

/// Writes the commented configuration, unless there is one.
fn write_config(arguments: &Arguments) -> anyhow::Result<()> {
    let at = || format!("cannot write {}", arguments.config.display());
    let file = fs::OpenOptions::new().write(true).create_new(true).open(&arguments.config);
    match file {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error).with_context(at),
        Ok(mut file) => {
            io::Write::write_all(&mut file, Config::COMMENTED.as_bytes()).with_context(at)?;
        }
    }
    print(format!("wrote {}", arguments.config.display()));
    Ok(())
}

async fn make_token(arguments: &Arguments, config: &Config) -> anyhow::Result<u8> {
    let data = Data::open(&config.data)?;
    let store = Store::open(config.database.as_deref(), &data.database()).await?;
    if store.setting(ADMIN_TOKEN_HASH).await?.is_some() && !arguments.new_token {
        store.close().await;
        bail!(
            "there is an admin token already; `muster init --new-token` makes another and ends that one"
        );
    }
    let token = token::make();
    store.set_setting(ADMIN_TOKEN_HASH, token::hash(&token)).await?;
    store.close().await;
    print(format!("admin token, shown only this once: {token}"));
    print(format!(
        "next:\n  1. muster serve --config {}\n  2. export MUSTER_TOKEN=<the token above>\n  \
         3. muster repo add NAME PATH-OR-URL",
        arguments.config.display()
    ));
    Ok(GREEN)
}
