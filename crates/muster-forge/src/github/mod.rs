//! GitHub: webhooks in, statuses out.

mod client;
mod decode;
mod json;
#[cfg(test)]
mod tests;
mod webhook;

pub use client::{
    Client, ClientError, LastResponse, Limits, Repository, StatusUpdate, Webhook, WebhookConfig,
};
pub use decode::{Decoded, decode};
pub use webhook::{BodyError, Payload, Signature, sign, verify};
