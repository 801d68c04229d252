//! What is fuzzed: what reads the texts of strangers, and what such texts are made of.

use muster_core::change::GitRef;
use muster_core::id::Sha;
use muster_forge::github::{Payload, Signature, decode, sign, verify};
use muster_runner::spool::Record;
use muster_workflow::diagnostic::Span;
use muster_workflow::expr::{Contexts, Scope, parse};
use muster_workflow::manifest::Manifest;
use muster_workflow::pattern::Patterns;
use muster_workflow::trigger::{ChangedFiles, Event, Target as Ref, judge};
use muster_workflow::workflow::Workflow;
use muster_workflow::{
    Text, Workflows, check, conformance, inputs, lint, payload, plan, preview, read,
};
use serde_json::json;

/// What is read, by what, and what its texts are made of.
pub(super) struct Target {
    pub(super) name: &'static str,
    pub(super) try_it: fn(&[u8]),
    /// The suites of which every file is an input.
    pub(super) suites: &'static [&'static str],
    /// Whether it reads the workflow language.
    pub(super) is_language: bool,
    pub(super) words: &'static [&'static str],
}

pub(super) const TARGETS: [Target; 8] = [
    Target {
        name: "workflow",
        try_it: workflow,
        suites: &["real", "lint", "schemastore"],
        is_language: true,
        words: &[
            "on:",
            " push",
            "jobs:",
            "  a:\n",
            "    needs: ",
            "    runs-on: x\n",
            "    steps:\n",
            "      - run: ",
            "strategy:",
            "matrix:",
            "include:",
            "exclude:",
            "fail-fast:",
            "${{ ",
            " }}",
            "if: ",
            "[",
            "]",
            "{",
            "}",
            "&a ",
            "*a",
            "<<: ",
            "|\n",
            ">-\n",
            "? ",
            "- ",
            "!!str ",
            "---\n",
            "\t",
            "\u{feff}",
            "9223372036854775808",
            "1e999",
            ".inf",
            "~",
            "'",
            "\"",
            "#",
        ],
    },
    Target {
        name: "expression",
        try_it: expression,
        suites: &[],
        is_language: true,
        words: &[
            "github",
            "matrix",
            "needs",
            "env",
            ".",
            "*",
            "[",
            "]",
            "(",
            ")",
            ",",
            "!",
            "==",
            "!=",
            "<",
            ">=",
            "&&",
            "||",
            "'",
            "''",
            "null",
            "true",
            "NaN",
            "Infinity",
            "-0",
            "0xFFFFFFFFF",
            "1e309",
            "contains",
            "startsWith",
            "format",
            "join",
            "toJSON",
            "fromJSON",
            "hashFiles",
            "success()",
            "always()",
            "'{0}{{}}{1'",
            "{",
            "}",
        ],
    },
    Target {
        name: "filter",
        try_it: filter,
        suites: &[],
        is_language: true,
        words: &[
            "*", "**", "**/", "?", "+", "[", "]", "[a-z]", "!", "\\", "/", "\n", "é", "{", "}", ".",
        ],
    },
    Target {
        name: "case",
        try_it: case,
        suites: &["reader"],
        is_language: true,
        words: &[
            "---\n",
            "include-source: true\n",
            "max-depth: 3\n",
            "uses: ./b.yml\n",
            "secrets: inherit\n",
            "permissions: write-all\n",
            "on: workflow_call\n",
            "inputs:",
            "type: number",
            "${{ insert }}: ",
            "    ",
        ],
    },
    Target {
        name: "event",
        try_it: event,
        suites: &[],
        is_language: true,
        words: &[
            "push\n",
            "pull_request\n",
            "pull_request_target\n",
            "workflow_dispatch\n",
            "workflow_run\n",
            "merge_group\n",
            "release\n",
            "create\n",
            "refs/tags/v1",
            "refs/heads/",
            "{\"inputs\":",
            "\"ref\":",
            "\"action\":",
            "\"pull_request\":",
            "\"merged\":true",
            "null",
            "[",
            "}",
            "type: boolean",
            "type: number",
            "type: choice",
            "options: [a]",
            "default: ",
            "required: true",
            "branches-ignore: ",
            "paths: ['**']",
            "uses: ./x\n",
            "toJSON(",
            "github.event",
            "inputs.",
            "if: failure()",
            "if: needs.a.outputs.b",
        ],
    },
    Target {
        name: "webhook",
        try_it: webhook,
        suites: &[],
        is_language: false,
        words: &[
            "payload=",
            "%7B",
            "%",
            "%zz",
            "+",
            "&",
            "{",
            "}",
            "[",
            "]",
            "\"",
            ":",
            ",",
            "null",
            "true",
            "\\ud83d",
            "\\u0000",
            "1e999",
            "-1",
            "18446744073709551616",
            "\"ref\":",
            "\"repository\":",
            "\"sender\":",
            "\"head_commit\":",
            "\"action\":",
            "\"pull_request\":",
        ],
    },
    Target {
        name: "spool",
        try_it: spool,
        suites: &[],
        is_language: false,
        words: &[
            "o ",
            "p ",
            "e ",
            "r ",
            " 0 ",
            " 18446744073709551616 ",
            "-1",
            "\n",
            "{",
            "}",
            "\"event\":",
        ],
    },
    Target {
        name: "ref",
        try_it: git_ref,
        suites: &[],
        is_language: false,
        words: &[
            "refs/heads/",
            "refs/tags/",
            "refs/",
            "/",
            "..",
            "@{",
            ".lock",
            "~",
            "^",
            ":",
            "-",
            "\u{7f}",
        ],
    },
];

