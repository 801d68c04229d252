//! Text with `${{ expressions }}` in it, and conditions.

use crate::diagnostic::{Problem, Span};
use crate::expr::{Contexts, EvalError, Expr, JobStatus, Scope, Value, parse, push};

/// How much of an expression a message repeats, in characters.
const MAX_EXCERPT: usize = 80;

/// What begins an expression; `}}` ends it.
pub(crate) const OPEN: &str = "${{";

/// A text that may hold expressions.
#[derive(Debug, Clone)]
pub struct Template {
    /// Where it stands.
    pub span: Span,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Expression(Expr),
}

impl Template {
    /// Makes a template of text that holds no expression.
    pub fn literal(span: Span, text: impl Into<String>) -> Self {
        Self { span, parts: vec![Part::Text(text.into())] }
    }

    /// Reads `text`; every expression that is wrong is one problem.
    pub(crate) fn read(
        text: &str,
        span: Span,
        scope: Scope<'_>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(OPEN) {
            let inside = &rest[open + OPEN.len()..];
            let Some(close) = closing(inside) else {
                problems.push(Problem::invalid(span, "`${{` is never closed with `}}`"));
                break;
            };
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            if inside[..close].trim().is_empty() {
                problems.push(Problem::invalid(span, "an expression is expected within `${{ }}`"));
            }
            parts.extend(expression(&inside[..close], span, scope, problems).map(Part::Expression));
            rest = &inside[close + 2..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Self { span, parts }
    }

    /// Returns the text, when it holds no expression.
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns the value: of a sole expression its own, else the text with all values put in.
    ///
    /// # Errors
    ///
    /// As for [`Expr::evaluate`].
    pub fn evaluate(&self, contexts: &Contexts) -> Result<Value, EvalError> {
        match self.parts.as_slice() {
            [Part::Expression(expr)] => expr.evaluate(contexts),
            parts => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Text(literal) => push(&mut text, literal)?,
                        Part::Expression(expr) => {
                            push(&mut text, &expr.evaluate(contexts)?.to_string())?;
                        }
                    }
                }
                Ok(text.into())
            }
        }
    }

    /// Returns the value as text.
    ///
    /// # Errors
    ///
    /// As for [`Expr::evaluate`].
    pub fn text(&self, contexts: &Contexts) -> Result<String, EvalError> {
        Ok(self.evaluate(contexts)?.to_string())
    }

    /// Returns true when an expression in it reads the context `name`.
    pub fn reads_context(&self, name: &str) -> bool {
        self.expressions().any(|expr| expr.reads_context(name))
    }

    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expr> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(expr) => Some(expr),
            Part::Text(_) => None,
        })
    }
}

/// The `if` of a job or step.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Where it stands.
    pub span: Span,
    template: Template,
    names_status: bool,
}

impl Condition {
    /// Reads an `if`: with or without `${{ }}` around it.
    pub(crate) fn read(
        text: &str,
        span: Span,
        scope: Scope<'_>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let template = if text.contains(OPEN) {
            Template::read(text, span, scope, problems)
        } else {
            let expr = expression(text, span, scope, problems);
            Template { span, parts: expr.into_iter().map(Part::Expression).collect() }
        };
        let names_status = template.expressions().any(Expr::calls_status_function);
        Self { span, template, names_status }
    }

    /// Returns whether the condition holds; one that names no status function also needs success.
    ///
    /// # Errors
    ///
    /// As for [`Expr::evaluate`].
    pub fn holds(&self, contexts: &Contexts) -> Result<bool, EvalError> {
        if !self.names_status && contexts.status != JobStatus::Success {
            return Ok(false);
        }
        Ok(self.template.evaluate(contexts)?.is_truthy())
    }
}

fn expression(
    text: &str,
    span: Span,
    scope: Scope<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Expr> {
    match parse(text, scope) {
        Ok(expr) if expr.calls_hash_files() => {
            problems.push(Problem::unsupported(span, "function `hashFiles`"));
            None
        }
        Ok(expr) => Some(expr),
        Err(error) => {
            let excerpt: String = text.trim().chars().take(MAX_EXCERPT).collect();
            let more = if excerpt.len() < text.trim().len() { "…" } else { "" };
            let message = format!("{} in `{excerpt}{more}`", error.message);
            problems.push(Problem::invalid(span, message));
            None
        }
    }
}

/// Finds the `}}` that ends an expression; one within quotes does not.
pub(crate) fn closing(inside: &str) -> Option<usize> {
    let mut quoted = false;
    let bytes = inside.as_bytes();
    (0..bytes.len()).find(|&at| {
        quoted ^= bytes[at] == b'\'';
        !quoted && bytes[at..].starts_with(b"}}")
    })
}
