//! `strategy.matrix`: values that are twice in a vector, and excludes that match none.

use std::collections::{HashMap, HashSet};

use super::Lint;
use crate::diagnostic::Rule;
use crate::keys;
use crate::token::{Kind, Token};

impl Lint<'_> {
    pub(super) fn matrix(&mut self, matrix: &Token) {
        let is_vector = |name: Option<&str>| !matches!(name, Some(keys::INCLUDE | keys::EXCLUDE));
        let vectors = matrix.pairs().iter().filter(|pair| is_vector(pair.key.text()));
        for pair in vectors {
            let mut seen = HashSet::new();
            for item in pair.value.items() {
                if !item.is_computed() && !seen.insert(form(item)) {
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
        let excludes = matrix.get(keys::EXCLUDE).map(Token::items).unwrap_or_default();
        let mut rows: HashMap<&str, Row<'_>> = HashMap::new();
        for pair in excludes.iter().flat_map(|item| item.pairs()) {
            let Some(name) = pair.key.text() else { continue };
            let row = rows.entry(name).or_insert_with(|| Row::of(matrix, include, name));
            // That there is no such vector is said where the file is read.
            if !row.is_open && !row.values.is_empty() && !row.has(&pair.value) {
                let message = format!("no value of `{name}` in the matrix is matched by this");
                self.say(pair.value.span, Rule::Matrix, message);
            }
        }
    }
}

/// The values that a name has in a matrix.
struct Row<'t> {
    values: Vec<&'t Token>,
    /// The scalars among them.
    texts: HashSet<String>,
    /// Whether it is computed, so that there may be any.
    is_open: bool,
}

impl<'t> Row<'t> {
    fn of(matrix: &'t Token, include: Option<&'t Token>, name: &str) -> Self {
        let vector = matrix.get(name);
        let included = include.map(Token::items).unwrap_or_default().iter();
        let included = included.filter_map(|item| item.get(name));
        let values: Vec<&Token> =
            vector.map(Token::items).unwrap_or_default().iter().chain(included).collect();
        Self {
            texts: values.iter().filter_map(|value| text(value)).collect(),
            is_open: vector.is_some_and(|vector| matches!(vector.kind, Kind::Expression(_)))
                || values.iter().any(|value| value.is_computed()),
            values,
        }
    }

    /// Returns true when one of the values has all that `part` asks for.
    fn has(&self, part: &Token) -> bool {
        match text(part) {
            Some(text) => self.texts.contains(&text),
            None => self.values.iter().take(MOST_COMPARED).any(|value| has(value, part)),
        }
    }
}

/// So many values are compared with one that has parts; of more nothing is said.
const MOST_COMPARED: usize = 256;

/// Returns the text that scalars are compared by.
fn text(token: &Token) -> Option<String> {
    match &token.kind {
        Kind::Text(_) | Kind::Bool(_) | Kind::Number(_) | Kind::Null => {
            token.evaluate(&crate::expr::Contexts::new()).ok().map(|value| value.to_string())
        }
        _ => None,
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
        _ => format!("{:?}", text(token)),
    }
}

/// Returns true when `value` has all that `part` asks for; what is computed may be anything.
fn has(value: &Token, part: &Token) -> bool {
    let is_computed = |token: &Token| matches!(token.kind, Kind::Expression(_));
    if is_computed(value) || is_computed(part) {
        return true;
    }
    match (&value.kind, &part.kind) {
        (Kind::Map(_), Kind::Map(pairs)) => pairs.iter().all(|pair| {
            let name = pair.key.text().unwrap_or_default();
            value.get(name).is_some_and(|value| has(value, &pair.value))
        }),
        (Kind::List(a), Kind::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| has(a, b))
        }
        _ => text(value).is_some() && text(value) == text(part),
    }
}
