//! From a tree and the contexts to a value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::functions::{self, Function};
use super::lex::Operator;
use super::parse::{Expr, Node};
use super::value::{Object, Value, format_number};

/// The most bytes that one evaluation may build, against expressions that double their text.
pub(super) const MAX_BYTES: usize = 10 << 20;

pub(super) fn too_large() -> EvalError {
    EvalError::new(format!("the expression builds more than {MAX_BYTES} bytes"))
}

/// How the job (for a step) or the needed jobs (for a job) went so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobStatus {
    /// Nothing failed.
    Success,
    /// Something failed.
    Failure,
    /// The run was cancelled.
    Cancelled,
    /// Nothing failed, but a needed job was skipped: neither success nor failure.
    Skipped,
}

/// What an expression can see.
#[derive(Debug, Clone)]
pub struct Contexts {
    root: Object,
    /// What the status functions answer from.
    pub status: JobStatus,
    /// Whether `cancelled()` holds whatever the status is: of a job that is cancelled, within an action.
    pub is_cancelled: bool,
    /// What `hashFiles` answers.
    pub files: Option<Arc<Hashes>>,
}

/// What `hashFiles` answers, by its parameters. The language reads no file: what it is asked for and does not know it
/// notes, for somebody to [find](Self::asked) out and [tell](Self::tell).
#[derive(Debug, Default)]
pub struct Hashes {
    known: Mutex<BTreeMap<Vec<String>, Result<String, String>>>,
    asked: Mutex<BTreeSet<Vec<String>>>,
}

impl Hashes {
    /// Returns what was asked for since the last time, and is not known.
    pub fn asked(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut *locked(&self.asked)).into_iter().collect()
    }

    /// Says what the hash of files is, or why there is none.
    pub fn tell(&self, patterns: Vec<String>, hash: Result<String, String>) {
        locked(&self.known).insert(patterns, hash);
    }

    /// Forgets all: files have changed.
    pub fn forget(&self) {
        locked(&self.known).clear();
    }

    fn get(&self, patterns: Vec<String>) -> Result<Value, EvalError> {
        match locked(&self.known).get(&patterns) {
            Some(Ok(hash)) => return Ok(hash.as_str().into()),
            Some(Err(why)) => return Err(EvalError::new(format!("hashFiles: {why}"))),
            None => {}
        }
        locked(&self.asked).insert(patterns);
        Err(EvalError::new("hashFiles: it is not known here".to_owned()))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    message: String,
}

impl EvalError {
    pub(crate) fn new(message: String) -> Self {
        Self { message }
    }
}

impl Default for Contexts {
    fn default() -> Self {
        Self::new()
    }
}

impl Contexts {
    /// Returns contexts with nothing in them, and the status success.
    pub fn new() -> Self {
        Self { root: Object::new(), status: JobStatus::Success, is_cancelled: false, files: None }
    }

    /// Sets the context `name`.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.root.insert(name, value);
    }

    /// Sets a field of the context `name`, where that is an object or not set.
    pub fn extend(&mut self, name: &str, field: &str, value: impl Into<Value>) {
        let mut object = match self.root.get(name) {
            Some(Value::Object(object)) => Object::clone(object),
            None => Object::new(),
            Some(_) => return,
        };
        object.insert(field, value);
        self.root.insert(name, object);
    }

    /// Returns the context `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.root.get(name)
    }

    /// Returns these contexts with another status.
    pub fn with_status(&self, status: JobStatus) -> Self {
        let files = self.files.clone();
        Self { root: self.root.clone(), status, is_cancelled: self.is_cancelled, files }
    }
}

impl Expr {
    /// Returns the value of the expression. A context that is not set is null.
    ///
    /// # Errors
    ///
    /// An invalid format string, JSON that does not parse, a `case` condition that is no boolean,
    /// a result over 10 MiB, `hashFiles` (which has no file system here).
    pub fn evaluate(&self, contexts: &Contexts) -> Result<Value, EvalError> {
        let mut evaluator = Evaluator { contexts, bytes: 0 };
        Ok(evaluator.value(&self.node)?.into_value())
    }
}

impl Expr {
    /// Returns whether the value is truthy, where it does not hang on what `is_open` says of a path that it is not
    /// known yet; `None` where it does.
    ///
    /// # Errors
    ///
    /// As for [`Self::evaluate`].
    pub(crate) fn decide(
        &self,
        contexts: &Contexts,
        is_open: &dyn Fn(&[String]) -> bool,
    ) -> Result<Option<bool>, EvalError> {
        Evaluator { contexts, bytes: 0 }.truth(&self.node, is_open)
    }
}

