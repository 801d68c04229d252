//! `strategy.matrix`: values that are twice in a vector, and excludes that match none.

use super::Lint;
use crate::diagnostic::Rule;
use crate::keys;
use crate::token::{Kind, Token};

impl Lint<'_> {
    pub(super) fn matrix(&mut self, matrix: &Token) {
        let is_vector = |name: Option<&str>| !matches!(name, Some(keys::INCLUDE | keys::EXCLUDE));
        let vectors = matrix.pairs().iter().filter(|pair| is_vector(pair.key.text()));
        for pair in vectors {
            let items = pair.value.items();
            for (place, item) in items.iter().enumerate() {
                if !item.is_computed() && items[..place].iter().any(|before| same(before, item)) {
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
        for pair in excludes.iter().flat_map(|item| item.pairs()) {
            let Some(name) = pair.key.text() else { continue };
            let vector = matrix.get(name);
            if vector.is_some_and(|vector| matches!(vector.kind, Kind::Expression(_))) {
                continue;
            }
            let included = include.map(Token::items).unwrap_or_default().iter();
            let included = included.filter_map(|item| item.get(name));
            let mut values =
                vector.map(Token::items).unwrap_or_default().iter().chain(included).peekable();
            // That there is no such vector is said where the file is read.
            if values.peek().is_some() && !values.any(|value| has(value, &pair.value)) {
                let message = format!("no value of `{name}` in the matrix is matched by this");
                self.say(pair.value.span, Rule::Matrix, message);
            }
        }
    }
}

/// Returns the text that scalars are compared by.
fn text(token: &Token) -> Option<String> {
    match &token.kind {
        Kind::Text(_) | Kind::Bool(_) | Kind::Number(_) | Kind::Null => {
            token.evaluate(&crate::expr::Contexts::new()).ok().map(|value| value.to_string())
        }
        _ => None,
    }
}

fn same(a: &Token, b: &Token) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Map(left), Kind::Map(right)) => left.len() == right.len() && within(a, b, same),
        (Kind::List(left), Kind::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(a, b)| same(a, b))
        }
        _ => text(a).is_some() && text(a) == text(b),
    }
}

/// Returns true when each pair of `part` is in `whole`.
fn within(whole: &Token, part: &Token, matches: fn(&Token, &Token) -> bool) -> bool {
    part.pairs().iter().all(|pair| {
        let name = pair.key.text().unwrap_or_default();
        whole.get(name).is_some_and(|value| matches(value, &pair.value))
    })
}

/// Returns true when `value` has all that `part` asks for; what is computed may be anything.
fn has(value: &Token, part: &Token) -> bool {
    let is_computed = |token: &Token| matches!(token.kind, Kind::Expression(_));
    if is_computed(value) || is_computed(part) {
        return true;
    }
    match (&value.kind, &part.kind) {
        (Kind::Map(_), Kind::Map(_)) => within(value, part, has),
        (Kind::List(a), Kind::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| has(a, b))
        }
        _ => text(value).is_some() && text(value) == text(part),
    }
}
