//! The template that GitHub's parser prints of a workflow.

use serde_json::{Map, Value as Json, json};

use super::File;
use crate::diagnostic::Span;
use crate::expr::Value;
use crate::keys;
use crate::permissions::{Level, Permissions};
use crate::template::ALONE;
use crate::token::{Kind, Token};
use crate::workflow::{Action, Job, Step};

/// Prints the parts of a file.
pub(super) struct Printer<'f, 's> {
    pub(super) file: &'f File<'s>,
    pub(super) with_source: bool,
}

impl Printer<'_, '_> {
    /// Adds where something stands.
    fn at(&self, kind: u8, span: Span) -> Map<String, Json> {
        let mut object = Map::new();
        object.insert("type".into(), kind.into());
        if self.with_source {
            let (line, column) = span.line_and_column(self.file.source);
            object.insert("file".into(), self.file.number.into());
            object.insert("line".into(), line.into());
            object.insert("col".into(), column.into());
        }
        object
    }

    fn scalar(&self, kind: u8, span: Span, name: &str, value: Json) -> Json {
        if !self.with_source {
            return value;
        }
        let mut object = self.at(kind, span);
        if kind != 7 {
            object.insert(name.into(), value);
        }
        Json::Object(object)
    }

    fn expression(&self, span: Span, text: String) -> Json {
        let mut object = self.at(3, span);
        object.insert("expr".into(), text.into());
        Json::Object(object)
    }

    fn text(&self, token: &Token, text: &str) -> Json {
        self.scalar(0, token.span, "lit", text.into())
    }

    pub(super) fn token(&self, token: &Token) -> Json {
        let span = token.span;
        match &token.kind {
            Kind::Wrong | Kind::Null => self.scalar(7, span, "", Json::Null),
            Kind::Bool(flag) => self.scalar(5, span, "bool", (*flag).into()),
            Kind::Number(number) => self.scalar(6, span, "num", as_json(*number)),
            Kind::Text(text) => self.text(token, text),
            Kind::Expression(template) => self.expression(span, template.as_expression()),
            // A condition that stands in something else is printed as it is written.
            Kind::Condition(condition) if condition.is_bare => {
                self.text(token, &condition.as_expression())
            }
            Kind::Condition(condition) => self.expression(span, condition.as_expression()),
            Kind::Insert => {
                let mut object = self.at(4, span);
                object.insert("directive".into(), "insert".into());
                Json::Object(object)
            }
            Kind::List(items) => {
                let mut object = self.at(1, span);
                if !items.is_empty() {
                    let items = items.iter().map(|item| self.token(item)).collect();
                    object.insert("seq".into(), Json::Array(items));
                }
                Json::Object(object)
            }
            Kind::Map(pairs) => {
                let mut object = self.at(2, span);
                let pairs: Vec<Json> = pairs
                    .iter()
                    .map(|pair| json!({ "Key": self.token(&pair.key), "Value": self.token(&pair.value) }))
                    .collect();
                if !pairs.is_empty() {
                    object.insert("map".into(), Json::Array(pairs));
                }
                Json::Object(object)
            }
        }
    }

    fn condition(&self, of: &Token) -> Json {
        match of.get(keys::IF) {
            None => json!({ "type": 3, "expr": ALONE }),
            Some(token) => match &token.kind {
                Kind::Condition(condition) => self.expression(token.span, condition.written()),
                _ => self.expression(token.span, ALONE.to_owned()),
            },
        }
    }

    pub(super) fn job(&self, id: &Token, token: &Token, job: &Job) -> Map<String, Json> {
        let is_call = job.call.is_some();
        let mut printed = Map::new();
        let kind = if is_call { "reusableWorkflowJob" } else { "job" };
        printed.insert("type".into(), kind.into());
        printed.insert("id".into(), self.token(id));
        let name = token.get(keys::NAME).filter(|name| name.text() != Some(""));
        printed.insert("name".into(), self.token(name.unwrap_or(id)));
        let needs = token.get(keys::NEEDS).map(Token::one_or_more).unwrap_or_default();
        if is_call || !needs.is_empty() {
            let needs = needs.iter().map(|need| self.token(need)).collect();
            printed.insert("needs".into(), Json::Array(needs));
        }
        printed.insert("if".into(), self.condition(token));
        let mut copy = |key: &str, name: &str| {
            printed.extend(token.get(key).map(|value| (name.to_owned(), self.token(value))));
        };
        copy(keys::STRATEGY, "strategy");
        copy(keys::CONCURRENCY, "concurrency");
        if is_call {
            copy(keys::USES, "ref");
            copy(keys::WITH, "input-values");
            if let Some(Token { kind: Kind::Map(_), .. }) = token.get(keys::SECRETS) {
                copy(keys::SECRETS, "secret-values");
            } else if token.get(keys::SECRETS).is_some() {
                printed.insert("inherit-secrets".into(), true.into());
            }
            return printed;
        }
        for key in [
            keys::CONTINUE_ON_ERROR,
            keys::TIMEOUT_MINUTES,
            keys::CANCEL_TIMEOUT_MINUTES,
            keys::ENV,
            keys::ENVIRONMENT,
            keys::DEFAULTS,
            keys::RUNS_ON,
            keys::CONTAINER,
            keys::SERVICES,
            keys::OUTPUTS,
            keys::SNAPSHOT,
        ] {
            copy(key, key);
        }
        let steps = self.steps(token.get(keys::STEPS), &job.steps);
        if !steps.is_empty() {
            printed.insert("steps".into(), Json::Array(steps));
        }
        printed
    }

