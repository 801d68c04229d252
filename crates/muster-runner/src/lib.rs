//! One job on one machine: workspace, checkout, steps, their files and outputs, clean-up.
//!
//! [`run`] does a [`spec::JobSpec`] from beginning to end and tells a [`Listener`] what happens. It
//! knows no database and no forge, and trusts nothing that a step writes. It runs in a process of
//! its own (the supervisor), so that it may adopt and kill all that its steps leave behind.

pub mod actions;
mod cancel;
mod checkout;
mod containers;
mod contexts;
mod disk;
pub mod egress;
mod engine;
mod files;
mod follow;
mod ground;
mod hash_files;
mod health;
mod images;
mod job;
mod log;
pub mod marks;
mod setup;
mod shell;
pub mod spec;
pub mod spool;
#[cfg(test)]
mod tests;

pub use cancel::Cancel;
pub use checkout::{CheckedOut, CheckoutError, CheckoutOrder, Inputs, checkout};
pub use engine::reap;
pub use hash_files::{HashError, HashOrder, hash_files};
pub use images::forget_unused;
pub use job::{Finished, ISOLATION, Kept, On, PULLING, Started, run};
pub use setup::{Found, Looked, SetupError, SetupOrder, Tool, look, set_up};

use spec::StepEvent;

/// Who is told what happens while a job runs.
pub trait Listener {
    /// A step wrote these bytes: any bytes, cut anywhere.
    fn output(&mut self, step: usize, bytes: &[u8]);

    /// A step started or finished.
    fn step(&mut self, event: StepEvent);

    /// A step has written nothing for a while: what is held back of it may go out.
    fn idle(&mut self, step: usize);
}
