//! `muster init`: a configuration, an admin token, and what to do next.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

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
    /// Say what is to be clicked at GitHub, and switch GitHub on in a new configuration.
    #[arg(long)]
    github: bool,
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
            let mut text = Config::COMMENTED.to_owned();
            if arguments.github {
                text.push_str("\n[github]\ntoken_file = \"github.token\"\nwebhook_secret_file = \"webhook.secret\"\n");
            }
            io::Write::write_all(&mut file, text.as_bytes()).with_context(at)?;
        }
    }
    print(format!("wrote {}", arguments.config.display()));
    Ok(())
}

async fn make_token(arguments: &Arguments, config: &Config) -> anyhow::Result<u8> {
    let data = Data::open(&config.data)?;
    let store = Store::open(config.database.as_deref(), &data.database(), &data.backups()).await?;
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
    let repository = if arguments.github { "owner/name" } else { "NAME PATH-OR-URL" };
    if arguments.github {
        print_github_steps(arguments)?;
    }
    print(format!(
        "next:\n  1. muster serve --config {}\n  2. export MUSTER_TOKEN=<the token above>\n  \
         3. muster repo add {repository}",
        arguments.config.display()
    ));
    Ok(GREEN)
}

/// Makes the webhook's secret and says the three things to click.
fn print_github_steps(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = arguments.config.parent().unwrap_or(Path::new(""));
    let secret = folder.join("webhook.secret");
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&secret);
    match file {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot write {}", secret.display()));
        }
        Ok(mut file) => {
            io::Write::write_all(&mut file, format!("{}\n", token::make()).as_bytes())?;
            print(format!("wrote {}", secret.display()));
        }
    }
    print(format!(
        "at GitHub, three things to click:\n  \
         1. https://github.com/settings/personal-access-tokens/new: Contents read, Commit statuses read\n     \
         and write; save the token in {}\n  \
         2. the repository > Settings > Webhooks > Add webhook: your server's address with\n     \
         /webhooks/github, content type application/json, the secret in {},\n     \
         and the events Pushes and Pull requests (`listen` and `public_url` in the\n     \
         configuration must be such that GitHub reaches it)\n  \
         3. the repository > Settings > Branches: require the status `muster`",
        folder.join("github.token").display(),
        secret.display()
    ));
    Ok(())
}
