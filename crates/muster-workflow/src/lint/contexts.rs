//! The types of the contexts: what `github`, `steps`, `needs`, `matrix` and the others hold at a place.

use super::types::{Contexts, Type};
use super::{Lint, actions};
use crate::keys;
use crate::token::{Kind, Token};
use crate::uses::Uses;
use crate::workflow::{Details, InputKind, Interface, Job, Workflow};

/// What the runner knows of a run, as texts.
const GITHUB: [&str; 40] = [
    "action",
    "action_path",
    "action_ref",
    "action_repository",
    "action_status",
    "actor",
    "actor_id",
    "api_url",
    "base_ref",
    "env",
    "event_name",
    "event_path",
    "graphql_url",
    "head_ref",
    "job",
    "output",
    "path",
    "ref",
    "ref_name",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "repository_visibility",
    "repositoryUrl",
    "run_attempt",
    "run_id",
    "run_number",
    "secret_source",
    "server_url",
    "sha",
    "state",
    "step_summary",
    "token",
    "triggering_actor",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "workspace",
];

/// Returns the contexts that are the same all over a workflow.
pub(super) fn of_workflow(workflow: &Workflow) -> Contexts {
    let texts = || Type::map(Type::Text);
    let mut contexts = Contexts::default();
    contexts.set("github", github(workflow));
    contexts.set("env", texts());
    contexts.set("vars", texts());
    contexts.set("secrets", secrets(workflow));
    contexts.set("inputs", inputs(workflow));
    contexts.set("job", job());
    contexts.set(
        "runner",
        Type::object(
            ["name", "os", "arch", "temp", "tool_cache", "debug", "environment", "workspace"]
                .map(|name| (name, Type::Text)),
        ),
    );
    contexts.set(
        "strategy",
        Type::loose([
            ("fail-fast", Type::Bool),
            ("job-index", Type::Number),
            ("job-total", Type::Number),
            ("max-parallel", Type::Number),
        ]),
    );
    contexts.set("jobs", jobs(workflow));
    contexts
}

fn github(workflow: &Workflow) -> Type {
    let mut github = Type::object(GITHUB.map(|name| (name, Type::Text)));
    github.add("artifact_cache_size_limit", Type::Number);
    github.add("retention_days", Type::Number);
    github.add("ref_protected", Type::Bool);
    let mut event = Type::loose([]);
    let dispatch = workflow.triggers.iter().find_map(|trigger| match &trigger.details {
        Details::Dispatch(inputs) => Some(inputs),
        _ => None,
    });
    if let Some(inputs) = dispatch {
        event.add(
            "inputs",
            Type::object(inputs.iter().map(|input| (input.name.as_str(), Type::Text))),
        );
    }
    github.add("event", event);
    github
}

fn job() -> Type {
    let text = || Type::Text;
    Type::object([
        ("check_run_id", Type::Number),
        ("container", Type::object([("id", text()), ("network", text())])),
        (
            "services",
            Type::map(Type::object([
                ("id", text()),
                ("network", text()),
                // By number as well as by text.
                ("ports", Type::Any),
            ])),
        ),
        ("status", text()),
        ("workflow_ref", text()),
        ("workflow_sha", text()),
        ("workflow_repository", text()),
        ("workflow_file_path", text()),
    ])
}

/// A workflow that can be called has the secrets that it asks for, where it asks for any, and those of the runner.
fn secrets(workflow: &Workflow) -> Type {
    match workflow.interface() {
        // What another event starts has those of its repository.
        Some(interface) if !interface.secrets.is_empty() && workflow.triggers.len() == 1 => {
            let own = ["github_token", "actions_step_debug", "actions_runner_debug"];
            let asked = interface.secrets.iter().map(|(name, _)| name.as_str());
            Type::object(own.into_iter().chain(asked).map(|name| (name, Type::Text)))
        }
        _ => Type::map(Type::Text),
    }
}

fn inputs(workflow: &Workflow) -> Type {
    let mut all = Type::object([]);
    for trigger in &workflow.triggers {
        let (Details::Dispatch(inputs) | Details::Call(Interface { inputs, .. })) =
            &trigger.details
        else {
            continue;
        };
        for input in inputs {
            all.add(&input.name, of_input(&input.kind));
        }
    }
    all
}

pub(super) fn of_input(kind: &InputKind) -> Type {
    match kind {
        InputKind::Boolean => Type::Bool,
        InputKind::Number => Type::Number,
        InputKind::Text | InputKind::Choice(_) | InputKind::Environment => Type::Text,
    }
}