/// A value on its way: the result of `.*` maps further indexes over its elements.
enum Step {
    One(Value),
    Filtered(Vec<Value>),
}

impl Step {
    fn into_value(self) -> Value {
        match self {
            Self::One(value) => value,
            Self::Filtered(values) => values.into(),
        }
    }
}

struct Evaluator<'a> {
    contexts: &'a Contexts,
    bytes: usize,
}

/// What stands where nothing does.
static NOTHING: Value = Value::Null;

impl Evaluator<'_> {
    fn one(&mut self, node: &Node) -> Result<Value, EvalError> {
        Ok(self.value(node)?.into_value())
    }

    /// Returns a value that is there already: a literal, or what a path of names leads to. Most expressions are made
    /// of these, and need no values of their own.
    fn look<'v>(&'v self, node: &'v Node) -> Option<&'v Value> {
        match node {
            Node::Literal(value) => Some(value),
            Node::Context(name) => Some(self.contexts.get(name).unwrap_or(&NOTHING)),
            Node::Index { of, by } => match (self.look(of)?, by.as_ref()) {
                (Value::Object(object), Node::Literal(Value::String(name))) => {
                    Some(object.get(name).unwrap_or(&NOTHING))
                }
                (Value::Null, Node::Literal(_)) => Some(&NOTHING),
                _ => None,
            },
            _ => None,
        }
    }

    fn value(&mut self, node: &Node) -> Result<Step, EvalError> {
        let value = match node {
            Node::Literal(value) => value.clone(),
            Node::Context(name) => self.contexts.get(name).cloned().unwrap_or(Value::Null),
            Node::Filter(of) => return Ok(filter(self.value(of)?)),
            Node::Index { of, by } => {
                if let Some(value) = self.look(node) {
                    return Ok(Step::One(value.clone()));
                }
                let of = self.value(of)?;
                let by = self.one(by)?;
                return Ok(match of {
                    Step::One(value) => Step::One(index(&value, &by).unwrap_or(Value::Null)),
                    Step::Filtered(values) => Step::Filtered(
                        values.iter().filter_map(|value| index(value, &by)).collect(),
                    ),
                });
            }
            Node::Not(of) => {
                let truth = match self.look(of) {
                    Some(value) => value.is_truthy(),
                    None => self.one(of)?.is_truthy(),
                };
                Value::Bool(!truth)
            }
            Node::All(nodes) => self.first(nodes, false)?,
            Node::Any(nodes) => self.first(nodes, true)?,
            Node::Compare { operator, left, right } => {
                if let (Some(left), Some(right)) = (self.look(left), self.look(right)) {
                    return Ok(Step::One(Value::Bool(compare(*operator, left, right))));
                }
                let left = self.one(left)?;
                let right = self.one(right)?;
                Value::Bool(compare(*operator, &left, &right))
            }
            Node::Call { function, arguments } => {
                let value = self.call(*function, arguments)?;
                if let Value::String(text) = &value {
                    self.bytes += text.len();
                    if self.bytes > MAX_BYTES {
                        return Err(too_large());
                    }
                }
                value
            }
        };
        Ok(Step::One(value))
    }

    /// Returns the truth of a node as far as it is known: `false && x` is false, whatever `x` is.
    fn truth(
        &mut self,
        node: &Node,
        is_open: &dyn Fn(&[String]) -> bool,
    ) -> Result<Option<bool>, EvalError> {
        let (nodes, decides) = match node {
            Node::Not(of) => return Ok(self.truth(of, is_open)?.map(|truth| !truth)),
            Node::All(nodes) => (nodes, false),
            Node::Any(nodes) => (nodes, true),
            node if node.paths().iter().any(|path| is_open(path)) => return Ok(None),
            node => return Ok(Some(self.one(node)?.is_truthy())),
        };
        let mut truth = Some(!decides);
        for node in nodes {
            match self.truth(node, is_open)? {
                Some(one) if one == decides => return Ok(Some(decides)),
                Some(_) => {}
                None => truth = None,
            }
        }
        Ok(truth)
    }

    /// Returns the first operand whose truth is `wanted`, else the last.
    fn first(&mut self, nodes: &[Node], wanted: bool) -> Result<Value, EvalError> {
        let mut last = Value::Null;
        for node in nodes {
            last = self.one(node)?;
            if last.is_truthy() == wanted {
                break;
            }
        }
        Ok(last)
    }

    fn call(&mut self, function: Function, arguments: &[Node]) -> Result<Value, EvalError> {
        let status = self.contexts.status;
        match function {
            Function::Success => return Ok((status == JobStatus::Success).into()),
            Function::Failure => return Ok((status == JobStatus::Failure).into()),
            Function::Cancelled => {
                return Ok((status == JobStatus::Cancelled || self.contexts.is_cancelled).into());
            }
            Function::Always => return Ok(true.into()),
            Function::Case => return self.case(arguments),
            Function::HashFiles => {
                let patterns = arguments.iter().map(|node| Ok(self.one(node)?.to_string()));
                let patterns = patterns.collect::<Result<Vec<_>, EvalError>>()?;
                return match &self.contexts.files {
                    Some(files) => files.get(patterns),
                    None => Err(EvalError::new("hashFiles has no files here".to_owned())),
                };
            }
            Function::Contains
            | Function::StartsWith
            | Function::EndsWith
            | Function::Format
            | Function::Join
            | Function::ToJson
            | Function::FromJson => {}
        }
        let first = match arguments.first() {
            Some(node) => self.one(node)?,
            None => Value::Null,
        };
        if function == Function::Format {
            let rest = &arguments[1..];
            // Each is evaluated when the text asks for it first, and once: calls within calls would double each time.
            let mut known: Vec<Option<Value>> = vec![None; rest.len()];
            return functions::format(&first.to_string(), rest.len(), |place| {
                if known[place].is_none() {
                    known[place] = Some(self.one(&rest[place])?);
                }
                Ok(known[place].clone().unwrap_or(Value::Null))
            });
        }
        let second = match arguments.get(1) {
            Some(node) => self.one(node)?,
            None => ",".into(),
        };
        match function {
            Function::Contains => Ok(functions::contains(&first, &second).into()),
            Function::StartsWith => Ok(functions::starts_with(&first, &second).into()),
            Function::EndsWith => Ok(functions::ends_with(&first, &second).into()),
            Function::Join => {
                let separator = if second.is_primitive() { second } else { ",".into() };
                functions::join(&first, &separator.to_string())
            }
            Function::ToJson => functions::to_json(&first),
            _ => functions::from_json(&first.to_string()),
        }
    }

    fn case(&mut self, arguments: &[Node]) -> Result<Value, EvalError> {
        let Some((default, pairs)) = arguments.split_last() else { return Ok(Value::Null) };
        for pair in pairs.chunks_exact(2) {
            match self.one(&pair[0])? {
                Value::Bool(true) => return self.one(&pair[1]),
                Value::Bool(false) => {}
                other => {
                    return Err(EvalError::new(format!(
                        "a case condition must be a boolean, this is a {}",
                        other.kind()
                    )));
                }
            }
        }
        self.one(default)
    }
}

