//! The expression language: what stands inside `${{ … }}`.
//!
//! Owns lexing, parsing and evaluation. Follows GitHub's reference for
//! [expressions](https://docs.github.com/en/actions/reference/workflows-and-actions/expressions)
//! and is measured against GitHub's own evaluator cases (see `tests.rs`).
//! It never does I/O: a function that needs a file system is given to it as a host function.

mod eval;
mod functions;
mod lex;
mod parse;
#[cfg(test)]
mod tests;
mod value;

pub(crate) use eval::index;
pub use eval::{Contexts, EvalError, Hashes, JobStatus};
pub(crate) use functions::{Function, push};
pub(crate) use lex::Operator;
pub use parse::{Expr, ParseError, ParseErrorKind, Scope, parse};
pub(crate) use parse::{Node, TOO_LONG, is_too_long};
pub use value::{Object, Value};
