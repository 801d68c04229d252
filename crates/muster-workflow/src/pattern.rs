//! The patterns of `branches`, `tags` and `paths` filters.
//!
//! Follows GitHub's
//! [filter pattern cheat sheet](https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#filter-pattern-cheat-sheet):
//! `*` is anything but `/`, `**` is anything, `?` and `+` repeat the character before them,
//! `[…]` is one of a set, `!` in front takes matches away again.

use regex::bytes::{Regex, RegexBuilder};

use crate::diagnostic::{Problem, Rule, Span};
use crate::text::cut;

/// The longest pattern, in bytes.
const MAX_LENGTH: usize = 1_000;
/// The most patterns of one filter.
const MAX_PATTERNS: usize = 1_000;
/// How many characters of a pattern a message shows.
const MAX_TEXT: usize = 100;
/// How many patterns a message names.
const MAX_TOLD: usize = 10;
/// How many bytes a pattern may have when it is compiled.
const MAX_COMPILED: usize = 1 << 20;
/// How many bytes matching one pattern may keep.
const MAX_CACHE: usize = 1 << 16;

/// A list of patterns, and what it is for.
#[derive(Debug, Clone)]
pub enum Filter {
    /// `branches`, `tags`, `paths`: something must be selected.
    Include(Patterns),
    /// `branches-ignore`, `tags-ignore`, `paths-ignore`: something must not be selected.
    Ignore(Patterns),
}

impl Filter {
    /// Returns true when a workflow with this filter runs for `inputs`: a branch, a tag, or changed paths.
    pub fn passes<S: AsRef<str>>(&self, inputs: &[S]) -> bool {
        match self {
            Self::Include(patterns) => inputs.iter().any(|input| patterns.select(input.as_ref())),
            Self::Ignore(patterns) => !inputs.iter().all(|input| patterns.select(input.as_ref())),
        }
    }
}

/// An ordered list of patterns; the last that matches decides.
#[derive(Debug, Clone)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    text: String,
    negative: bool,
    regex: Regex,
}

impl Patterns {
    /// Reads patterns; each that is none is one problem.
    pub fn read<'a>(
        patterns: impl IntoIterator<Item = (&'a str, Span)>,
        problems: &mut Vec<Problem>,
    ) -> Self {
        let mut read = Vec::new();
        for (place, (text, span)) in patterns.into_iter().enumerate() {
            if place == MAX_PATTERNS {
                let message = format!("more than {MAX_PATTERNS} patterns");
                problems.push(Problem::invalid(span, message).of(Rule::Glob));
                break;
            }
            match pattern(text) {
                Ok(pattern) => read.push(pattern),
                Err(why) => {
                    let text = cut(text, MAX_TEXT);
                    let message = format!("`{text}` is no filter pattern: {why}");
                    problems.push(Problem::invalid(span, message).of(Rule::Glob));
                }
            }
        }
        Self { patterns: read }
    }

    /// Returns true when the last pattern that matches `input` is a positive one.
    pub fn select(&self, input: &str) -> bool {
        self.patterns
            .iter()
            .rev()
            .find(|pattern| pattern.regex.is_match(input.as_bytes()))
            .is_some_and(|pattern| !pattern.negative)
    }

    /// Returns true when every pattern is negative, so that nothing can ever be selected.
    pub fn selects_nothing(&self) -> bool {
        self.patterns.iter().all(|pattern| pattern.negative)
    }

    /// Writes the patterns as a list for a message; of many the first.
    pub fn describe(&self) -> String {
        let told = self.patterns.iter().take(MAX_TOLD);
        let told: Vec<String> = told.map(|pattern| cut(&pattern.text, MAX_TEXT)).collect();
        let more = match self.patterns.len().saturating_sub(MAX_TOLD) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        told.join(", ") + &more
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("longer than {MAX_LENGTH} bytes"));
    }
    let (negative, glob) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if glob.is_empty() {
        return Err("it is empty".into());
    }
    let regex = RegexBuilder::new(&translate(glob)?)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_CACHE)
        .build()
        .map_err(|_| "it does not parse".to_owned())?;
    Ok(Pattern { text: text.to_owned(), negative, regex })
}

