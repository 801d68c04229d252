//! Concurrency groups: of the runs of one group, one runs and at most one waits.
//!
//! Follows GitHub's
//! [concurrency](https://docs.github.com/en/actions/how-tos/write-workflows/choose-when-workflows-run/control-workflow-concurrency):
//! a newer run takes the place of an older one that waits; with `cancel-in-progress` it also ends the
//! one that runs. Group names are compared without regard to case.

/// A run of a group that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The run's number.
    pub run: i64,
    /// Whether it waits for its turn.
    pub held: bool,
}

/// What follows when a run comes to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Whether the new run must wait.
    pub held: bool,
    /// The runs that it puts an end to.
    pub cancels: Vec<i64>,
}

/// Decides what follows when a run comes to a group with these members.
pub fn arrive(members: &[Member], cancel_in_progress: bool) -> Arrival {
    let cancels = members.iter().filter(|member| member.held || cancel_in_progress);
    Arrival { held: !members.is_empty(), cancels: cancels.map(|member| member.run).collect() }
}

/// Returns the run of a group whose turn it is, when nobody's is.
pub fn next(members: &[Member]) -> Option<i64> {
    if members.iter().any(|member| !member.held) {
        return None;
    }
    members.iter().map(|member| member.run).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(list: &[(i64, bool)]) -> Vec<Member> {
        list.iter().map(|(run, held)| Member { run: *run, held: *held }).collect()
    }

    #[test]
    fn one_runs_and_the_newest_waits() {
        assert_eq!(arrive(&[], false), Arrival { held: false, cancels: vec![] });
        assert_eq!(arrive(&members(&[(1, false)]), false), Arrival { held: true, cancels: vec![] });
        let both = members(&[(1, false), (2, true)]);
        assert_eq!(arrive(&both, false), Arrival { held: true, cancels: vec![2] });
        assert_eq!(arrive(&both, true), Arrival { held: true, cancels: vec![1, 2] });
    }

    #[test]
    fn the_turn_passes_on_when_nobody_has_it() {
        assert_eq!(next(&members(&[(1, false), (2, true)])), None);
        assert_eq!(next(&members(&[(3, true), (2, true)])), Some(2));
        assert_eq!(next(&[]), None);
    }
}