    fn steps(&self, tokens: Option<&Token>, steps: &[Step]) -> Vec<Json> {
        let tokens = tokens.map(Token::items).unwrap_or_default();
        tokens.iter().zip(steps).map(|(token, step)| self.step(token, step)).collect()
    }

    fn step(&self, token: &Token, step: &Step) -> Json {
        let mut printed = Map::new();
        printed.insert("id".into(), step.id.as_str().into());
        let default = match &step.action {
            Action::Run { .. } | Action::Uses { .. } => {
                printed.insert("if".into(), self.condition(token));
                None
            }
            Action::Wait(_) => Some("Wait"),
            Action::WaitAll => Some("Wait for all"),
            Action::Cancel(_) => Some("Cancel"),
            Action::Parallel(_) => Some("Parallel group"),
        };
        printed.extend(default.map(|name| ("name".to_owned(), name.into())));
        for key in [
            keys::NAME,
            keys::CONTINUE_ON_ERROR,
            keys::TIMEOUT_MINUTES,
            keys::ENV,
            keys::WORKING_DIRECTORY,
            keys::SHELL,
            keys::RUN,
            keys::USES,
            keys::WITH,
            keys::CANCEL,
        ] {
            printed.extend(token.get(key).map(|value| (key.to_owned(), self.token(value))));
        }
        if let Some(Token { kind: Kind::Bool(true), .. }) = token.get(keys::BACKGROUND) {
            printed.insert(keys::BACKGROUND.into(), true.into());
        }
        if let Some(targets) = token.get(keys::WAIT) {
            let targets = targets.one_or_more().iter().map(|target| self.token(target)).collect();
            printed.insert(keys::WAIT.into(), Json::Array(targets));
        }
        if token.get(keys::WAIT_ALL).is_some() {
            printed.insert(keys::WAIT_ALL.into(), true.into());
        }
        if let Action::Parallel(steps) = &step.action {
            let steps = self.steps(token.get(keys::PARALLEL), steps);
            printed.insert(keys::PARALLEL.into(), Json::Array(steps));
        }
        Json::Object(printed)
    }
}

/// Prints a number; JSON has none for some.
fn as_json(number: f64) -> Json {
    match Value::Number(number) {
        number if number.to_json().is_null() => number.to_string().into(),
        number => number.to_json(),
    }
}

/// The scopes that the cases know; those that came later are in none, not even in `write-all`.
const SCOPES: [&str; 13] = [
    keys::ACTIONS,
    keys::CHECKS,
    keys::CONTENTS,
    keys::DEPLOYMENTS,
    keys::DISCUSSIONS,
    keys::ID_TOKEN,
    keys::ISSUES,
    keys::PACKAGES,
    keys::PAGES,
    keys::PULL_REQUESTS,
    keys::REPOSITORY_PROJECTS,
    keys::SECURITY_EVENTS,
    keys::STATUSES,
];

pub(super) fn granted(permissions: &Permissions) -> Json {
    let granted =
        permissions.iter().filter(|(scope, level)| *level > Level::None && SCOPES.contains(scope));
    Json::Object(granted.map(|(scope, level)| (scope.to_owned(), level.as_str().into())).collect())
}

pub(super) fn input_types(on: &Token) -> Map<String, Json> {
    let inputs = on.get("workflow_dispatch").and_then(|dispatch| dispatch.get(keys::INPUTS));
    let pairs = inputs.map(Token::pairs).unwrap_or_default().iter();
    pairs
        .filter_map(|pair| {
            let kind = pair.value.get(keys::TYPE).and_then(Token::text).unwrap_or("string");
            Some((pair.key.text()?.to_owned(), kind.into()))
        })
        .collect()
}

/// Prints `on` as the parser of GitHub's editors does.
pub(super) fn events(on: Option<&Token>) -> Json {
    let Some(on) = on else { return json!({}) };
    let mut events = Map::new();
    if !matches!(on.kind, Kind::Map(_)) {
        let names = on.one_or_more().iter().filter_map(Token::text);
        events.extend(names.map(|name| (name.to_owned(), json!({}))));
        return Json::Object(events);
    }
    for pair in on.pairs() {
        let mut printed = Map::new();
        for entry in pair.value.pairs() {
            let Some(key) = entry.key.text() else { continue };
            let value = match key {
                keys::INPUTS | keys::SECRETS | keys::OUTPUTS => plain(&entry.value),
                _ => Json::Array(entry.value.one_or_more().iter().map(plain).collect()),
            };
            printed.insert(key.to_owned(), value);
        }
        let value = match &pair.value.kind {
            Kind::List(_) => plain(&pair.value),
            _ => Json::Object(printed),
        };
        events.insert(pair.key.text().unwrap_or_default().to_owned(), value);
    }
    Json::Object(events)
}

fn plain(token: &Token) -> Json {
    match &token.kind {
        Kind::Map(pairs) => {
            let pairs = pairs
                .iter()
                .filter_map(|pair| Some((pair.key.text()?.to_owned(), plain(&pair.value))));
            Json::Object(pairs.collect())
        }
        Kind::List(items) => Json::Array(items.iter().map(plain).collect()),
        Kind::Bool(flag) => (*flag).into(),
        Kind::Number(number) => as_json(*number),
        Kind::Text(text) => text.as_str().into(),
        _ => Json::Null,
    }
}
