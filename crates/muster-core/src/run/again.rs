//! Another attempt of a run: which of its jobs run again, and which stand as they are.

use super::{Conclusion, Job, JobState, Legs, Run, Scopes, Work, name_within};

/// What becomes of a job in another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It stands as it is.
    Kept,
    /// It runs from its beginning, as the same leg.
    Repeated,
    /// It runs from its beginning, and what its legs read may be another now.
    Anew,
    /// Some of what it calls runs again.
    Within,
    /// What makes it will make it again, or something else.
    Gone,
}

impl Run {
    /// Makes ready for another attempt of the whole run: of all jobs, or only of those that are not green and those that
    /// need them. Returns at which place each job that there is now was before; `None` when nothing would run.
    pub fn again(&mut self, failed_only: bool) -> Option<Vec<usize>> {
        let mut fates = vec![Again::Kept; self.jobs.len()];
        self.decide(None, failed_only, &mut fates);
        if fates.iter().all(|fate| *fate == Again::Kept) {
            return None;
        }
        self.cancel = None;
        self.concluded = None;
        self.scopes = Scopes::default();
        let mut places = Vec::new();
        let mut now = vec![None; self.jobs.len()];
        for (place, fate) in fates.iter().enumerate() {
            if *fate != Again::Gone {
                now[place] = Some(places.len());
                places.push(place);
            }
        }
        let jobs = places.iter().map(|place| {
            let mut job = self.jobs[*place].clone();
            let caller = job.within;
            job.within = caller.and_then(|caller| now[caller]);
            match fates[*place] {
                Again::Kept | Again::Gone => {}
                Again::Within => {
                    job.state = JobState::Calling { stopping: None };
                    job.outputs.clear();
                    job.despite_cancel = false;
                }
                Again::Repeated => begin(&mut job),
                Again::Anew => {
                    begin(&mut job);
                    self.stand_for_all(&mut job, caller);
                }
            }
            job
        });
        self.jobs = jobs.collect();
        Some(places)
    }

    /// Lets a leg that was made stand for all of them, of a job that the one at `caller` calls.
    fn stand_for_all(&self, job: &mut Job, caller: Option<usize>) {
        if job.legs != Legs::Made {
            return;
        }
        job.legs = Legs::Open;
        job.labels.clear();
        job.name.clone_from(&job.id);
        if let Some(caller) = caller {
            job.name = name_within(&self.jobs[caller].name, &job.id);
        }
    }

    /// Decides what becomes of the jobs that the one at `within` calls, or of those of the run's own file.
    fn decide(&self, within: Option<usize>, failed_only: bool, fates: &mut [Again]) {
        let here: Vec<usize> =
            (0..self.jobs.len()).filter(|place| self.jobs[*place].within == within).collect();
        let is_green =
            |place: usize| self.jobs[place].state.conclusion() == Some(Conclusion::Success);
        let is_again = |place: usize| !failed_only || !is_green(place);
        let mut again: Vec<&str> = Vec::new();
        again.extend(
            here.iter().filter(|place| is_again(**place)).map(|place| &*self.jobs[*place].id),
        );
        let needs = |place: usize, id: &str| {
            self.jobs[place].needs.iter().any(|need| need.eq_ignore_ascii_case(id))
        };
        let mut next = 0;
        while let Some(id) = again.get(next).copied() {
            next += 1;
            for place in here.iter().filter(|place| needs(**place, id)) {
                let id = &*self.jobs[*place].id;
                if !again.contains(&id) {
                    again.push(id);
                }
            }
        }
        for place in here {
            let job = &self.jobs[place];
            let needs_again = again.iter().any(|id| needs(place, id));
            if !needs_again && !is_again(place) {
                continue;
            }
            if needs_again || !failed_only {
                // What they read may be another now, so one stands for all of them once more.
                let is_one_of_many = job.legs == Legs::Made && job.leg > 0;
                fates[place] = if is_one_of_many { Again::Gone } else { Again::Anew };
                self.forget(place, fates);
                continue;
            }
            fates[place] = Again::Repeated;
            if job.work == Work::Called && job.claim.is_some() {
                // It has to come to its group again, before anything that it calls.
                self.forget(place, fates);
            } else if job.work == Work::Called {
                self.decide(Some(place), failed_only, fates);
                let is_within = |other: &usize| self.jobs[*other].within == Some(place);
                let any =
                    (0..self.jobs.len()).filter(is_within).any(|other| fates[other] != Again::Kept);
                if any {
                    fates[place] = Again::Within;
                } else {
                    self.forget(place, fates);
                }
            }
        }
    }

    /// Forgets all that a job has called.
    fn forget(&self, caller: usize, fates: &mut [Again]) {
        for place in 0..self.jobs.len() {
            if self.jobs[place].within == Some(caller) {
                fates[place] = Again::Gone;
                self.forget(place, fates);
            }
        }
    }
}

/// Puts a job back to its beginning.
fn begin(job: &mut Job) {
    job.state = JobState::Waiting;
    job.outputs.clear();
    job.despite_cancel = false;
    job.claim = None;
    if job.work == Work::Called {
        job.work = Work::Call;
    }
}
