//! What the levels of the document share: typed fields, `env`, `defaults`, `concurrency`.

use std::collections::HashSet;

use crate::diagnostic::{Problem, Span};
use crate::expr::{Scope, Value};
use crate::grammar;
use crate::template::{Condition, Template};
use crate::workflow::{Concurrency, Defaults, Env, Setting};
use crate::yaml::{Entry, Node, Yaml};

/// Collects problems while it reads.
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
    /// The ids of all jobs that the file declares, in lower case, also of those that are wrong.
    pub(super) declared: HashSet<String>,
}

impl Reader {
    pub(super) fn invalid(&mut self, span: Span, message: impl Into<String>) {
        self.problems.push(Problem::invalid(span, message));
    }

    pub(super) fn unsupported(&mut self, span: Span, what: impl Into<String>) {
        self.problems.push(Problem::unsupported(span, what));
    }

    /// Says that `entry` has no place here: a slip, or something not supported yet.
    pub(super) fn unknown_key(
        &mut self,
        entry: &Entry,
        place: &str,
        known: &[&str],
        unsupported: &[&str],
    ) {
        let key = &entry.key;
        if unsupported.contains(&key.as_str()) {
            return self.unsupported(entry.key_span, format!("key `{key}` of {place}"));
        }
        let problem = Problem::invalid(entry.key_span, format!("{place} has no key `{key}`"));
        self.problems.push(problem.with_hint(format!("its keys are: {}", known.join(", "))));
    }

