use proptest::prelude::*;
use serde_json::json;

use super::*;

const GITHUB: Scope<'static> = Scope { contexts: &["github", "env", "steps"], ..Scope::GITHUB };

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
