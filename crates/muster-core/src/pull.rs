//! Pull requests as they were heard of: what comes late changes nothing.

use crate::change::{PullRequest, PullRequestAction};
use crate::id::Sha;
use crate::run::Reason;

/// A pull request as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The commit that it asks to merge.
    pub head: Sha,
    /// When it had changed by then, as ISO 8601 in UTC. Times of one code host are written alike, so they
    /// compare as text; they have seconds.
    pub updated_at: String,
    /// Whether it is neither merged nor given up.
    pub open: bool,
}

/// Returns what is known of a pull request after an event.
///
/// # Errors
///
/// The reason why the event counts for nothing: a later one was here before.
pub fn hear(known: Option<&Known>, pull: &PullRequest) -> Result<Known, Reason> {
    // What opened a pull request comes before all else of its second, and nothing but opening it again
    // comes after closing it.
    let is_late = |known: &Known| {
        let first = pull.action == PullRequestAction::Opened
            || (!known.open && pull.action != PullRequestAction::Reopened);
        known.updated_at > pull.updated_at || (first && known.updated_at == pull.updated_at)
    };
    if known.is_some_and(is_late) {
        let text = format!("a later event of pull request {} was here before", pull.number);
        return Err(Reason::new("late", text));
    }
    // Of two heads in one second the repository has to say which is the last.
    let head = known.filter(|known| known.updated_at == pull.updated_at);
    Ok(Known {
        head: head.map_or(&pull.head, |known| &known.head).clone(),
        updated_at: pull.updated_at.clone(),
        open: pull.action != PullRequestAction::Closed,
    })
}

/// Returns whether only the repository can say if a commit is the head of its pull request: two were heard of
/// in one second.
pub fn is_doubtful(known: &Known, pull: &PullRequest) -> bool {
    known.head != pull.head && known.updated_at == pull.updated_at
}

/// Checks that a commit is the head of its pull request, as far as that was heard of.
///
/// # Errors
///
/// The reason why nothing follows from it any more.
pub fn is_current(known: Option<&Known>, number: i64, head: &Sha) -> Result<(), Reason> {
    if known.is_none_or(|known| known.open && known.head == *head) {
        return Ok(());
    }
    Err(moved_on(number))
}

/// Returns the reason why nothing follows from a pull request as it was.
pub(crate) fn moved_on(number: i64) -> Reason {
    Reason::new("late", format!("pull request {number} has moved on, or is closed"))
}

/// Returns why a commit of a pull request waits for approval no more, given what is known now.
pub fn ends_waiting(number: i64, known: &Known, waiting: &Sha) -> Option<Reason> {
    if !known.open {
        return Some(closed(number));
    }
    let text = format!("pull request {number} has a newer head");
    (known.head != *waiting).then(|| Reason::new("superseded", text))
}

/// Returns the reason why what runs for a pull request is ended when it is closed.
pub fn closed(number: i64) -> Reason {
    Reason::new("closed", format!("pull request {number} was closed"))
}
