//! Problem matchers: patterns that find errors and warnings in the output of tools.
//!
//! Follows [IssueMatcher.cs](https://github.com/actions/runner/blob/main/src/Runner.Worker/IssueMatcher.cs).

use fancy_regex::{Captures, Regex, RegexBuilder};
use serde::Deserialize;

use crate::spec::Level;

/// The most bytes of a file of matchers.
pub(super) const MAX_FILE: u64 = 1 << 20;
/// The most matchers at once.
const MAX_MATCHERS: usize = 100;
/// The most patterns of a matcher.
const MAX_PATTERNS: usize = 20;
/// The most bytes of a pattern, and of what it is compiled to.
const MAX_REGEXP: usize = 4 << 10;
const MAX_COMPILED: usize = 256 << 10;
/// A pattern that tries more than this on a line does not match it.
const MAX_STEPS: usize = 100_000;
/// A matcher that was too slow so often is removed.
const MAX_SLOW: u32 = 3;

/// The matchers that look at the lines of a job.
#[derive(Debug, Clone, Default)]
pub(super) struct Matchers {
    matchers: Vec<Matcher>,
}

#[derive(Debug, Clone)]
struct Matcher {
    owner: String,
    severity: Option<String>,
    from_path: Option<String>,
    patterns: Vec<Pattern>,
    /// What each pattern but the last has found, while the next one waits for its line.
    found: Vec<Option<Match>>,
    slow: u32,
}

#[derive(Debug, Clone)]
struct Pattern {
    regexp: Regex,
    groups: Groups,
    is_loop: bool,
}

/// Which group of a pattern holds what.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Groups {
    file: Option<usize>,
    line: Option<usize>,
    column: Option<usize>,
    severity: Option<usize>,
    code: Option<usize>,
    message: Option<usize>,
    from_path: Option<usize>,
}

/// A problem that a line, or several, tell of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) file: Option<String>,
    pub(super) line: Option<String>,
    pub(super) column: Option<String>,
    severity: Option<String>,
    code: Option<String>,
    pub(super) message: Option<String>,
    /// The project file that `file` is relative to the folder of.
    pub(super) from_path: Option<String>,
}

#[derive(Deserialize)]
struct File {
    #[serde(default, rename = "problemMatcher")]
    matchers: Vec<MatcherFile>,
}

#[derive(Deserialize)]
struct MatcherFile {
    #[serde(default)]
    owner: String,
    severity: Option<String>,
    #[serde(rename = "fromPath")]
    from_path: Option<String>,
    #[serde(default)]
    pattern: Vec<PatternFile>,
}

#[derive(Deserialize)]
struct PatternFile {
    #[serde(default)]
    regexp: String,
    #[serde(default, rename = "loop")]
    is_loop: bool,
    #[serde(flatten)]
    groups: Groups,
}

impl Matchers {
    pub(super) fn is_empty(&self) -> bool {
        self.matchers.is_empty()
    }

    /// Adds the matchers of a file; those of the same owners are replaced.
    ///
    /// # Errors
    ///
    /// What is wrong with the file; nothing is added then.
    pub(super) fn add(&mut self, file: &[u8]) -> Result<(), String> {
        let mut matchers = read(file)?;
        self.remove(&matchers.iter().map(|matcher| matcher.owner.clone()).collect::<Vec<_>>());
        if self.matchers.len() + matchers.len() > MAX_MATCHERS {
            return Err(format!("more than {MAX_MATCHERS} problem matchers"));
        }
        matchers.append(&mut self.matchers);
        self.matchers = matchers;
        Ok(())
    }