    pub(super) fn mapping<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Entry]> {
        if let Yaml::Mapping(entries) = &node.yaml {
            return Some(entries);
        }
        self.wrong_kind(node, what, "a mapping");
        None
    }

    pub(super) fn wrong_kind(&mut self, node: &Node, what: &str, wanted: &str) {
        self.invalid(node.span, format!("{what} must be {wanted}, this is {}", node.kind()));
    }

    /// Reads a scalar as text.
    pub(super) fn string(&mut self, node: &Node, what: &str) -> Option<String> {
        match &node.yaml {
            Yaml::Null | Yaml::Sequence(_) | Yaml::Mapping(_) => {
                self.wrong_kind(node, what, "a string");
                None
            }
            _ => Some(node.to_value().to_string()),
        }
    }

    /// Reads one string or a list of them, each with its place.
    pub(super) fn strings(&mut self, node: &Node, what: &str) -> Vec<(String, Span)> {
        let nodes = match &node.yaml {
            Yaml::Sequence(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        nodes.iter().filter_map(|node| Some((self.string(node, what)?, node.span))).collect()
    }

    pub(super) fn flag(&mut self, node: &Node, what: &str, scope: Scope<'_>) -> Setting<bool> {
        match &node.yaml {
            Yaml::Bool(flag) => Setting::Fixed(*flag),
            Yaml::String(text) if text.contains("${{") => {
                Setting::Computed(Template::read(text, node.span, scope, &mut self.problems))
            }
            _ => {
                self.wrong_kind(node, what, "true, false or an expression");
                Setting::Fixed(false)
            }
        }
    }

    pub(super) fn minutes(&mut self, node: &Node, what: &str, scope: Scope<'_>) -> Setting<f64> {
        match &node.yaml {
            Yaml::Number(number) if *number > 0.0 => Setting::Fixed(*number),
            Yaml::String(text) if text.contains("${{") => {
                Setting::Computed(Template::read(text, node.span, scope, &mut self.problems))
            }
            _ => {
                self.wrong_kind(node, what, "a number over 0 or an expression");
                Setting::Fixed(f64::INFINITY)
            }
        }
    }

    pub(super) fn condition(&mut self, node: &Node, scope: Scope<'_>) -> Option<Condition> {
        // An empty one is none.
        if matches!(&node.yaml, Yaml::Null)
            || matches!(&node.yaml, Yaml::String(text) if text.is_empty())
        {
            return None;
        }
        let text = self.string(node, "`if`")?;
        Some(Condition::read(&text, node.span, scope, &mut self.problems))
    }

    pub(super) fn env(&mut self, node: &Node, scope: Scope<'_>) -> Env {
        match &node.yaml {
            Yaml::Null => return Vec::new(),
            Yaml::String(text) if text.contains("${{") => {
                self.unsupported(node.span, "an `env` that is one expression");
                return Vec::new();
            }
            _ => {}
        }
        let mut env = Vec::new();
        for entry in self.mapping(node, "`env`").unwrap_or_default() {
            let name = &entry.key;
            if name.is_empty() || name.contains(['=', '\0']) {
                self.invalid(entry.key_span, format!("`{name}` is no name for a variable"));
            } else if matches!(entry.value.yaml, Yaml::Null) {
                env.push((name.clone(), Template::literal(entry.value.span, "")));
            } else if let Some(value) =
                self.template(&entry.value, &format!("variable `{name}`"), scope)
            {
                env.push((name.clone(), value));
            }
        }
        env
    }

    pub(super) fn defaults(&mut self, node: &Node, scope: Scope<'_>) -> Defaults {
        let mut defaults = Defaults::default();
        for entry in self.mapping(node, "`defaults`").unwrap_or_default() {
            if entry.key != "run" {
                self.unknown_key(entry, "`defaults`", &["run"], &[]);
                continue;
            }
            for entry in self.mapping(&entry.value, "`defaults.run`").unwrap_or_default() {
                match entry.key.as_str() {
                    "shell" => defaults.shell = self.template(&entry.value, "`shell`", scope),
                    "working-directory" => {
                        defaults.working_directory =
                            self.template(&entry.value, "`working-directory`", scope);
                    }
                    _ => {
                        let known = ["shell", "working-directory"];
                        self.unknown_key(entry, "`defaults.run`", &known, &[]);
                    }
                }
            }
        }
        defaults
    }

    pub(super) fn concurrency(&mut self, node: &Node, scope: Scope<'_>) -> Option<Concurrency> {
        let mut cancel_in_progress = Setting::Fixed(false);
        let Yaml::Mapping(entries) = &node.yaml else {
            let group = self.template(node, "`concurrency`", scope)?;
            return Some(Concurrency { group, cancel_in_progress });
        };
        let mut group = None;
        for entry in entries {
            match entry.key.as_str() {
                "group" => group = self.template(&entry.value, "`group`", scope),
                "cancel-in-progress" => {
                    cancel_in_progress = self.flag(&entry.value, "`cancel-in-progress`", scope);
                }
                _ => {
                    let known = ["group", "cancel-in-progress"];
                    self.unknown_key(entry, "`concurrency`", &known, &["queue"]);
                }
            }
        }
        if group.is_none() {
            self.invalid(node.span, "`concurrency` needs `group`");
        }
        Some(Concurrency { group: group?, cancel_in_progress })
    }

    /// Reads `permissions`: `read-all`, `write-all`, or scopes with `read`, `write` or `none`.
    pub(super) fn permissions(&mut self, node: &Node) -> Option<Value> {
        if let Yaml::Mapping(entries) = &node.yaml {
            for entry in entries {
                if grammar::SCOPES.key(&entry.key).is_none() {
                    let known: Vec<&str> =
                        grammar::SCOPES.keys.iter().map(|key| key.name).collect();
                    self.unknown_key(entry, "`permissions`", &known, &[]);
                }
                let level = entry.value.to_value().to_string();
                if !matches!(level.as_str(), "read" | "write" | "none") {
                    let message = format!("permission `{}` must be read, write or none", entry.key);
                    self.invalid(entry.value.span, message);
                }
            }
        } else {
            let text = node.to_value().to_string();
            if !matches!(text.as_str(), "read-all" | "write-all") {
                let wanted = "read-all, write-all or a mapping of scopes";
                self.wrong_kind(node, "`permissions`", wanted);
            }
        }
        Some(node.to_value())
    }
}
