//! `muster deliveries`: webhooks and what became of them.

use clap::Subcommand;
use muster_workflow::text::one_line;
use serde_json::{Value, json};

use super::client::{Client, ServerArguments};
use super::{GREEN, print, print_json, runtime};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    server: ServerArguments,
    /// How many to show, the newest last.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Only those that nothing could be made of.
    #[arg(long, conflicts_with = "outcome")]
    failed: bool,
    /// Only those with this outcome.
    #[arg(long, value_parser = ["pending", "accepted", "ignored", "dead"])]
    outcome: Option<String>,
    /// Only those of this event, such as `push`.
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show all of a webhook, as JSON, with what came.
    Show(One),
    /// Judge a webhook once more that led to nothing.
    Replay(One),
}

#[derive(Debug, clap::Args)]
struct One {
    #[command(flatten)]
    server: ServerArguments,
    /// Its number in the list.
    number: i64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    runtime()?.block_on(async {
        match &arguments.command {
            None => list(&arguments.list).await,
            Some(Command::Show(one)) => {
                let client = Client::new(&one.server)?;
                print_json(&client.get(&format!("/api/v1/deliveries/{}", one.number)).await?);
                Ok(GREEN)
            }
            Some(Command::Replay(one)) => {
                let client = Client::new(&one.server)?;
                let path = format!("/api/v1/deliveries/{}/replay", one.number);
                client.post(&path, &json!({})).await?;
                print(format!("delivery {} is judged once more", one.number));
                Ok(GREEN)
            }
        }
    })
}

async fn list(list: &List) -> anyhow::Result<u8> {
    let client = Client::new(&list.server)?;
    let outcome = if list.failed { Some("dead") } else { list.outcome.as_deref() };
    let of = [("outcome", outcome), ("event", list.event.as_deref())];
    for delivery in client.newest_of("deliveries", list.limit, &of).await?.iter().rev() {
        let times = match delivery["times"].as_i64() {
            Some(times) if times > 1 => format!(" ({times} times)"),
            _ => String::new(),
        };
        let why = match word(delivery, "reason") {
            "" => String::new(),
            why => format!(": {why}"),
        };
        let (event, outcome) = (word(delivery, "event"), word(delivery, "outcome"));
        print(one_line(&format!("{} {event} {outcome}{times}{why}", delivery["id"])));
    }
    Ok(GREEN)
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}
