//! The suites `expressions` and `filters`: values and verdicts, case by case.

use std::path::Path;

use anyhow::{Context as _, bail};
use muster_workflow::diagnostic::Span;
use muster_workflow::expr::{Contexts, Scope, Value, parse};
use muster_workflow::pattern::{Filter, Patterns};
use serde_json::{Map, Value as Json, json};

use super::{Measured, files, read};

/// GitHub's own evaluator cases: kind and value, or the kind of error, must be equal.
pub(super) fn expressions(folder: &Path) -> Measured {
    let mut cases = 0;
    let mut missed = Vec::new();
    for file in files(folder, &["json"])? {
        let groups: Map<String, Json> = serde_json::from_str(&read(&file)?)?;
        for (group, of) in &groups {
            for case in of.as_array().context("a group is a list")? {
                cases += 1;
                let expr = case["expr"].as_str().context("a case has an expression")?;
                let wanted = match case.get("err") {
                    Some(error) => json!({ "error": error["kind"] }),
                    None => as_floats(&case["result"]),
                };
                let got =
                    as_floats(&evaluate(expr, case.get("contexts").and_then(Json::as_object)));
                if wanted != got {
                    missed.push(format!("{group}: {expr} is {got}, not {wanted}"));
                }
            }
        }
    }
    Ok((cases, missed))
}

fn evaluate(expr: &str, given: Option<&Map<String, Json>>) -> Json {
    let mut contexts = Contexts::new();
    let mut names = Vec::new();
    for (name, value) in given.into_iter().flatten() {
        names.push(name.as_str());
        contexts.set(name, value);
    }
    if names.is_empty() {
        names.push("github");
    }
    match parse(expr, Scope { contexts: &names, ..Scope::NOTHING }) {
        Err(error) => json!({ "error": format!("{:?}", error.kind).to_lowercase() }),
        Ok(expr) => match expr.evaluate(&contexts) {
            Err(_) => json!({ "error": "evaluation" }),
            Ok(value) => json!({ "kind": value.kind(), "value": plain(&value) }),
        },
    }
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Number(number) if !number.is_finite() => value.to_string().into(),
        other => other.to_json(),
    }
}

/// The suite writes `1` and `1.0` for the same number.
fn as_floats(json: &Json) -> Json {
    match json {
        Json::Number(number) => json!(number.as_f64()),
        Json::Array(items) => items.iter().map(as_floats).collect(),
        Json::Object(map) => map.iter().map(|(k, v)| (k.clone(), as_floats(v))).collect(),
        other => other.clone(),
    }
}

/// The table of act: `skip` as an include list, `filter` as an ignore list.
pub(super) fn filters(folder: &Path) -> Measured {
    let mut cases = 0;
    let mut missed = Vec::new();
    for file in files(folder, &["json"])? {
        let table: Vec<Json> = serde_json::from_str(&read(&file)?)?;
        for case in table {
            cases += 1;
            let texts = |key: &str| -> Vec<&str> {
                let items = case[key].as_array().into_iter().flatten();
                items.filter_map(Json::as_str).collect()
            };
            let mut problems = Vec::new();
            let given = texts("patterns").into_iter().map(|text| (text, Span::default()));
            let patterns = Patterns::read(given, &mut problems);
            if !problems.is_empty() {
                bail!("a pattern is refused: {problems:?}");
            }
            let inputs = texts("inputs");
            let skip = !Filter::Include(patterns.clone()).passes(&inputs);
            let filter = !Filter::Ignore(patterns).passes(&inputs);
            if case["skip"] != skip || case["filter"] != filter {
                missed.push(format!("{case}: skip {skip}, filter {filter}"));
            }
        }
    }
    Ok((cases, missed))
}