    /// Removes the matchers of a file.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub(super) fn remove_those_of(&mut self, file: &[u8]) -> Result<(), String> {
        let owners: Vec<String> = read(file)?.into_iter().map(|matcher| matcher.owner).collect();
        self.remove(&owners);
        Ok(())
    }

    /// Removes the matchers of these owners.
    pub(super) fn remove(&mut self, owners: &[String]) {
        self.matchers
            .retain(|known| !owners.iter().any(|owner| owner.eq_ignore_ascii_case(&known.owner)));
    }

    /// Forgets what was found so far: another program writes now.
    pub(super) fn begin(&mut self) {
        for matcher in &mut self.matchers {
            matcher.found.fill(None);
        }
    }

    /// Returns the problem that a line completes, as the first matcher has it that knows one. `slow` hears of matchers
    /// that are removed.
    pub(super) fn find(&mut self, line: &str, mut slow: impl FnMut(&str)) -> Option<Match> {
        let mut found = None;
        for place in 0..self.matchers.len() {
            let Some(complete) = self.matchers[place].advance(line) else { continue };
            // What others have found so far belongs to another problem.
            let others = self.matchers.iter_mut().enumerate().filter(|(other, _)| *other != place);
            others.for_each(|(_, other)| other.found.fill(None));
            found = complete.is_problem().then_some(complete);
            if found.is_some() {
                break;
            }
        }
        self.matchers.retain(|matcher| {
            let is_slow = matcher.slow >= MAX_SLOW;
            if is_slow {
                slow(&matcher.owner);
            }
            !is_slow
        });
        found
    }
}

impl Matcher {
    /// Goes on by a line, and returns what it completes. Later patterns are tried first.
    fn advance(&mut self, line: &str) -> Option<Match> {
        let last = self.patterns.len() - 1;
        for place in (0..=last).rev() {
            let before = place.checked_sub(1).map(|before| self.found[before].clone());
            let before = match before {
                // It waits for the one before it.
                Some(None) => continue,
                Some(Some(before)) => before,
                None => Match::default(),
            };
            let pattern = &self.patterns[place];
            let captures = match pattern.regexp.captures(line) {
                Ok(captures) => captures,
                Err(_) => {
                    self.slow += 1;
                    None
                }
            };
            let Some(captures) = captures else {
                match place.checked_sub(1) {
                    Some(before) if place == last => self.found[before] = None,
                    _ if place < last => self.found[place] = None,
                    _ => {}
                }
                continue;
            };
            let found = before.clone().with(&captures, pattern.groups);
            if place < last {
                self.found[place] = Some(found);
                continue;
            }
            self.found.fill(None);
            if let Some(at) = place.checked_sub(1).filter(|_| pattern.is_loop) {
                self.found[at] = Some(before);
            }
            let or = |found: Option<String>, default: &Option<String>| {
                found.filter(|found| !found.is_empty()).or_else(|| default.clone())
            };
            return Some(Match {
                severity: or(found.severity, &self.severity),
                from_path: or(found.from_path, &self.from_path),
                ..found
            });
        }
        None
    }
}

impl Match {
    fn with(self, captures: &Captures<'_, str>, groups: Groups) -> Self {
        let group = |place: Option<usize>| {
            let place = place.filter(|place| *place < captures.len())?;
            Some(captures.get(place).map(|group| group.as_str().to_owned()).unwrap_or_default())
        };
        Self {
            file: self.file.or_else(|| group(groups.file)),
            line: self.line.or_else(|| group(groups.line)),
            column: self.column.or_else(|| group(groups.column)),
            severity: self.severity.or_else(|| group(groups.severity)),
            code: self.code.or_else(|| group(groups.code)),
            message: self.message.or_else(|| group(groups.message)),
            from_path: self.from_path.or_else(|| group(groups.from_path)),
        }
    }

    /// Returns how grave it is; `None` for a word that GitHub does not know.
    pub(super) fn level(&self) -> Option<Level> {
        level(self.severity.as_deref().unwrap_or_default())
    }

    fn is_problem(&self) -> bool {
        let has_message = self.message.as_ref().is_some_and(|message| !message.trim().is_empty());
        has_message && self.level().is_some()
    }
}

fn level(severity: &str) -> Option<Level> {
    match severity.to_ascii_lowercase().as_str() {
        "" | "error" => Some(Level::Error),
        "warning" => Some(Level::Warning),
        "notice" => Some(Level::Notice),
        _ => None,
    }
}

fn read(file: &[u8]) -> Result<Vec<Matcher>, String> {
    let file = file.strip_prefix("\u{feff}".as_bytes()).unwrap_or(file);
    let file: File = serde_json::from_slice(file).map_err(|error| error.to_string())?;
    let mut owners: Vec<String> = Vec::new();
    let mut matchers = Vec::new();
    for matcher in file.matchers {
        let matcher = matcher.check()?;
        if owners.iter().any(|owner| owner.eq_ignore_ascii_case(&matcher.owner)) {
            return Err(format!("the owner `{}` is there twice", matcher.owner));
        }
        owners.push(matcher.owner.clone());
        matchers.push(matcher);
    }
    Ok(matchers)
}

