//! One thing at a time for each repository, and several repositories at once: one that hangs holds up
//! no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_core::id::RepoId;

/// How many repositories are busy at once.
const AT_ONCE: usize = 8;

/// Which repositories something is done with.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The repositories whose lane is taken, and whether another has wanted it since.
    busy: HashMap<RepoId, bool>,
    /// Whether one was turned away because all were taken.
    turned_away: bool,
}

/// The right to do something with a repository. Dropping it gives it back, also in a panic.
#[derive(Debug)]
pub(super) struct Lane {
    lanes: Lanes,
    repository: RepoId,
    /// Whether it was given back already: it may be somebody else's by now.
    left: bool,
}

impl Lanes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the lane of a repository; `None` while it is taken, or all are.
    pub(super) fn enter(&self, repository: &RepoId) -> Option<Lane> {
        let mut state = self.state();
        if let Some(wanted) = state.busy.get_mut(repository) {
            *wanted = true;
            return None;
        }
        if state.busy.len() >= AT_ONCE {
            state.turned_away = true;
            return None;
        }
        state.busy.insert(repository.clone(), false);
        Some(Lane { lanes: self.clone(), repository: repository.clone(), left: false })
    }

    /// Returns the repositories whose lane is taken.
    pub(super) fn busy(&self) -> Vec<RepoId> {
        self.state().busy.keys().cloned().collect()
    }

    /// Returns whether another lane can be taken.
    pub(super) fn has_room(&self) -> bool {
        self.state().busy.len() < AT_ONCE
    }
}

impl Lane {
    /// Gives the lane back; returns whether somebody has wanted it, or any, meanwhile.
    pub(super) fn leave(mut self) -> bool {
        self.left = true;
        let mut state = self.lanes.state();
        let wanted = state.busy.remove(&self.repository).unwrap_or(false);
        std::mem::take(&mut state.turned_away) || wanted
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if !self.left {
            self.lanes.state().busy.remove(&self.repository);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_for_one_and_tells_who_came_meanwhile() {
        let lanes = Lanes::default();
        let (one, other) = (RepoId::new("one"), RepoId::new("other"));
        let lane = lanes.enter(&one).unwrap();
        let beside = lanes.enter(&other).unwrap();
        assert!(lanes.enter(&one).is_none());
        assert!(lane.leave());
        // What was given back is not given back again when the guard goes.
        let taken = lanes.enter(&one).unwrap();
        assert!(lanes.enter(&one).is_none());
        assert!(taken.leave());
        assert!(!beside.leave());
        assert!(!lanes.enter(&one).unwrap().leave());
        let all: Vec<_> = (0..AT_ONCE)
            .map(|number| lanes.enter(&RepoId::new(number.to_string())).unwrap())
            .collect();
        assert!(!lanes.has_room() && lanes.enter(&one).is_none());
        drop(all);
        let lane = lanes.enter(&one).unwrap();
        assert_eq!(lanes.busy(), [one]);
        assert!(lane.leave());
    }
}
