//! `muster shell`: look around in a job that has failed, where its step was.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use muster_runner::spec::JobSpec;
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::client::{Client, ServerArguments};
use super::{GREEN, runtime};
use crate::shell::{attach, connect, end};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The run's number at the server, or the name that `muster run --keep` has shown.
    run: String,
    /// The job's name.
    job: String,
    /// Keep the job no longer.
    #[arg(long, conflicts_with = "command")]
    end: bool,
    /// A program to run there instead of a shell, and its arguments.
    #[arg(last = true)]
    command: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    runtime()?.block_on(async {
        match arguments.run.parse::<i64>() {
            Ok(number) => at_server(arguments, number).await,
            Err(_) => here(arguments).await,
        }
    })
}

/// Goes to a job of the server.
async fn at_server(arguments: &Arguments, number: i64) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    let run = client.get(&format!("/api/v1/runs/{number}")).await?;
    let jobs = run["jobs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = jobs.iter().find(|job| job["name"] == *arguments.job);
    let Some(job) = found else {
        let names = jobs.iter().filter_map(|job| job["name"].as_str());
        bail!("run {number} has no job `{}`: it has {}", arguments.job, listed(names));
    };
    let path = format!("/api/v1/jobs/{}/shell", job.get("id").unwrap_or(&Value::Null));
    let upgraded = client.upgrade(Method::POST, &path, crate::shell::PROTOCOL).await?;
    begin(arguments, upgraded).await
}

/// Goes to a job of a `muster run` that has kept it.
async fn here(arguments: &Arguments) -> anyhow::Result<u8> {
    let name = &arguments.run;
    let is_name = Path::new(name).components().count() == 1 && name.starts_with("muster-run-");
    let folder = std::env::temp_dir().join(name);
    if !is_name || !folder.is_dir() {
        bail!("`{name}` is neither the number of a run nor one that `muster run --keep` keeps");
    }
    let jobs = kept(&folder).context("cannot look at what is kept")?;
    let found = jobs.iter().find(|(name, _)| *name == arguments.job);
    let Some((_, job)) = found else {
        let names = jobs.iter().map(|(name, _)| name.as_str());
        bail!("{name} keeps no job `{}`: it keeps {}", arguments.job, listed(names));
    };
    let stream = connect(job).context("it is kept no longer")?;
    stream.set_nonblocking(true)?;
    begin(arguments, UnixStream::from_std(stream)?).await
}

async fn begin(
    arguments: &Arguments,
    connection: impl AsyncRead + AsyncWrite + Unpin,
) -> anyhow::Result<u8> {
    if arguments.end {
        return end(connection).await.map(|()| GREEN);
    }
    attach(connection, arguments.command.clone()).await
}

/// Returns the names and the folders of the jobs of a run that are kept.
fn kept(run: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(run)? {
        let folder = entry?.path();
        if !crate::shell::is_kept(&folder) {
            continue;
        }
        let spec = std::fs::read(folder.join("job.json")).ok();
        let spec = spec.and_then(|spec| serde_json::from_slice::<JobSpec>(&spec).ok());
        found.extend(spec.map(|spec| (spec.name, folder)));
    }
    Ok(found)
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