pub(super) fn outputs(job: &Job) -> Type {
    Type::object(job.outputs.iter().map(|(name, _)| (name.as_str(), Type::Text)))
}

fn jobs(workflow: &Workflow) -> Type {
    Type::object(workflow.jobs.iter().map(|job| {
        let outputs = if job.call.is_some() { Type::map(Type::Text) } else { outputs(job) };
        (job.id.as_str(), Type::object([("outputs", outputs), ("result", Type::Text)]))
    }))
}

/// Adds what a job sees: what it needs, and its matrix.
pub(super) fn of_job(lint: &Lint<'_>, all: &Contexts, job: &Job, token: &Token) -> Contexts {
    let mut contexts = all.clone();
    let needs = job.needs.iter().filter_map(|id| lint.workflow.job(id));
    let needs = needs.map(|needed| {
        let outputs = match &needed.call {
            Some(call) => match lint.called(&call.uses) {
                Some(called) => called.interface().map_or(Type::Any, |interface| {
                    let names = interface.outputs.iter().map(|(name, _)| name.as_str());
                    Type::object(names.map(|name| (name, Type::Text)))
                }),
                None => Type::map(Type::Text),
            },
            None => lint.outputs_of(needed),
        };
        (needed.id.as_str(), Type::object([("outputs", outputs), ("result", Type::Text)]))
    });
    contexts.set("needs", Type::object(needs));
    let matrix = token.get(keys::STRATEGY).and_then(|strategy| strategy.get(keys::MATRIX));
    contexts.set(
        "matrix",
        matrix.map_or_else(|| Type::object([]), |matrix| of_matrix(matrix, &contexts)),
    );
    contexts
}

/// Returns the type of a value in a matrix.
fn of_value(token: &Token, contexts: &Contexts) -> Type {
    match &token.kind {
        Kind::Expression(template) => of_template(template, contexts),
        Kind::Bool(_) => Type::Bool,
        Kind::Number(_) => Type::Number,
        Kind::Null => Type::Null,
        Kind::Text(_) => Type::Text,
        Kind::List(items) => {
            let of = items.iter().map(|item| of_value(item, contexts)).reduce(Type::or);
            Type::list(of.unwrap_or(Type::Any))
        }
        Kind::Map(pairs) => {
            let pairs = pairs
                .iter()
                .filter_map(|pair| Some((pair.key.text()?, of_value(&pair.value, contexts))));
            Type::object(pairs)
        }
        Kind::Wrong | Kind::Insert | Kind::Condition(_) => Type::Any,
    }
}

/// Returns the type of a text with expressions: of a sole one its own.
pub(super) fn of_template(template: &crate::Template, contexts: &Contexts) -> Type {
    match template.parts() {
        [crate::template::Part::Expression(expr, _)] => contexts.infer(&expr.node, &mut Vec::new()),
        _ => Type::Text,
    }
}

fn of_matrix(matrix: &Token, contexts: &Contexts) -> Type {
    let Kind::Map(pairs) = &matrix.kind else { return Type::loose([]) };
    let mut of = Type::object([]);
    let mut is_loose = false;
    for pair in pairs {
        match pair.key.text() {
            Some(keys::EXCLUDE) => {}
            Some(keys::INCLUDE) => match &pair.value.kind {
                Kind::List(items) => {
                    for item in items {
                        match of_value(item, contexts) {
                            Type::Object(fields) => {
                                for (name, field) in fields.iter() {
                                    of.add(name, field.clone());
                                }
                            }
                            _ => is_loose = true,
                        }
                    }
                }
                _ => is_loose = true,
            },
            Some(name) => {
                let row = match of_value(&pair.value, contexts) {
                    Type::List { of, .. } => Type::clone(&of),
                    _ => Type::Any,
                };
                of.add(name, row);
            }
            None => is_loose = true,
        }
    }
    match (is_loose, of.fields()) {
        (true, Some(fields)) => Type::loose(fields.iter().map(|(name, of)| (name, of.clone()))),
        _ => of,
    }
}

/// Returns what a step leaves in `steps`.
pub(super) fn of_step(lint: &Lint<'_>, token: &Token) -> Type {
    let outputs = match token.get(keys::USES).and_then(Token::text).and_then(Uses::read) {
        Some(uses) => actions::outputs(lint, &uses),
        None => Type::map(Type::Text),
    };
    Type::object([("outputs", outputs), ("outcome", Type::Text), ("conclusion", Type::Text)])
}
