//! What a job does whose needs are over: wait, come to its concurrency group, run, become its legs, or call.

use std::iter::successors;

use muster_workflow::workflow;
use muster_workflow::{MAX_JOBS, PlannedJob, legs, plan};

use super::scope::Scope;
use super::{
    Claim, Conclusion, Effect, Ground, Job, JobState, Legs, Reason, Run, Work, name_within, needs,
};
use crate::concurrency::Group;
use crate::id::Attempt;

/// What a job does whose turn has come.
pub(super) enum Turn {
    /// Other legs of its matrix go first.
    Wait,
    /// It comes to its concurrency group.
    Claim(Group),
    /// It may be given to a runner.
    Queue,
    /// It becomes these legs.
    Expand(Vec<PlannedJob>),
    /// It calls a workflow, which has these jobs.
    Call(Vec<PlannedJob>),
}

impl Run {
    /// Decides what a job does next whose needs are over; or how it ends without having begun.
    pub(super) fn turn(
        &self,
        place: usize,
        ground: Ground<'_>,
    ) -> Result<Turn, (Conclusion, Reason)> {
        let job = &self.jobs[place];
        let wrong = |reason: Reason| (Conclusion::Error, reason);
        let scope = self.scope(job.within, ground).map_err(wrong)?;
        let definition = scope.job(&job.id).map_err(wrong)?;
        // What has come to its group was judged before.
        let is_granted = job.claim.as_ref().is_some_and(|claim| claim.granted);
        if !is_granted {
            self.may_start(place, definition, &scope)?;
        }
        let refuse = |message: String| (Conclusion::Failure, Reason::new("plan", message));
        let added = match (job.legs, job.work) {
            (Legs::Open, _) => {
                let contexts = self.with_needs(place, &scope);
                let legs =
                    legs(definition, &contexts).map_err(|problem| refuse(problem.message))?;
                let legs = self.chosen(legs);
                if legs.is_empty() {
                    let reason = Reason::new("not-chosen", "no leg of its matrix was asked for");
                    return Err((Conclusion::Skipped, reason));
                }
                Turn::Expand(legs)
            }
            _ if is_granted => self.begin(place, &scope, ground)?,
            _ if !self.has_room(place, definition, &scope) => return Ok(Turn::Wait),
            _ => match self.group(place, definition, &scope, ground)? {
                Some(group) => return Ok(Turn::Claim(group)),
                None => self.begin(place, &scope, ground)?,
            },
        };
        let count = match &added {
            Turn::Expand(jobs) | Turn::Call(jobs) => jobs.len(),
            Turn::Wait | Turn::Claim(_) | Turn::Queue => 0,
        };
        // Those for which others stand are no jobs to people, nor to GitHub.
        let stand_ins = self.jobs.iter().filter(|job| job.work == Work::Called).count();
        if self.jobs.len() - stand_ins - 1 + count > MAX_JOBS {
            let text = format!("the run would have more than {MAX_JOBS} jobs");
            return Err((Conclusion::Error, Reason::new("too-many", text)));
        }
        Ok(added)
    }

    /// Decides what a job does that nothing holds up any more.
    fn begin(
        &self,
        place: usize,
        scope: &Scope,
        ground: Ground<'_>,
    ) -> Result<Turn, (Conclusion, Reason)> {
        if self.jobs[place].work == Work::Steps {
            return Ok(Turn::Queue);
        }
        let inner = self.scope_of_call(place, scope, ground);
        let inner = inner.map_err(|reason| (Conclusion::Error, reason))?;
        let planned = plan(&inner.workflow, &inner.contexts).map_err(|problems| {
            let first = problems.into_iter().next().map(|problem| problem.message);
            let message = format!("`{}`: {}", inner.file, first.unwrap_or_default());
            (Conclusion::Failure, Reason::new("plan", message))
        })?;
        Ok(Turn::Call(self.chosen(planned)))
    }

