//! `muster doctor`: is everything there that a server needs, and what to do where it is not.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use muster_sys::clock;

use super::client::{Client, ServerArguments};
use super::{GREEN, RED, print, runtime};
use crate::config::{Config, IsolationConfig};
use crate::forge::GitHub;
use crate::git::Git;
use crate::machine;

/// The oldest git that can merge without a work tree.
const GIT_AT_LEAST: (u32, u32) = (2, 38);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "muster.toml")]
    config: PathBuf,
    #[command(flatten)]
    server: ServerArguments,
    /// Repositories at GitHub, as `owner/name`, that the token must reach.
    repositories: Vec<String>,
}

/// Prints what was found, and counts what is wrong.
#[derive(Default)]
struct Findings {
    wrong: usize,
}

impl Findings {
    fn of(&mut self, what: &str, found: anyhow::Result<String>) {
        match found {
            Ok(found) => print(format!("ok    {what}: {found}")),
            Err(error) => {
                self.wrong += 1;
                print(format!("WRONG {what}: {error:#}"));
            }
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let config = Config::load(&arguments.config)?;
    let mut findings = Findings::default();
    findings.of("git", git());
    findings.of("data folder", data(&config));
    findings.of("sandbox", sandbox(&config));
    runtime()?.block_on(async {
        if let Some(github) = &config.github {
            let opened = GitHub::open(github, config.listen.ip().is_loopback());
            let opened = match opened {
                Ok(opened) => opened,
                Err(error) => return findings.of("GitHub", Err(error)),
            };
            if config.listen.ip().is_loopback() {
                print("note  GitHub: `listen` is a loopback address, which GitHub cannot reach by itself");
            }
            for name in &arguments.repositories {
                findings.of(&format!("GitHub, {name}"), repository(&opened, name).await);
            }
        }
        findings.of("server", server(arguments).await);
    });
    Ok(if findings.wrong == 0 { GREEN } else { RED })
}

fn git() -> anyhow::Result<String> {
    let said = Git::new(Path::new("/"), "version").text().context("install git")?;
    let version = said.split(' ').nth(2).unwrap_or_default().to_owned();
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if (major, minor) < GIT_AT_LEAST {
        bail!("{version} is too old: muster needs 2.38 or newer, which merges without a work tree");
    }
    Ok(version)
}

fn data(config: &Config) -> anyhow::Result<String> {
    let folder = &config.data;
    if !folder.is_dir() {
        bail!("{} is not there: muster init makes it", folder.display());
    }
    let probe = folder.join(".doctor");
    std::fs::write(&probe, "").with_context(|| format!("cannot write to {}", folder.display()))?;
    std::fs::remove_file(&probe)?;
    Ok(folder.display().to_string())
}

fn sandbox(config: &Config) -> anyhow::Result<String> {
    let tried = machine::try_sandbox();
    match (config.isolation, tried) {
        (IsolationConfig::None, _) => {
            Ok("`isolation` is `none`: steps run as this user".to_owned())
        }
        (_, Ok(layers)) => {
            let landlock = match layers.landlock {
                0 => "no Landlock".to_owned(),
                version => format!("Landlock {version}"),
            };
            let cgroup = layers.cgroup.map_or("no cgroup".to_owned(), |v| format!("cgroup v{v}"));
            Ok(format!("namespaces, seccomp, {landlock}, {cgroup}"))
        }
        (IsolationConfig::Auto, Err(error)) => {
            Err(error).context("code of members runs without one, that of strangers not at all")
        }
        (IsolationConfig::Sandbox, Err(error)) => Err(error).context("no job runs"),
    }
}

async fn repository(github: &GitHub, name: &str) -> anyhow::Result<String> {
    let found = github.client.repository(name, clock::now_ms() / 1000).await;
    let found = found.context("the token must read its contents and write its commit statuses")?;
    Ok(format!("found, default branch `{}`", found.default_branch))
}

/// Asks the running server what it knows to be wrong.
async fn server(arguments: &Arguments) -> anyhow::Result<String> {
    let client = Client::new(&arguments.server)?;
    let listed = client.get("/api/v1/repositories").await?;
    let repositories: Vec<_> = listed["repositories"].as_array().into_iter().flatten().collect();
    for repository in &repositories {
        if let Some(problem) = repository["problem"].as_str() {
            bail!("{}: {problem}", repository["name"]);
        }
    }
    let deliveries = client.get("/api/v1/deliveries").await?;
    Ok(format!("{} repositories, {} webhooks received", repositories.len(), deliveries["total"]))
}
