//! The decisions of muster: what a run does next, what the world is told, and why.
//!
//! Everything here is a function from state and time to what should happen. Nothing here does I/O,
//! asks the time or knows the environment; the loops of the server and `muster run` call the same
//! functions.

pub mod cache;
pub mod change;
pub mod concurrency;
pub mod id;
pub mod identity;
pub mod labels;
pub mod outbox;
pub mod outcome;
pub mod pull;
pub mod report;
pub mod run;
pub mod schedule;
pub mod secrets;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod trust;
