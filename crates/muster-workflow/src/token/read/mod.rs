//! From YAML to tokens: a tree against the [grammar], every problem at its place.

mod events;
mod expressions;

use std::collections::HashSet;
use std::fmt;

use super::{Kind, Pair, Token};
use crate::diagnostic::{Problem, Rule as Broken, Span};
use crate::events::EVENTS;
use crate::expr::Scope;
use crate::grammar::{self, Mapping, Rule, Shape};
use crate::read::MAX_PROBLEMS;
use crate::template::{Condition, OPEN, Template};
use crate::words::{list, nearest};
use crate::yaml::{Entry, Node, Yaml};

/// Where a problem is said to be, when there is a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Places {
    /// Where it is to be mended: an expression at its own place in the text, something missing at the key of what
    /// needs it.
    Words,
    /// As [`Self::Words`], but a cycle of jobs at the job that it begins with: where people know it from actionlint.
    Linted,
    /// Where the text that holds it begins, and one a text: as GitHub says it.
    Texts,
}

/// Reads a tree by the grammar of a workflow file.
pub(crate) fn read(source: &str, root: Node, places: Places) -> (Token, Vec<Problem>) {
    read_as(source, root, places, &grammar::WORKFLOW, "a workflow")
}

/// Reads a tree by a rule; `what` says what it is, with its article, for messages.
pub(crate) fn read_as(
    source: &str,
    root: Node,
    places: Places,
    rule: &Rule,
    what: &'static str,
) -> (Token, Vec<Problem>) {
    let mut reader =
        Reader { source, places, problems: Vec::new(), under: None, breaks: Broken::Syntax };
    let token = reader.value(root, rule, None, &What::Said(what));
    (token, reader.problems)
}

struct Reader<'a> {
    source: &'a str,
    places: Places,
    problems: Vec<Problem>,
    /// The key that the value stands under which is read next.
    under: Option<Span>,
    /// Which rule a value breaks that does not fit the grammar.
    breaks: Broken,
}

type Within = Option<Scope<'static>>;

/// What a value is called in messages; written only when there is one.
enum What<'a> {
    Said(&'static str),
    Key(&'a str),
    Event(&'static str),
    ItemOf(&'a Self),
}

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(what) => f.write_str(what),
            Self::Key(key) => write!(f, "`{key}`"),
            Self::Event(name) => write!(f, "event `{name}`"),
            Self::ItemOf(what) => write!(f, "an item of {what}"),
        }
    }
}

