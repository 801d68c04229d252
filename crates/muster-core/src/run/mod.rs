//! A run: the jobs of one workflow for one change, from planned to finished.
//!
//! [`Run::step`] is the whole engine: it looks at the states, takes every move that can be taken
//! now, and says what has to be done about it. The server stores the result and calls it again
//! when something changed; `muster run` keeps it in memory. A job moves only forward.

mod needs;
mod state;
#[cfg(test)]
mod tests;

pub use state::{Conclusion, JobState, Reason, Refused};

use std::collections::BTreeSet;

use muster_workflow::PlannedJob;
use muster_workflow::expr::{Contexts, Value};
use muster_workflow::workflow::{self, Workflow};
use serde::{Deserialize, Serialize};

use crate::id::Attempt;

/// A run in motion.
#[derive(Debug, Clone)]
pub struct Run {
    /// The jobs, in the order of the plan.
    pub jobs: Vec<Job>,
    /// Why the run is to be cancelled, once it is.
    pub cancel: Option<Reason>,
    /// How it ended, once that has been said.
    pub concluded: Option<Conclusion>,
}

/// A job of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The key under `jobs` in the workflow.
    pub id: String,
    /// Which leg of its matrix, from 0.
    pub leg: usize,
    /// The name that people and required checks know.
    pub name: String,
    /// Whether a failure of this job cancels the other legs.
    pub fail_fast: bool,
    /// The jobs that must end first.
    pub needs: Vec<String>,
    /// The labels that its runner must bear.
    pub labels: Vec<String>,
    /// Where it stands.
    pub state: JobState,
    /// The outputs, in order; empty until it has finished.
    pub outputs: Vec<(String, String)>,
    /// Whether its failure leaves the run green; known once it starts.
    pub continue_on_error: bool,
    /// Whether it started although the run was cancelled, because its `if` asked for that.
    pub despite_cancel: bool,
}

/// A job is tried so often when its supervisors are lost.
pub const MAX_ATTEMPTS: Attempt = Attempt(3);

/// What became of an attempt of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// Its supervisor says how it ended.
    Finished {
        /// The verdict.
        conclusion: Conclusion,
        /// Why, where the verdict alone does not say it.
        reason: Option<Reason>,
        /// The job's outputs, in order.
        outputs: Vec<(String, String)>,
    },
    /// Its supervisor is gone without a word.
    Lost,
}

/// What has to be done after a step of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The job at this place may be given to a runner.
    Queue(usize),
    /// The runner of the job at this place is to be told to stop, for this reason.
    Stop(usize, Reason),
    /// The job at this place ended without a runner, or by its runner's report.
    Finished(usize),
    /// All jobs ended; the run has this conclusion.
    Concluded(Conclusion),
}

impl Job {
    /// Makes a job that waits for what it needs.
    pub fn new(planned: &PlannedJob) -> Self {
        Self {
            id: planned.id.clone(),
            leg: planned.leg,
            name: planned.name.clone(),
            fail_fast: planned.fail_fast,
            needs: planned.needs.clone(),
            labels: planned.labels.clone(),
            state: JobState::Waiting,
            outputs: Vec::new(),
            continue_on_error: false,
            despite_cancel: false,
        }
    }
}

impl Run {
    /// Makes a run of planned jobs, none of which has started.
    pub fn new(planned: &[PlannedJob]) -> Self {
        Self { jobs: planned.iter().map(Job::new).collect(), cancel: None, concluded: None }
    }

