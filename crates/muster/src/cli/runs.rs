//! `muster runs`, `log`, `cancel`, `rerun`, `why`: looking at runs and moving them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::StreamExt as _;
use muster_runner::marks;
use muster_workflow::text::one_line;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, ServerArguments};
use super::{CANNOT_RUN, GREEN, RED, print, print_raw, runtime};

#[derive(Debug, clap::Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// How many to show, the newest first.
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct LogArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The run's number.
    run: i64,
    /// Only the job of this name.
    job: Option<String>,
    /// Follow the log until the job is over; the exit code is its verdict.
    #[arg(short, long)]
    follow: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CancelArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The run's number.
    run: i64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RerunArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The run's number.
    run: i64,
    /// Only the jobs that are not green, and those that need them.
    #[arg(long)]
    failed: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ApproveArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The commit's full name: an approval is for one commit and never carries over.
    sha: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AuditArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// How much to show, the newest first.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OutboxArguments {
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AdoptArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// The repository's name.
    repository: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WhyArguments {
    #[command(flatten)]
    server: ServerArguments,
    /// A run's number, or a commit's full name.
    subject: String,
}

pub(crate) fn list(arguments: &ListArguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    runtime()?.block_on(async {
        for run in client.newest("runs", arguments.limit).await? {
            print(one_line(&line(&run)));
        }
        Ok(GREEN)
    })
}

