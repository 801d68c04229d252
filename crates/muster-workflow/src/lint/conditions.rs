//! `if`: conditions that are always the same.

use super::Lint;
use crate::Condition;
use crate::diagnostic::Rule;
use crate::expr::{Contexts, Function, JobStatus, Node};
use crate::template::Part;

/// Says of a condition that it is always true, or never.
pub(super) fn check(lint: &mut Lint<'_>, condition: &Condition) {
    let [Part::Expression(expr, _)] = condition.template().parts() else {
        // A text with something beside an expression is a text that is not empty.
        let message = "this is always true: there is text around `${{ }}`";
        let hint = "write the whole condition as one expression";
        return lint.say_with_hint(condition.span, Rule::IfCond, message, hint);
    };
    if !is_constant(&expr.node) {
        return;
    }
    let contexts = Contexts::new().with_status(JobStatus::Success);
    let message = match expr.evaluate(&contexts) {
        Ok(value) if value.is_truthy() => format!("`{}` is always true", expr.text()),
        Ok(_) => format!("`{}` is never true", expr.text()),
        Err(error) => format!("`{}` is always wrong: {error}", expr.text()),
    };
    lint.say(condition.span, Rule::IfCond, message);
}

/// Returns true where nothing is asked of the run.
fn is_constant(node: &Node) -> bool {
    match node {
        Node::Literal(_) => true,
        Node::Context(_) | Node::Index { .. } | Node::Filter(_) => false,
        Node::Not(of) => is_constant(of),
        Node::All(nodes) | Node::Any(nodes) => nodes.iter().all(is_constant),
        Node::Compare { left, right, .. } => is_constant(left) && is_constant(right),
        Node::Call { function, arguments } => {
            let asks = function.is_status() || *function == Function::HashFiles;
            !asks && arguments.iter().all(is_constant)
        }
    }
}