impl Reader<'_> {
    fn value(&mut self, node: Node, rule: &Rule, scope: Within, what: &What<'_>) -> Token {
        let scope = rule.scope.or(scope);
        match node.yaml {
            Yaml::Sequence(_) => self.list(node, rule, scope, what),
            Yaml::Mapping(_) => self.mapping(node, rule, scope, what),
            _ => self.scalar(node, rule, scope, what),
        }
    }

    fn list(&mut self, node: Node, rule: &Rule, scope: Within, what: &What<'_>) -> Token {
        let of = rule.shapes.iter().find_map(|shape| match shape {
            Shape::List(of) => Some(*of),
            Shape::Any => Some(&grammar::ANY),
            _ => None,
        });
        let Some(of) = of else {
            return self.unexpected(&node, rule, what);
        };
        let span = node.span;
        let Yaml::Sequence(items) = node.yaml else {
            return Token { span, kind: Kind::Wrong };
        };
        let what = What::ItemOf(what);
        let mut read = |item| {
            self.under = None;
            self.value(item, of, scope, &what)
        };
        let items = items.into_iter().map(&mut read).collect();
        Token { span, kind: Kind::List(items) }
    }

    fn mapping(&mut self, node: Node, rule: &Rule, scope: Within, what: &What<'_>) -> Token {
        let is_events = rule.shapes.iter().any(|shape| matches!(shape, Shape::Events));
        let is_any = rule.shapes.iter().any(|shape| matches!(shape, Shape::Any));
        let mut candidates: Vec<&'static Mapping> = rule
            .shapes
            .iter()
            .filter_map(|shape| match shape {
                Shape::Mapping(mapping) => Some(*mapping),
                _ => None,
            })
            .collect();
        if candidates.is_empty() && !is_events && !is_any {
            return self.unexpected(&node, rule, what);
        }
        let span = node.span;
        let under = self.under.take();
        let Yaml::Mapping(entries) = node.yaml else {
            return Token { span, kind: Kind::Wrong };
        };
        if self.places != Places::Texts {
            decide(&entries, &mut candidates);
        }
        let has_free_keys = is_any || candidates.iter().any(|mapping| mapping.others.is_some());
        let mut pairs = Vec::with_capacity(entries.len());
        let mut told = Told::default();
        let mut seen = HashSet::new();
        for entry in entries {
            // A key of the grammar in other letters is another key, and told as such.
            let is_known_by_case = !has_free_keys && !is_events && self.places != Places::Texts;
            let name =
                if is_known_by_case { entry.key.clone() } else { entry.key.to_ascii_lowercase() };
            if !seen.insert(name) {
                self.report(entry.key_span, format!("`{}` is already defined", entry.key));
                continue;
            }
            let before = self.problems.len();
            let merges = (self.places != Places::Texts && entry.merges()).then_some(entry.key_span);
            let pair = if is_events {
                self.event(entry)
            } else if is_any {
                Some(self.free(entry, rule, scope, what))
            } else {
                self.entry(entry, &mut candidates, scope, &mut told)
            };
            pairs.extend(pair);
            if let Some(span) = merges
                && self.problems.len() > before
            {
                self.problems.truncate(before);
                let problem = Problem::invalid(span, "GitHub knows no merge keys").of(self.breaks);
                self.problems
                    .push(problem.with_hint("write the keys down, or alias the whole value"));
                // What is meant to be merged may have any key.
                told.computed = true;
            }
        }
        let start = match under {
            Some(key) if self.places != Places::Texts => key,
            _ => Span { start: span.start, end: span.start },
        };
        match candidates.as_slice() {
            [mapping] if !told.computed => self.required(start, &pairs, &told, mapping),
            [] | [_] => {}
            many if !told.computed && !told.decides(many) => self.undecided(start, many, what),
            _ => {}
        }
        Token { span, kind: Kind::Map(pairs) }
    }

    /// Reads a key that may be anything.
    fn free(&mut self, entry: Entry, rule: &Rule, scope: Within, what: &What<'_>) -> Pair {
        let key = self.text(entry.key, entry.key_span, scope);
        Pair { key, value: self.value(entry.value, rule, scope, what) }
    }

    /// Reads a key and its value, and keeps the mappings that have the key.
    fn entry(
        &mut self,
        entry: Entry,
        candidates: &mut Vec<&'static Mapping>,
        scope: Within,
        told: &mut Told,
    ) -> Option<Pair> {
        let Entry { key, key_span, value } = entry;
        let key = self.text(key, key_span, scope);
        let Kind::Text(name) = &key.kind else {
            told.computed = true;
            // What stands under a key that is computed may be anything.
            let others = candidates.first().filter(|mapping| mapping.keys.is_empty());
            let rule = others.and_then(|mapping| mapping.others).unwrap_or(&grammar::ANY);
            let value = self.value(value, rule, scope, &What::Said("this"));
            return (!matches!(key.kind, Kind::Wrong)).then_some(Pair { key, value });
        };
        let what = What::Key(name);
        self.under = Some(key_span);
        if candidates.iter().any(|mapping| mapping.key(name).is_some()) {
            candidates.retain(|mapping| mapping.key(name).is_some());
            let known = candidates.first().and_then(|mapping| mapping.key(name))?;
            let breaks = self.breaks;
            self.breaks = known.breaks.unwrap_or(breaks);
            let value = self.value(value, known.rule, scope, &what);
            self.breaks = breaks;
            return Some(Pair { key, value });
        }
        let Some(rule) = candidates.first().and_then(|mapping| mapping.others) else {
            self.unknown_key(name, key_span, candidates);
            told.slips.push(name.clone());
            return None;
        };
        if name.is_empty() {
            self.report(key_span, "a key must not be empty".into());
        }
        let value = self.value(value, rule, scope, &what);
        Some(Pair { key, value })
    }

    /// A hint is looked for only as long as somebody may read it.
    fn nearest<'w>(&self, wrong: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
        if self.problems.len() < MAX_PROBLEMS { nearest(wrong, words) } else { None }
    }

    fn with_nearest_event(&self, problem: Problem, name: &str) -> Problem {
        match self.nearest(name, EVENTS.iter().map(|event| event.name)) {
            Some(near) => problem.with_hint(format!("did you mean `{near}`?")),
            None => problem,
        }
    }

    fn unknown_key(&mut self, name: &str, span: Span, candidates: &[&'static Mapping]) {
        let keys = || candidates.iter().flat_map(|mapping| mapping.keys).map(|key| key.name);
        let what = match candidates {
            [mapping] => mapping.what,
            several => several.first().map_or("this", |mapping| mapping.class()),
        };
        let mut known: Vec<&str> = keys().collect();
        known.sort_unstable();
        known.dedup();
        let hint = match self.nearest(name, keys()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its keys are: {}", known.join(", ")),
        };
        let problem = Problem::invalid(span, format!("{what} has no key `{name}`")).of(self.breaks);
        self.problems.push(problem.with_hint(hint));
    }

    fn required(&mut self, span: Span, pairs: &[Pair], told: &Told, mapping: &Mapping) {
        // A key that is meant for it has been told already.
        let is_there = |name: &'static str| {
            let is_meant = |slip: &String| {
                slip.eq_ignore_ascii_case(name) || nearest(slip, std::iter::once(name)).is_some()
            };
            pairs.iter().any(|pair| pair.key.text() == Some(name))
                || told.slips.iter().take(MAX_PROBLEMS).any(is_meant)
        };
        for key in mapping.keys.iter().filter(|key| key.required && !is_there(key.name)) {
            self.report(span, format!("{} needs `{}`", mapping.what, key.name));
        }
    }

    /// Says which keys would decide what a mapping is.
    fn undecided(&mut self, span: Span, candidates: &[&'static Mapping], what: &What<'_>) {
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
        if deciding.is_empty() {
            // A value decides, and whoever reads it tells.
            return;
        }
        deciding.sort_unstable();
        self.report(span, format!("{what} needs one of {}", list(&deciding)));
    }

    fn scalar(&mut self, node: Node, rule: &Rule, scope: Within, what: &What<'_>) -> Token {
        let span = node.span;
        if let Yaml::String(text) = node.yaml {
            let token = self.text(text, span, scope);
            return self.fit(token, rule, scope, what);
        }
        let exact = rule.shapes.iter().any(|shape| {
            matches!(
                (shape, &node.yaml),
                (Shape::Any, _)
                    | (Shape::Null, Yaml::Null)
                    | (Shape::Boolean, Yaml::Bool(_))
                    | (Shape::Number, Yaml::Number(_))
            )
        });
        let kind = match &node.yaml {
            Yaml::Null if exact => Kind::Null,
            Yaml::Bool(flag) if exact => Kind::Bool(*flag),
            Yaml::Number(number) if exact => Kind::Number(*number),
            // Where a text may stand, any scalar is one.
            _ => {
                let text = node.to_value().to_string();
                if !rule.shapes.iter().any(|shape| takes(*shape, &text)) {
                    return self.unexpected(&node, rule, what);
                }
                return self.fit(Token { span, kind: Kind::Text(text) }, rule, scope, what);
            }
        };
        Token { span, kind }
    }

    /// Fits a text into what may stand at its place.
    fn fit(&mut self, token: Token, rule: &Rule, scope: Within, what: &What<'_>) -> Token {
        let span = token.span;
        let is_condition = rule.shapes.iter().any(|shape| matches!(shape, Shape::Condition));
        let text = match token.kind {
            Kind::Text(text) => text,
            Kind::Expression(template) if is_condition => {
                return Token { span, kind: Kind::Condition(Condition::of(template, false)) };
            }
            Kind::Insert => {
                let message = "`insert` stands for keys; it is no value".to_owned();
                self.problems.push(Problem::invalid(span, message).of(Broken::Expression));
                return Token { span, kind: Kind::Wrong };
            }
            _ => return token,
        };
        let fits = |shape: &Shape| match shape {
            Shape::Any | Shape::Text | Shape::Condition => true,
            Shape::Name => !text.is_empty(),
            Shape::Words(words) => words.contains(&text.as_str()),
            Shape::Event => crate::events::event(&text).is_some(),
            _ => false,
        };
        match rule.shapes.iter().find(|shape| fits(shape)) {
            None => self.unexpected_word(span, &text, rule, what),
            Some(Shape::Condition) => {
                // An empty one is none.
                let kind = match scope {
                    Some(scope) if !text.trim().is_empty() => {
                        let before = self.problems.len();
                        let part = self.expression(&text, span, scope);
                        self.at_text(before, span);
                        part.map_or(Kind::Wrong, |part| {
                            Kind::Condition(Condition::of(Template::of(span, vec![part]), true))
                        })
                    }
                    _ => Kind::Null,
                };
                Token { span, kind }
            }
            Some(_) => Token { span, kind: Kind::Text(text) },
        }
    }

    /// Says of a text that it is none of what may stand there.
    fn unexpected_word(&mut self, span: Span, text: &str, rule: &Rule, what: &What<'_>) -> Token {
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
        let problem = if is_event && !text.is_empty() {
            let message = format!("`{text}` is no event that starts a workflow");
            self.with_nearest_event(Problem::invalid(span, message).of(Broken::Events), text)
        } else {
            let this = match text {
                "" => "nothing".to_owned(),
                _ if words.is_empty() => "a string".to_owned(),
                text => format!("`{text}`"),
            };
            let message = format!("{what} must be {}, this is {this}", wanted(rule));
            // A text may be written as an expression.
            let source = self.source.get(span.start..).unwrap_or_default();
            let is_expression = source.starts_with(OPEN);
            let breaks = if is_expression { Broken::Expression } else { self.breaks };
            let problem = Problem::invalid(span, message).of(breaks);
            match self.nearest(text, words.into_iter()) {
                Some(near) => problem.with_hint(format!("did you mean `{near}`?")),
                None => problem,
            }
        };
        self.problems.push(problem);
        Token { span, kind: Kind::Wrong }
    }

    fn unexpected(&mut self, node: &Node, rule: &Rule, what: &What<'_>) -> Token {
        self.report(node.span, format!("{what} must be {}, this is {}", wanted(rule), node.kind()));
        Token { span: node.span, kind: Kind::Wrong }
    }

    fn report(&mut self, span: Span, message: String) {
        self.problems.push(Problem::invalid(span, message).of(self.breaks));
    }
}

