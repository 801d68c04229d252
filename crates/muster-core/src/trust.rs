//! How far the author of a change is trusted.
//!
//! Computed for each run from who sent this very commit and from where, never from anything that the
//! commit itself says.

use muster_workflow::diagnostic::Span;
use muster_workflow::pattern::Patterns;
use serde::{Deserialize, Serialize};

use crate::change::{Change, PullRequest, PullRequestAction};
use crate::outcome::{NO_VERDICT, Outcome, UNWANTED};
use crate::pull::{self, Known};
use crate::run::Reason;

/// A level of trust. Each has all that the ones before it have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// Anybody: a pull request from a fork.
    Stranger,
    /// A stranger's commit that somebody with the right to has approved, by its full name.
    Approved,
    /// Somebody who may push to the repository.
    Member,
    /// A push to a branch or tag that is protected: what release secrets are for.
    Protected,
}

impl Trust {
    /// All levels, the least first.
    pub const ALL: [Self; 4] = [Self::Stranger, Self::Approved, Self::Member, Self::Protected];

    /// Returns the trust of a change, by what is known beside it.
    fn of(change: &Change, standing: Standing<'_>) -> Self {
        let approved = standing.approved;
        match change {
            Change::Push { git_ref, .. } if standing.protection.covers(&git_ref.full()) => {
                Self::Protected
            }
            Change::Dispatch(_) | Change::Due(_)
                if standing.protection.covers(&change.full_ref()) =>
            {
                Self::Protected
            }
            // Who pushes to the repository may, and all the rest is of what was pushed.
            Change::Push { .. } | Change::Delete { .. } | Change::Dispatch(_) | Change::Due(_) => {
                Self::Member
            }
            Change::PullRequest(pull) if !pull.from_fork => Self::Member,
            Change::PullRequest(_) if approved => Self::Approved,
            Change::PullRequest(_) => Self::Stranger,
        }
    }

    /// Returns the word, as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stranger => "stranger",
            Self::Approved => "approved",
            Self::Member => "member",
            Self::Protected => "protected",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == word)
    }

    /// Returns true when code of this trust runs without anybody's approval.
    pub fn may_run(self) -> bool {
        self > Self::Stranger
    }
}

/// What a change is judged by, before its commit is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Of a pull request, what was last heard of it.
    pub known: Option<&'a Known>,
    /// Whether somebody approved this very commit.
    pub approved: bool,
    /// Why approved commits of strangers cannot run, where that is so: there is no sandbox for them.
    pub cageless: Option<&'a str>,
    /// Which branches and tags of its repository are protected.
    pub protection: &'a Protection,
}

/// Which branches and tags of a repository are protected.
#[derive(Debug, Clone)]
pub enum Protection {
    /// This branch alone: nobody has said anything, and it is the default branch.
    Branch(String),
    /// What these patterns select, by full names.
    Patterns(Patterns),
}

impl Protection {
    /// Reads filter patterns as `on.push.branches` has them: of branches, or of whole refs where they begin with `refs/`.
    ///
    /// # Errors
    ///
    /// Why one of them is none.
    pub fn read<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Self, String> {
        let nowhere = Span { start: 0, end: 0 };
        let mut problems = Vec::new();
        let patterns: Vec<&str> = patterns.into_iter().collect();
        // As they are written, too: what is put before them could make sense of what has none.
        drop(Patterns::read(patterns.iter().map(|pattern| (*pattern, nowhere)), &mut problems));
        let full = patterns.iter().map(|pattern| {
            let (not, name) = pattern.strip_prefix('!').map_or(("", *pattern), |name| ("!", name));
            let folder =
                if name.starts_with("refs/") || name.is_empty() { "" } else { "refs/heads/" };
            format!("{not}{folder}{name}")
        });
        let full: Vec<String> = full.collect();
        let patterns = full.iter().map(|pattern| (pattern.as_str(), nowhere));
        let patterns = Patterns::read(patterns, &mut problems);
        match problems.into_iter().next() {
            Some(problem) => Err(problem.message),
            None => Ok(Self::Patterns(patterns)),
        }
    }

    /// Returns whether it protects a ref, by its full name.
    pub fn covers(&self, full_ref: &str) -> bool {
        match self {
            Self::Branch(name) => full_ref.strip_prefix("refs/heads/") == Some(name),
            Self::Patterns(patterns) => patterns.select(full_ref),
        }
    }
}

/// Decides how far a change is trusted. One that may not run all the same is to be looked for in its
/// repository, which alone can say whether it is the head of its pull request, and then waits
/// ([`approval`]).
///
/// # Errors
///
/// The outcome of a change that is not to be tested, now or at all.
pub fn admit(change: &Change, standing: Standing<'_>) -> Result<Trust, Outcome> {
    let pull = match change {
        Change::Push { .. } | Change::Dispatch(_) | Change::Due(_) => {
            return Ok(Trust::of(change, standing));
        }
        Change::Delete { .. } => {
            let reason = Reason::new(UNWANTED, "a deletion starts nothing");
            return Err(Outcome::Ignored(reason));
        }
        Change::PullRequest(pull) => pull,
    };
    if pull.action == PullRequestAction::Closed {
        let reason = Reason::new(NO_VERDICT, "closing a pull request starts nothing");
        return Err(Outcome::Ignored(reason));
    }
    let Some(known) = standing.known.filter(|known| known.open) else {
        return Err(Outcome::Ignored(pull::moved_on(pull.number)));
    };
    let trust = Trust::of(change, standing);
    if let (Trust::Approved, Some(why)) = (trust, standing.cageless) {
        let text = format!("Approved, but this server has no sandbox for it: {why}");
        return Err(Outcome::Waiting(Reason::new("isolation", text)));
    }
    // What may run is compared with the repository itself, once it is here.
    if trust.may_run() || pull::is_doubtful(known, pull) {
        return Ok(trust);
    }
    pull::is_current(Some(known), pull.number, &pull.head).map_err(Outcome::Ignored)?;
    Err(approval(pull))
}

/// Returns the outcome of a stranger's commit that nobody has approved.
pub fn approval(pull: &PullRequest) -> Outcome {
    let text =
        format!("Waiting for somebody to approve {}, of {}", pull.head.short(), pull.author.login);
    Outcome::Waiting(Reason::new("approval", text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_protected_is_said_by_patterns() {
        let default = Protection::Branch("main".to_owned());
        let read = |patterns: &[&str]| Protection::read(patterns.iter().copied());
        let said = read(&["release/*", "!release/old", "refs/tags/v*"]).unwrap();
        let refs = [
            "refs/heads/main",
            "refs/tags/main",
            "refs/heads/release/1",
            "refs/heads/release/old",
            "refs/tags/v1",
            "refs/heads/refs/tags/v1",
            "refs/pull/1/merge",
        ];
        assert_eq!(
            refs.map(|name| default.covers(name)),
            [true, false, false, false, false, false, false]
        );
        assert_eq!(
            refs.map(|name| said.covers(name)),
            [false, false, true, false, true, false, false]
        );
        assert!(refs.iter().all(|name| !read(&[]).unwrap().covers(name)));
        insta::assert_snapshot!(read(&["ok", "+"]).unwrap_err(), @"`+` is no filter pattern: `+` repeats the character before it, and there is none");
    }
}
