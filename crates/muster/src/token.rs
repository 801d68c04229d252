//! The admin token: made once, shown once, stored only as its hash.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Makes a token of 256 random bits.
pub(crate) fn make() -> String {
    // Two version 4 ids have 122 random bits each; hashed together they give an even token.
    let seed = format!("{}{}{}", uuid::Uuid::new_v4(), uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    format!("muster_{}", hash(&seed))
}

/// Returns the hash that is stored for a token.
pub(crate) fn hash(token: &str) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(token.as_bytes()) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Returns true when `token` is the one whose hash is stored. Takes the same time wherever the two
/// differ.
pub(crate) fn matches(token: &str, stored: &str) -> bool {
    let given = hash(token);
    given.len() == stored.len()
        && given.bytes().zip(stored.bytes()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