impl MatcherFile {
    fn check(self) -> Result<Matcher, String> {
        let owner = self.owner;
        let wrong = |what: &str| Err(format!("matcher `{owner}`: {what}"));
        if owner.is_empty() {
            return Err("a matcher needs an `owner`".to_owned());
        }
        if level(self.severity.as_deref().unwrap_or_default()).is_none() {
            return wrong("`severity` is one of error, warning, notice");
        }
        let count = self.pattern.len();
        if count > MAX_PATTERNS {
            return wrong(&format!("it has more than {MAX_PATTERNS} patterns"));
        }
        if count == 0 {
            return wrong("it has no pattern");
        }
        let mut patterns = Vec::new();
        for (place, pattern) in self.pattern.into_iter().enumerate() {
            if pattern.is_loop && (place == 0 || place + 1 < count) {
                return wrong("`loop` is for the last of several patterns");
            }
            if pattern.is_loop && pattern.groups.message.is_none() {
                return wrong("a pattern with `loop` needs `message`");
            }
            if pattern.regexp.len() > MAX_REGEXP {
                return wrong(&format!("`regexp` has more than {MAX_REGEXP} bytes"));
            }
            let regexp = RegexBuilder::new(&dialect(&pattern.regexp))
                .backtrack_limit(MAX_STEPS)
                .delegate_size_limit(MAX_COMPILED)
                .build();
            let regexp = match regexp {
                Ok(regexp) => regexp,
                Err(error) => return wrong(&format!("`regexp`: {error}")),
            };
            for (name, group) in pattern.groups.named() {
                let is_there = group.is_none_or(|group| group < regexp.captures_len());
                if !is_there {
                    return wrong(&format!(
                        "`{name}` names a group that its pattern does not have"
                    ));
                }
                let earlier = |pattern: &Pattern| {
                    pattern
                        .groups
                        .named()
                        .iter()
                        .any(|(other, group)| *other == name && group.is_some())
                };
                if group.is_some() && patterns.iter().any(earlier) {
                    return wrong(&format!("`{name}` is set twice"));
                }
            }
            patterns.push(Pattern { regexp, groups: pattern.groups, is_loop: pattern.is_loop });
        }
        if patterns.iter().all(|pattern| pattern.groups.message.is_none()) {
            return wrong("a pattern has to set `message`");
        }
        Ok(Matcher {
            owner,
            severity: self.severity,
            from_path: self.from_path,
            found: vec![None; count - 1],
            patterns,
            slow: 0,
        })
    }
}

impl Groups {
    fn named(self) -> [(&'static str, Option<usize>); 7] {
        [
            ("file", self.file),
            ("line", self.line),
            ("column", self.column),
            ("severity", self.severity),
            ("code", self.code),
            ("message", self.message),
            ("fromPath", self.from_path),
        ]
    }
}

/// Returns a regular expression of JavaScript in the words of the library, where they differ: in a class `[` and doubled
/// signs are characters, and `\\<` and `\\>` are always.
fn dialect(regexp: &str) -> String {
    let mut text = String::with_capacity(regexp.len() + 8);
    let mut chars = regexp.chars().peekable();
    let mut is_class = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some(plain @ ('<' | '>')) => text.push(plain),
                Some(next) => text.extend(['\\', next]),
                None => text.push('\\'),
            },
            '[' if is_class => text.push_str("\\["),
            '[' => {
                is_class = true;
                text.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    text.push('^');
                }
            }
            ']' if is_class => {
                is_class = false;
                text.push(']');
            }
            '&' | '~' if is_class => text.extend(['\\', char]),
            '-' if is_class && chars.peek() == Some(&'-') => text.push_str("\\-"),
            other => text.push(other),
        }
    }
    text
}

/// Returns a line without what colours it.
pub(super) fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut parts = line.split("\u{1b}[");
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let rest = part.trim_start_matches(|char: char| char.is_ascii_digit() || char == ';');
        plain.push_str(rest.strip_prefix('m').unwrap_or(rest));
    }
    plain
}
