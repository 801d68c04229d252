//! The types of expressions: what a value is, as far as a file shows it.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use crate::expr::{Function, Node, Operator, Value};

/// What a value may be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    Any,
    Null,
    Bool,
    Number,
    Text,
    /// A list; `filtered` where `.*` made it, so that what follows is asked of each item.
    List {
        of: Rc<Self>,
        filtered: bool,
    },
    Object(Rc<Fields>),
}

/// What an object has. Shared: a context may have as many fields as a file has lines.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Fields {
    /// By names in lower case.
    known: BTreeMap<String, Type>,
    /// What it has under other names; `None` where it has no others.
    others: Option<Rc<Type>>,
}

impl Type {
    /// An object with these fields alone.
    pub(super) fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let known = fields.into_iter().map(|(name, of)| (name.to_ascii_lowercase(), of)).collect();
        Self::Object(Rc::new(Fields { known, others: None }))
    }

    /// An object whose fields may have any name, and are all of one type.
    pub(super) fn map(of: Self) -> Self {
        Self::Object(Rc::new(Fields { known: BTreeMap::new(), others: Some(Rc::new(of)) }))
    }

    /// An object of which only some fields are known.
    pub(super) fn loose<'a>(fields: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        match Self::object(fields) {
            Self::Object(mut fields) => {
                Rc::make_mut(&mut fields).others = Some(Rc::new(Self::Any));
                Self::Object(fields)
            }
            other => other,
        }
    }

    pub(super) fn list(of: Self) -> Self {
        Self::List { of: Rc::new(of), filtered: false }
    }

    /// Returns the type of a value that is written down.
    pub(super) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(items) => {
                let of = items.iter().map(Self::of).reduce(Self::or).unwrap_or(Self::Any);
                Self::list(of)
            }
            Value::Object(object) => {
                Self::object(object.iter().map(|(name, value)| (name, Self::of(value))))
            }
        }
    }

    /// Returns the fields of an object.
    pub(super) fn fields(&self) -> Option<&Fields> {
        match self {
            Self::Object(fields) => Some(fields.as_ref()),
            _ => None,
        }
    }

    /// Adds a field to an object, or another type that it may be.
    pub(super) fn add(&mut self, name: &str, of: Self) {
        if let Self::Object(fields) = self {
            let fields = Rc::make_mut(fields);
            let name = name.to_ascii_lowercase();
            let of = match fields.known.remove(&name) {
                Some(before) => before.or(of),
                None => of,
            };
            fields.known.insert(name, of);
        }
    }

    /// Returns the type of what is one or the other.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Text, Self::Number | Self::Bool) | (Self::Number | Self::Bool, Self::Text) => {
                Self::Text
            }
            (Self::List { of: a, filtered }, Self::List { of: b, .. }) => {
                Self::List { of: Rc::new(Self::clone(&a).or(Self::clone(&b))), filtered }
            }
            (Self::Object(mut a), Self::Object(b)) => {
                let fields = Rc::make_mut(&mut a);
                for (name, of) in &b.known {
                    let of = match fields.known.remove(name) {
                        Some(before) => before.or(of.clone()),
                        None => of.clone(),
                    };
                    fields.known.insert(name.clone(), of);
                }
                fields.others = match (fields.others.take(), &b.others) {
                    (Some(a), Some(b)) => Some(Rc::new(Self::clone(&a).or(Self::clone(b)))),
                    (a, b) => a.or_else(|| b.clone()),
                };
                Self::Object(a)
            }
            _ => Self::Any,
        }
    }

    /// Returns true where a value of the type `from` may stand for one of this type.
    pub(super) fn takes(&self, from: &Self) -> bool {
        match (self, from) {
            (Self::Any | Self::Bool, _) | (_, Self::Any) => true,
            (Self::Text, Self::Text | Self::Number) => true,
            (Self::Number, Self::Number) | (Self::Null, Self::Null) => true,
            (Self::List { of: a, .. }, Self::List { of: b, .. }) => a.takes(b),
            (Self::Object(a), Self::Object(b)) => {
                let shared = a.known.iter().filter_map(|(name, of)| Some((of, b.known.get(name)?)));
                shared.into_iter().all(|(a, b)| a.takes(b))
            }
            _ => false,
        }
    }

    /// Returns true for what becomes a text in a text.
    pub(super) fn is_scalar(&self) -> bool {
        matches!(self, Self::Any | Self::Bool | Self::Number | Self::Text)
    }
}

