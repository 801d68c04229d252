//! Keeping secrets out of what a job says.
//!
//! A secret is masked wherever it is written, cut anywhere, and in the encodings that GitHub's runner knows
//! ([`encode`](super::encode)). No pattern holds a line's end: of a secret of several lines each line is one of its
//! own.

use std::collections::BTreeSet;
use std::ops::Bound;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::encode::encodings;

/// What stands in place of a secret.
pub(super) const MASK: &[u8] = b"***";
/// The most bytes of all that is masked in a job.
const MAX_BYTES: usize = 8 << 20;
/// So much is searched for by the fastest automaton, which is the largest in memory.
const MAX_FAST: usize = 16 << 10;

/// What is masked.
#[derive(Debug, Default)]
pub(crate) struct Masks {
    /// In order, to find out what may still become one.
    patterns: BTreeSet<Vec<u8>>,
    /// Automata, each for at least twice as much as the next: one more mask costs little, however many there are.
    searches: Vec<Search>,
    /// What no automaton knows yet.
    fresh: Vec<Vec<u8>>,
    longest: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Search {
    patterns: Vec<Vec<u8>>,
    automaton: AhoCorasick,
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
    /// When there is no room for it; a part of it may be masked.
    pub(crate) fn add(&mut self, value: &str) -> Result<(), TooMuch> {
        let lines = value.split(['\r', '\n']).map(str::trim).filter(|line| !line.is_empty());
        for value in std::iter::once(value).chain(lines) {
            for pattern in encodings(value) {
                self.pattern(pattern)?;
            }
        }
        Ok(())
    }

    fn pattern(&mut self, pattern: Vec<u8>) -> Result<(), TooMuch> {
        let is_one = !pattern.is_empty() && !pattern.contains(&b'\n') && !pattern.contains(&b'\r');
        if !is_one || self.patterns.contains(&pattern) {
            return Ok(());
        }
        if self.bytes + pattern.len() > MAX_BYTES {
            return Err(TooMuch);
        }
        self.bytes += pattern.len();
        self.longest = self.longest.max(pattern.len());
        self.patterns.insert(pattern.clone());
        self.fresh.push(pattern);
        Ok(())
    }

    /// Returns how many bytes back from the end of a text a secret may begin that is not whole yet.
    pub(super) fn reach(&self) -> usize {
        self.longest.saturating_sub(1)
    }

    /// Returns a text with its secrets masked.
    pub(crate) fn text(&mut self, text: &str) -> String {
        let mut masked = Vec::with_capacity(text.len());
        // No mask holds a line's end, so a text of several is masked as one.
        self.write(text.as_bytes(), text.len(), Joint::default(), &mut masked);
        String::from_utf8_lossy(&masked).into_owned()
    }

    /// Returns whether a text holds a secret.
    pub(crate) fn are_in(&mut self, text: &str) -> bool {
        !self.find(text.as_bytes()).is_empty()
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
    pub(super) fn write(
        &mut self,
        text: &[u8],
        upto: usize,
        joint: Joint,
        out: &mut Vec<u8>,
    ) -> Joint {
        let Joint { covered: mut end, mut is_masked } = joint;
        let mut next = end.min(upto);
        for (from, to) in self.find(text) {
            if from >= upto {
                break;
            }
            // What touches a mask is a part of it.
            if !is_masked || from > end {
                out.extend_from_slice(&text[next..from]);
                out.extend_from_slice(MASK);
            }
            is_masked = true;
            end = end.max(to);
            next = end.min(upto);
        }
        out.extend_from_slice(&text[next..upto]);
        Joint { covered: end.saturating_sub(upto), is_masked: is_masked && end >= upto }
    }

    /// Returns where secrets are, in the order of their beginnings; they may overlap.
    fn find(&mut self, text: &[u8]) -> Vec<(usize, usize)> {
        self.build();
        let mut found = Vec::new();
        for search in &self.searches {
            let all = search.automaton.find_overlapping_iter(text);
            found.extend(all.map(|at| (at.start(), at.end())));
        }
        found.sort_unstable();
        found
    }

    /// Makes automata of what is new.
    fn build(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let mut patterns = std::mem::take(&mut self.fresh);
        while let Some(last) = self.searches.pop_if(|last| last.patterns.len() < 2 * patterns.len())
        {
            patterns.extend(last.patterns);
        }
        let bytes: usize = patterns.iter().map(Vec::len).sum();
        let kind = (bytes <= MAX_FAST).then_some(AhoCorasickKind::DFA);
        let mut builder = AhoCorasick::builder();
        let built = builder.match_kind(MatchKind::Standard).kind(kind).build(&patterns);
        match built {
            Ok(automaton) => self.searches.push(Search { patterns, automaton }),
            Err(error) => unreachable!("{MAX_BYTES} bytes are within its bounds: {error}"),
        }
    }
}
