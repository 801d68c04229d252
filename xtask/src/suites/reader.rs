//! The suite `reader`: what GitHub's own parser makes of a file.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use muster_workflow::conformance;
use serde_json::Value as Json;

use super::{Measured, files, read, short};

/// Each file is a case: the template that GitHub's parser makes, or the places of its errors.
pub(super) fn read_as_theirs(folder: &Path) -> Measured {
    let files = files(folder, &["yml"])?;
    let mut missed = Vec::new();
    for file in &files {
        let case = read(file)?;
        let name = short(file, folder);
        let expected = case.rsplit("\n---\n").next().unwrap_or_default();
        let expected: Json = serde_json::from_str(expected)
            .with_context(|| format!("what {name} expects is no JSON"))?;
        let found = conformance::reader(&name, &case).map_err(anyhow::Error::msg)?;
        let (wanted, got) = (places(&expected), places(&found));
        let is_right = match (expected.get("errors"), found.get("errors")) {
            (Some(_), Some(_)) => wanted.is_empty() || wanted == got,
            (None, None) => first_difference(&expected, &found, "").is_none(),
            _ => false,
        };
        if !is_right {
            let what = match (expected.get("errors"), found.get("errors")) {
                (None, Some(errors)) => format!("it is refused: {errors}"),
                (Some(errors), None) => format!("it is taken, not refused with {errors}"),
                (Some(_), Some(errors)) => format!("places {got:?}, not {wanted:?}: {errors}"),
                (None, None) => first_difference(&expected, &found, "").unwrap_or_default(),
            };
            missed.push(format!("{name}: {what}"));
        }
    }
    Ok((files.len(), missed))
}

/// Returns the lines and columns that errors name.
fn places(answer: &Json) -> BTreeSet<(u64, u64)> {
    let errors = answer["errors"].as_array().cloned().unwrap_or_default();
    let messages: Vec<String> =
        errors.iter().filter_map(|error| Some(error["Message"].as_str()?.to_owned())).collect();
    let pieces = messages.iter().flat_map(|message| message.split("(Line: ").skip(1));
    pieces
        .filter_map(|piece| {
            let (line, rest) = piece.split_once(", Col: ")?;
            Some((line.parse().ok()?, rest.split_once(')')?.0.parse().ok()?))
        })
        .collect()
}

/// Says where two answers differ first.
fn first_difference(wanted: &Json, got: &Json, path: &str) -> Option<String> {
    match (wanted, got) {
        (Json::Object(wanted), Json::Object(got)) => {
            let keys: BTreeSet<&String> = wanted.keys().chain(got.keys()).collect();
            keys.into_iter().find_map(|key| {
                let path = format!("{path}.{key}");
                first_difference(
                    wanted.get(key).unwrap_or(&Json::Null),
                    got.get(key).unwrap_or(&Json::Null),
                    &path,
                )
                .or_else(|| {
                    (wanted.contains_key(key) != got.contains_key(key))
                        .then(|| format!("{path} is in one alone"))
                })
            })
        }
        (Json::Array(wanted), Json::Array(got)) if wanted.len() == got.len() => {
            let mut pairs = wanted.iter().zip(got).enumerate();
            pairs.find_map(|(place, (wanted, got))| {
                first_difference(wanted, got, &format!("{path}[{place}]"))
            })
        }
        _ if wanted == got
            || wanted.as_f64().is_some_and(|number| got.as_f64() == Some(number)) =>
        {
            None
        }
        _ => Some(format!("{path} is {got}, not {wanted}")),
    }
}
