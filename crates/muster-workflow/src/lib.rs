//! The workflow language: GitHub Actions workflow syntax.
//!
//! From text to plan, in this order: [`yaml`](self) reads the file with places, [`read`](read()) makes a
//! typed [`workflow::Workflow`] or says all that is wrong ([`diagnostic`]), [`trigger`] decides
//! whether an event starts it, [`plan`](plan()) makes the jobs of a run out of its [`matrix`]es, and
//! [`expr`] evaluates what is computed.
//!
//! Never does I/O, never asks the time, knows no environment.

mod check;
pub mod cibuild;
pub mod diagnostic;
mod events;
pub mod expr;
mod grammar;
pub mod matrix;
pub mod pattern;
mod plan;
mod read;
mod scopes;
#[cfg(test)]
mod suites;
mod template;
pub mod text;
pub mod trigger;
mod untrusted;
mod words;
pub mod workflow;
mod yaml;

pub use check::check;
pub use plan::{PlannedJob, plan};
pub use read::read;
pub use template::{Condition, Template};
