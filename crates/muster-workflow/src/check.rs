//! Is this a valid workflow file? A tree against the [grammar]: every problem, each at its place.

use std::collections::HashSet;

use crate::diagnostic::{Problem, ProblemKind, Rule as Kind, Span};
use crate::events::{self, EVENTS};
use crate::expr::{Scope, parse};
use crate::grammar::{self, Mapping, Rule, Shape};
use crate::read;
use crate::template::{OPEN, closing};
use crate::words::{list, nearest};
use crate::yaml::{self, Entry, Node, Yaml};

/// Returns all that is wrong with a workflow file, in the order of the places; what muster does not support
/// yet is not wrong.
pub fn check(source: &str) -> Vec<Problem> {
    let (root, problems) = yaml::read(source);
    let mut checker = Checker { source, problems, rule: Kind::Syntax };
    if let Some(root) = &root {
        checker.value(root, &grammar::WORKFLOW, None, "a workflow");
    }
    let mut problems = checker.problems;
    // What no value shows by itself: `needs`, identifiers, patterns. Of a file whose form is wrong the reader
    // would tell the same faults again.
    let is_well_formed = problems.is_empty();
    let places: HashSet<usize> = problems.iter().map(|problem| problem.span.start).collect();
    let more = read(source).err().unwrap_or_default().into_iter();
    problems.extend(more.filter(|problem| {
        let told = matches!(problem.rule, Kind::Syntax | Kind::Expression | Kind::Events);
        let told = told || places.contains(&problem.span.start);
        problem.kind == ProblemKind::Invalid && (is_well_formed || !told)
    }));
    problems.sort_by(|a, b| (a.span.start, &a.message).cmp(&(b.span.start, &b.message)));
    // What an alias stands for is checked wherever it stands, and is wrong at one place.
    problems.dedup_by(|a, b| (a.span, &a.message) == (b.span, &b.message));
    problems
}

struct Checker<'a> {
    source: &'a str,
    problems: Vec<Problem>,
    /// Which rule a value breaks that does not fit the grammar.
    rule: Kind,
}

/// What a text with expressions turned out to be.
enum Text {
    /// It holds none; or one that is a text by itself, `${{ 'this' }}`.
    Literal(String),
    /// It is computed, or wrong and said to be.
    Computed,
}

type Within = Option<Scope<'static>>;

