//! The table against the schema in GitHub's own parser, key by key.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use serde_json::{Map as JsonMap, Value as Json};

use super::*;
use crate::events::EVENTS;

const SCHEMA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../target/npm/node_modules/@actions/workflow-parser/dist/workflow-v1.0.min.json"
);
const ACTION_SCHEMA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../target/npm/node_modules/@actions/workflow-parser/dist/action-v1.0.min.json"
);

/// Where muster means to differ from the schema, and why.
const DIFFERENCES: [(&str, &str); 9] = [
    // GitHub runs files with other types (`int`), as strings.
    ("workflow_dispatch.inputs.*.type", "words"),
    // An input of which nothing is said is a string that is not required.
    ("workflow_dispatch.inputs.*", "null"),
    // The schema gives it the name of another event by mistake.
    ("on", "event repository_dispatch"),
    ("on[]", "event repository_dispatch"),
    // An action does something, and says how.
    ("runs", "required"),
    ("runs.using", "required"),
    // Of manifests that are meant for all runners the schema has a text, which is read when its turn comes.
    ("runs.pre-if", "scope"),
    ("runs.pre-if", "name"),
    ("runs.pre-if", "text"),
];

/// What may stand at a place, in words that both sides are brought to.
#[derive(Debug, Default)]
struct Facts {
    scope: Option<BTreeSet<String>>,
    kinds: BTreeSet<String>,
}

struct Comparison {
    definitions: JsonMap<String, Json>,
    seen: HashSet<(usize, String)>,
    different: Vec<String>,
}

impl Comparison {
    fn differ(&mut self, path: &str, what: &str, detail: &str) {
        if !DIFFERENCES.contains(&(path, what)) {
            self.different.push(format!("{path}: {what}: {detail}"));
        }
    }

    /// Returns the definitions that a name stands for, and the first scope on the way.
    fn resolve(&self, name: &str) -> (Option<BTreeSet<String>>, Vec<Json>) {
        let builtin = |kind: &str| serde_json::json!({ kind: {} });
        let definition = match name {
            "null" | "boolean" | "number" | "string" => builtin(name),
            "sequence" => serde_json::json!({"sequence": {"item-type": "any"}}),
            "any" => builtin("any"),
            name => self.definitions[name].clone(),
        };
        let scope = definition.get("context").map(|context| {
            let names = context.as_array().unwrap().iter();
            names.map(|name| name.as_str().unwrap().split('(').next().unwrap().to_owned()).collect()
        });
        match definition.get("one-of") {
            None => (scope, vec![definition]),
            Some(names) => {
                let names = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                // Only GitHub's runner has plugins.
                let names = names.filter(|name| *name != "plugin-runs");
                (scope, names.flat_map(|name| self.resolve(name).1).collect())
            }
        }
    }

    fn theirs(&self, name: &str) -> (Facts, Vec<Json>, Vec<Json>) {
        let (scope, definitions) = self.resolve(name);
        let mut facts = Facts { scope, kinds: BTreeSet::new() };
        let (mut lists, mut mappings) = (Vec::new(), Vec::new());
        for definition in definitions {
            let has = |key: &str| definition.get(key).is_some();
            if let Some(string) = definition.get("string") {
                facts.kinds.insert(match string.get("constant") {
                    Some(word) => format!("word {}", word.as_str().unwrap()),
                    None if string.get("require-non-empty").is_some() => "name".into(),
                    None => "text".into(),
                });
            } else if let Some(words) = definition.get("allowed-values") {
                let words = words.as_array().unwrap().iter();
                facts.kinds.extend(words.map(|word| format!("word {}", word.as_str().unwrap())));
            } else if let Some(list) = definition.get("sequence") {
                facts.kinds.insert("list".into());
                lists.push(list["item-type"].clone());
            } else if let Some(mapping) = definition.get("mapping") {
                facts.kinds.insert("mapping".into());
                mappings.push(mapping.clone());
            } else {
                let kind = ["null", "boolean", "number", "any"].into_iter().find(|kind| has(kind));
                facts.kinds.insert(kind.unwrap().into());
            }
        }
        (facts, lists, mappings)
    }

    fn ours(rule: &Rule) -> (Facts, Vec<&'static Rule>, Vec<&'static Mapping>) {
        let scope = rule.scope.map(|scope| {
            let status = ["always", "failure", "cancelled", "success"];
            let status = status.into_iter().filter(|_| scope.status_functions);
            let hash = ["hashFiles"].into_iter().filter(|_| scope.hash_files);
            scope.contexts.iter().copied().chain(status).chain(hash).map(str::to_owned).collect()
        });
        let mut facts = Facts { scope, kinds: BTreeSet::new() };
        let (mut lists, mut mappings) = (Vec::new(), Vec::new());
        for shape in rule.shapes {
            let kind = match shape {
                Shape::Null => "null",
                Shape::Boolean => "boolean",
                Shape::Number => "number",
                Shape::Text | Shape::Condition => "text",
                Shape::Name => "name",
                Shape::Any => "any",
                Shape::Words(words) => {
                    facts.kinds.extend(words.iter().map(|word| format!("word {word}")));
                    continue;
                }
                Shape::Event => {
                    facts.kinds.extend(EVENTS.iter().map(|event| format!("word {}", event.name)));
                    continue;
                }
                Shape::List(item) => {
                    lists.push(*item);
                    "list"
                }
                Shape::Mapping(mapping) => {
                    mappings.push(*mapping);
                    "mapping"
                }
                Shape::Events => "mapping",
            };
            facts.kinds.insert(kind.to_owned());
        }
        (facts, lists, mappings)
    }

