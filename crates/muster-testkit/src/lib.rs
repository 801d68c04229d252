//! What tests need of the world around muster. Only for tests.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on has failed"
)]

mod description;
mod github;
mod inbox;
#[cfg(test)]
mod tests;

pub use github::{FakeGitHub, PullRequest, SECRET, Status, TOKEN, sign};
pub use inbox::Inbox;
