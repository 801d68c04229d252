//! What the system is asked for: time, processes, sandboxes, signals, file change notices.
//!
//! The only crate that starts programs or asks the time, so that a test can look for both in one
//! place. It knows no rule of CI.

pub mod clock;
pub mod files;
pub mod init;
pub mod pack;
pub mod process;
pub mod sandbox;
pub mod signal;
pub mod terminal;
pub mod tree;
pub mod unpack;
pub mod usage;
pub mod watch;
