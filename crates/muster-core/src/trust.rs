//! How far the author of a change is trusted.
//!
//! Computed for each run from who sent this very commit and from where, never from anything that the
//! commit itself says.

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

/// What a change is judged by, before its commit is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// Of a pull request, what was last heard of it.
    pub known: Option<&'a Known>,
    /// Whether somebody approved this very commit.
    pub approved: bool,
    /// Why approved commits of strangers cannot run, where that is so: there is no sandbox for them.
    pub cageless: Option<&'a str>,
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
        Change::Push { .. } => return Ok(Trust::of(change, false)),
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
    let trust = Trust::of(change, standing.approved);
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
