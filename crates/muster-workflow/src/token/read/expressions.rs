//! Texts with expressions in them.

use super::{Broken, Places, Reader, Token, Within};
use crate::diagnostic::{Problem, Span};
use crate::expr::{ParseError, Scope, TOO_LONG, is_too_long, parse};
use crate::template::{OPEN, Part, Template, closing, literal};
use crate::token::Kind;

/// GitHub makes a text with expressions one call of `format`, which takes 255 parameters.
const MAX_EXPRESSIONS: usize = 254;

impl Reader<'_> {
    /// Reads a text with the expressions in it.
    pub(super) fn text(&mut self, text: String, span: Span, scope: Within) -> Token {
        if !text.contains(OPEN) {
            return Token { span, kind: Kind::Text(text) };
        }
        let before = self.problems.len();
        let kind = self.expressions(&text, span, scope);
        let is_wrong = self.problems.len() > before;
        self.at_text(before, span);
        Token { span, kind: if is_wrong { Kind::Wrong } else { kind } }
    }

    /// Says what was found in a text since `before` as GitHub does, where that is asked for.
    pub(super) fn at_text(&mut self, before: usize, span: Span) {
        if self.places == Places::Texts {
            self.problems.truncate(before + 1);
            self.problems.iter_mut().skip(before).for_each(|problem| problem.span = span);
        }
    }

    fn expressions(&mut self, text: &str, span: Span, scope: Within) -> Kind {
        let source = self.source.get(span.start..span.end).unwrap_or_default();
        // In the source there are as many beginnings as in the value, in the same order.
        let mut places = source.match_indices(OPEN).map(|(at, _)| span.start + at);
        let mut rest = text;
        let mut parts = Vec::new();
        let mut count = 0;
        while let Some(open) = rest.find(OPEN) {
            count += 1;
            if count > MAX_EXPRESSIONS {
                let message = format!("a text has at most {MAX_EXPRESSIONS} expressions");
                self.problems.push(Problem::invalid(span, message).of(Broken::Expression));
                return Kind::Wrong;
            }
            let inside = &rest[open + OPEN.len()..];
            let Some(close) = closing(inside) else {
                let problem = Problem::invalid(span, "`${{` is never closed with `}}`");
                self.problems.push(problem.of(Broken::Expression));
                return Kind::Wrong;
            };
            if open > 0 {
                parts.push(Part::Text(rest[..open].to_owned()));
            }
            let len = OPEN.len() + close + 2;
            let at = match places.next() {
                Some(start) => Span { start, end: (start + len).min(span.end) },
                None => span,
            };
            let is_alone = parts.is_empty() && inside.len() == close + 2;
            let expr = inside[..close].trim();
            rest = &inside[close + 2..];
            // A text in quotes is that text, wherever it stands.
            if is_alone
                && !is_too_long(expr)
                && let Some(text) = literal(expr)
            {
                return Kind::Text(text);
            }
            let Some(scope) = scope else {
                let problem = Problem::invalid(at, "an expression is not allowed here");
                self.problems.push(problem.of(Broken::Expression));
                continue;
            };
            if expr == "insert" && is_alone {
                return Kind::Insert;
            }
            parts.extend(self.expression(expr, at, scope));
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        let template = Template::of(span, parts);
        // A text that holds expressions is one itself, with all that is around them.
        if is_too_long(&template.as_expression()) {
            self.problems.push(Problem::invalid(span, TOO_LONG).of(Broken::Expression));
            return Kind::Wrong;
        }
        Kind::Expression(template)
    }

    /// Reads one expression; `span` is where it stands, with what is around it.
    pub(super) fn expression(&mut self, text: &str, span: Span, scope: Scope<'_>) -> Option<Part> {
        if text.trim().is_empty() {
            let problem = Problem::invalid(span, "an expression is expected within `${{ }}`");
            self.problems.push(problem.of(Broken::Expression));
            return None;
        }
        match parse(text, scope) {
            Ok(expr) => Some(Part::Expression(expr, span)),
            Err(error) => {
                let span = self.within(text, span, &error);
                let problem = Problem::invalid(span, error.message);
                self.problems.push(problem.of(Broken::Expression));
                None
            }
        }
    }

    /// Finds the place of an error in the source, where the expression is written there as it is read.
    fn within(&self, text: &str, span: Span, error: &ParseError) -> Span {
        let source = self.source.get(span.start..span.end).unwrap_or_default();
        match source.find(text) {
            Some(at) => {
                let start = span.start + at + error.at;
                Span { start, end: start + error.len }
            }
            None => span,
        }
    }
}