/// Keeps the mapping that one of the keys is for which only one mapping needs: what does not belong to it is wrong
/// then, wherever it stands. Where there are such keys of several, that of most other keys is meant.
fn decide(entries: &[Entry], candidates: &mut Vec<&'static Mapping>) {
    if candidates.len() < 2 {
        return;
    }
    let decides = |name: &str| {
        let mut with = candidates.iter().filter(|mapping| mapping.key(name).is_some());
        let only = with.next().filter(|mapping| mapping.key(name).is_some_and(|key| key.required));
        only.filter(|_| with.next().is_none()).copied()
    };
    let has = |mapping: &Mapping| {
        entries.iter().filter(|entry| mapping.key(&entry.key).is_some()).count()
    };
    let mut best: Option<(&'static Mapping, usize)> = None;
    for mapping in entries.iter().filter_map(|entry| decides(&entry.key)) {
        // Of equals the first.
        if best.is_some_and(|(best, _)| std::ptr::eq(best, mapping)) {
            continue;
        }
        let count = has(mapping);
        if best.is_none_or(|(_, most)| count > most) {
            best = Some((mapping, count));
        }
    }
    if let Some((mapping, _)) = best {
        *candidates = vec![mapping];
    }
}

/// What has been said of a mapping's keys.
#[derive(Default)]
struct Told {
    /// A key is computed, so that any may be there.
    computed: bool,
    /// The keys that it does not have.
    slips: Vec<String>,
}

impl Told {
    /// Returns true where one of the slips is meant for a key that would decide what the mapping is.
    fn decides(&self, candidates: &[&'static Mapping]) -> bool {
        let required = || {
            let keys = candidates.iter().flat_map(|mapping| mapping.keys);
            keys.filter(|key| key.required).map(|key| key.name)
        };
        let is_meant = |slip: &String| {
            required().any(|name| slip.eq_ignore_ascii_case(name))
                || nearest(slip, required()).is_some()
        };
        self.slips.iter().take(MAX_PROBLEMS).any(is_meant)
    }
}

/// Returns true where a text may stand at all; an empty one is nothing.
fn takes(shape: Shape, text: &str) -> bool {
    match shape {
        Shape::Any | Shape::Text | Shape::Condition => true,
        Shape::Name | Shape::Words(_) | Shape::Event => !text.is_empty(),
        _ => false,
    }
}

/// Says what may stand where a rule holds.
fn wanted(rule: &Rule) -> String {
    let mut names: Vec<String> = Vec::new();
    for shape in rule.shapes {
        let name = match shape {
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
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(" or ")
}
