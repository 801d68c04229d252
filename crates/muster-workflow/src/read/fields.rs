//! What the levels of the document share: templates, settings, `env`, `defaults`, `concurrency`, `permissions`.

use super::Reader;
use crate::container::{Container, Written};
use crate::diagnostic::{Problem, Rule, Span};
use crate::expr::Value;
use crate::keys;
use crate::permissions::{Level, Permissions};
use crate::template::{Condition, Template};
use crate::token::{Kind, Token};
use crate::workflow::{Argument, Concurrency, Defaults, Env, MAX_GROUP, Queue, Setting};

/// GitHub's bound on an id, in characters: it must have fewer.
const MAX_ID: usize = 100;

/// Returns a value as a template; `None` where it is wrong or no scalar.
pub(super) fn template(token: &Token) -> Option<Template> {
    match &token.kind {
        Kind::Text(text) => Some(Template::literal(token.span, text.as_str())),
        Kind::Expression(template) => Some(template.clone()),
        Kind::Bool(_) | Kind::Number(_) => {
            let text = token.evaluate(&crate::expr::Contexts::new()).ok()?.to_string();
            Some(Template::literal(token.span, text))
        }
        _ => None,
    }
}

/// Returns the pairs of a mapping whose keys are written and whose values are templates.
pub(super) fn templates(token: &Token) -> Vec<(String, Template)> {
    let pairs = token.pairs().iter();
    pairs.filter_map(|pair| Some((pair.key.text()?.to_owned(), template(&pair.value)?))).collect()
}

/// Returns the texts of a list, or of the only value.
pub(super) fn texts(token: &Token) -> Vec<String> {
    token.one_or_more().iter().filter_map(|item| item.text().map(str::to_owned)).collect()
}

/// Returns what is given to an input; `None` where it is wrong or no scalar.
pub(super) fn argument(token: &Token) -> Option<Argument> {
    let value = match &token.kind {
        Kind::Expression(template) => return Some(Argument::Computed(template.clone())),
        Kind::Null => Value::Null,
        Kind::Bool(flag) => Value::Bool(*flag),
        Kind::Number(number) => Value::Number(*number),
        Kind::Text(text) => text.as_str().into(),
        _ => return None,
    };
    Some(Argument::Written { value, span: token.span })
}

pub(super) fn flag(token: &Token) -> Setting<bool> {
    match &token.kind {
        Kind::Bool(flag) => Setting::Fixed(*flag),
        Kind::Expression(template) => Setting::Computed(template.clone()),
        _ => Setting::Fixed(false),
    }
}

pub(super) fn number(token: &Token) -> Option<Setting<f64>> {
    match &token.kind {
        Kind::Number(number) => Some(Setting::Fixed(*number)),
        Kind::Expression(template) => Some(Setting::Computed(template.clone())),
        _ => None,
    }
}

pub(super) fn condition(token: &Token) -> Option<Condition> {
    match &token.kind {
        Kind::Condition(condition) => Some(condition.clone()),
        _ => None,
    }
}

pub(super) fn env(token: &Token) -> Env {
    match &token.kind {
        Kind::Expression(template) => Env::Computed(template.clone()),
        _ => Env::Listed(templates(token)),
    }
}

/// Reads a container: an image alone, what is said of it, or an expression.
pub(super) fn container(token: &Token) -> Option<Container> {
    let get = |of: &Token, key: &str| of.get(key).and_then(template);
    let list = |key: &str| {
        let items = token.get(key).map(Token::items).unwrap_or_default();
        items.iter().filter_map(template).collect()
    };
    Some(match &token.kind {
        Kind::Map(_) => {
            let credentials = token.get(keys::CREDENTIALS);
            Container::Written(Box::new(Written {
                image: get(token, keys::IMAGE),
                username: credentials.and_then(|of| get(of, keys::USERNAME)),
                password: credentials.and_then(|of| get(of, keys::PASSWORD)),
                env: token.get(keys::ENV).map(env).unwrap_or_default(),
                ports: list(keys::PORTS),
                volumes: list(keys::VOLUMES),
                options: get(token, keys::OPTIONS),
                entrypoint: get(token, keys::ENTRYPOINT),
                command: get(token, keys::COMMAND),
            }))
        }
        _ => Container::Computed(template(token)?),
    })
}

pub(super) fn defaults(token: &Token) -> Defaults {
    let run = token.get(keys::RUN);
    let get = |key: &str| run.and_then(|run| template(run.get(key)?));
    Defaults { shell: get(keys::SHELL), working_directory: get(keys::WORKING_DIRECTORY) }
}

/// Reads `permissions`: `read-all`, `write-all`, or scopes with their levels.
pub(super) fn permissions(token: &Token) -> Option<Permissions> {
    if let Some(text) = token.text() {
        return Level::read(text.strip_suffix("-all")?).map(Permissions::all);
    }
    let mut permissions = Permissions::default();
    for pair in token.pairs() {
        if let (Some(scope), Some(level)) =
            (pair.key.text(), pair.value.text().and_then(Level::read))
        {
            permissions.grant(scope, level);
        }
    }
    (!matches!(token.kind, Kind::Wrong)).then_some(permissions)
}

impl Reader {
    pub(super) fn invalid(&mut self, span: Span, message: impl Into<String>) {
        self.problems.push(Problem::invalid(span, message));
    }

    pub(super) fn concurrency(&mut self, token: &Token) -> Option<Concurrency> {
        let is_mapping = matches!(token.kind, Kind::Map(_));
        let group = if is_mapping { token.get(keys::GROUP)? } else { token };
        let cancel = if is_mapping { token.get(keys::CANCEL_IN_PROGRESS) } else { None };
        if group.text().is_some_and(|group| group.chars().count() > MAX_GROUP) {
            let message = format!("the name of the group has more than {MAX_GROUP} characters");
            self.invalid(token.span, message);
        }
        let cancel_in_progress = cancel.map_or(Setting::Fixed(false), flag);
        let queue = if is_mapping { token.get(keys::QUEUE) } else { None };
        let queue = queue.and_then(Token::text).and_then(Queue::parse).unwrap_or_default();
        Some(Concurrency { group: template(group)?, cancel_in_progress, queue })
    }

    /// Checks an id: `[A-Za-z_][A-Za-z0-9_-]*`, not starting with `__`, fewer than 100 characters.
    pub(super) fn identifier(&mut self, id: &str, span: Span, noun: &str) {
        let is_shaped = id.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if !is_shaped || id.starts_with("__") || id.len() >= MAX_ID {
            let message = format!(
                "`{id}` is no {noun} id: it must start with a letter or `_` (not `__`), hold only letters, digits, `-` and `_`, and have fewer than {MAX_ID} characters"
            );
            self.problems.push(Problem::invalid(span, message).of(Rule::Id));
        }
    }
}
