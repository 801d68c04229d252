//! Webhooks: is this from GitHub, and what does it carry.
//!
//! Follows GitHub's
//! [validating webhook deliveries](https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries).

use std::borrow::Cow;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use sha2::Sha256;

use super::json::{self, Object};

/// What a delivery's signature says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// Made with one of our secrets over exactly these bytes.
    Right,
    /// There is none.
    Missing,
    /// It is none of ours, or not for these bytes.
    Wrong,
}

/// Judges `X-Hub-Signature-256` over the raw bytes of a body, in constant time for each secret.
///
/// Several secrets may be valid at once, so that one can be replaced by another without a gap.
pub fn verify(secrets: &[String], header: Option<&str>, body: &[u8]) -> Signature {
    let Some(header) = header else { return Signature::Missing };
    let Some(given) = header.strip_prefix("sha256=").and_then(unhex) else {
        return Signature::Wrong;
    };
    let right = secrets.iter().filter(|secret| {
        // A key of any length is fine for HMAC.
        Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .is_ok_and(|mac| mac.chain_update(body).verify_slice(&given).is_ok())
    });
    // Every secret is tried, so that the time does not tell which one fits.
    if right.count() > 0 { Signature::Right } else { Signature::Wrong }
}

/// Signs a body: what `X-Hub-Signature-256` says of it.
pub fn sign(secret: &str, body: &[u8]) -> String {
    // A key of any length is fine for HMAC.
    let digest = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map(|mac| mac.chain_update(body).finalize().into_bytes())
        .unwrap_or_default();
    digest.iter().fold("sha256=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// Reads a digest as GitHub writes it: 64 digits, in small letters.
fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    text.as_bytes().chunks(2).map(hex_byte).collect()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match digits {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    }
}

/// Why a body carries no payload.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// A form without the field.
    #[error("the form has no field `payload`")]
    NoField,
    /// Text that is no JSON.
    #[error("the payload is no JSON: {0}")]
    NoJson(serde_json::Error),
    /// More values than memory should hold.
    #[error("the payload has more than {} values", json::MOST_VALUES)]
    TooMany,
    /// Bytes that are no text.
    #[error("the payload is no JSON: it is not UTF-8")]
    NoText,
}

/// What a webhook carries: text that is JSON, bounded in depth and in how many values it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload<'b>(Cow<'b, str>);

impl<'b> Payload<'b> {
    /// Finds the payload in a body: JSON, or a form whose field `payload` is JSON.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn find(content_type: &str, body: &'b [u8]) -> Result<Self, BodyError> {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let text = if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let field = body
                .split(|byte| *byte == b'&')
                .find_map(|pair| pair.strip_prefix(b"payload="))
                .ok_or(BodyError::NoField)?;
            Cow::Owned(String::from_utf8(unescape(field)).map_err(|_| BodyError::NoText)?)
        } else {
            Cow::Borrowed(std::str::from_utf8(body).map_err(|_| BodyError::NoText)?)
        };
        json::look_through(&text).map_err(|error| match error.classify() {
            // Every value is welcome but the one that is too many.
            Category::Data => BodyError::TooMany,
            _ => BodyError::NoJson(error),
        })?;
        Ok(Self(text))
    }

    /// Returns all of it, as a value.
    ///
    /// # Errors
    ///
    /// None that could be told here: it was looked through.
    pub fn value(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_str(&self.0)
    }

    /// Reads what a payload says of `T`; all else in it is passed over.
    ///
    /// # Errors
    ///
    /// When it is no object, or lacks what `T` needs.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str::<Object<T>>(&self.0).map(|Object(read)| read)
    }
}

/// Undoes the escapes of a form field; what is no escape stays as it is.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'+' => out.push(b' '),
            b'%' => match tail.get(..2).and_then(hex_byte) {
                Some(value) => {
                    out.push(value);
                    rest = &tail[2..];
                }
                None => out.push(b'%'),
            },
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RIGHT: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    /// GitHub's own test values.
    #[test]
    fn a_signature_is_right_for_one_of_several_secrets_and_these_bytes_alone() {
        let secrets = ["new one".to_owned(), "It's a Secret to Everybody".to_owned()];
        let body = b"Hello, World!";
        assert_eq!(verify(&secrets, Some(RIGHT), body), Signature::Right);
        assert_eq!(sign(&secrets[1], body), RIGHT);
        assert_eq!(verify(&secrets, Some(RIGHT), b"Hello, World"), Signature::Wrong);
        assert_eq!(verify(&secrets[..1], Some(RIGHT), body), Signature::Wrong);
        assert_eq!(verify(&[], Some(RIGHT), body), Signature::Wrong);
        assert_eq!(verify(&secrets, None, body), Signature::Missing);
        for forged in [
            "",
            "sha256=",
            "sha1=757107",
            &RIGHT[..70],
            &RIGHT.replace("sha256", "sha512"),
            &RIGHT.replace("ea0eb", "EA0EB"),
            // A sign is no digit.
            &RIGHT.replace("b043e17", "b043e+7"),
        ] {
            assert_eq!(verify(&secrets, Some(forged), body), Signature::Wrong, "{forged}");
        }
    }

    #[test]
    fn json_and_forms_carry_the_same_payload() {
        let json = Payload::find("application/json", br#"{"a": "b c+d%"}"#).unwrap();
        let form = "application/x-www-form-urlencoded";
        let body = b"x=1&payload=%7B%22a%22%3A+%22b+c%2Bd%25%22%7D";
        assert_eq!(Payload::find(form, body).unwrap(), json);
        assert!(matches!(Payload::find(form, b"x=1"), Err(BodyError::NoField)));
        assert!(matches!(Payload::find("", b"{"), Err(BodyError::NoJson(_))));
        assert!(matches!(Payload::find("", b"\xff"), Err(BodyError::NoText)));
    }

    #[test]
    fn so_many_values_and_no_more() {
        let list = |values: usize| format!("[{}0]", "0,".repeat(values - 2));
        assert!(Payload::find("", list(json::MOST_VALUES).as_bytes()).is_ok());
        let more = list(json::MOST_VALUES + 1);
        assert!(matches!(Payload::find("", more.as_bytes()), Err(BodyError::TooMany)));
    }

    proptest! {
        #[test]
        fn never_panics(header in "\\PC{0,80}", body in prop::collection::vec(any::<u8>(), 0..80)) {
            verify(&["s".to_owned()], Some(&header), &body);
            drop(Payload::find("application/x-www-form-urlencoded", &body));
            drop(Payload::find("application/json", &body));
        }
    }
}
