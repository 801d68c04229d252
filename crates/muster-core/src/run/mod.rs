//! A run: the jobs of one workflow for one change, from planned to finished.
//!
//! [`Run::step`] is the whole engine: it looks at the states, takes every move that can be taken
//! now, and says what has to be done about it. The server stores the result and calls it again
//! when something changed; `muster run` keeps it in memory. A job moves only forward.
//!
//! Jobs are only ever added, at the end: those of a workflow that a job calls, once it does, and the
//! legs of a matrix that reads what other jobs said.

mod again;
mod needs;
mod scope;
mod state;
#[cfg(test)]
mod tests;
mod turn;

pub use scope::{Assignment, Ground};
pub use state::{Conclusion, JobState, Reason, Refused};

use std::collections::BTreeSet;

use muster_workflow::PlannedJob;
use muster_workflow::expr::Value;
use serde::{Deserialize, Serialize};

use self::scope::Scopes;
use self::turn::Turn;

use crate::concurrency::Group;
use crate::id::Attempt;

/// A run in motion.
#[derive(Debug, Clone)]
pub struct Run {
    /// The jobs; how they stand in their files is told by [`in_order`].
    pub jobs: Vec<Job>,
    /// Why the run is to be cancelled, once it is.
    pub cancel: Option<Reason>,
    /// How it ended, once that has been said.
    pub concluded: Option<Conclusion>,
    /// What is known of the files that jobs have called.
    scopes: Scopes,
    /// Names and values: a leg whose matrix has another value for one of the names is left out.
    pub only: Vec<(String, String)>,
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
    /// The place of the job that calls the workflow which it is of; none for the run's own file.
    #[serde(default)]
    pub within: Option<usize>,
    /// What it does.
    #[serde(default)]
    pub work: Work,
    /// Whether it is one leg, or stands for some.
    #[serde(default)]
    pub legs: Legs,
    /// The concurrency group that it has come to.
    #[serde(default)]
    pub claim: Option<Claim>,
}

/// A concurrency group that a job has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The group.
    pub group: Group,
    /// The places of the jobs that call the workflow which the job is of.
    pub callers: Vec<usize>,
    /// Whether its turn has come.
    pub granted: bool,
}

/// What a job does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Steps, which a runner runs.
    #[default]
    Steps,
    /// It is to call a workflow.
    Call,
    /// It has called one, whose jobs stand for it.
    Called,
}

/// What is known of the legs of a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Legs {
    /// They were known from the beginning.
    #[default]
    Known,
    /// They read what other jobs are still to say, and this one stands for all of them.
    Open,
    /// They were made of what other jobs said.
    Made,
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
    /// The job at this place is new, or another than it was.
    Planned(usize),
    /// The job at this place has come to its concurrency group, and waits for its turn ([`Run::admit`]).
    Claim(usize),
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
            within: None,
            work: if planned.is_call { Work::Call } else { Work::Steps },
            legs: if planned.is_open { Legs::Open } else { Legs::Known },
            claim: None,
        }
    }

    /// Returns whether people and required checks see the job. They do not where others stand for it, or will, unless it
    /// has something of its own to say in the end.
    pub fn is_shown(&self) -> bool {
        let is_over = self.state.conclusion().is_some();
        match (self.work, self.legs) {
            (Work::Called, _) => self.state.conclusion().is_some() && self.state.reason().is_some(),
            (Work::Call, _) | (_, Legs::Open) => is_over,
            (Work::Steps, Legs::Known | Legs::Made) => true,
        }
    }
}

/// Returns the places of jobs in the order of their files and matrices, each after the job that calls it.
pub fn in_order(jobs: &[Job]) -> Vec<usize> {
    fn visit(jobs: &[Job], within: Option<usize>, order: &mut Vec<usize>) {
        let mut here: Vec<usize> =
            (0..jobs.len()).filter(|place| jobs[*place].within == within).collect();
        let first = |id: &str| jobs.iter().position(|job| job.within == within && job.id == id);
        here.sort_by_key(|place| (first(&jobs[*place].id), jobs[*place].leg));
        for place in here {
            order.push(place);
            if jobs[place].work == Work::Called {
                visit(jobs, Some(place), order);
            }
        }
    }
    let mut order = Vec::with_capacity(jobs.len());
    visit(jobs, None, &mut order);
    order
}