    fn compare(&mut self, path: &str, rule: &Rule, name: &str) {
        if !self.seen.insert((std::ptr::from_ref(rule).addr(), name.to_owned())) {
            return;
        }
        let (ours, our_lists, our_mappings) = Self::ours(rule);
        let (theirs, their_lists, their_mappings) = self.theirs(name);
        if ours.scope != theirs.scope {
            self.differ(path, "scope", &format!("{:?}, not {:?}", ours.scope, theirs.scope));
        }
        for kind in ours.kinds.symmetric_difference(&theirs.kinds) {
            let named = match kind.strip_prefix("word ") {
                Some(event) if path.starts_with("on") => format!("event {event}"),
                // A word of theirs is a name of ours.
                Some(_) => "words".to_owned(),
                None if kind == "name" && path.ends_with("inputs.*.type") => "words".to_owned(),
                None => kind.clone(),
            };
            self.differ(path, &named, kind);
        }
        for (ours, theirs) in our_lists.iter().zip(&their_lists) {
            self.compare(&format!("{path}[]"), ours, theirs.as_str().unwrap());
        }
        if rule.shapes.iter().any(|shape| matches!(shape, Shape::Events)) {
            return self.events(&their_mappings[0]);
        }
        if our_mappings.len() != their_mappings.len() {
            return self.differ(path, "mappings", "another number of them");
        }
        for (ours, theirs) in our_mappings.iter().zip(&their_mappings) {
            self.mappings(path, ours, theirs);
        }
    }

    fn mappings(&mut self, path: &str, ours: &'static Mapping, theirs: &Json) {
        let path_of = |key: &str| format!("{path}.{key}").trim_start_matches('.').to_owned();
        let mut keys: BTreeMap<String, (String, bool)> = properties(theirs);
        for key in ours.keys {
            match keys.remove(key.name) {
                None => self.differ(&path_of(key.name), "key", "not in the schema"),
                Some((name, required)) => {
                    if required != key.required {
                        self.differ(&path_of(key.name), "required", &required.to_string());
                    }
                    self.compare(&path_of(key.name), key.rule, &name);
                }
            }
        }
        for key in keys.keys() {
            self.differ(&path_of(key), "key", "not in the table");
        }
        match (ours.others, theirs.get("loose-value-type")) {
            (None, None) => {}
            (Some(rule), Some(name)) => self.compare(&path_of("*"), rule, name.as_str().unwrap()),
            (ours, _) => self.differ(path, "other keys", &ours.is_some().to_string()),
        }
    }

    fn events(&mut self, theirs: &Json) {
        let mut keys = properties(theirs);
        for event in &EVENTS {
            let Some((name, _)) = keys.remove(event.name) else {
                self.differ(event.name, "event", "not in the schema");
                continue;
            };
            if let Some(rule) = event.own {
                self.compare(event.name, rule, &name);
                continue;
            }
            let (_, _, mappings) = self.theirs(&name);
            let mut asked = mappings.first().map(properties).unwrap_or_default();
            let types = asked.remove(keys::TYPES).map(|(name, _)| self.theirs(&name).0.kinds);
            let mut types: BTreeSet<String> = types.unwrap_or_default();
            types.remove("list");
            let ours: BTreeSet<String> =
                event.types.iter().map(|name| format!("word {name}")).collect();
            if ours != types {
                self.differ(event.name, "types", &format!("{ours:?}, not {types:?}"));
            }
            let ours: BTreeSet<String> = event.filters.iter().map(|name| (*name).into()).collect();
            if ours != asked.keys().cloned().collect() {
                self.differ(event.name, "filters", &format!("{ours:?}, not {asked:?}"));
            }
            for (name, _) in asked.values() {
                self.compare("a filter", &NAME_OR_NAMES, name);
            }
        }
        for key in keys.keys() {
            self.differ(key, "event", "not in the table");
        }
    }
}

fn properties(mapping: &Json) -> BTreeMap<String, (String, bool)> {
    let properties = mapping.get("properties").and_then(Json::as_object);
    let properties = properties.into_iter().flatten();
    let property = |(key, value): (&String, &Json)| match value {
        Json::String(name) => (key.clone(), (name.clone(), false)),
        value => {
            let name = value["type"].as_str().unwrap().to_owned();
            (key.clone(), (name, value["required"] == true))
        }
    };
    properties.map(property).collect()
}

/// Compares a rule with a schema, from its root on; `None` where the schema is absent.
fn compare_all(schema: &str, rule: &Rule, root: &str) -> Option<Comparison> {
    if !Path::new(schema).is_file() {
        assert!(std::env::var_os("CI").is_none(), "{schema} is absent");
        eprintln!("skipped: {schema} is absent; `cargo xtask test` installs it");
        return None;
    }
    let text = std::fs::read_to_string(schema).unwrap();
    let schema: Json = serde_json::from_str(&text).unwrap();
    let definitions = schema["definitions"].as_object().unwrap().clone();
    let mut comparison = Comparison { definitions, seen: HashSet::new(), different: Vec::new() };
    comparison.compare("", rule, root);
    Some(comparison)
}

#[test]
fn the_table_is_the_schema_of_github() {
    let Some(comparison) = compare_all(SCHEMA, &WORKFLOW, "workflow-root-strict") else { return };
    assert_eq!(comparison.different, Vec::<String>::new());
    assert!(comparison.seen.len() > 80, "only {} places compared", comparison.seen.len());
}

#[test]
fn the_table_of_manifests_is_the_schema_of_github() {
    let Some(comparison) = compare_all(ACTION_SCHEMA, &ACTION, "action-root") else { return };
    assert_eq!(comparison.different, Vec::<String>::new());
    assert!(comparison.seen.len() > 20, "only {} places compared", comparison.seen.len());
}