fn compare(operator: Operator, left: &Value, right: &Value) -> bool {
    use std::cmp::Ordering::{Greater, Less};
    let order = || left.loosely_compares(right);
    match operator {
        Operator::Equal => left.loosely_equals(right),
        Operator::NotEqual => !left.loosely_equals(right),
        Operator::Less => order() == Some(Less),
        // What has no order may still be the same.
        Operator::LessOrEqual => left.loosely_equals(right) || order() == Some(Less),
        Operator::Greater => order() == Some(Greater),
        Operator::GreaterOrEqual => left.loosely_equals(right) || order() == Some(Greater),
        // The parser builds `All` and `Any` for these two.
        Operator::And | Operator::Or => false,
    }
}

/// Returns what `of[by]` is; `None` where there is nothing.
pub(crate) fn index(of: &Value, by: &Value) -> Option<Value> {
    match of {
        Value::Object(object) if by.is_primitive() => object.get(&key(by)).cloned(),
        Value::Array(items) if by.is_primitive() => {
            let place = by.to_number().trunc();
            if !(0.0..1e9).contains(&place) {
                return None;
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole and within 0..1e9"
            )]
            items.get(place as usize).cloned()
        }
        _ => None,
    }
}

fn key(by: &Value) -> Arc<str> {
    match by {
        Value::String(text) => Arc::clone(text),
        Value::Number(number) => format_number(*number).into(),
        other => other.to_string().into(),
    }
}

fn filter(of: Step) -> Step {
    let children = |value: &Value| -> Vec<Value> {
        match value {
            Value::Array(items) => items.to_vec(),
            Value::Object(object) => object.iter().map(|(_, value)| value.clone()).collect(),
            _ => Vec::new(),
        }
    };
    Step::Filtered(match of {
        Step::One(value) => children(&value),
        Step::Filtered(values) => values.iter().flat_map(children).collect(),
    })
}