impl Run {
    /// Makes a run of planned jobs, none of which has started.
    pub fn new(planned: &[PlannedJob]) -> Self {
        Self::of(planned.iter().map(Job::new).collect())
    }

    /// Makes a run of jobs, wherever each stands.
    pub fn of(jobs: Vec<Job>) -> Self {
        let scopes = Scopes::default();
        Self { jobs, cancel: None, concluded: None, scopes, only: Vec::new() }
    }

    /// Makes a run of those planned jobs whose matrices have these values, where they have such names at all.
    pub fn choosing(planned: Vec<PlannedJob>, only: Vec<(String, String)>) -> Self {
        let mut run = Self { only, ..Self::of(Vec::new()) };
        run.jobs = run.chosen(planned).iter().map(Job::new).collect();
        run
    }

    fn chosen(&self, mut planned: Vec<PlannedJob>) -> Vec<PlannedJob> {
        planned.retain(|job| {
            let Value::Object(matrix) = &job.matrix else { return true };
            let fits = |(name, value): &(String, String)| {
                matrix.get(name).is_none_or(|has| has.to_string() == *value)
            };
            self.only.iter().all(fits)
        });
        planned
    }

    /// Takes every move that can be taken now. The run itself knows what its jobs have said, `ground` all else.
    pub fn step(&mut self, ground: Ground<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        loop {
            let before = effects.len();
            self.stop_what_is_cancelled(ground, &mut effects);
            self.fail_fast(&mut effects);
            self.start_what_is_free(ground, &mut effects);
            self.end_calls(ground, &mut effects);
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

    /// Records that the turn of the job at `place` has come in its concurrency group.
    pub fn admit(&mut self, place: usize) {
        if let Some(claim) = self.jobs.get_mut(place).and_then(|job| job.claim.as_mut()) {
            claim.granted = true;
        }
    }

    /// Cancels the job at `place` alone: another has taken its place in their concurrency group. What follows is told as by
    /// [`Self::step`].
    pub fn supersede(&mut self, place: usize, reason: &Reason) -> Vec<Effect> {
        let mut effects = Vec::new();
        if place < self.jobs.len() {
            self.stop(place, reason, &mut effects);
        }
        effects
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

    /// Returns the place of the first job that may be given to a runner.
    pub fn next_queued(&self) -> Option<usize> {
        self.jobs.iter().position(|job| matches!(job.state, JobState::Queued { .. }))
    }

    fn stop_what_is_cancelled(&mut self, ground: Ground<'_>, effects: &mut Vec<Effect>) {
        for place in 0..self.jobs.len() {
            let job = &self.jobs[place];
            if job.despite_cancel || job.state.conclusion().is_some() {
                continue;
            }
            let Some(reason) = self.cancelled(job.within).cloned() else { continue };
            let has_not_begun =
                matches!(job.state, JobState::Pending { .. } | JobState::Queued { .. });
            if has_not_begun && self.runs_anyway(place, ground) {
                self.jobs[place].despite_cancel = true;
                // It is told as it stands.
                effects.push(Effect::Planned(place));
                continue;
            }
            self.stop(place, &reason, effects);
        }
    }

    /// Judges once more the `if` of a job that has not begun when its run is cancelled, as GitHub does.
    fn runs_anyway(&self, place: usize, ground: Ground<'_>) -> bool {
        let job = &self.jobs[place];
        let Ok(scope) = self.scope(job.within, ground) else { return false };
        let definition = scope.job(&job.id);
        definition.is_ok_and(|definition| self.may_start(place, definition, &scope).is_ok())
    }

    /// Returns why the jobs are to end that the one at `within` calls, or those of the run's own file.
    fn cancelled(&self, within: Option<usize>) -> Option<&Reason> {
        let Some(caller) = within else { return self.cancel.as_ref() };
        let job = &self.jobs[caller];
        match &job.state {
            JobState::Calling { stopping: Some(reason) } => Some(reason),
            // What was asked to run all the same does so with all that it calls.
            _ if job.despite_cancel => None,
            _ => self.cancelled(job.within),
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
            let (id, within) = (job.id.clone(), job.within);
            for other in 0..self.jobs.len() {
                let is_leg = self.jobs[other].id == id && self.jobs[other].within == within;
                if other != place && is_leg {
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
            JobState::Pending { .. } | JobState::Queued { .. } => {
                self.jobs[place].state =
                    JobState::finished(Conclusion::Cancelled, Some(reason.clone()));
                effects.push(Effect::Finished(place));
            }
            JobState::Running { stopping, .. } | JobState::Calling { stopping }
                if stopping.is_none() =>
            {
                *stopping = Some(reason.clone());
                effects.push(Effect::Stop(place, reason.clone()));
            }
            JobState::Waiting
            | JobState::Running { .. }
            | JobState::Calling { .. }
            | JobState::Finished { .. } => {}
        }
    }

    fn start_what_is_free(&mut self, ground: Ground<'_>, effects: &mut Vec<Effect>) {
        let mut place = 0;
        // What is added meanwhile is looked at, too.
        while place < self.jobs.len() {
            let job = &self.jobs[place];
            let is_free = match (&job.state, &job.claim) {
                (JobState::Waiting, _) => needs::are_over(self, job),
                (JobState::Pending { .. }, Some(claim)) => claim.granted,
                _ => false,
            };
            if is_free {
                match self.turn(place, ground) {
                    Ok(turn) => {
                        let is_other = matches!(turn, Turn::Expand(_));
                        self.take(place, turn, effects);
                        if is_other {
                            continue;
                        }
                    }
                    Err((conclusion, reason)) => {
                        self.jobs[place].state = JobState::finished(conclusion, Some(reason));
                        effects.push(Effect::Finished(place));
                    }
                }
            }
            place += 1;
        }
    }

    /// Ends the jobs that have called a workflow whose jobs are over.
    fn end_calls(&mut self, ground: Ground<'_>, effects: &mut Vec<Effect>) {
        for place in 0..self.jobs.len() {
            if !matches!(self.jobs[place].state, JobState::Calling { .. }) {
                continue;
            }
            let called = self.jobs.iter().filter(|job| job.within == Some(place));
            let ended: Option<Vec<Conclusion>> = called.map(needs::counted).collect();
            let Some(ended) = ended else { continue };
            let conclusion = ended.into_iter().fold(Conclusion::Skipped, Conclusion::worse);
            let (state, outputs) = match self.outputs_of_call(place, ground) {
                Ok(outputs) => (JobState::finished(conclusion, None), outputs),
                Err(reason) => {
                    let conclusion = conclusion.worse(Conclusion::Failure);
                    (JobState::finished(conclusion, Some(reason)), Vec::new())
                }
            };
            self.jobs[place].state = state;
            self.jobs[place].outputs = outputs;
            effects.push(Effect::Finished(place));
        }
    }
}

/// Names a job of a workflow that another calls, as GitHub names its check.
fn name_within(caller: &str, name: &str) -> String {
    format!("{caller} / {name}")
}

/// Returns the places of the jobs that have moved in a step, in order.
pub fn moved(effects: &[Effect]) -> BTreeSet<usize> {
    let places = effects.iter().filter_map(|effect| match effect {
        Effect::Planned(place)
        | Effect::Claim(place)
        | Effect::Queue(place)
        | Effect::Stop(place, _)
        | Effect::Finished(place) => Some(*place),
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
