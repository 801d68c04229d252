//! Text with `${{ expressions }}` in it, and conditions.

use std::fmt::Write as _;

use crate::diagnostic::Span;
use crate::expr::{Contexts, EvalError, Expr, JobStatus, Value, push};

/// What begins an expression; `}}` ends it.
pub(crate) const OPEN: &str = "${{";

/// A text that may hold expressions.
#[derive(Debug, Clone)]
pub struct Template {
    /// Where it stands.
    pub span: Span,
    parts: Vec<Part>,
}

/// A piece of a template.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Text(String),
    /// An expression, and where it stands with what is around it.
    Expression(Expr, Span),
}

impl Template {
    /// Makes a template of text that holds no expression.
    pub fn literal(span: Span, text: impl Into<String>) -> Self {
        Self { span, parts: vec![Part::Text(text.into())] }
    }

    pub(crate) fn of(span: Span, parts: Vec<Part>) -> Self {
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
            [Part::Expression(expr, _)] => expr.evaluate(contexts),
            parts => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Text(literal) => push(&mut text, literal)?,
                        Part::Expression(expr, _) => {
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

    /// Writes the template as one expression, as GitHub does: `format('echo {0}', github.sha)`.
    pub fn as_expression(&self) -> String {
        if let [Part::Expression(expr, _)] = self.parts.as_slice() {
            return expr.text().to_owned();
        }
        let mut text = String::new();
        let mut arguments = String::new();
        let mut count = 0;
        for part in &self.parts {
            match part {
                Part::Text(literal) => {
                    let escaped = literal.replace('\'', "''").replace('{', "{{");
                    text.push_str(&escaped.replace('}', "}}"));
                }
                Part::Expression(expr, _) => {
                    let _ = write!(text, "{{{count}}}");
                    arguments.push_str(", ");
                    arguments.push_str(expr.text());
                    count += 1;
                }
            }
        }
        format!("format('{text}'{arguments})")
    }

    /// Returns true when an expression in it reads the context `name`.
    pub fn reads_context(&self, name: &str) -> bool {
        self.expressions().any(|expr| expr.reads_context(name))
    }

    /// Returns true when an expression in it reads one of the `fields` of the context `name`, whatever their case, or the
    /// context as a whole.
    pub fn reads_field(&self, name: &str, fields: &[String]) -> bool {
        let is_read = |path: &Vec<String>| match path.as_slice() {
            [context, rest @ ..] if context.eq_ignore_ascii_case(name) => match rest.first() {
                None => true,
                Some(field) => {
                    field == "*" || fields.iter().any(|known| known.eq_ignore_ascii_case(field))
                }
            },
            _ => false,
        };
        !fields.is_empty() && self.expressions().any(|expr| expr.paths().iter().any(is_read))
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Iterates over the expressions in it, each with its place.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (&Expr, Span)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expression(expr, span) => Some((expr, *span)),
            Part::Text(_) => None,
        })
    }

    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expr> {
        self.placed().map(|(expr, _)| expr)
    }
}

/// The `if` of a job or step.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Where it stands.
    pub span: Span,
    template: Template,
    names_status: bool,
    /// Whether it is written without `${{ }}` around it.
    pub(crate) is_bare: bool,
}

impl Condition {
    pub(crate) fn of(template: Template, is_bare: bool) -> Self {
        let names_status = template.expressions().any(Expr::calls_status_function);
        Self { span: template.span, template, names_status, is_bare }
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

    /// Returns whether the condition holds as it stands: what an action does before and after all steps does not need
    /// success besides.
    ///
    /// # Errors
    ///
    /// As for [`Expr::evaluate`].
    pub fn holds_alone(&self, contexts: &Contexts) -> Result<bool, EvalError> {
        Ok(self.template.evaluate(contexts)?.is_truthy())
    }

    /// Returns whether the condition holds, where that is known; see [`Expr::decide`].
    ///
    /// # Errors
    ///
    /// As for [`crate::expr::Expr::evaluate`].
    pub(crate) fn decide(
        &self,
        contexts: &Contexts,
        is_open: &dyn Fn(&[String]) -> bool,
    ) -> Result<Option<bool>, EvalError> {
        if !self.names_status && contexts.status != JobStatus::Success {
            return Ok(Some(false));
        }
        match self.template.parts() {
            [Part::Expression(expr, _)] => expr.decide(contexts, is_open),
            // With text around it, it is always true.
            _ => self.holds(contexts).map(Some),
        }
    }

    /// Returns true where it names no status function, so that it also asks for success.
    pub(crate) fn needs_success(&self) -> bool {
        !self.names_status
    }

    /// Returns the condition as it is written.
    pub(crate) fn as_expression(&self) -> String {
        self.template.as_expression()
    }

    /// Returns the condition as one expression, with the success that one needs which names no status function.
    pub fn written(&self) -> String {
        let condition = self.template.as_expression();
        if self.names_status { condition } else { format!("{ALONE} && ({condition})") }
    }

    pub(crate) fn template(&self) -> &Template {
        &self.template
    }

    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expr> {
        self.template.expressions()
    }
}

/// The condition of what has none.
pub(crate) const ALONE: &str = "success()";

/// Returns the text that an expression is by itself, as `'this'` is.
pub(crate) fn literal(expr: &str) -> Option<String> {
    let quoted = expr.trim().strip_prefix('\'')?.strip_suffix('\'')?;
    (!quoted.replace("''", "").contains('\'')).then(|| quoted.replace("''", "'"))
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