impl Checker<'_> {
    /// Checks a value; `what` names it in messages.
    fn value(&mut self, node: &Node, rule: &Rule, scope: Within, what: &str) {
        let scope = rule.scope.or(scope);
        match &node.yaml {
            Yaml::Sequence(items) => {
                let items_rule = rule.shapes.iter().find_map(|shape| match shape {
                    Shape::List(rule) => Some(Some(*rule)),
                    Shape::Any => Some(None),
                    _ => None,
                });
                match items_rule {
                    Some(Some(rule)) => {
                        let what = format!("an item of {what}");
                        items.iter().for_each(|item| self.value(item, rule, scope, &what));
                    }
                    Some(None) => items.iter().for_each(|item| self.value(item, rule, scope, what)),
                    None => self.unexpected(node, rule, what),
                }
            }
            Yaml::Mapping(entries) => self.mapping(node, entries, rule, scope, what),
            _ => self.scalar(node, rule, scope, what),
        }
    }

    fn mapping(&mut self, node: &Node, entries: &[Entry], rule: &Rule, scope: Within, what: &str) {
        if rule.shapes.iter().any(|shape| matches!(shape, Shape::Events)) {
            return entries.iter().for_each(|entry| self.event(entry));
        }
        if rule.shapes.iter().any(|shape| matches!(shape, Shape::Any)) {
            for entry in entries {
                self.text(&entry.key, entry.key_span, scope);
                self.value(&entry.value, rule, scope, what);
            }
            return;
        }
        let mut candidates: Vec<&'static Mapping> = rule
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Mapping(mapping) => Some(*mapping),
                _ => None,
            })
            .collect();
        if candidates.is_empty() {
            return self.unexpected(node, rule, what);
        }
        let mut computed = false;
        for entry in entries {
            computed |= self.entry(entry, &mut candidates, scope);
        }
        match candidates.as_slice() {
            [mapping] if !computed => self.required(node, entries, mapping),
            [_] => {}
            many => self.undecided(node, many, what),
        }
    }

    /// Checks a key and its value, and keeps the mappings that have the key; returns whether it is computed.
    fn entry(
        &mut self,
        entry: &Entry,
        candidates: &mut Vec<&'static Mapping>,
        scope: Within,
    ) -> bool {
        let name = entry.key.as_str();
        if let Text::Computed = self.text(name, entry.key_span, scope) {
            return true;
        }
        if candidates.iter().any(|mapping| mapping.key(name).is_some()) {
            candidates.retain(|mapping| mapping.key(name).is_some());
            if let Some(key) = candidates.first().and_then(|mapping| mapping.key(name)) {
                let rule = self.rule;
                if std::ptr::eq(key.rule, &raw const grammar::PERMISSIONS) {
                    self.rule = Kind::Permissions;
                }
                self.value(&entry.value, key.rule, scope, &format!("`{name}`"));
                self.rule = rule;
            }
            return false;
        }
        match candidates.first().and_then(|mapping| mapping.others) {
            Some(_) if name.is_empty() => {
                self.report(entry.key_span, "a key must not be empty".into());
            }
            Some(rule) => self.value(&entry.value, rule, scope, &format!("`{name}`")),
            None => self.unknown_key(entry, candidates),
        }
        false
    }

    fn unknown_key(&mut self, entry: &Entry, candidates: &[&'static Mapping]) {
        let keys = || candidates.iter().flat_map(|mapping| mapping.keys).map(|key| key.name);
        let what = if candidates.iter().any(|mapping| mapping.what.starts_with("a step ")) {
            "a step"
        } else {
            candidates.first().map_or("this", |mapping| mapping.what)
        };
        let message = format!("{what} has no key `{}`", entry.key);
        let mut known: Vec<&str> = keys().collect();
        known.sort_unstable();
        known.dedup();
        let hint = match nearest(&entry.key, keys()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its keys are: {}", known.join(", ")),
        };
        let problem = Problem::invalid(entry.key_span, message).of(self.rule);
        self.problems.push(problem.with_hint(hint));
    }

    fn required(&mut self, node: &Node, entries: &[Entry], mapping: &Mapping) {
        // A key that is meant for it has been told already.
        let is_there = |name: &'static str| {
            entries.iter().any(|entry| {
                let is_slip = || nearest(&entry.key, std::iter::once(name)).is_some();
                entry.key == name || (mapping.key(&entry.key).is_none() && is_slip())
            })
        };
        for key in mapping.keys.iter().filter(|key| key.required && !is_there(key.name)) {
            let span = Span { start: node.span.start, end: node.span.start };
            self.report(span, format!("{} needs `{}`", mapping.what, key.name));
        }
    }

    /// Says which keys would decide what a mapping is.
    fn undecided(&mut self, node: &Node, candidates: &[&'static Mapping], what: &str) {
        let keys: Vec<&str> =
            candidates.iter().flat_map(|mapping| mapping.keys).map(|key| key.name).collect();
        let mut deciding: Vec<&str> = candidates
            .iter()
            .flat_map(|mapping| mapping.keys)
            .filter(|key| {
                key.required && keys.iter().filter(|name| **name == key.name).count() == 1
            })
            .map(|key| key.name)
            .collect();
        deciding.sort_unstable();
        let span = Span { start: node.span.start, end: node.span.start };
        self.report(span, format!("{what} needs one of {}", list(&deciding)));
    }

    fn scalar(&mut self, node: &Node, rule: &Rule, scope: Within, what: &str) {
        let text = match &node.yaml {
            Yaml::String(text) => match self.text(text, node.span, scope) {
                Text::Literal(text) => text,
                Text::Computed => return,
            },
            _ => node.to_value().to_string(),
        };
        let fits = |shape: &Shape| match shape {
            Shape::Any | Shape::Text => true,
            Shape::Null => matches!(node.yaml, Yaml::Null),
            Shape::Boolean => matches!(node.yaml, Yaml::Bool(_)),
            Shape::Number => matches!(node.yaml, Yaml::Number(_)),
            Shape::Condition => true,
            Shape::Name => !text.is_empty(),
            Shape::Words(words) => words.contains(&text.as_str()),
            Shape::Event => events::event(&text).is_some(),
            Shape::List(_) | Shape::Mapping(_) | Shape::Events => false,
        };
        let Some(shape) = rule.shapes.iter().find(|shape| fits(shape)) else {
            return self.unexpected_word(node, &text, rule, what);
        };
        // An empty condition is none.
        if let (Shape::Condition, Some(scope), false) = (shape, scope, text.is_empty()) {
            self.expression(&text, node.span, scope);
        }
    }

    /// Checks the expressions of a text.
    fn text(&mut self, text: &str, span: Span, scope: Within) -> Text {
        let value = self.source.get(span.start..span.end).unwrap_or_default();
        // In the source there are as many beginnings as in the value, in the same order.
        let mut places = value.match_indices(OPEN).map(|(at, _)| span.start + at);
        let mut rest = text;
        let mut only = None;
        let mut number = 0;
        while let Some(open) = rest.find(OPEN) {
            let inside = &rest[open + OPEN.len()..];
            let Some(close) = closing(inside) else {
                let problem = Problem::invalid(span, "`${{` is never closed with `}}`");
                self.problems.push(problem.of(Kind::Expression));
                return Text::Computed;
            };
            let len = OPEN.len() + close + 2;
            let at = match places.next() {
                Some(start) => Span { start, end: (start + len).min(span.end) },
                None => span,
            };
            let expr = &inside[..close];
            match scope {
                // A text in quotes is that text, wherever it stands.
                None if literal(expr).is_some() => {}
                None => {
                    let problem = Problem::invalid(at, "an expression is not allowed here");
                    self.problems.push(problem.of(Kind::Expression));
                }
                Some(scope) => self.expression(expr, at, scope),
            }
            only = (number == 0 && open == 0).then_some(expr);
            rest = &inside[close + 2..];
            number += 1;
        }
        match only {
            _ if number == 0 => Text::Literal(text.to_owned()),
            Some(expr) if rest.is_empty() => literal(expr).map_or(Text::Computed, Text::Literal),
            _ => Text::Computed,
        }
    }

    fn expression(&mut self, expr: &str, span: Span, scope: Scope<'_>) {
        if expr.trim().is_empty() {
            let problem = Problem::invalid(span, "an expression is expected within `${{ }}`");
            return self.problems.push(problem.of(Kind::Expression));
        }
        if expr.trim() == "insert" {
            return;
        }
        if let Err(error) = parse(expr, scope) {
            let problem = Problem::invalid(span, error.message);
            self.problems.push(problem.of(Kind::Expression));
        }
    }

    /// Checks an event and what stands under it.
    fn event(&mut self, entry: &Entry) {
        let Some(event) = events::event(&entry.key) else {
            let message = format!("`{}` is no event that starts a workflow", entry.key);
            let problem = Problem::invalid(entry.key_span, message).of(Kind::Events);
            return self.problems.push(with_nearest_event(problem, &entry.key));
        };
        let what = format!("event `{}`", event.name);
        let node = &entry.value;
        if let Some(rule) = event.own {
            return self.value(node, rule, None, &what);
        }
        let asks = !event.types.is_empty() || !event.filters.is_empty();
        let entries = match &node.yaml {
            Yaml::Null => return,
            Yaml::Mapping(entries) if asks => entries,
            _ => {
                let wanted = if asks { "nothing or a mapping" } else { "nothing" };
                let message = format!("{what} takes {wanted}, this is {}", node.kind());
                return self.problems.push(Problem::invalid(node.span, message).of(Kind::Events));
            }
        };
        for entry in entries {
            let name = entry.key.as_str();
            if name == grammar::TYPES && !event.types.is_empty() {
                self.activities(&entry.value, event);
            } else if event.filters.contains(&name) {
                self.value(&entry.value, &grammar::NAME_OR_NAMES, None, &format!("`{name}`"));
            } else {
                let message = format!("{what} has no key `{name}`");
                let types = (!event.types.is_empty()).then_some(grammar::TYPES);
                let known: Vec<&str> =
                    types.into_iter().chain(event.filters.iter().copied()).collect();
                let hint = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its keys are: {}", known.join(", ")),
                };
                self.problems.push(Problem::invalid(entry.key_span, message).with_hint(hint));
            }
        }
    }

    fn activities(&mut self, node: &Node, event: &events::Event) {
        let items = match &node.yaml {
            Yaml::Sequence(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        for item in items {
            let name = match &item.yaml {
                Yaml::Sequence(_) | Yaml::Mapping(_) => item.kind().to_owned(),
                _ => item.to_value().to_string(),
            };
            if !event.types.contains(&name.as_str()) {
                let message = format!("event `{}` has no activity `{name}`", event.name);
                let problem = Problem::invalid(item.span, message).of(Kind::Events);
                let hint = match nearest(&name, event.types.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its activities are: {}", event.types.join(", ")),
                };
                self.problems.push(problem.with_hint(hint));
            }
        }
    }

    /// Says of a scalar that it is none of what may stand there.
    fn unexpected_word(&mut self, node: &Node, text: &str, rule: &Rule, what: &str) {
        let words: Vec<&str> = rule
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Words(words) => Some(*words),
                _ => None,
            })
            .flatten()
            .copied()
            .collect();
        let is_event = rule.shapes.iter().any(|shape| matches!(shape, Shape::Event));
        if text.is_empty() || (words.is_empty() && !is_event) {
            return self.unexpected(node, rule, what);
        }
        if is_event {
            let message = format!("`{text}` is no event that starts a workflow");
            let problem = Problem::invalid(node.span, message).of(Kind::Events);
            return self.problems.push(with_nearest_event(problem, text));
        }
        let message = format!("{what} must be {}, this is `{text}`", wanted(rule));
        let problem = Problem::invalid(node.span, message).of(self.rule);
        self.problems.push(match nearest(text, words.into_iter()) {
            Some(near) => problem.with_hint(format!("did you mean `{near}`?")),
            None => problem,
        });
    }

    fn unexpected(&mut self, node: &Node, rule: &Rule, what: &str) {
        self.report(node.span, format!("{what} must be {}, this is {}", wanted(rule), node.kind()));
    }

    fn report(&mut self, span: Span, message: String) {
        self.problems.push(Problem::invalid(span, message).of(self.rule));
    }
}

