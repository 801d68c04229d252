//! The functions of the language: names, parameter counts, and those that need no context.

use std::sync::Arc;

use super::eval::{EvalError, MAX_BYTES, too_large};
use super::value::{Value, fold};

/// A function that an expression can call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Contains,
    StartsWith,
    EndsWith,
    Format,
    Join,
    ToJson,
    FromJson,
    Case,
    HashFiles,
    Success,
    Failure,
    Cancelled,
    Always,
}

/// Returns the function called `name`, whatever its case.
pub(super) fn by_name(name: &str) -> Option<Function> {
    const NAMES: [(&str, Function); 13] = [
        ("contains", Function::Contains),
        ("startsWith", Function::StartsWith),
        ("endsWith", Function::EndsWith),
        ("format", Function::Format),
        ("join", Function::Join),
        ("toJSON", Function::ToJson),
        ("fromJSON", Function::FromJson),
        ("case", Function::Case),
        ("hashFiles", Function::HashFiles),
        ("success", Function::Success),
        ("failure", Function::Failure),
        ("cancelled", Function::Cancelled),
        ("always", Function::Always),
    ];
    NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, function)| *function)
}

impl Function {
    /// Returns true for the functions that ask how the job or its needs went.
    pub(crate) fn is_status(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Cancelled | Self::Always)
    }

    /// Returns what the function takes, when `count` parameters is not that.
    pub(super) fn refuses(self, count: usize) -> Option<&'static str> {
        let (fits, wanted) = match self {
            Self::Contains | Self::StartsWith | Self::EndsWith => (count == 2, "2 parameters"),
            Self::Format => ((1..=255).contains(&count), "1 to 255 parameters"),
            Self::Join => ((1..=2).contains(&count), "1 or 2 parameters"),
            Self::ToJson | Self::FromJson => (count == 1, "1 parameter"),
            Self::Case => (
                count >= 3 && count % 2 == 1,
                "pairs of condition and value and a default (an odd number of parameters)",
            ),
            Self::HashFiles => ((1..=255).contains(&count), "1 to 255 parameters"),
            Self::Success | Self::Failure | Self::Cancelled | Self::Always => {
                (count == 0, "no parameters")
            }
        };
        if fits { None } else { Some(wanted) }
    }
}

/// `contains(search, item)`: a substring, or an element equal to the item.
pub(super) fn contains(search: &Value, item: &Value) -> bool {
    match search {
        Value::Array(items) => items.iter().any(|element| element.loosely_equals(item)),
        Value::Object(_) => false,
        _ if item.is_primitive() => {
            let (search, item) = (folded(search), folded(item));
            search.contains(&item)
        }
        _ => false,
    }
}

/// `startsWith(search, value)`, ignoring case.
pub(super) fn starts_with(search: &Value, value: &Value) -> bool {
    search.is_primitive() && value.is_primitive() && folded(search).starts_with(&folded(value))
}

/// `endsWith(search, value)`, ignoring case.
pub(super) fn ends_with(search: &Value, value: &Value) -> bool {
    search.is_primitive() && value.is_primitive() && folded(search).ends_with(&folded(value))
}

fn folded(value: &Value) -> String {
    value.to_string().chars().map(fold).collect()
}

/// `join(list, separator)`.
pub(super) fn join(list: &Value, separator: &str) -> Result<Value, EvalError> {
    let Value::Array(items) = list else {
        return Ok(match list {
            Value::Object(_) => "".into(),
            single => single.to_string().into(),
        });
    };
    let mut out = String::new();
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            push(&mut out, separator)?;
        }
        push(&mut out, &item.to_string())?;
    }
    Ok(out.into())
}

/// Appends to a text that is built, before it is too large.
pub(crate) fn push(out: &mut String, more: &str) -> Result<(), EvalError> {
    if out.len() + more.len() > MAX_BYTES {
        return Err(too_large());
    }
    out.push_str(more);
    Ok(())
}

/// `format('{0} of {1}', …)`; `argument` evaluates the n-th argument when the text asks for it.
pub(super) fn format(
    text: &str,
    count: usize,
    mut argument: impl FnMut(usize) -> Result<Value, EvalError>,
) -> Result<Value, EvalError> {
    let invalid = || EvalError::new(format!("the format string is invalid: {text}"));
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' | '}' if chars.next_if_eq(&c).is_some() => out.push(c),
            '{' => {
                let mut digits = String::new();
                while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                    digits.push(digit);
                }
                let place: usize = digits.parse().map_err(|_| invalid())?;
                if chars.next() != Some('}') {
                    return Err(invalid());
                }
                if place >= count {
                    return Err(EvalError::new(format!(
                        "the format string asks for more arguments than there are: {text}"
                    )));
                }
                push(&mut out, &argument(place)?.to_string())?;
            }
            '}' => return Err(invalid()),
            other => out.push(other),
        }
    }
    Ok(out.into())
}

/// `toJSON(value)`: two spaces of indentation, keys in their order.
pub(super) fn to_json(value: &Value) -> Result<Value, EvalError> {
    let text = match value {
        Value::Number(number) if !number.is_finite() => value.to_string(),
        _ => serde_json::to_string_pretty(&value.to_json())
            .map_err(|error| EvalError::new(format!("toJSON: {error}")))?,
    };
    Ok(text.into())
}

/// `fromJSON(text)`.
pub(super) fn from_json(text: &str) -> Result<Value, EvalError> {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => Ok(Value::from(&json)),
        // The reference reads the non-finite numbers that it also writes.
        Err(error) => match text.trim() {
            "NaN" | "Infinity" | "-Infinity" => {
                Ok(Value::Number(Value::String(Arc::from(text.trim())).to_number()))
            }
            _ => Err(EvalError::new(format!("fromJSON: {error}"))),
        },
    }
}