fn workflow(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    drop(Manifest::read(text));
    let told = lint(text, &());
    assert_eq!(check(text).is_empty(), read(text).is_ok(), "it is right and wrong");
    assert!(told.len() >= check(text).len().min(1), "lint says less than check");
    match read(text) {
        Ok(workflow) => {
            drop(plan(&workflow, &Contexts::new()));
            drop(preview(&calling_itself(workflow.clone(), text), &Contexts::new()));
            for name in ["push", "pull_request"] {
                let (action, target) = (Some("opened".to_owned()), Ref::Branch("main".to_owned()));
                let changed = ChangedFiles::Known(vec!["src/a.rs".to_owned()]);
                let name = name.to_owned();
                let event = Event { name, action, target, changed, follows: None, cron: None };
                drop(judge(&workflow, &event));
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "it is refused without a reason");
            for problem in problems {
                let (line, _) = problem.span.line_and_column(text);
                assert!(line <= text.lines().count() + 1, "a problem beyond the end");
            }
        }
    }
}

/// An event by its name, its ref and its payload, a line each, and a workflow that it may start.
fn event(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut lines = text.splitn(4, '\n');
    let mut next = || lines.next().unwrap_or_default();
    let (name, git_ref, payload, file) = (next(), next(), next(), next());
    let payload = serde_json::from_str(payload).unwrap_or_default();
    let git_ref = (!git_ref.is_empty()).then_some(git_ref);
    let mut contexts = Contexts::new();
    contexts.set("github", &payload::github(name, &payload, git_ref));
    let Ok(workflow) = read(file) else { return };
    drop(judge(&workflow, &payload::event(name, &payload, git_ref, ChangedFiles::Unknown)));
    let given = [("name".to_owned(), "value".to_owned())];
    assert!(
        inputs(&workflow, &given, &contexts).is_err() || name == "workflow_dispatch",
        "an event takes inputs that nobody can fill in",
    );
    drop(preview(&calling_itself(workflow, file), &contexts));
}

/// All that it calls is the workflow itself.
fn calling_itself(workflow: Workflow, text: &str) -> Workflows {
    Workflows::gather(workflow, &mut |_| Text::Here(text.to_owned()))
}

fn filter(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let given = text.lines().map(|line| (line, Span::default()));
    let patterns = Patterns::read(given, &mut Vec::new());
    for input in ["main", "releases/10", "docs/a/b.md", "é", ""] {
        let _ = patterns.select(input);
    }
}

fn case(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    drop(conformance::reader("case.yml", text));
}

fn expression(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let names = ["github", "matrix", "needs", "env"];
    if let Ok(expr) = parse(text, Scope { contexts: &names, ..Scope::GITHUB }) {
        drop(expr.evaluate(&Contexts::new()));
        let mut contexts = Contexts::new();
        for name in names {
            contexts.set(name, &json!({ "a": [1, null, { "a": "b" }], "event": { "a": true } }));
        }
        if let Ok(value) = expr.evaluate(&contexts) {
            drop((value.to_json(), value.to_number(), value.is_truthy()));
        }
    }
}

fn webhook(input: &[u8]) {
    let secrets = ["secret".to_owned()];
    let signature = sign(&secrets[0], input);
    let judged = verify(&secrets, Some(&signature), input);
    assert_eq!(judged, Signature::Right, "its own signature is not right");
    let mut other = input.to_vec();
    other.push(b' ');
    let judged = verify(&secrets, Some(&signature), &other);
    assert_eq!(judged, Signature::Wrong, "another body has its signature");
    for kind in ["application/json", "application/x-www-form-urlencoded"] {
        let Ok(payload) = Payload::find(kind, input) else { continue };
        assert!(payload.value().is_ok(), "what was looked through cannot be read");
        for event in ["ping", "push", "pull_request", "issues"] {
            drop(decode(event, &payload));
        }
    }
}

fn spool(input: &[u8]) {
    for line in input.split(|byte| *byte == b'\n') {
        if let Some(Record::Output { text, .. }) = Record::parse(line) {
            assert!(line.ends_with(text), "a record has other bytes than its line");
        }
    }
}

fn git_ref(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some(parsed) = GitRef::parse(text) {
        assert_eq!(parsed.full(), text, "a ref is read as another");
    }
    if let Ok(sha) = Sha::parse(text) {
        assert_eq!(sha.as_str(), text, "a commit is read as another");
    }
}
