//! Code hosts: what they send, and what they are told.
//!
//! Decides nothing and stores nothing. GitHub is the first; plain git needs no API and lives with
//! the git program.

pub mod github;
