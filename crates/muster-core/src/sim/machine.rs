//! The machine of the simulated server: supervisors, which outlive it, and their spools.

use std::collections::BTreeMap;

use crate::run::Conclusion;

/// What a supervisor writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    Step(u32),
    Result(Conclusion),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Supervisor {
    pub(super) alive: bool,
    /// Whether it was told to stop.
    pub(super) told: bool,
    pub(super) spool: Vec<Record>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    /// By job and attempt.
    pub(super) supervisors: BTreeMap<(u32, u32), Supervisor>,
    /// How often one was started where there was one already.
    pub(super) doubled: u32,
}

impl Machine {
    pub(super) fn start(&mut self, job: u32, attempt: u32) {
        let known = self.supervisors.get(&(job, attempt));
        self.doubled += u32::from(known.is_some());
        let alive = Supervisor { alive: true, ..Supervisor::default() };
        self.supervisors.insert((job, attempt), alive);
    }

    fn alive(&mut self) -> Vec<(&(u32, u32), &mut Supervisor)> {
        self.supervisors.iter_mut().filter(|(_, supervisor)| supervisor.alive).collect()
    }

    /// Lets one go on with its job.
    pub(super) fn work(&mut self, which: usize) {
        let mut alive = self.alive();
        let count = alive.len().max(1);
        let Some((key, supervisor)) = alive.get_mut(which % count) else { return };
        let steps = u32::try_from(supervisor.spool.len()).unwrap_or(u32::MAX);
        let (job, attempt) = **key;
        // Jobs end as they do by themselves: a third of them red.
        let own = match (job * 7 + attempt * 3) % 9 {
            0..=2 => Conclusion::Failure,
            3 => Conclusion::TimedOut,
            _ => Conclusion::Success,
        };
        let record = match (supervisor.told, steps) {
            // One that was told may have come to its end by itself.
            (true, 0..=2) => Record::Result(Conclusion::Cancelled),
            (_, 0..=2) => Record::Step(steps),
            _ => Record::Result(own),
        };
        supervisor.spool.push(record);
        supervisor.alive = !matches!(record, Record::Result(_));
    }

    pub(super) fn kill(&mut self, which: usize) {
        let mut alive = self.alive();
        let count = alive.len().max(1);
        if let Some((_, supervisor)) = alive.get_mut(which % count) {
            supervisor.alive = false;
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.supervisors.values().any(|supervisor| supervisor.alive)
    }
}