/// Returns the text that an expression is by itself, as `'this'` is.
fn literal(expr: &str) -> Option<String> {
    let quoted = expr.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    (!quoted.replace("''", "").contains('\'')).then(|| quoted.replace("''", "'"))
}

fn with_nearest_event(problem: Problem, name: &str) -> Problem {
    match nearest(name, EVENTS.iter().map(|event| event.name)) {
        Some(near) => problem.with_hint(format!("did you mean `{near}`?")),
        None => problem,
    }
}

/// Says what may stand where a rule holds.
fn wanted(rule: &Rule) -> String {
    let names: Vec<String> = rule
        .shapes
        .iter()
        .map(|shape| match shape {
            Shape::Null => "nothing".to_owned(),
            Shape::Boolean => "true or false".to_owned(),
            Shape::Number => "a number".to_owned(),
            Shape::Text | Shape::Name => "a string".to_owned(),
            Shape::Condition => "a condition".to_owned(),
            Shape::Words(words) => list(words),
            Shape::List(_) => "a list".to_owned(),
            Shape::Mapping(_) | Shape::Events => "a mapping".to_owned(),
            Shape::Event => "an event".to_owned(),
            Shape::Any => "anything".to_owned(),
        })
        .collect();
    let mut unique: Vec<&str> = Vec::new();
    for name in &names {
        if !unique.contains(&name.as_str()) {
            unique.push(name);
        }
    }
    unique.join(" or ")
}
