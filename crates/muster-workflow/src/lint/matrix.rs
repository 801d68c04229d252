//! `strategy.matrix`: values that are twice in a vector, and excludes that match none.

use std::collections::{HashMap, HashSet};

use super::Lint;
use crate::diagnostic::Rule;
use crate::expr::{Contexts, Value};
use crate::keys;
use crate::strategy::Filter;
use crate::token::{Kind, Token};

impl Lint<'_> {
    pub(super) fn matrix(&mut self, matrix: &Token) {
        let is_vector = |name: Option<&str>| !matches!(name, Some(keys::INCLUDE | keys::EXCLUDE));
        let vectors = matrix.pairs().iter().filter(|pair| is_vector(pair.key.text()));
        for pair in vectors {
            let mut seen = HashSet::new();
            for item in pair.value.items() {
                if is_written(item) && !seen.insert(form(item)) {
                    let name = pair.key.text().unwrap_or_default();
                    let message = format!("this value is already in matrix vector `{name}`");
                    self.say(item.span, Rule::Matrix, message);
                }
            }
        }
        let include = matrix.get(keys::INCLUDE);
        let is_open = |token: &Token| {
            matches!(token.kind, Kind::Expression(_))
                || token.items().iter().any(|item| matches!(item.kind, Kind::Expression(_)))
        };
        if include.is_some_and(is_open) {
            return;
        }
        let mut rows: HashMap<&str, Option<Vec<Value>>> = HashMap::new();
        let excludes = matrix.get(keys::EXCLUDE).map(Token::items).unwrap_or_default();
        let mut left = MOST_COMPARED;
        for pair in excludes.iter().flat_map(|item| item.pairs()) {
            let Some(name) = pair.key.text() else { continue };
            let row = rows.entry(name).or_insert_with(|| row(matrix, include, name));
            let (Some(row), Some(part)) = (row, known(&pair.value)) else { continue };
            left = left.saturating_sub(row.len());
            if left == 0 {
                return;
            }
            // That there is no such vector is said where the file is read.
            let filter = Filter::of_value(&part);
            if !row.is_empty() && !row.iter().any(|value| filter.matches_value(value)) {
                let message = format!("no value of `{name}` in the matrix is matched by this");
                self.say(pair.value.span, Rule::Matrix, message);
            }
        }
    }
}

/// So many values are compared; of what is beyond nothing is said.
const MOST_COMPARED: usize = 200_000;

/// Returns the values that a name has in a matrix; `None` where some of them are computed.
fn row(matrix: &Token, include: Option<&Token>, name: &str) -> Option<Vec<Value>> {
    let vector = matrix.get(name);
    if vector.is_some_and(|vector| matches!(vector.kind, Kind::Expression(_))) {
        return None;
    }
    let included = include.map(Token::items).unwrap_or_default().iter();
    let included = included.filter_map(|item| item.get(name));
    vector.map(Token::items).unwrap_or_default().iter().chain(included).map(known).collect()
}

/// Returns the value, where nothing in it is computed.
fn known(token: &Token) -> Option<Value> {
    if is_written(token) { token.evaluate(&Contexts::new()).ok() } else { None }
}

/// Returns true where nothing in a value is computed, or wrong.
fn is_written(token: &Token) -> bool {
    match &token.kind {
        Kind::List(items) => items.iter().all(is_written),
        Kind::Map(pairs) => {
            pairs.iter().all(|pair| is_written(&pair.value)) && !token.is_computed()
        }
        Kind::Wrong => false,
        _ => !token.is_computed(),
    }
}

/// Writes a value so that equal ones are written the same.
fn form(token: &Token) -> String {
    match &token.kind {
        Kind::Map(pairs) => {
            let mut parts: Vec<String> = pairs
                .iter()
                .map(|pair| {
                    format!("{:?}:{}", pair.key.text().unwrap_or_default(), form(&pair.value))
                })
                .collect();
            parts.sort_unstable();
            format!("{{{}}}", parts.join(","))
        }
        Kind::List(items) => format!("[{}]", items.iter().map(form).collect::<Vec<_>>().join(",")),
        _ => format!("{:?}", known(token).map(|value| value.to_string())),
    }
}
