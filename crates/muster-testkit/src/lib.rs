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

/// A program for a job to run that tries thirty-six ways out of its sandbox and says how each went; its own
/// first lines (`escapes/main.rs`) say what it takes. Empty on other machines than x86-64.
pub const ESCAPES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/escapes"));

pub use github::{FakeGitHub, PullRequest, SECRET, Status, TOKEN, sign};
pub use inbox::Inbox;

/// Makes a builder of HTTP clients, as [`reqwest::Client::builder`] does where TLS is provided.
pub fn http_client() -> reqwest::ClientBuilder {
    provide_tls();
    reqwest::Client::builder()
}

/// Chooses the library that does the cryptography of TLS in this process, as muster's own `main` does.
pub fn provide_tls() {
    // Fails where it was done before, which is as well.
    drop(rustls::crypto::ring::default_provider().install_default());
}
