//! `muster doctor`: is everything there that a server needs, and what to do where it is not.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use muster_core::report::ROLL_UP;
use muster_forge::github::{ClientError, Webhook};
use muster_sys::clock;
use muster_sys::sandbox::{InForce, Range};

use super::client::{Client, ServerArguments};
use super::{GREEN, RED, print, runtime};
use crate::config::{Config, IsolationConfig};
use crate::data::{NO_ROOM, has_room};
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
    fn note(what: &str, text: &str) {
        print(format!("note  {what}: {text}"));
    }

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
    if config.images.is_any_foreign() {
        findings.of("images", images(&config));
    }
    runtime()?.block_on(async {
        if let Some(github) = &config.github {
            let opened = GitHub::open(github, config.listen.ip().is_loopback());
            let opened = match opened {
                Ok(opened) => opened,
                Err(error) => return findings.of("GitHub", Err(error)),
            };
            if config.listen.ip().is_loopback() {
                Findings::note(
                    "GitHub",
                    "`listen` is a loopback address, which GitHub cannot reach by itself",
                );
            }
            for name in &arguments.repositories {
                repository(&mut findings, &opened, name, &config.public_url).await;
            }
        }
        if let Some(storage) = &config.storage {
            let tried = storage.try_out().await.map(|()| storage.url.clone());
            findings.of("storage", tried);
        }
        findings.of("server", server(arguments).await);
        findings.of("outbox", outbox(arguments).await);
        secrets(&mut findings, arguments, &config).await;
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
    if !has_room(folder) {
        bail!("{NO_ROOM}: webhooks are refused, and no job is started");
    }
    Ok(folder.display().to_string())
}

fn sandbox(config: &Config) -> anyhow::Result<String> {
    let tried = machine::try_sandbox();
    match (config.isolation, tried) {
        (IsolationConfig::None, _) => {
            Ok("`isolation` is `none`: nothing stands between steps and this machine".to_owned())
        }
        (_, Ok(layers)) => {
            let landlock = match layers.landlock {
                0 => "no Landlock".to_owned(),
                version => format!("Landlock {version}"),
            };
            let cgroup = match layers.cgroup {
                None => "no cgroup".to_owned(),
                Some(InForce { version, processors: true }) => format!("cgroup v{version}"),
                Some(InForce { version, processors: false }) => {
                    format!("cgroup v{version} without a share of processors")
                }
            };
            Ok(format!("namespaces, seccomp, {landlock}, {cgroup}"))
        }
        (IsolationConfig::Auto, Err(error)) => {
            Err(error).context("code of members runs without one, that of strangers not at all")
        }
        (IsolationConfig::Sandbox, Err(error)) => Err(error).context("no job runs"),
    }
}

/// Images take users of their own, which only root can hand out.
fn images(config: &Config) -> anyhow::Result<String> {
    let labels: Vec<&str> = config.images.labels().map(String::as_str).collect();
    Range::take().context("no job of theirs runs")?;
    Ok(labels.join(", "))
}

/// Looks at the three things that were clicked at GitHub: the token, the webhook, the required status.
async fn repository(findings: &mut Findings, github: &GitHub, name: &str, public_url: &str) {
    let now = clock::now_ms() / 1000;
    let found = github.client.repository(name, now).await;
    let branch = found.as_ref().map(|found| found.default_branch.clone()).ok();
    let found = found.context("the token must read its contents and write its commit statuses");
    findings.of(
        &format!("GitHub, {name}"),
        found.map(|found| format!("found, default branch `{}`", found.default_branch)),
    );
    let Some(branch) = branch else { return };
    let what = format!("GitHub, {name}, webhook");
    match github.client.webhooks(name, now).await {
        Ok(webhooks) => findings.of(&what, webhook(&webhooks, public_url)),
        Err(ClientError::Refused { status: 403 | 404, .. }) => Findings::note(
            &what,
            "the token may not see it (`admin:repo_hook`): look at its Recent Deliveries",
        ),
        Err(error) => findings.of(&what, Err(error.into())),
    }
    let what = format!("GitHub, {name}, required status");
    match github.client.required_contexts(name, &branch, now).await {
        Ok(contexts) if contexts.iter().any(|context| context == ROLL_UP) => {
            findings.of(&what, Ok(format!("`{branch}` requires {}", contexts.join(", "))));
        }
        Ok(contexts) => {
            let others = match contexts.join(", ") {
                none if none.is_empty() => "no status".to_owned(),
                others => format!("only {others}"),
            };
            let text = format!(
                "`{branch}` requires {others}: what is red for muster can be merged; require `{ROLL_UP}`"
            );
            Findings::note(&what, &text);
        }
        Err(ClientError::Refused { status: 403 | 404, .. }) => Findings::note(
            &what,
            &format!(
                "the token may not see what `{branch}` requires: it should require `{ROLL_UP}`"
            ),
        ),
        Err(error) => findings.of(&what, Err(error.into())),
    }
}

/// Judges the webhook that leads to a muster server.
fn webhook(webhooks: &[Webhook], public_url: &str) -> anyhow::Result<String> {
    let paths = ["/webhooks/github", "/event_handler"];
    // Without `public_url` the path is all that can be told from.
    let here = public_url;
    let ours = |hook: &&Webhook| {
        let url = &hook.config.url;
        paths.iter().any(|path| {
            if here.is_empty() { url.ends_with(path) } else { *url == format!("{here}{path}") }
        })
    };
    let Some(hook) = webhooks.iter().find(ours) else {
        let public_url = if public_url.is_empty() { "<public_url>" } else { public_url };
        bail!("there is none that leads here: add one to {public_url}/webhooks/github");
    };
    let url = &hook.config.url;
    if !hook.active {
        bail!("{url} is switched off");
    }
    for event in ["push", "pull_request"] {
        if !hook.events.iter().any(|name| name == event || name == "*") {
            bail!("{url} is not sent for `{event}`");
        }
    }
    match (hook.last_response.code, &hook.last_response.message) {
        (None | Some(0), _) => Ok(format!("{url}, not sent yet")),
        (Some(200..=299), _) => Ok(format!("{url}, the last one was taken")),
        (Some(code), message) => {
            bail!("{url} was answered {code}: {}", message.as_deref().unwrap_or("without a word"))
        }
    }
}

/// Asks the running server what it cannot tell.
async fn outbox(arguments: &Arguments) -> anyhow::Result<String> {
    let client = Client::new(&arguments.server)?;
    let answer = client.get("/api/v1/outbox").await?;
    let rows =
        ["reports", "notices"].into_iter().filter_map(|list| answer[list].as_array()).flatten();
    let given_up = rows.filter(|row| row["fate"] == "given up").count();
    if given_up > 0 {
        bail!("{given_up} verdicts or notices are given up: `muster outbox` lists them");
    }
    Ok("nothing is given up".to_owned())
}

/// Looks whether the secrets that the running server keeps can be read, and by whom.
async fn secrets(findings: &mut Findings, arguments: &Arguments, config: &Config) {
    let count = async {
        let listed = Client::new(&arguments.server)?.get("/api/v1/secrets").await?;
        Ok::<_, anyhow::Error>(listed["secrets"].as_array().map_or(0, Vec::len))
    };
    let count = match count.await {
        // Who keeps none needs no key.
        Ok(0) => return,
        Ok(count) => count,
        Err(error) => return findings.of("secrets", Err(error)),
    };
    let key = config.secrets_key_file();
    findings.of(
        "secrets",
        match key.is_file() {
            true => {
                Ok(format!("{count}, sealed with {}: keep a copy of it elsewhere", key.display()))
            }
            false => Err(anyhow::anyhow!("the key of {count}, {}, is not there", key.display())),
        },
    );
    let caged = config.isolation != IsolationConfig::None && machine::try_sandbox().is_ok();
    if !caged && !rustix::process::geteuid().is_root() {
        let who =
            "jobs run as the user that the server runs as: they can read the key and the database";
        Findings::note("secrets", who);
    }
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
