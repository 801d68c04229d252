//! What tests need of the world around muster. Only for tests.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on has failed"
)]

mod github;
mod inbox;

pub use github::{FakeGitHub, PullRequest, SECRET, Status, TOKEN, sign};
pub use inbox::Inbox;
