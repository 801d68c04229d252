//! `strategy` and its matrix.

use super::fields::Reader;
use crate::expr::Value;
use crate::scopes;
use crate::workflow::{Matrix, Setting, Strategy};
use crate::yaml::{Node, Yaml};

impl Reader {
    pub(super) fn strategy(&mut self, node: &Node) -> Strategy {
        let mut strategy = Strategy { matrix: None, fail_fast: Setting::Fixed(true) };
        for entry in self.mapping(node, "`strategy`").unwrap_or_default() {
            match entry.key.as_str() {
                "matrix" => strategy.matrix = self.matrix(&entry.value),
                "fail-fast" => {
                    strategy.fail_fast = self.flag(&entry.value, "`fail-fast`", scopes::STRATEGY);
                }
                _ => {
                    let known = ["matrix", "fail-fast"];
                    self.unknown_key(entry, "`strategy`", &known, &["max-parallel"]);
                }
            }
        }
        strategy
    }

    fn matrix(&mut self, node: &Node) -> Option<Matrix> {
        if matches!(&node.yaml, Yaml::String(text) if text.contains("${{")) {
            self.unsupported(node.span, "a matrix that is computed");
            return None;
        }
        let mut matrix = Matrix::default();
        let refused_before = self.problems.len();
        for entry in self.mapping(node, "`matrix`")? {
            match entry.key.as_str() {
                "include" => matrix.include = self.combinations(&entry.value, "`include`"),
                "exclude" => matrix.exclude = self.combinations(&entry.value, "`exclude`"),
                key => match &entry.value.yaml {
                    Yaml::Sequence(items) if items.is_empty() => {
                        self.invalid(entry.value.span, format!("matrix vector `{key}` is empty"));
                    }
                    Yaml::Sequence(items) => {
                        let values = items.iter().map(|item| self.fixed(item)).collect();
                        matrix.vectors.push((key.to_owned(), values));
                    }
                    Yaml::String(text) if text.contains("${{") => {
                        self.unsupported(entry.value.span, "a matrix vector that is computed");
                    }
                    _ => self.wrong_kind(&entry.value, &format!("matrix vector `{key}`"), "a list"),
                },
            }
        }
        let refused = self.problems.len() > refused_before;
        if matrix.vectors.is_empty() && matrix.include.is_empty() && !refused {
            self.invalid(node.span, "`matrix` has no vector and no `include`");
        }
        Some(matrix)
    }

    fn combinations(&mut self, node: &Node, what: &str) -> Vec<Vec<(String, Value)>> {
        if matches!(&node.yaml, Yaml::String(text) if text.contains("${{")) {
            self.unsupported(node.span, format!("{what} that is computed"));
            return Vec::new();
        }
        let Yaml::Sequence(items) = &node.yaml else {
            self.wrong_kind(node, what, "a list of mappings");
            return Vec::new();
        };
        let mut combinations = Vec::new();
        for item in items {
            let entries = self.mapping(item, &format!("an item of {what}")).unwrap_or_default();
            combinations.push(
                entries.iter().map(|entry| (entry.key.clone(), self.fixed(&entry.value))).collect(),
            );
        }
        combinations
    }

    /// Reads a value that must be written down.
    fn fixed(&mut self, node: &Node) -> Value {
        if holds_expression(node) {
            self.unsupported(node.span, "an expression in a matrix value");
        }
        node.to_value()
    }
}

fn holds_expression(node: &Node) -> bool {
    match &node.yaml {
        Yaml::String(text) => text.contains("${{"),
        Yaml::Sequence(items) => items.iter().any(holds_expression),
        Yaml::Mapping(entries) => entries.iter().any(|entry| holds_expression(&entry.value)),
        _ => false,
    }
}
