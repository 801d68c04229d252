//! What became of a webhook or an event: exactly one thing at a time, and why.

use crate::run::Reason;

/// The code of the reason of webhooks that tell of a repository which is not watched.
pub const UNKNOWN: &str = "unknown";

/// The code of the reason of events that say nothing of their commit, such as a closed pull request.
pub const NO_VERDICT: &str = "no-verdict";

/// The code of the reason of events that no workflow wants.
pub const UNWANTED: &str = "unwanted";

/// Events whose body says which one it is: the same body is the same event. A dispatch is not.
const IDENTIFIED_BY_BODY: [&str; 2] = ["push", "pull_request"];

/// What became of a webhook or an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It waits for its outcome.
    Pending,
    /// An event waits for somebody's approval.
    Waiting(Reason),
    /// It was processed.
    Accepted,
    /// Nothing was to be done, for this reason.
    Ignored(Reason),
    /// It could not be processed, for this reason.
    Dead(Reason),
}

impl Outcome {
    /// Reads an outcome as it is stored: a word, and the two parts of a reason. A word that is none of
    /// ours is what still waits.
    pub fn parse(word: &str, code: Option<String>, text: Option<String>) -> Self {
        let reason = Reason::new(&code.unwrap_or_default(), text.unwrap_or_default());
        match word {
            "accepted" => Self::Accepted,
            "ignored" => Self::Ignored(reason),
            "dead" => Self::Dead(reason),
            "waiting" => Self::Waiting(reason),
            _ => Self::Pending,
        }
    }

    /// Returns the word, as it is stored and shown.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Waiting(_) => "waiting",
            Self::Accepted => "accepted",
            Self::Ignored(_) => "ignored",
            Self::Dead(_) => "dead",
        }
    }

    /// Returns the reason that goes with it.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Pending | Self::Accepted => None,
            Self::Waiting(reason) | Self::Ignored(reason) | Self::Dead(reason) => Some(reason),
        }
    }

    /// Returns whether a webhook of this outcome that is delivered again is looked at again: it ended
    /// dead, or its repository was not known. Of equal webhooks, such a one is no first.
    pub fn is_reopened(&self) -> bool {
        match self {
            Self::Dead(_) => true,
            Self::Ignored(reason) => reason.code == UNKNOWN,
            Self::Pending | Self::Waiting(_) | Self::Accepted => false,
        }
    }
}

/// Returns whether webhooks of this event with the same body tell of the same thing.
pub fn is_identified_by_body(event: &str) -> bool {
    IDENTIFIED_BY_BODY.contains(&event)
}
