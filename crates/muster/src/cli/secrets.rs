//! `muster secrets` and `muster vars`: what the server keeps for jobs.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use muster_workflow::text::one_line;
use reqwest::Method;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use super::client::{Client, ServerArguments};
use super::stdio::read_file;
use super::{GREEN, print, runtime};
use crate::env_file::{self, MOST_BYTES};
use crate::secrets::{MAX_VALUE, kept_name_of};

#[derive(Debug, clap::Args)]
pub(crate) struct SecretsArguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(subcommand)]
    command: SecretsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SecretsCommand {
    /// Keep a secret, which jobs get and nobody can read again. Its value comes from standard input or a file, never from
    /// an argument, which others on this machine could see.
    Set {
        /// Its name.
        #[arg(required_unless_present = "env_file")]
        name: Option<String>,
        #[command(flatten)]
        place: PlaceArguments,
        /// The file that holds the value, all of it. Of standard input the last line's end is no part of the value.
        #[arg(long, value_name = "FILE", conflicts_with = "env_file")]
        file: Option<PathBuf>,
        /// A file of lines NAME=VALUE, as `.env` files have them: each is one secret.
        #[arg(long, value_name = "FILE", conflicts_with = "name")]
        env_file: Option<PathBuf>,
    },
    /// List them, but for their values.
    List(ListArguments),
    /// Remove one.
    Rm(RemoveArguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct VarsArguments {
    #[command(flatten)]
    server: ServerArguments,
    #[command(subcommand)]
    command: VarsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum VarsCommand {
    /// Keep a variable, which jobs see as `vars.NAME`.
    Set {
        /// Its name.
        #[arg(required_unless_present = "env_file")]
        name: Option<String>,
        /// Its value; without one it comes from standard input.
        value: Option<String>,
        #[command(flatten)]
        place: PlaceArguments,
        /// A file of lines NAME=VALUE, as `.env` files have them: each is one variable.
        #[arg(long, value_name = "FILE", conflicts_with = "name")]
        env_file: Option<PathBuf>,
    },
    /// List them.
    List(ListArguments),
    /// Remove one.
    Rm(RemoveArguments),
}

#[derive(Debug, clap::Args)]
struct PlaceArguments {
    /// The repository whose jobs get it; without one those of all repositories do.
    #[arg(long, value_name = "NAME")]
    repo: Option<String>,
    /// The environment whose jobs alone get it.
    #[arg(long, alias = "env", value_name = "NAME")]
    environment: Option<String>,
    /// How far a run must be trusted: `approved` (also the approved commits of strangers), `member` (who may push), or
    /// `protected` (pushes to protected branches).
    #[arg(long, value_name = "TRUST")]
    trust: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    /// Only what jobs of this repository may get.
    #[arg(long, value_name = "NAME")]
    repo: Option<String>,
    /// As JSON, as the API has it.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RemoveArguments {
    /// Its name.
    name: String,
    #[command(flatten)]
    place: PlaceArguments,
}

/// What a terminal takes in one line at most, in bytes.
const MAX_TYPED: usize = 4095;

/// What of the API it is about.
struct Kind {
    list: &'static str,
    one: &'static str,
}

const SECRETS: Kind = Kind { list: "secrets", one: "secret" };
const VARIABLES: Kind = Kind { list: "variables", one: "variable" };

pub(crate) fn secrets(arguments: &SecretsArguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    match &arguments.command {
        SecretsCommand::Set { name, place, file, env_file } => {
            let values = match (name, env_file) {
                (_, Some(file)) => of_env_file(file, true)?,
                (Some(name), None) => vec![(name.clone(), value(name, file.as_deref())?)],
                (None, None) => Vec::new(),
            };
            set(&client, &SECRETS, place, values)
        }
        SecretsCommand::List(asked) => list(&client, &SECRETS, asked),
        SecretsCommand::Rm(removed) => remove(&client, &SECRETS, removed),
    }
}

pub(crate) fn vars(arguments: &VarsArguments) -> anyhow::Result<u8> {
    let client = Client::new(&arguments.server)?;
    match &arguments.command {
        VarsCommand::Set { name, value: given, place, env_file } => {
            let values = match (name, given, env_file) {
                (_, _, Some(file)) => of_env_file(file, false)?,
                (Some(name), Some(given), None) => vec![(name.clone(), given.clone())],
                (Some(name), None, None) => vec![(name.clone(), value(name, None)?)],
                (None, _, None) => Vec::new(),
            };
            set(&client, &VARIABLES, place, values)
        }
        VarsCommand::List(asked) => list(&client, &VARIABLES, asked),
        VarsCommand::Rm(removed) => remove(&client, &VARIABLES, removed),
    }
}

fn set(
    client: &Client,
    kind: &Kind,
    place: &PlaceArguments,
    values: Vec<(String, String)>,
) -> anyhow::Result<u8> {
    let PlaceArguments { repo, environment, trust } = place;
    runtime()?.block_on(async {
        for (name, value) in values {
            let body = json!({
                "name": name,
                "repository": repo,
                "environment": environment,
                "trust": trust,
                "value": value,
            });
            let path = format!("/api/v1/{}", kind.list);
            let sent = client.send(Method::PUT, &path, Some(&body)).await;
            sent.with_context(|| format!("{} {} is not set", kind.one, one_line(&name)))?;
            print(format!("set {} {}", name.to_uppercase(), whom(&body)));
        }
        Ok(GREEN)
    })
}

fn list(client: &Client, kind: &Kind, asked: &ListArguments) -> anyhow::Result<u8> {
    let answer = runtime()?.block_on(client.get(&format!("/api/v1/{}", kind.list)))?;
    let rows = answer[kind.list].as_array().cloned().unwrap_or_default();
    let fits = |row: &Value| {
        let of = row["repository"].as_str();
        asked.repo.as_ref().is_none_or(|repo| of.is_none_or(|of| of == repo))
    };
    let rows: Vec<Value> = rows.into_iter().filter(fits).collect();
    if asked.json {
        print(json!({ kind.list: rows }));
        return Ok(GREEN);
    }
    for row in &rows {
        let value = row["value"].as_str().map(|value| format!("={}", one_line(value)));
        let name = row["name"].as_str().unwrap_or_default();
        print(format!("{name}{}  {}", value.unwrap_or_default(), whom(row)));
    }
    Ok(GREEN)
}

fn remove(client: &Client, kind: &Kind, removed: &RemoveArguments) -> anyhow::Result<u8> {
    let RemoveArguments { name, place } = removed;
    let given = [
        ("name", Some(name)),
        ("repository", place.repo.as_ref()),
        ("environment", place.environment.as_ref()),
        ("trust", place.trust.as_ref()),
    ];
    let given = given.iter().filter_map(|(key, value)| Some((*key, value.as_deref()?)));
    // Only to write the query as addresses have it.
    let query = reqwest::Url::parse_with_params("http://muster", given)?;
    let path = format!("/api/v1/{}?{}", kind.list, query.query().unwrap_or_default());
    runtime()?.block_on(client.delete(&path))?;
    print(format!("removed {}", name.to_uppercase()));
    Ok(GREEN)
}

/// Says whom one is for.
fn whom(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().map(one_line);
    let repository = text("repository").unwrap_or_else(|| "all repositories".to_owned());
    let environment = text("environment").map(|name| format!(", environment {name}"));
    let trust = text("trust").unwrap_or_else(|| "member".to_owned());
    format!("for {repository}{}, trust {trust}", environment.unwrap_or_default())
}

/// Reads a file of pairs; nothing of it is sent where any is wrong.
fn of_env_file(file: &Path, are_secret: bool) -> anyhow::Result<Vec<(String, String)>> {
    let mut values = Vec::new();
    env_file::read(file, read_file(file, MOST_BYTES)?, |name, value| {
        kept_name_of(name)?;
        if are_secret && value.is_empty() {
            return Err(format!("{} is empty", one_line(name)));
        }
        if value.len() > MAX_VALUE {
            return Err(format!("{} has more than {MAX_VALUE} bytes", one_line(name)));
        }
        values.push((name.to_owned(), value));
        Ok(())
    })?;
    Ok(values)
}

/// Reads a value: all of a file, else standard input without the end of its last line.
fn value(name: &str, file: Option<&Path>) -> anyhow::Result<String> {
    let most = MAX_VALUE as u64;
    let no_text = || format!("the value of {} is no UTF-8: keep it in base64", one_line(name));
    if let Some(file) = file {
        return String::from_utf8(read_file(file, most)?).ok().with_context(no_text);
    }
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        return hidden_line(&format!("{} = ", one_line(name)));
    }
    let mut value = Vec::new();
    // Room for the end of the line.
    input.by_ref().take(most + 3).read_to_end(&mut value).context("cannot read standard input")?;
    let mut value = String::from_utf8(value).ok().with_context(no_text)?;
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    if value.len() > MAX_VALUE {
        bail!("the value of {} has more than {MAX_VALUE} bytes", one_line(name));
    }
    Ok(value)
}

/// Asks a person for a line that is not shown.
fn hidden_line(prompt: &str) -> anyhow::Result<String> {
    let mut terminal = io::stderr();
    terminal.write_all(prompt.as_bytes())?;
    let input = io::stdin();
    let shown = tcgetattr(input.as_fd()).context("cannot hide what is typed")?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(input.as_fd(), OptionalActions::Flush, &hidden)
        .context("cannot hide what is typed")?;
    let mut line = String::new();
    let read = input.read_line(&mut line);
    tcsetattr(input.as_fd(), OptionalActions::Flush, &shown)?;
    read.context("cannot read standard input")?;
    // What is longer a terminal cuts off without a word.
    if line.len() >= MAX_TYPED {
        bail!("a terminal takes no more than {MAX_TYPED} bytes in a line: use --file");
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
