//! GitHub: webhooks in, statuses out.

mod client;
mod decode;
#[cfg(test)]
mod tests;
mod webhook;

pub use client::{Client, ClientError, Limits, Repository, StatusUpdate};
pub use decode::{Decoded, decode};
pub use webhook::{BodyError, Signature, payload, verify};