    /// Takes every move that can be taken now.
    ///
    /// `workflow` is the file that the run was planned from, and `contexts` hold what its job
    /// conditions can see but for `needs`, which the run itself knows.
    pub fn step(&mut self, workflow: &Workflow, contexts: &Contexts) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            let before = effects.len();
            self.stop_what_is_cancelled(&mut effects);
            self.fail_fast(&mut effects);
            self.start_what_is_free(workflow, contexts, &mut effects);
            if effects.len() == before {
                break;
            }
        }
        if self.concluded.is_none() {
            self.concluded = self.conclusion();
            effects.extend(self.concluded.map(Effect::Concluded));
        }
        effects
    }

    /// Records that a runner took the job at `place`.
    ///
    /// # Errors
    ///
    /// Unless the job is queued for this very attempt.
    pub fn start(&mut self, place: usize, attempt: Attempt) -> Result<(), Refused> {
        self.jobs[place].state.start(attempt)
    }

    /// Records what the runner of `attempt` says of the job at `place`.
    ///
    /// # Errors
    ///
    /// Unless this very attempt is running: a late report changes nothing.
    pub fn finish(
        &mut self,
        place: usize,
        attempt: Attempt,
        conclusion: Conclusion,
        reason: Option<Reason>,
        outputs: Vec<(String, String)>,
    ) -> Result<(), Refused> {
        let job = &mut self.jobs[place];
        job.state.finish(attempt, conclusion, reason)?;
        job.outputs = outputs;
        Ok(())
    }

    /// Records what became of an attempt of the job at `place`: one whose supervisor was lost is tried
    /// again, [`MAX_ATTEMPTS`] times in all, unless it was to stop anyway.
    ///
    /// # Errors
    ///
    /// Unless this very attempt is running: a late report changes nothing.
    pub fn report(
        &mut self,
        place: usize,
        attempt: Attempt,
        report: Report,
    ) -> Result<(), Refused> {
        match report {
            Report::Finished { conclusion, reason, outputs } => {
                self.finish(place, attempt, conclusion, reason, outputs)
            }
            Report::Lost => {
                let state = &mut self.jobs[place].state;
                let is_stopping = matches!(state, JobState::Running { stopping: Some(_), .. });
                if attempt < MAX_ATTEMPTS && !is_stopping {
                    return state.retry(attempt).map(drop);
                }
                let text = format!("its supervisor was lost, {attempt} times");
                let reason = Some(Reason::new("lost", text));
                self.finish(place, attempt, Conclusion::Error, reason, Vec::new())
            }
        }
    }

    /// Returns how the run ended, once all its jobs have.
    pub fn conclusion(&self) -> Option<Conclusion> {
        let mut worst = Conclusion::Success;
        for job in &self.jobs {
            let conclusion = job.state.conclusion()?;
            worst =
                worst.worse(if job.continue_on_error { conclusion.forgiven() } else { conclusion });
        }
        Some(worst)
    }

    /// Ends all jobs that are not over, whatever their conditions say: of a run whose turn never came,
    /// or that cannot go on.
    pub fn abandon(&mut self, conclusion: Conclusion, reason: &Reason) {
        for job in self.jobs.iter_mut().filter(|job| job.state.conclusion().is_none()) {
            job.state = JobState::finished(conclusion, Some(reason.clone()));
        }
        self.concluded = self.conclusion();
    }

    /// Makes ready for another attempt of the whole run: all jobs, or only those that are not green
    /// and those that need them. Returns how many jobs run again.
    pub fn again(&mut self, failed_only: bool) -> usize {
        let green = |job: &Job| job.state.conclusion() == Some(Conclusion::Success);
        let mut again: Vec<String> = Vec::new();
        for job in &self.jobs {
            if !failed_only || !green(job) {
                again.push(job.id.clone());
            }
        }
        let mut next = 0;
        while let Some(id) = again.get(next).cloned() {
            next += 1;
            let needing = self.jobs.iter().filter(|job| job.needs.contains(&id));
            let new: Vec<String> =
                needing.map(|job| job.id.clone()).filter(|id| !again.contains(id)).collect();
            again.extend(new);
        }
        self.cancel = None;
        self.concluded = None;
        let mut count = 0;
        for job in &mut self.jobs {
            let needs_again = job.needs.iter().any(|need| again.contains(need));
            // Of a matrix, only the legs that are not green run again.
            if !failed_only || !green(job) || needs_again {
                job.state = JobState::Waiting;
                job.outputs.clear();
                job.despite_cancel = false;
                count += 1;
            }
        }
        count
    }

    /// Returns the place of the first job that may be given to a runner.
    pub fn next_queued(&self) -> Option<usize> {
        self.jobs.iter().position(|job| matches!(job.state, JobState::Queued { .. }))
    }

    /// Returns the `needs` context of the job at `place`.
    pub fn needs_context(&self, place: usize) -> Value {
        needs::context(self, &self.jobs[place])
    }

    fn stop_what_is_cancelled(&mut self, effects: &mut Vec<Effect>) {
        let Some(reason) = self.cancel.clone() else { return };
        for place in 0..self.jobs.len() {
            if !self.jobs[place].despite_cancel {
                self.stop(place, &reason, effects);
            }
        }
    }

    /// Cancels the other legs of a job of which one failed.
    fn fail_fast(&mut self, effects: &mut Vec<Effect>) {
        for place in 0..self.jobs.len() {
            let job = &self.jobs[place];
            let failed =
                matches!(job.state.conclusion(), Some(Conclusion::Failure | Conclusion::TimedOut));
            if !failed || !job.fail_fast || job.continue_on_error {
                continue;
            }
            let reason = Reason::new(
                "fail-fast",
                format!("`{}` failed and its matrix is fail-fast", job.name),
            );
            let id = job.id.clone();
            for other in 0..self.jobs.len() {
                if other != place && self.jobs[other].id == id {
                    let waiting = matches!(self.jobs[other].state, JobState::Waiting);
                    if waiting {
                        self.jobs[other].state =
                            JobState::finished(Conclusion::Cancelled, Some(reason.clone()));
                        effects.push(Effect::Finished(other));
                    } else {
                        self.stop(other, &reason, effects);
                    }
                }
            }
        }
    }

    /// Ends a job that no runner has, and asks for the end of one that a runner has.
    ///
    /// A job that still waits is left: its `if` may ask for it to run after all.
    fn stop(&mut self, place: usize, reason: &Reason, effects: &mut Vec<Effect>) {
        match &mut self.jobs[place].state {
            JobState::Queued { .. } => {
                self.jobs[place].state =
                    JobState::finished(Conclusion::Cancelled, Some(reason.clone()));
                effects.push(Effect::Finished(place));
            }
            JobState::Running { stopping, .. } if stopping.is_none() => {
                *stopping = Some(reason.clone());
                effects.push(Effect::Stop(place, reason.clone()));
            }
            JobState::Waiting | JobState::Running { .. } | JobState::Finished { .. } => {}
        }
    }

    fn start_what_is_free(
        &mut self,
        workflow: &Workflow,
        contexts: &Contexts,
        effects: &mut Vec<Effect>,
    ) {
        for place in 0..self.jobs.len() {
            if self.jobs[place].state != JobState::Waiting
                || !needs::are_over(self, &self.jobs[place])
            {
                continue;
            }
            let Some(definition) = workflow.job(&self.jobs[place].id) else { continue };
            match self.may_start(place, definition, contexts) {
                Ok(()) if !self.has_room(place, definition, contexts) => {}
                Ok(()) => {
                    self.jobs[place].state = JobState::Queued { attempt: Attempt::FIRST };
                    self.jobs[place].despite_cancel = self.cancel.is_some();
                    effects.push(Effect::Queue(place));
                }
                Err((conclusion, reason)) => {
                    self.jobs[place].state = JobState::finished(conclusion, Some(reason));
                    effects.push(Effect::Finished(place));
                }
            }
        }
    }

    /// Returns whether another leg of a matrix may run beside those that do.
    fn has_room(&self, place: usize, definition: &workflow::Job, contexts: &Contexts) -> bool {
        let Some(strategy) = &definition.strategy else { return true };
        let mut contexts = contexts.clone();
        contexts.set("needs", self.needs_context(place));
        strategy.max_parallel(&contexts).is_none_or(|most| {
            let is_busy = |job: &&Job| {
                let goes_on =
                    matches!(job.state, JobState::Queued { .. } | JobState::Running { .. });
                goes_on && job.id == self.jobs[place].id
            };
            self.jobs.iter().filter(is_busy).count() < most
        })
    }

    /// Judges the `if` of a job whose needs are over.
    fn may_start(
        &self,
        place: usize,
        definition: &workflow::Job,
        contexts: &Contexts,
    ) -> Result<(), (Conclusion, Reason)> {
        let status = needs::status(self, &self.jobs[place]);
        let mut contexts = contexts.with_status(status);
        contexts.set("needs", self.needs_context(place));
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

/// Returns the places of the jobs that have moved in a step, in order.
pub fn moved(effects: &[Effect]) -> BTreeSet<usize> {
    let places = effects.iter().filter_map(|effect| match effect {
        Effect::Queue(place) | Effect::Stop(place, _) | Effect::Finished(place) => Some(*place),
        Effect::Concluded(_) => None,
    });
    places.collect()
}

/// Chooses whose job is started next: of the repository that has the fewest running, the oldest run.
///
/// A candidate is how many jobs its repository has running, the run's number, and what it stands for.
pub fn fairest<T>(candidates: impl IntoIterator<Item = (usize, i64, T)>) -> Option<T> {
    let first = candidates.into_iter().min_by_key(|(running, number, _)| (*running, *number));
    first.map(|(_, _, candidate)| candidate)
}
