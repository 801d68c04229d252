//! Keeping secrets out of what a job says.
//!
//! A secret is masked wherever it is written, cut anywhere, and in the encodings that GitHub's runner knows
//! ([`encode`](super::encode)). No pattern holds a line's end: of a secret of several lines each line is one of its
//! own.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::encode::encodings;

/// What stands in place of a secret.
pub(super) const MASK: &str = "***";
/// The most bytes of all that is masked in a job.
const MAX_BYTES: usize = 8 << 20;
/// A longer pattern is several, which lie in it side by side: wherever it stands, they stand.
const MAX_PATTERN: usize = 16 << 10;
/// So many bytes of a pattern are looked at first.
const BEGINNING: usize = 3;
/// How many bits say which beginnings there are.
const BITS: usize = 1 << 18;

/// What is masked.
#[derive(Debug, Default)]
pub(crate) struct Masks {
    /// In order: those that a text begins with are found by it, and what may still become one.
    patterns: BTreeSet<Vec<u8>>,
    /// Which beginnings patterns have, by a number made of them; few that are none have the same.
    beginnings: Vec<u64>,
    /// Whether there are patterns that are shorter than a beginning.
    has_short: bool,
    longest: usize,
    bytes: usize,
    /// Whether there was more to mask than is kept: nothing is shown any more.
    is_full: bool,
}

/// There is more to mask than muster keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is more to mask than {MAX_BYTES} bytes: the secrets, in all their encodings")]
pub(crate) struct TooMuch;

/// How a text that is written in parts goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Joint {
    /// So many bytes of the next part belong to a mask that was written.
    covered: usize,
    /// Whether the part before ended with a mask: one that begins at once is no other.
    is_masked: bool,
}

impl Masks {
    /// Masks a value from here on, and each of its lines.
    ///
    /// # Errors
    ///
    /// When there is no room for it: then all is masked from here on.
    pub(crate) fn add(&mut self, value: &str) -> Result<(), TooMuch> {
        let lines = value.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty());
        for value in std::iter::once(value).chain(lines) {
            for pattern in encodings(value) {
                self.pattern(&pattern)?;
            }
        }
        Ok(())
    }

    fn pattern(&mut self, pattern: &[u8]) -> Result<(), TooMuch> {
        if pattern.is_empty() || pattern.contains(&b'\n') || pattern.contains(&b'\r') {
            return Ok(());
        }
        let mut pieces = pattern.chunks_exact(MAX_PATTERN).collect::<Vec<_>>();
        if !pattern.len().is_multiple_of(MAX_PATTERN) {
            // The last one is as long as the others, where it can be.
            pieces.push(&pattern[pattern.len().saturating_sub(MAX_PATTERN)..]);
        }
        for piece in pieces {
            if self.patterns.contains(piece) {
                continue;
            }
            if self.bytes + piece.len() > MAX_BYTES {
                self.is_full = true;
                return Err(TooMuch);
            }
            self.bytes += piece.len();
            self.longest = self.longest.max(piece.len());
            match piece.first_chunk::<BEGINNING>() {
                Some(beginning) => {
                    self.beginnings.resize(BITS / 64, 0);
                    let bit = bit(*beginning);
                    self.beginnings[bit / 64] |= 1 << (bit % 64);
                }
                None => self.has_short = true,
            }
            self.patterns.insert(piece.to_vec());
        }
        Ok(())
    }

    /// Returns whether nothing is shown any more.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Returns how many bytes back from the end of a text a secret may begin that is not whole yet.
    pub(super) fn reach(&self) -> usize {
        self.longest.saturating_sub(1)
    }

    /// Returns a text with its secrets masked.
    pub(crate) fn text(&self, text: &str) -> String {
        if self.is_full && !text.is_empty() {
            return MASK.to_owned();
        }
        let mut masked = Vec::with_capacity(text.len());
        // No mask holds a line's end, so a text of several is masked as one.
        self.write(text.as_bytes(), text.len(), Joint::default(), &mut masked);
        String::from_utf8_lossy(&masked).into_owned()
    }

    /// Returns whether a text holds a secret.
    pub(crate) fn are_in(&self, text: &str) -> bool {
        self.is_full || self.next(text.as_bytes(), 0).is_some()
    }

    /// Returns how much of a text that may go on is no beginning of a secret.
    pub(super) fn certain(&self, text: &[u8]) -> usize {
        let from = text.len().saturating_sub(self.reach());
        let is_begun = |at: &usize| {
            let rest = &text[*at..];
            let next = self.patterns.range::<[u8], _>((Bound::Excluded(rest), Bound::Unbounded));
            next.take(1).any(|pattern| pattern.starts_with(rest))
        };
        (from..text.len()).find(is_begun).unwrap_or(text.len())
    }

    /// Writes the first `upto` bytes of a text, masked, and says how it goes on. What follows them decides, too, what is
    /// a secret.
    pub(super) fn write(&self, text: &[u8], upto: usize, joint: Joint, out: &mut Vec<u8>) -> Joint {
        if self.is_full {
            return Joint::default();
        }
        if self.patterns.is_empty() {
            out.extend_from_slice(&text[..upto]);
            return Joint::default();
        }
        let Joint { covered: mut end, mut is_masked } = joint;
        let mut next = end.min(upto);
        let mut from = 0;
        while let Some((at, length)) = self.next(text, from).filter(|(at, _)| *at < upto) {
            from = at + 1;
            // What touches a mask is a part of it.
            if !is_masked || at > end {
                out.extend_from_slice(&text[next..at]);
                out.extend_from_slice(MASK.as_bytes());
            }
            is_masked = true;
            end = end.max(at + length);
            next = end.min(upto);
        }
        out.extend_from_slice(&text[next..upto]);
        Joint { covered: end.saturating_sub(upto), is_masked: is_masked && end >= upto }
    }

    /// Returns the next place where a secret begins, and how long the longest one there is.
    fn next(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        let longest_at = |at: usize| {
            let length = self.longest_at(text.get(at..)?);
            (length > 0).then_some((at, length))
        };
        if self.has_short {
            return (from..text.len()).find_map(longest_at);
        }
        let beginnings: &[u64; BITS / 64] = self.beginnings.as_slice().try_into().ok()?;
        let places = text.get(from..)?.array_windows::<BEGINNING>().enumerate();
        let mut places = places.filter(|(_, beginning)| {
            let bit = bit(**beginning);
            beginnings[bit / 64] & (1 << (bit % 64)) != 0
        });
        places.find_map(|(at, _)| longest_at(from + at))
    }

    /// Returns how long the longest secret is that a text begins with; 0 where it begins with none.
    fn longest_at(&self, text: &[u8]) -> usize {
        // What a text begins with is no greater than it, and of those the longest is the greatest.
        let mut text = &text[..text.len().min(self.longest)];
        while !text.is_empty() {
            let bounds = (Bound::Unbounded, Bound::Included(text));
            let Some(before) = self.patterns.range::<[u8], _>(bounds).next_back() else { return 0 };
            let shared = before.iter().zip(text).take_while(|(one, other)| one == other).count();
            if shared == before.len() {
                return shared;
            }
            text = &text[..shared];
        }
        0
    }
}

/// Makes a number of a beginning.
fn bit([first, second, third]: [u8; BEGINNING]) -> usize {
    let all = u32::from(first) << 16 | u32::from(second) << 8 | u32::from(third);
    // Multiplied by an odd number that spreads them (Knuth's), the high bits tell them apart.
    (all.wrapping_mul(0x9E37_79B1) >> 14) as usize
}
