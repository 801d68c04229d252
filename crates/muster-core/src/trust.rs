//! How far the author of a change is trusted.
//!
//! Computed for each run from who sent this very commit and from where, never from anything that the
//! commit itself says.

use serde::{Deserialize, Serialize};

use crate::change::Change;

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
}

impl Trust {
    /// Returns the trust of a change; `approved` says whether its very commit was.
    pub fn of(change: &Change, approved: bool) -> Self {
        match change {
            // Who pushes to the repository may.
            Change::Push { .. } | Change::Delete { .. } => Self::Member,
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
        }
    }

    /// Returns true when code of this trust runs without anybody's approval.
    pub fn may_run(self) -> bool {
        self > Self::Stranger
    }
}
