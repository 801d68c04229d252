//! The concurrency groups of the jobs of one `muster run`. Those of whole workflows are for runs that come one after the
//! other, which here never do.

use std::collections::VecDeque;

use muster_core::concurrency::{Claimant, Member, Newcomer, arrive, turns};
use muster_core::run::{Claim, Reason};
use muster_core::trust::Trust;

/// Who is in which group.
#[derive(Debug, Default)]
pub(super) struct Groups {
    members: Vec<(String, Member)>,
    /// What was decided and is not told yet.
    decided: VecDeque<Turn>,
    /// How many have come.
    turn: i64,
}

/// What follows for a job in a group.
#[derive(Debug)]
pub(super) enum Turn {
    /// Its turn has come.
    Goes(Claimant),
    /// It is to end for another.
    Ends(Claimant, Reason),
}

impl Groups {
    /// Brings a job to its group; `is_whole` where it calls a workflow.
    pub(super) fn come(&mut self, who: Claimant, claim: &Claim, is_whole: bool) {
        // It is the caller's own work tree.
        let (callers, trust) = (&*claim.callers, Trust::Member);
        let newcomer = Newcomer { who, callers, trust, late: false };
        let arrival = arrive(&self.members, &claim.group, newcomer);
        for (other, reason) in arrival.cancels {
            self.cancel(other, reason);
        }
        self.turn += 1;
        let (turn, held) = (self.turn, arrival.held);
        let (name, callers, cancelled) = (claim.group.name.clone(), claim.callers.clone(), false);
        self.members.push((name, Member { who, callers, trust, turn, held, cancelled, is_whole }));
        match arrival.cancelled {
            Some(reason) => self.cancel(who, reason),
            None if !held => self.decided.push_back(Turn::Goes(who)),
            None => {}
        }
    }

    fn cancel(&mut self, who: Claimant, reason: Reason) {
        for (_, member) in self.members.iter_mut().filter(|(_, member)| member.who == who) {
            member.cancelled = true;
        }
        self.decided.push_back(Turn::Ends(who, reason));
    }

    /// Forgets those that are over.
    pub(super) fn forget(&mut self, is_over: impl Fn(Claimant) -> bool) {
        self.members.retain(|(_, member)| !is_over(member.who));
    }

    /// Returns what follows next, until nothing does.
    pub(super) fn next(&mut self) -> Option<Turn> {
        if let Some(turn) = self.decided.pop_front() {
            return Some(turn);
        }
        let who = turns(self.members.iter().map(|(group, member)| (group, member))).pop()?;
        for (_, member) in self.members.iter_mut().filter(|(_, member)| member.who == who) {
            member.held = false;
        }
        Some(Turn::Goes(who))
    }
}