impl Fields {
    /// Returns the type of a field: `Err` where there is none of that name.
    fn get(&self, name: &str) -> Result<Type, ()> {
        match self.known.get(&name.to_ascii_lowercase()) {
            Some(of) => Ok(of.clone()),
            None => self.others.as_deref().cloned().ok_or(()),
        }
    }

    /// Returns whether it has fields that are not known.
    pub(super) fn has_others(&self) -> bool {
        self.others.is_some()
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// Returns what all fields may be.
    fn any(&self) -> Option<Type> {
        self.known.values().cloned().chain(self.others.as_deref().cloned()).reduce(Type::or)
    }

    /// Iterates over the fields that are known.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Type)> {
        self.known.iter().map(|(name, of)| (name.as_str(), of))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "anything",
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Number => "a number",
            Self::Text => "a string",
            Self::List { .. } => "an array",
            Self::Object(_) => "an object",
        })
    }
}

/// The types of the contexts at a place.
#[derive(Debug, Clone, Default)]
pub(super) struct Contexts(BTreeMap<&'static str, Type>);

impl Contexts {
    pub(super) fn set(&mut self, name: &'static str, of: Type) {
        self.0.insert(name, of);
    }

    /// Adds a field to a context that is an object.
    pub(super) fn add(&mut self, name: &str, field: &str, of: Type) {
        if let Some(context) = self.0.get_mut(name) {
            context.add(field, of);
        }
    }

    fn get(&self, name: &str) -> Type {
        self.0.get(name.to_ascii_lowercase().as_str()).cloned().unwrap_or(Type::Any)
    }

    /// Returns the type of an expression; what is wrong in it is added to `faults`, as sentences.
    pub(super) fn infer(&self, node: &Node, faults: &mut Vec<String>) -> Type {
        match node {
            Node::Literal(value) => Type::of(value),
            Node::Context(name) => self.get(name),
            Node::Filter(of) => {
                let of = self.infer(of, faults);
                filter(of, faults)
            }
            Node::Index { of, by } => {
                let what = name_of(of);
                let of = self.infer(of, faults);
                match by.as_ref() {
                    Node::Literal(Value::String(name)) => field(&of, name, &what, faults),
                    by => {
                        let by = self.infer(by, faults);
                        index(&of, &by, &what, faults)
                    }
                }
            }
            Node::Not(of) => {
                self.infer(of, faults);
                Type::Bool
            }
            Node::All(nodes) => self.last_of(nodes, false, faults),
            Node::Any(nodes) => self.last_of(nodes, true, faults),
            Node::Compare { operator, left, right } => {
                let (left, right) = (self.infer(left, faults), self.infer(right, faults));
                if !compares(*operator, &left, &right) {
                    faults.push(format!("{left} cannot be compared with {right}"));
                }
                Type::Bool
            }
            Node::Call { function, arguments } => self.call(*function, arguments, faults),
        }
    }

    /// Returns the type of `a && b` or `a || b`: of `a` only what decides before `b` is asked.
    fn last_of(&self, nodes: &[Node], truth: bool, faults: &mut Vec<String>) -> Type {
        let mut of = None;
        for (place, node) in nodes.iter().enumerate() {
            let is_last = place + 1 == nodes.len();
            let next = match node {
                // Where `a && b` is true it is `b`, where `a || b` is false it is `b`.
                Node::All(inner) if truth && !is_last => self.end(inner, faults),
                Node::Any(inner) if !truth && !is_last => self.end(inner, faults),
                node => self.infer(node, faults),
            };
            of = Some(match of {
                Some(before) => Type::or(before, next),
                None => next,
            });
        }
        of.unwrap_or(Type::Any)
    }

    /// Returns the type of the last of several operands.
    fn end(&self, nodes: &[Node], faults: &mut Vec<String>) -> Type {
        nodes.iter().map(|node| self.infer(node, faults)).last().unwrap_or(Type::Any)
    }

    fn call(&self, function: Function, arguments: &[Node], faults: &mut Vec<String>) -> Type {
        let types: Vec<Type> = arguments.iter().map(|node| self.infer(node, faults)).collect();
        let strings = |faults: &mut Vec<String>, name: &str| {
            for of in types.iter().filter(|of| !Type::Text.takes(of)) {
                faults.push(format!("`{name}` takes strings, this is {of}"));
            }
        };
        match function {
            Function::Contains => {
                let fits = match types.as_slice() {
                    [Type::List { .. } | Type::Any, _] => true,
                    [search, item] => Type::Text.takes(search) && Type::Text.takes(item),
                    _ => true,
                };
                if !fits {
                    let message = format!(
                        "`contains` takes two strings, or an array and an item, these are {} and {}",
                        types[0], types[1]
                    );
                    faults.push(message);
                }
                Type::Bool
            }
            Function::StartsWith => {
                strings(faults, "startsWith");
                Type::Bool
            }
            Function::EndsWith => {
                strings(faults, "endsWith");
                Type::Bool
            }
            Function::Format => {
                if let Some(of) = types.first().filter(|of| !Type::Text.takes(of)) {
                    faults.push(format!("`format` takes a string first, this is {of}"));
                }
                if let Some(Node::Literal(Value::String(text))) = arguments.first() {
                    placeholders(text, arguments.len() - 1, faults);
                }
                Type::Text
            }
            Function::Join => {
                if let Some(of) = types.first() {
                    let fits = match of {
                        Type::List { of, .. } => Type::Text.takes(of),
                        of => *of == Type::Any,
                    };
                    if !fits {
                        faults.push(format!("`join` takes an array of strings, this is {of}"));
                    }
                }
                Type::Text
            }
            Function::ToJson => Type::Text,
            Function::FromJson => {
                strings(faults, "fromJSON");
                match arguments.first() {
                    Some(Node::Literal(Value::String(text))) => {
                        match serde_json::from_str::<serde_json::Value>(text) {
                            Ok(json) => Type::of(&Value::from(&json)),
                            Err(error) => {
                                faults
                                    .push(format!("`fromJSON` is given what is no JSON: {error}"));
                                Type::Any
                            }
                        }
                    }
                    _ => Type::Any,
                }
            }
            Function::HashFiles => {
                strings(faults, "hashFiles");
                Type::Text
            }
            Function::Case => Type::Any,
            Function::Success | Function::Failure | Function::Cancelled | Function::Always => {
                Type::Bool
            }
        }
    }
}

/// Names what an expression stands for, where it is a path.
fn name_of(node: &Node) -> String {
    match node {
        Node::Context(name) => name.clone(),
        Node::Index { of, by } => match by.as_ref() {
            Node::Literal(Value::String(name)) => format!("{}.{name}", name_of(of)),
            _ => format!("{}[…]", name_of(of)),
        },
        Node::Filter(of) => format!("{}.*", name_of(of)),
        _ => "this".to_owned(),
    }
}

fn field(of: &Type, name: &str, what: &str, faults: &mut Vec<String>) -> Type {
    match of {
        Type::Any => Type::Any,
        Type::Object(fields) => fields.get(name).unwrap_or_else(|()| {
            let near = crate::words::nearest(name, fields.names());
            let instead = match near {
                Some(near) => format!("; did you mean `{near}`?"),
                None if fields.known.is_empty() => "; it has nothing".to_owned(),
                None => {
                    let names: Vec<&str> = fields.names().take(20).collect();
                    let more = if fields.known.len() > 20 { ", …" } else { "" };
                    format!("; it has: {}{more}", names.join(", "))
                }
            };
            faults.push(format!("`{what}` has no `{name}`{instead}"));
            Type::Any
        }),
        Type::List { of, filtered: true } => match of.as_ref() {
            Type::Any => Type::List { of: Rc::new(Type::Any), filtered: true },
            Type::Object(_) => {
                let of = Rc::new(field(of, name, what, faults));
                Type::List { of, filtered: true }
            }
            other => {
                faults.push(format!("what `{what}` selects is {other}, which has no `{name}`"));
                Type::Any
            }
        },
        other => {
            faults.push(format!("`{what}` is {other}, which has no `{name}`"));
            Type::Any
        }
    }
}

fn index(of: &Type, by: &Type, what: &str, faults: &mut Vec<String>) -> Type {
    match (of, by) {
        (Type::Any, _) => Type::Any,
        (Type::List { of, .. }, Type::Number | Type::Any) => of.as_ref().clone(),
        (Type::List { .. }, by) => {
            faults.push(format!(
                "`{what}` is an array, and must be indexed by a number, not by {by}"
            ));
            Type::Any
        }
        (Type::Object(fields), Type::Text | Type::Any) => {
            fields.others.as_deref().cloned().unwrap_or(Type::Any)
        }
        (Type::Object(_), by) => {
            faults.push(format!(
                "`{what}` is an object, and must be indexed by a string, not by {by}"
            ));
            Type::Any
        }
        (other, _) => {
            faults.push(format!("`{what}` is {other}, which cannot be indexed"));
            Type::Any
        }
    }
}

fn filter(of: Type, faults: &mut Vec<String>) -> Type {
    let filtered = |of: Type| Type::List { of: Rc::new(of), filtered: true };
    match of {
        Type::Any => filtered(Type::Any),
        Type::List { of, .. } => filtered(Type::clone(&of)),
        Type::Object(fields) => {
            let objects = fields
                .known
                .values()
                .chain(fields.others.as_deref())
                .any(|of| matches!(of, Type::Object(_) | Type::Any));
            if !objects {
                faults.push("`.*` selects from an object whose values are no objects".to_owned());
                return Type::Any;
            }
            let of = fields.any().unwrap_or(Type::Any);
            filtered(match of {
                Type::Object(_) => of,
                _ => Type::Any,
            })
        }
        other => {
            faults.push(format!("`.*` selects from an array or an object, this is {other}"));
            Type::Any
        }
    }
}

fn compares(operator: Operator, left: &Type, right: &Type) -> bool {
    match operator {
        Operator::Equal | Operator::NotEqual => match (left, right) {
            (Type::Any | Type::Null, _) => true,
            (Type::Bool | Type::Number | Type::Text, right) => {
                !matches!(right, Type::Object(_) | Type::List { .. })
            }
            (Type::Object(_), right) => matches!(right, Type::Object(_) | Type::Null | Type::Any),
            (Type::List { of: a, .. }, Type::List { of: b, .. }) => compares(operator, a, b),
            (Type::List { .. }, right) => matches!(right, Type::Null | Type::Any),
        },
        _ => {
            matches!(left, Type::Any | Type::Number | Type::Text)
                && matches!(right, Type::Any | Type::Number | Type::Text | Type::List { .. })
        }
    }
}

/// Holds the placeholders of a format text against the arguments.
fn placeholders(text: &str, count: usize, faults: &mut Vec<String>) {
    let mut used = vec![false; count];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '{' {
            continue;
        }
        if chars.next_if_eq(&'{').is_some() {
            continue;
        }
        let mut digits = String::new();
        while let Some(digit) = chars.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        let Ok(place) = digits.parse::<usize>() else { continue };
        if chars.next_if_eq(&'}').is_none() {
            continue;
        }
        match used.get_mut(place) {
            Some(used) => *used = true,
            None => faults.push(format!("`format` has no argument for `{{{place}}}`")),
        }
    }
    for (place, _) in used.iter().enumerate().filter(|(_, used)| !**used) {
        faults.push(format!("`format` does not use its argument `{{{place}}}`"));
    }
}
