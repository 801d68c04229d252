//! The workflow language: GitHub Actions workflow syntax.
//!
//! From text to plan, in this order: `yaml` reads the file with places, `token` holds its values against the
//! `grammar` and reads their expressions, [`read`](read()) makes a typed [`workflow::Workflow`] or says all that
//! is wrong ([`diagnostic`]), [`trigger`] decides whether an event starts it, [`Workflows`] gathers the
//! files that it calls and [`call`] checks them, [`plan`](plan()) makes the jobs of a run out of its [`strategy`], and [`expr`] evaluates what is
//! computed. What cannot be run yet is one list, in `support`; [`conformance`] answers the cases of others.
//!
//! Never does I/O, never asks the time, knows no environment.

pub mod call;
mod called;
pub mod cibuild;
pub mod conformance;
pub mod container;
pub mod cron;
pub mod diagnostic;
mod events;
pub mod expr;
mod grammar;
mod inputs;
mod keys;
mod lint;
pub mod manifest;
pub mod pattern;
pub mod payload;
pub mod permissions;
mod plan;
mod preview;
mod read;
pub mod strategy;
mod support;
mod template;
pub mod text;
mod token;
pub mod trigger;
mod untrusted;
pub mod uses;
mod words;
pub mod workflow;
mod yaml;

pub use called::{Found, Text, Workflows};
pub use inputs::{MAX_GIVEN, fill_in, from_event, given_to, inputs};
pub use lint::{Files, lint};
pub use plan::{MAX_JOBS, PlannedJob, legs, plan};
pub use preview::{Preview, preview};
pub use read::{check, read};
pub use template::{Condition, Template};
