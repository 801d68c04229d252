//! A file as the [grammar](crate::grammar) sees it: what each value is, with its expressions read.
//!
//! GitHub's own parser calls these template tokens; whoever reads on finds nothing here that has no place.

mod read;

use crate::diagnostic::Span;
use crate::expr::{Contexts, EvalError, Object, Value};
use crate::template::{Condition, Template};

pub(crate) use read::{Places, read, read_as};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) span: Span,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Wrong, and said to be: whoever reads on says nothing more of it.
    Wrong,
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Expression(Template),
    Condition(Condition),
    /// `${{ insert }}`, as a key: what its value has goes into the mapping.
    Insert,
    List(Vec<Token>),
    Map(Vec<Pair>),
}

/// A key of a mapping and its value.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) key: Token,
    pub(crate) value: Token,
}

/// What GitHub counts for a value, in bytes: the value itself, and the text in it.
const VALUE_BYTES: usize = 24;
const TEXT_BYTES: usize = 26;

impl Token {
    /// Returns the text, where it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the pairs of a mapping; none of anything else.
    pub(crate) fn pairs(&self) -> &[Pair] {
        match &self.kind {
            Kind::Map(pairs) => pairs,
            _ => &[],
        }
    }

    /// Returns the items of a list; none of anything else.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    /// Returns the items of a list, or the value as the only one.
    pub(crate) fn one_or_more(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            _ => std::slice::from_ref(self),
        }
    }

    /// Returns the value under `key`, whatever its case.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let pair = self
            .pairs()
            .iter()
            .find(|pair| pair.key.text().is_some_and(|text| text.eq_ignore_ascii_case(key)));
        pair.map(|pair| &pair.value)
    }

    /// Returns true where an expression stands in it.
    pub(crate) fn is_computed(&self) -> bool {
        match &self.kind {
            Kind::Expression(_) | Kind::Insert | Kind::Condition(_) => true,
            Kind::List(items) => items.iter().any(Self::is_computed),
            Kind::Map(pairs) => {
                pairs.iter().any(|pair| pair.key.is_computed() || pair.value.is_computed())
            }
            Kind::Wrong | Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => false,
        }
    }

    /// Returns true when an expression in it reads the context `name`.
    pub(crate) fn reads_context(&self, name: &str) -> bool {
        match &self.kind {
            Kind::Expression(template) => template.reads_context(name),
            Kind::List(items) => items.iter().any(|item| item.reads_context(name)),
            Kind::Map(pairs) => pairs
                .iter()
                .any(|pair| pair.key.reads_context(name) || pair.value.reads_context(name)),
            _ => false,
        }
    }

    /// Returns the value, with what is computed in it.
    ///
    /// # Errors
    ///
    /// As for [`Template::evaluate`]; what is inserted into a mapping must be one.
    pub(crate) fn evaluate(&self, contexts: &Contexts) -> Result<Value, EvalError> {
        Ok(match &self.kind {
            Kind::Wrong | Kind::Null | Kind::Insert | Kind::Condition(_) => Value::Null,
            Kind::Bool(flag) => Value::Bool(*flag),
            Kind::Number(number) => Value::Number(*number),
            Kind::Text(text) => text.as_str().into(),
            Kind::Expression(template) => template.evaluate(contexts)?,
            Kind::List(items) => {
                let items: Result<Vec<Value>, EvalError> =
                    items.iter().map(|item| item.evaluate(contexts)).collect();
                items?.into()
            }
            Kind::Map(pairs) => {
                let mut object = Object::new();
                for pair in pairs {
                    let value = pair.value.evaluate(contexts)?;
                    match (&pair.key.kind, value) {
                        (Kind::Insert, Value::Object(inserted)) => {
                            for (key, value) in inserted.iter() {
                                object.insert(key, value.clone());
                            }
                        }
                        (Kind::Insert, other) => {
                            let kind = other.kind();
                            let message =
                                format!("what is inserted must be an object, this is a {kind}");
                            return Err(EvalError::new(message));
                        }
                        (_, value) => {
                            object.insert(pair.key.evaluate(contexts)?.to_string(), value);
                        }
                    }
                }
                object.into()
            }
        })
    }

    /// Returns how many bytes GitHub counts for it and all that is in it.
    pub(crate) fn bytes(&self) -> usize {
        let text = |text: &str| VALUE_BYTES + TEXT_BYTES + 2 * text.encode_utf16().count();
        match &self.kind {
            Kind::Text(value) => text(value),
            Kind::Expression(template) => text(&template.as_expression()),
            Kind::Condition(condition) => text(&condition.written()),
            Kind::List(items) => VALUE_BYTES + items.iter().map(Self::bytes).sum::<usize>(),
            Kind::Map(pairs) => {
                let pairs = pairs.iter().map(|pair| pair.key.bytes() + pair.value.bytes());
                VALUE_BYTES + pairs.sum::<usize>()
            }
            Kind::Wrong | Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Insert => {
                VALUE_BYTES
            }
        }
    }
}
