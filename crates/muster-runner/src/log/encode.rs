//! The forms in which a secret may be written.
//!
//! The eleven of GitHub's runner
//! ([ValueEncoders.cs](https://github.com/actions/runner/blob/main/src/Sdk/DTLogging/Logging/ValueEncoders.cs)), Base64 that
//! goes on after the secret or has lines, and what common tools write: JSON in ASCII, small letters in addresses, quotes in
//! shells.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The shortest beginning of Base64 that is masked: shorter ones are in every other text.
const MIN_BASE64: usize = 8;
/// How long the lines of Base64 are.
const BASE64_LINE: usize = 76;
/// The shortest part of a secret that is masked of its own.
const MIN_PART: usize = 6;

/// Returns a secret as it is and in each encoding; some may be equal.
pub(super) fn encodings(value: &str) -> Vec<Vec<u8>> {
    let bytes = value.as_bytes();
    let mut all = vec![
        value.to_owned(),
        value.replace('"', "\\\""),
        value.replace('\'', "''"),
        json(value),
        json_in_ascii(value),
        uri(value),
        in_small_letters(&uri(value)),
        xml(value),
        xml(value).replace("&apos;", "&#39;"),
        xml(value).replace("&apos;", "&#x27;"),
        value.replace('\'', "'\\''"),
        unquoted(value).to_owned(),
    ];
    let (before, after) = around_ampersand(value);
    all.extend([before.to_owned(), after.to_owned()]);
    // Where a secret stands in a text that is encoded decides how it looks.
    for shift in 0..3 {
        let bytes = if bytes.len() > shift { &bytes[shift..] } else { bytes };
        all.push(BASE64_STANDARD.encode(bytes));
        let whole = BASE64_STANDARD.encode(&bytes[..bytes.len() / 3 * 3]);
        if whole.len() >= MIN_BASE64 {
            all.push(whole);
        }
    }
    // `base64` writes lines.
    let encoded = BASE64_STANDARD.encode(value);
    let lines = encoded.as_bytes().chunks(BASE64_LINE).filter(|line| line.len() >= MIN_BASE64);
    all.extend(lines.map(|line| String::from_utf8_lossy(line).into_owned()));
    all.into_iter().map(String::into_bytes).collect()
}

/// As a string of JSON, without its quotes.
fn json(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for char in value.chars() {
        match char {
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\u{c}' => text.push_str("\\f"),
            '\u{8}' => text.push_str("\\b"),
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\u{0}'..='\u{1f}' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                write!(text, "\\u{:04x}", u32::from(char)).ok();
            }
            other => text.push(other),
        }
    }
    text
}

/// The same with numbers for what is not ASCII.
fn json_in_ascii(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for char in json(value).chars() {
        if char.is_ascii() {
            text.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                write!(text, "\\u{unit:04x}").ok();
            }
        }
    }
    text
}

/// As a part of an address: all but what RFC 3986 reserves for nothing.
fn uri(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            other => {
                write!(text, "%{other:02X}").ok();
            }
        }
    }
    text
}

/// An address with small letters in what stands for bytes.
fn in_small_letters(uri: &str) -> String {
    let mut parts = uri.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (byte, rest) = part.split_at(part.len().min(2));
        text.push('%');
        text.push_str(&byte.to_ascii_lowercase());
        text.push_str(rest);
    }
    text
}

fn xml(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for char in value.chars() {
        match char {
            '<' => text.push_str("&lt;"),
            '>' => text.push_str("&gt;"),
            '"' => text.push_str("&quot;"),
            '\'' => text.push_str("&apos;"),
            '&' => text.push_str("&amp;"),
            other => text.push(other),
        }
    }
    text
}

/// Without the quotes around it, where it is long enough.
fn unquoted(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.filter(|_| value.encode_utf16().count() > MIN_BASE64).unwrap_or_default()
}

/// What PowerShell shows apart when it takes a secret for a command: the parts before and after `&`.
fn around_ampersand(value: &str) -> (&str, &str) {
    let (before, after) = if let Some(at) = value.find("&+") {
        // It colours the letter that follows.
        let after = value[at + 2..].char_indices().nth(1).map(|(next, _)| &value[at + 2 + next..]);
        (&value[..at + 2], after.unwrap_or_default())
    } else if let Some(at) = value.rfind('&') {
        value.split_at(at + 1)
    } else {
        return ("", "");
    };
    let long_enough = |part| if str::len(part) >= MIN_PART { part } else { "" };
    (long_enough(before), long_enough(after))
}
