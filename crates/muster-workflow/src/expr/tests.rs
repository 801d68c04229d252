use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::suites::suite;

const GITHUB: Scope<'static> =
    Scope { contexts: &["github", "env", "steps"], status_functions: true, hash_files: true };

fn check(expr: &str) -> String {
    let mut contexts = Contexts::new();
    let github =
        json!({"ref": "refs/heads/main", "event": {"labels": [{"name": "bug"}, {"name": "ui"}]}});
    contexts.set("github", &github);
    match parse(expr, GITHUB) {
        Err(error) => format!("{} at {}", error.message, error.at),
        Ok(expr) => match expr.evaluate(&contexts) {
            Ok(value) => value.to_json().to_string(),
            Err(error) => error.to_string(),
        },
    }
}

#[test]
fn values_are_as_the_reference_gives_them() {
    for (expr, value) in [
        ("github.ref == 'refs/heads/MAIN' && 'yes' || 'no'", "\"yes\""),
        ("join(github.event.labels.*.name)", "\"bug,ui\""),
        ("env.MISSING.deeper", "null"),
        ("format('{0}-{{}}-{1}', 1.50, true)", "\"1.5-{}-true\""),
        ("case(false, 1, 2)", "2"),
        ("1e20", "1e+20"),
    ] {
        assert_eq!(check(expr), value, "{expr}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (expr, message) in [
        ("github.", "unexpected end of expression at 7"),
        (
            "secrets.X",
            "context `secrets` is not available here; available: github, env, steps at 0",
        ),
        ("foo()", "function `foo` is not available here at 0"),
        ("startsWith('a')", "`startsWith` takes 2 parameters, got 1 at 0"),
        ("\"a\"", "unexpected symbol `\"a\"` at 0"),
        ("format('{1}', 0)", "the format string asks for more arguments than there are: {1}"),
    ] {
        assert_eq!(check(expr), message, "{expr}");
    }
}

/// GitHub's own evaluator cases: kind and value, or the kind of error, must be equal.
#[test]
fn github_evaluator_cases() {
    let Some(folder) = suite("expressions") else {
        return;
    };
    let mut counted = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file: Json = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for (group, cases) in file.as_object().unwrap() {
            for case in cases.as_array().unwrap() {
                counted += 1;
                let (wanted, got) = suite_case(case);
                if wanted != got {
                    wrong.push(format!("{group}: {} wanted {wanted} got {got}", case["expr"]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {counted} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(counted > 600, "only {counted} cases found");
}

fn suite_case(case: &Json) -> (Json, Json) {
    let empty = serde_json::Map::new();
    let given = case.get("contexts").and_then(Json::as_object).unwrap_or(&empty);
    let mut names: Vec<&str> = given.keys().map(String::as_str).collect();
    if given.is_empty() {
        names.push("github");
    }
    let mut contexts = Contexts::new();
    for (name, value) in given {
        contexts.set(name, value);
    }
    let scope = Scope { contexts: &names, status_functions: false, hash_files: false };
    let wanted = match case.get("err") {
        Some(error) => json!({ "error": error["kind"] }),
        None => case["result"].clone(),
    };
    let got = match parse(case["expr"].as_str().unwrap(), scope) {
        Err(error) => {
            json!({"error": format!("{:?}", error.kind).to_lowercase()})
        }
        Ok(expr) => match expr.evaluate(&contexts) {
            Err(_) => json!({"error": "evaluation"}),
            Ok(value) => json!({"kind": value.kind(), "value": suite_value(&value)}),
        },
    };
    (as_floats(&wanted), as_floats(&got))
}

fn suite_value(value: &Value) -> Json {
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

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,60}") {
        if let Ok(expr) = parse(&text, GITHUB) {
            drop(expr.evaluate(&Contexts::new()));
        }
    }

    #[test]
    fn never_panics_on_what_looks_like_an_expression(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "github", ".", "*", "[", "]", "(", ")", "'a'", "!", "==", "&&", "||", "<", "1",
                "-", "0x", "format", "case", ",", " ", "contains", "''", "{0}", "true", "é",
            ]),
            0..30,
        )
    ) {
        if let Ok(expr) = parse(&parts.concat(), GITHUB) {
            drop(expr.evaluate(&Contexts::new()));
        }
    }
}
