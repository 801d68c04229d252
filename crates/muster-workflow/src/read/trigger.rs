//! `on`.

use super::fields::Reader;
use crate::diagnostic::Span;
use crate::events;
use crate::pattern::{Filter, Patterns};
use crate::workflow::Trigger;
use crate::yaml::{Entry, Node, Yaml};

const FILTERS: [&str; 7] =
    ["types", "branches", "branches-ignore", "tags", "tags-ignore", "paths", "paths-ignore"];

impl Reader {
    pub(super) fn triggers(&mut self, node: &Node) -> Vec<Trigger> {
        let Yaml::Mapping(entries) = &node.yaml else {
            let events = self.strings(node, "`on`");
            return events
                .into_iter()
                .filter_map(|(event, span)| self.trigger(&event, span))
                .collect();
        };
        let mut triggers = Vec::new();
        for entry in entries {
            let Some(mut trigger) = self.trigger(&entry.key, entry.key_span) else {
                continue;
            };
            // What an event may carry that starts nothing here is checked once it does.
            if events::is_served(&trigger.event) {
                self.filters(entry, &mut trigger);
            }
            triggers.push(trigger);
        }
        triggers
    }

    fn trigger(&mut self, event: &str, span: Span) -> Option<Trigger> {
        if events::event(event).is_none() {
            self.invalid(span, format!("`{event}` is no event that starts a workflow"));
            return None;
        }
        let event = event.to_owned();
        Some(Trigger { event, span, types: None, branches: None, tags: None, paths: None })
    }

    fn filters(&mut self, event: &Entry, trigger: &mut Trigger) {
        if matches!(event.value.yaml, Yaml::Null) {
            return;
        }
        let place = format!("event `{}`", event.key);
        let is_push = event.key == "push";
        let Some(entries) = self.mapping(&event.value, &place) else {
            return;
        };
        for entry in entries {
            let key = entry.key.as_str();
            let fits = match key {
                "types" => !is_push,
                "tags" | "tags-ignore" => is_push,
                _ => FILTERS.contains(&key),
            };
            if !fits {
                let known: Vec<&str> = FILTERS
                    .into_iter()
                    .filter(|key| if is_push { *key != "types" } else { !key.starts_with("tags") })
                    .collect();
                self.unknown_key(entry, &place, &known, &[]);
                continue;
            }
            if key == "types" {
                trigger.types = Some(self.types(&entry.value));
                continue;
            }
            let slot = match key.trim_end_matches("-ignore") {
                "branches" => &mut trigger.branches,
                "tags" => &mut trigger.tags,
                _ => &mut trigger.paths,
            };
            if slot.is_some() {
                let kind = key.trim_end_matches("-ignore");
                let message = format!(
                    "{place} has both `{kind}` and `{kind}-ignore`; use one, with `!` patterns"
                );
                self.invalid(entry.key_span, message);
                continue;
            }
            *slot = Some(self.filter(entry));
        }
    }

    fn filter(&mut self, entry: &Entry) -> Filter {
        let texts = self.strings(&entry.value, &format!("`{}`", entry.key));
        let given = texts.iter().map(|(text, span)| (text.as_str(), *span));
        let patterns = Patterns::read(given, &mut self.problems);
        if entry.key.ends_with("-ignore") {
            return Filter::Ignore(patterns);
        }
        if patterns.selects_nothing() {
            let message =
                format!("`{}` has only `!` patterns, so nothing is ever selected", entry.key);
            self.invalid(entry.key_span, message);
        }
        Filter::Include(patterns)
    }

    fn types(&mut self, node: &Node) -> Vec<String> {
        let types = self.strings(node, "`types`");
        for (name, span) in &types {
            let known = events::event("pull_request")
                .is_some_and(|event| event.types.contains(&name.as_str()));
            if !known {
                self.invalid(*span, format!("`pull_request` has no activity `{name}`"));
            }
        }
        types.into_iter().map(|(name, _)| name).collect()
    }
}