/// Translates a pattern to a regular expression over the whole input.
///
/// What stands for anything is read byte by byte, so that it stays small.
fn translate(glob: &str) -> Result<String, String> {
    let mut out = String::from(r"(?s)\A");
    let mut chars = glob.chars().peekable();
    let mut repeatable = false;
    while let Some(c) = chars.next() {
        match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                // `**/` also stands for no folder at all.
                if chars.next_if_eq(&'/').is_some() {
                    out.push_str("(?-u:.*/)?");
                } else {
                    out.push_str("(?-u:.*)");
                }
                repeatable = false;
                continue;
            }
            '*' => {
                out.push_str("(?-u:[^/]*)");
                repeatable = false;
                continue;
            }
            '?' | '+' if repeatable => {
                out.push(c);
                repeatable = false;
                continue;
            }
            '?' | '+' => {
                return Err(format!("`{c}` repeats the character before it, and there is none"));
            }
            '[' => out.push_str(&set(&mut chars)?),
            '\\' => {
                let escaped = chars.next().ok_or("it ends with `\\`")?;
                out.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4])));
            }
            other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
        repeatable = true;
    }
    out.push_str(r"\z");
    Ok(out)
}

/// Translates `a-z0-9]`, what follows a `[`.
fn set(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String, String> {
    let mut out = String::from("[");
    let mut any = false;
    while let Some(c) = chars.next() {
        match c {
            ']' if any => {
                out.push(']');
                return Ok(out);
            }
            ']' => return Err("`[]` is an empty set".into()),
            '-' if any && chars.peek().is_some_and(|next| *next != ']') => out.push('-'),
            _ => {
                out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
                any = true;
            }
        }
    }
    Err("`[` is never closed".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns(texts: &[&str]) -> Patterns {
        let mut problems = Vec::new();
        let read = Patterns::read(texts.iter().map(|text| (*text, Span::default())), &mut problems);
        assert_eq!(problems, []);
        read
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let releases = patterns(&["releases/**", "!releases/**-alpha", "releases/10-alpha"]);
        assert!(releases.select("releases/10"));
        assert!(!releases.select("releases/beta/3-alpha"));
        assert!(releases.select("releases/10-alpha"));
        assert!(!releases.select("main"));
    }

    #[test]
    fn of_many_patterns_the_first_are_told() {
        let texts: Vec<String> =
            (0..12).map(|place| format!("v{place}{}", "**/a/".repeat(90))).collect();
        let many = patterns(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(many.select(&format!("v7{}", "b/a/".repeat(90))));
        let told = many.describe();
        assert!(told.len() < 1_100 && told.ends_with("... and 2 more"), "{told}");
    }

    #[test]
    fn letters_of_several_bytes_are_one() {
        assert!(patterns(&["é?/*/**/[à-ü]+"]).select("é/日本/語/õõ"));
        assert!(!patterns(&["*"]).select("日/本"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let mut problems = Vec::new();
        let texts = ["[a", "*?", "", "a\\", "[]"];
        Patterns::read(texts.iter().map(|text| (*text, Span::default())), &mut problems);
        let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
        insta::assert_snapshot!(messages.join("\n"), @r"
        `[a` is no filter pattern: `[` is never closed
        `*?` is no filter pattern: `?` repeats the character before it, and there is none
        `` is no filter pattern: it is empty
        `a\` is no filter pattern: it ends with `\`
        `[]` is no filter pattern: `[]` is an empty set
        ");
    }

    proptest! {
        #[test]
        fn never_panics(text in "[a-c*?+!\\[\\]\\\\/é-]{0,20}", input in "[a-c/é]{0,20}") {
            let read = Patterns::read([(text.as_str(), Span::default())], &mut Vec::new());
            let _ = read.select(&input);
        }
    }
}
