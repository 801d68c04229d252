//! `muster eval`: what an expression gives.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use muster_workflow::expr::{Contexts, ParseErrorKind, Scope, Value, parse};
use serde_json::{Map, Value as Json, json};

use super::{CANNOT_RUN, GREEN, RED, json_of, lines, print, read_json};

/// As much as a payload of GitHub has.
const MOST_BYTES: u64 = 25 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What stands between `${{` and `}}`.
    #[arg(value_name = "EXPR", required_unless_present = "batch", allow_hyphen_values = true)]
    expr: Option<String>,
    /// A JSON object with a key for each context. They are then all that the expression may name.
    #[arg(long, value_name = "FILE")]
    contexts: Option<PathBuf>,
    /// Read lines of `{"expr", "contexts"?}` from standard input, and answer each with a line.
    #[arg(long, conflicts_with_all = ["expr", "contexts"])]
    batch: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    if arguments.batch {
        return batch();
    }
    let contexts = match &arguments.contexts {
        None => None,
        Some(path) => {
            let Json::Object(contexts) = read_json(path, MOST_BYTES)? else {
                bail!("{} is no JSON object", path.display());
            };
            Some(contexts)
        }
    };
    let answer = answer(arguments.expr.as_deref().unwrap_or_default(), contexts.as_ref());
    print(&answer);
    Ok(if answer.get("error").is_none() { GREEN } else { RED })
}

/// Answers each line of standard input, in order.
fn batch() -> anyhow::Result<u8> {
    let mut exit = GREEN;
    for (number, line) in lines().enumerate() {
        let line = line.context("cannot read standard input")?;
        match case(&line) {
            Ok((expr, contexts)) => print(answer(&expr, contexts.as_ref())),
            Err(error) => {
                exit = CANNOT_RUN;
                let message = format!("line {} of the input: {error:#}", number + 1);
                print(json!({"error": {"kind": "input", "message": message}}));
            }
        }
    }
    Ok(exit)
}

fn case(line: &[u8]) -> anyhow::Result<(String, Option<Map<String, Json>>)> {
    let Json::Object(mut case) = json_of(line)? else { bail!("no JSON object") };
    let Some(Json::String(expr)) = case.remove("expr") else { bail!("`expr` must be a string") };
    match case.remove("contexts") {
        None | Some(Json::Null) => Ok((expr, None)),
        Some(Json::Object(contexts)) => Ok((expr, Some(contexts))),
        Some(_) => bail!("`contexts` must be an object"),
    }
}

/// Evaluates an expression: `{"kind", "value"}`, or `{"error": {"kind", "message"}}`.
fn answer(expr: &str, given: Option<&Map<String, Json>>) -> Json {
    let names: Vec<&str> = given.into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let scope = match given {
        Some(_) => Scope { contexts: &names, ..Scope::GITHUB },
        None => Scope::GITHUB,
    };
    let mut contexts = Contexts::new();
    for (name, value) in given.into_iter().flatten() {
        contexts.set(name, value);
    }
    let refused =
        |kind: &str, message: String| json!({"error": {"kind": kind, "message": message}});
    match parse(expr, scope) {
        Err(error) => {
            let kind = match error.kind {
                ParseErrorKind::Lexing => "lexing",
                ParseErrorKind::Parsing => "parsing",
            };
            let column = expr.get(..error.at).unwrap_or(expr).chars().count() + 1;
            refused(kind, format!("{}, at character {column}", error.message))
        }
        Ok(expr) => match expr.evaluate(&contexts) {
            Err(error) => refused("evaluation", error.to_string()),
            Ok(value) => json!({"kind": value.kind(), "value": plain(&value)}),
        },
    }
}

/// Writes a value as JSON; numbers that JSON lacks are strings, wherever they stand.
fn plain(value: &Value) -> Json {
    match value {
        Value::Number(number) if !number.is_finite() => value.to_string().into(),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(object) => {
            let entries = object.iter().map(|(key, value)| (key.to_owned(), plain(value)));
            Json::Object(entries.collect())
        }
        other => other.to_json(),
    }
}
