//! Concurrency groups: of the runs of one group, one runs and at most one waits.
//!
//! Follows GitHub's
//! [concurrency](https://docs.github.com/en/actions/how-tos/write-workflows/choose-when-workflows-run/control-workflow-concurrency):
//! a newer run takes the place of an older one that waits; with `cancel-in-progress` it also ends the
//! one that runs. Group names are compared without regard to case.

use std::collections::HashMap;
use std::hash::Hash;

use muster_workflow::expr::{Contexts, EvalError};
use muster_workflow::workflow::Workflow;

use crate::change::Change;
use crate::run::Reason;

/// A run of a group that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The run's number.
    pub run: i64,
    /// Whether it waits for its turn.
    pub held: bool,
    /// Whether it is to be cancelled.
    pub cancelled: bool,
}

impl Member {
    /// One that is being cancelled holds its place until it is over; one that waited gives it up.
    fn counts(self) -> bool {
        !(self.held && self.cancelled)
    }
}

/// A run that comes to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newcomer {
    /// The run's number.
    pub run: i64,
    /// Whether it ends the one that runs.
    pub cancel_in_progress: bool,
    /// Whether its ref had moved on before it was heard of.
    pub late: bool,
}

/// What follows when a run comes to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Whether the new run must wait.
    pub held: bool,
    /// Why the new run never gets its turn, where that is so.
    pub cancelled: Option<Reason>,
    /// The runs that it puts an end to, and why.
    pub cancels: Vec<(i64, Reason)>,
}

/// A concurrency group, as a run names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name, in lower case; a group is one of its repository.
    pub name: String,
    /// Whether its newcomers end the one that runs.
    pub cancel_in_progress: bool,
}

/// Returns the concurrency group of a run: the workflow's own, an empty name being none; else, for a
/// pull request, one in which a newer head ends what still runs for an older one.
///
/// # Errors
///
/// When the group's expressions have no value.
pub fn group_of(
    change: &Change,
    path: &str,
    workflow: &Workflow,
    contexts: &Contexts,
) -> Result<Option<Group>, EvalError> {
    if let Some(concurrency) = &workflow.concurrency {
        let name = concurrency.group.text(contexts)?.to_lowercase();
        let cancel_in_progress = concurrency.cancel_in_progress.get(contexts)?;
        return Ok(if name.is_empty() { None } else { Some(Group { name, cancel_in_progress }) });
    }
    Ok(match change {
        // No name that a workflow can write holds a newline, so the two never meet.
        Change::PullRequest(pull) => Some(Group {
            name: format!("pull request {}\n{path}", pull.number),
            cancel_in_progress: true,
        }),
        Change::Push { .. } | Change::Delete { .. } => None,
    })
}

/// Decides what follows when a run comes to a group with these members.
pub fn arrive(members: &[Member], newcomer: Newcomer) -> Arrival {
    if newcomer.late {
        // It would take the place of what is newer, or come after it.
        let reason = Reason::new("superseded", "its branch had moved on before it was heard of");
        return Arrival { held: true, cancelled: Some(reason), cancels: Vec::new() };
    }
    let members: Vec<Member> = members.iter().copied().filter(|member| member.counts()).collect();
    let why = format!("superseded by run {} of its concurrency group", newcomer.run);
    let cancels = members.iter().filter(|member| member.held || newcomer.cancel_in_progress);
    let cancels = cancels.map(|member| (member.run, Reason::new("superseded", why.as_str())));
    Arrival { held: !members.is_empty(), cancelled: None, cancels: cancels.collect() }
}

/// Returns the runs whose turn it is, of all groups, given each member with its group.
pub fn turns<G: Eq + Hash>(members: impl IntoIterator<Item = (G, Member)>) -> Vec<i64> {
    let mut groups: HashMap<G, Vec<Member>> = HashMap::new();
    for (group, member) in members.into_iter().filter(|(_, member)| member.counts()) {
        groups.entry(group).or_default().push(member);
    }
    let mut turns: Vec<i64> = groups.values().filter_map(|members| next(members)).collect();
    turns.sort_unstable();
    turns
}

/// Returns the run of a group whose turn it is, when nobody's is.
fn next(members: &[Member]) -> Option<i64> {
    if members.iter().any(|member| !member.held) {
        return None;
    }
    members.iter().map(|member| member.run).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(list: &[(i64, bool)]) -> Vec<Member> {
        let member =
            |(run, held): &(i64, bool)| Member { run: *run, held: *held, cancelled: false };
        list.iter().map(member).collect()
    }

    fn arrives(list: &[(i64, bool)], cancel_in_progress: bool) -> (bool, Vec<i64>) {
        let newcomer = Newcomer { run: 9, cancel_in_progress, late: false };
        let arrival = arrive(&members(list), newcomer);
        assert_eq!(arrival.cancelled, None);
        (arrival.held, arrival.cancels.into_iter().map(|(run, _)| run).collect())
    }

    #[test]
    fn one_runs_and_the_newest_waits() {
        assert_eq!(arrives(&[], false), (false, vec![]));
        assert_eq!(arrives(&[(1, false)], false), (true, vec![]));
        assert_eq!(arrives(&[(1, false), (2, true)], false), (true, vec![2]));
        assert_eq!(arrives(&[(1, false), (2, true)], true), (true, vec![1, 2]));
    }

    #[test]
    fn what_comes_late_ends_nothing_that_is_newer() {
        let newcomer = Newcomer { run: 9, cancel_in_progress: true, late: true };
        let arrival = arrive(&members(&[(1, false)]), newcomer);
        assert!(arrival.held && arrival.cancels.is_empty());
        assert_eq!(arrival.cancelled.unwrap().code, "superseded");
    }

    #[test]
    fn the_turn_passes_on_when_nobody_has_it() {
        let turns = |list: &[(i64, bool)]| turns(members(list).into_iter().map(|one| ("g", one)));
        assert!(turns(&[(1, false), (2, true)]).is_empty());
        assert_eq!(turns(&[(3, true), (2, true)]), [2]);
        assert!(turns(&[]).is_empty());
    }
}
