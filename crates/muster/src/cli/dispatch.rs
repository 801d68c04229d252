//! `muster dispatch`: asks for a workflow that has `workflow_dispatch` in its `on`.

use std::time::{Duration, Instant};

use anyhow::bail;
use muster_sys::clock;
use serde_json::{Map, Value, json};

use super::client::{Client, ServerArguments};
use super::{GREEN, print, runtime};

/// What was asked for becomes a run in this time, where its repository can be reached.
const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN: Duration = Duration::from_millis(50);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The repository's name, such as `owner/name`.
    repository: String,
    /// The workflow: the path of its file, the file's name, or its own name.
    workflow: String,
    /// The branch or tag; the default branch without it.
    #[arg(long = "ref", value_name = "REF")]
    git_ref: Option<String>,
    /// What is filled in for an input of the workflow.
    #[arg(long = "input", value_name = "NAME=VALUE")]
    inputs: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let mut inputs = Map::new();
    for given in &arguments.inputs {
        let Some((name, value)) = given.split_once('=') else {
            bail!("--input {given}: it is NAME=VALUE");
        };
        if inputs.insert(name.to_owned(), Value::from(value)).is_some() {
            bail!("--input {name}: it is given twice");
        }
    }
    let client = Client::new(&arguments.server)?;
    runtime()?.block_on(async {
        let body = json!({
            "repository": arguments.repository,
            "workflow": arguments.workflow,
            "ref": arguments.git_ref,
            "inputs": inputs,
        });
        let taken = client.post("/api/v1/dispatches", &body).await?;
        let text = |json: &Value, key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let path = format!("/api/v1/dispatches/{}", taken["event"]);
        let started: Instant = clock::monotonic();
        let became = loop {
            let became = client.get(&path).await?;
            if became["outcome"] != "pending" || started.elapsed() > PATIENCE {
                break became;
            }
            tokio::time::sleep(BETWEEN).await;
        };
        let (workflow, git_ref) = (text(&taken, "workflow"), text(&taken, "ref"));
        let sha: String = text(&taken, "sha").chars().take(8).collect();
        let of = format!("{workflow} of {git_ref} at {sha}");
        match became["run"].as_i64() {
            Some(run) => print(format!("run {run}: {of}")),
            None if became["outcome"] == "pending" => {
                print(format!("{of} is asked for, and not begun yet: `muster runs` shows it"));
            }
            None if became["outcome"] == "accepted" => {
                print(format!("{of}: its run is gone again"));
            }
            None => bail!("{of} does not run: {}", text(&became, "reason")),
        }
        Ok(GREEN)
    })
}
