//! What `on` names, and asks of each event.

use std::collections::HashSet;

use super::{Broken, Pair, Reader, Token, What};
use crate::diagnostic::Problem;
use crate::events::{self, EVENTS};
use crate::grammar;
use crate::keys;
use crate::token::Kind;
use crate::yaml::{Entry, Node, Yaml};

impl Reader<'_> {
    /// Reads an event and what stands under it.
    pub(super) fn event(&mut self, entry: Entry) -> Option<Pair> {
        let key = self.text(entry.key, entry.key_span, None);
        let name = key.text()?;
        let Some(event) = events::event(name) else {
            let message = format!("`{name}` is no event that starts a workflow");
            let problem = Problem::invalid(entry.key_span, message).of(Broken::Events);
            let problem = self.with_nearest_event(problem, name);
            self.problems.push(problem);
            return None;
        };
        let what = What::Event(event.name);
        let node = entry.value;
        if let Some(rule) = event.own {
            let value = self.value(node, rule, None, &what);
            return Some(Pair { key, value });
        }
        let asks = !event.types.is_empty() || !event.filters.is_empty();
        let span = node.span;
        let kind = match node.yaml {
            Yaml::Null => Kind::Null,
            Yaml::Mapping(entries) if asks => {
                let mut seen = HashSet::new();
                let mut pairs = Vec::new();
                for entry in entries {
                    if seen.insert(entry.key.clone()) {
                        pairs.extend(self.filter(entry, event));
                    } else {
                        self.report(entry.key_span, format!("`{}` is already defined", entry.key));
                    }
                }
                Kind::Map(pairs)
            }
            _ => {
                let wanted = if asks { "nothing or a mapping" } else { "nothing" };
                let message = format!("{what} takes {wanted}, this is {}", node.kind());
                self.problems.push(Problem::invalid(span, message).of(Broken::Events));
                Kind::Wrong
            }
        };
        Some(Pair { key, value: Token { span, kind } })
    }

    /// Reads a key of an event: its activities, or a filter.
    fn filter(&mut self, entry: Entry, event: &'static events::Event) -> Option<Pair> {
        let key = self.text(entry.key, entry.key_span, None);
        let name = key.text()?;
        if name == keys::TYPES && !event.types.is_empty() {
            let value = self.activities(entry.value, event);
            return Some(Pair { key, value });
        }
        if event.filters.contains(&name) {
            let what = What::Key(name);
            let value = self.value(entry.value, &grammar::NAME_OR_NAMES, None, &what);
            return Some(Pair { key, value });
        }
        let types = (!event.types.is_empty()).then_some(keys::TYPES);
        let known: Vec<&str> = types.into_iter().chain(event.filters.iter().copied()).collect();
        let hint = match self.nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its keys are: {}", known.join(", ")),
        };
        let message = format!("event `{}` has no key `{name}`", event.name);
        let is_filter = EVENTS.iter().any(|event| event.filters.contains(&name));
        let rule = if is_filter { Broken::Events } else { Broken::Syntax };
        self.problems.push(Problem::invalid(entry.key_span, message).of(rule).with_hint(hint));
        None
    }

    fn activities(&mut self, node: Node, event: &events::Event) -> Token {
        let span = node.span;
        let is_list = matches!(node.yaml, Yaml::Sequence(_));
        let nodes = match node.yaml {
            Yaml::Sequence(items) => items,
            _ => vec![node],
        };
        let mut tokens: Vec<Token> =
            nodes.into_iter().map(|node| self.activity(&node, event)).collect();
        match tokens.pop() {
            Some(only) if !is_list => only,
            last => {
                tokens.extend(last);
                Token { span, kind: Kind::List(tokens) }
            }
        }
    }

    fn activity(&mut self, node: &Node, event: &events::Event) -> Token {
        let span = node.span;
        let name = match &node.yaml {
            Yaml::Sequence(_) | Yaml::Mapping(_) => node.kind().to_owned(),
            _ => node.to_value().to_string(),
        };
        if event.types.contains(&name.as_str()) {
            return Token { span, kind: Kind::Text(name) };
        }
        let message = format!("event `{}` has no activity `{name}`", event.name);
        let problem = Problem::invalid(span, message).of(Broken::Events);
        let hint = match self.nearest(&name, event.types.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("its activities are: {}", event.types.join(", ")),
        };
        self.problems.push(problem.with_hint(hint));
        Token { span, kind: Kind::Wrong }
    }
}