    /// Returns the concurrency group that a job names, or the workflow that it calls.
    fn group(
        &self,
        place: usize,
        definition: &workflow::Job,
        scope: &Scope,
        ground: Ground<'_>,
    ) -> Result<Option<Group>, (Conclusion, Reason)> {
        let wrong = |reason| (Conclusion::Error, reason);
        let group = match &definition.concurrency {
            Some(own) => Group::of(own, &self.leg_contexts(place, scope).map_err(wrong)?),
            None if self.jobs[place].work == Work::Steps => Ok(None),
            None => {
                let inner = self.scope_of_call(place, scope, ground).map_err(wrong)?;
                match &inner.workflow.concurrency {
                    Some(concurrency) => Group::of(concurrency, &inner.contexts),
                    None => Ok(None),
                }
            }
        };
        group.map_err(|error| {
            let why = format!("`concurrency`: {error}");
            (Conclusion::Failure, Reason::new("concurrency", why))
        })
    }

    pub(super) fn take(&mut self, place: usize, turn: Turn, effects: &mut Vec<Effect>) {
        let (name, within) = (self.jobs[place].name.clone(), self.jobs[place].within);
        let is_cancelled = self.cancelled(within).is_some();
        let around = successors(within, |caller| self.jobs[*caller].within);
        let callers: Vec<usize> = around.collect();
        let job = &mut self.jobs[place];
        let added = match turn {
            Turn::Wait => return,
            Turn::Claim(group) => {
                let why = format!("waits for its turn in the concurrency group `{}`", group.name);
                job.state = JobState::Pending { reason: Reason::new("concurrency", why) };
                job.claim = Some(Claim { group, callers, granted: false });
                job.despite_cancel = is_cancelled;
                return effects.push(Effect::Claim(place));
            }
            Turn::Queue => {
                job.state = JobState::Queued { attempt: Attempt::FIRST };
                job.despite_cancel = is_cancelled;
                return effects.push(Effect::Queue(place));
            }
            Turn::Expand(planned) => {
                let caller = within.map(|caller| self.jobs[caller].name.clone());
                let mut legs = planned.iter().map(|leg| {
                    let mut leg = Job { within, legs: Legs::Made, ..Job::new(leg) };
                    if let Some(caller) = &caller {
                        leg.name = name_within(caller, &leg.name);
                    }
                    leg
                });
                // It becomes the first of them.
                if let Some(first) = legs.next() {
                    self.jobs[place] = first;
                }
                legs.collect::<Vec<_>>()
            }
            Turn::Call(planned) => {
                job.state = JobState::Calling { stopping: None };
                job.work = Work::Called;
                job.despite_cancel = is_cancelled;
                let called = planned.iter().map(|planned| {
                    let called = Job::new(planned);
                    Job { within: Some(place), name: name_within(&name, &called.name), ..called }
                });
                called.collect()
            }
        };
        let first = self.jobs.len();
        self.jobs.extend(added);
        effects.push(Effect::Planned(place));
        effects.extend((first..self.jobs.len()).map(Effect::Planned));
    }

    /// Returns whether another leg of a matrix may run beside those that do.
    fn has_room(&self, place: usize, definition: &workflow::Job, scope: &Scope) -> bool {
        let Some(strategy) = &definition.strategy else { return true };
        let job = &self.jobs[place];
        strategy.max_parallel(&self.with_needs(place, scope)).is_none_or(|most| {
            let is_busy = |other: &&Job| {
                let goes_on = !matches!(other.state, JobState::Waiting | JobState::Finished { .. });
                goes_on && other.id == job.id && other.within == job.within
            };
            self.jobs.iter().filter(is_busy).count() < most
        })
    }

    /// Judges the `if` of a job whose needs are over.
    pub(super) fn may_start(
        &self,
        place: usize,
        definition: &workflow::Job,
        scope: &Scope,
    ) -> Result<(), (Conclusion, Reason)> {
        let status = needs::status(self, &self.jobs[place]);
        let contexts = self.with_needs(place, scope).with_status(status);
        match &definition.condition {
            None => needs::implicit_success(self, &self.jobs[place], status),
            Some(condition) => match condition.holds(&contexts) {
                Ok(true) => Ok(()),
                Ok(false) => {
                    // Without a status function of its own, the condition also asks for success.
                    needs::implicit_success(self, &self.jobs[place], status)?;
                    Err((Conclusion::Skipped, Reason::new("if", "its `if` is false")))
                }
                Err(error) => Err((
                    Conclusion::Failure,
                    Reason::new("if-error", format!("its `if` has no value: {error}")),
                )),
            },
        }
    }
}