pub(crate) fn log(arguments: &LogArguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    runtime()?.block_on(async {
        let run = client.get(&format!("/api/v1/runs/{}", arguments.run)).await?;
        let jobs: Vec<&Value> = run["jobs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|job| arguments.job.as_deref().is_none_or(|name| job["name"] == name))
            .collect();
        if jobs.is_empty() {
            bail!("run {} has no such job", arguments.run);
        }
        for job in &jobs {
            if jobs.len() > 1 {
                print(format!("== {} ({})", word(job, "name"), word(job, "status")));
            }
            if arguments.follow {
                follow(&client, job).await?;
            } else {
                let path = format!("/api/v1/jobs/{}/log", job["id"]);
                let log = client.send(Method::GET, &path, None).await?.bytes().await?;
                for line in log.split_inclusive(|byte| *byte == b'\n') {
                    print_raw(&marks::in_words(line).unwrap_or_default());
                }
            }
        }
        if !arguments.follow {
            return Ok(GREEN);
        }
        let names: Vec<&str> = jobs.iter().map(|job| word(job, "name")).collect();
        verdict(&client, arguments.run, &names).await
    })
}

/// Returns the exit code for these jobs of a run, which are ending.
async fn verdict(client: &Client, run: i64, names: &[&str]) -> anyhow::Result<u8> {
    loop {
        let run = client.get(&format!("/api/v1/runs/{run}")).await?;
        let jobs = run["jobs"].as_array().into_iter().flatten();
        let conclusions: Vec<&str> = jobs
            .filter(|job| names.contains(&word(job, "name")))
            .map(|job| word(job, "conclusion"))
            .collect();
        if conclusions.contains(&"") {
            // The end of a log is there a moment before the verdict is.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let red = |conclusion: &&str| matches!(*conclusion, "failure" | "timed_out" | "cancelled");
        return Ok(if conclusions.iter().any(red) {
            RED
        } else if conclusions.contains(&"error") {
            CANNOT_RUN
        } else {
            GREEN
        });
    }
}

/// Prints a log as it grows, until its end.
async fn follow(client: &Client, job: &Value) -> anyhow::Result<()> {
    let path = format!("/api/v1/jobs/{}/live", job["id"]);
    let answer = client.send(Method::GET, &path, None).await?;
    let mut stream = answer.bytes_stream();
    let mut buffer = Vec::new();
    while let Some(bytes) = stream.next().await {
        buffer.extend_from_slice(&bytes.context("the server went away")?);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data: ") else { continue };
            let lines: Vec<Value> =
                serde_json::from_slice(data).context("the server's answer is garbled")?;
            for line in lines {
                let end = if line["ends"] == true { "\n" } else { "" };
                print_raw(format!("{}{end}", word(&line, "text")).as_bytes());
            }
        }
    }
    Ok(())
}

pub(crate) fn cancel(arguments: &CancelArguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    runtime()?.block_on(async {
        client.post(&format!("/api/v1/runs/{}/cancel", arguments.run), &json!({})).await?;
        print(format!("run {} is being cancelled", arguments.run));
        Ok(GREEN)
    })
}

pub(crate) fn rerun(arguments: &RerunArguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    runtime()?.block_on(async {
        let body = json!({ "failed": arguments.failed });
        let answer = client.post(&format!("/api/v1/runs/{}/rerun", arguments.run), &body).await?;
        print(format!("run {}: attempt {} starts", arguments.run, answer["attempt"]));
        Ok(GREEN)
    })
}

pub(crate) fn audit(arguments: &AuditArguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    runtime()?.block_on(async {
        for deed in client.newest("audit", arguments.limit).await? {
            let at = deed["at"].as_i64().unwrap_or_default();
            let line =
                ["who", "action", "subject", "detail"].map(|part| word(&deed, part)).join(" ");
            let when = chrono::DateTime::from_timestamp_millis(at).unwrap_or_default();
            print(one_line(format!("{} {line}", when.format("%F %T")).trim_end()));
        }
        Ok(GREEN)
    })
}

pub(crate) fn outbox(arguments: &OutboxArguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    runtime()?.block_on(async {
        let answer = client.get("/api/v1/outbox").await?;
        for (list, what, state) in
            [("reports", "context", "state"), ("notices", "branch", "verdict")]
        {
            for row in answer[list].as_array().into_iter().flatten() {
                let why = match word(row, "problem") {
                    "" => String::new(),
                    why => format!(": {why}"),
                };
                print(format!(
                    "{}: {} {} of {} at {}{why}",
                    word(row, "fate"),
                    word(row, what),
                    word(row, state),
                    word(row, "repository"),
                    word(row, "sha"),
                ));
            }
        }
        Ok(GREEN)
    })
}

pub(crate) fn approve(arguments: &ApproveArguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    runtime()?.block_on(async {
        client.post(&format!("/api/v1/commits/{}/approve", arguments.sha), &json!({})).await?;
        print(format!("{} is approved, and runs", arguments.sha));
        Ok(GREEN)
    })
}

pub(crate) fn adopt(arguments: &AdoptArguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    runtime()?.block_on(async {
        client.post(&format!("/api/v1/adopt/{}", arguments.repository), &json!({})).await?;
        print(format!(
            "{0} is out of the shadow: its jobs report under their own names from the next push on.\n\
             Switch the other side off, or required checks see two of each name:\n  \
             at GitHub: {0} > Settings > Actions > General > Disable actions",
            arguments.repository
        ));
        Ok(GREEN)
    })
}

pub(crate) fn why(arguments: &WhyArguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    runtime()?.block_on(async {
        if arguments.subject.parse::<i64>().is_ok() {
            let run = client.get(&format!("/api/v1/runs/{}", arguments.subject)).await?;
            print(line(&run));
            for job in run["jobs"].as_array().into_iter().flatten() {
                print(format!(
                    "  {} {}{}",
                    word(job, "name"),
                    word(job, "status"),
                    reason(&job["reason"])
                ));
            }
            return Ok(GREEN);
        }
        let commit = client.get(&format!("/api/v1/commits/{}", arguments.subject)).await?;
        for status in commit["statuses"].as_array().into_iter().flatten() {
            let description = word(status, "description");
            let problem = match word(status, "problem") {
                "" => String::new(),
                problem => format!(" (not shown there yet: {problem})"),
            };
            let (context, state) = (word(status, "context"), word(status, "state"));
            print(format!("{context} {state}: {description}{problem}"));
        }
        for file in commit["files"].as_array().into_iter().flatten() {
            let why = match word(file, "reason") {
                "" => String::new(),
                why => format!(": {why}"),
            };
            print(format!("{} {}{why}", word(file, "path"), word(file, "outcome")));
        }
        Ok(GREEN)
    })
}

fn line(run: &Value) -> String {
    let state = match word(run, "conclusion") {
        "" => "running",
        conclusion => conclusion,
    };
    format!(
        "{} {state} {} ({} #{}) {} {}",
        run["id"],
        word(run, "title"),
        word(run, "workflow"),
        run["run_number"],
        word(run, "repository"),
        word(run, "ref"),
    )
}

fn reason(reason: &Value) -> String {
    match word(reason, "text") {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}
