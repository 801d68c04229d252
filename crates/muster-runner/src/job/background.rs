//! Steps in the background: each is done on a thread of its own, by what is a copy of the job but for what all share. What
//! it says, such as variables and outputs, and how it ended, the job hears when it waits for it, as GitHub's runner has it.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Duration;

use muster_sys::clock;
use muster_workflow::expr::JobStatus;
use muster_workflow::workflow::{Action, Step};

use super::contained::lock;
use super::{RunningJob, left_open};
use crate::cancel::{Cancel, End};
use crate::spec::{StepConclusion, StepEvent};

/// GitHub's bound on steps that are done at a time in the background; more wait for their turn.
const MAX_AT_A_TIME: usize = 10;
/// So many may have begun, or wait for their turn, that the job has not waited for: each has a thread.
const MAX_OPEN: usize = 256;
/// How often a step that waits for its turn looks whether anybody still wants it.
const LOOK: Duration = Duration::from_millis(100);

/// What a step in the background has said.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    pub(super) env: Vec<(String, String)>,
    pub(super) paths: Vec<String>,
    pub(super) ended: Option<Ended>,
}

/// How a step in the background ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) outcome: StepConclusion,
    pub(super) conclusion: StepConclusion,
    pub(super) outputs: Vec<(String, String)>,
}

/// The steps in the background of a job that it has not waited for.
pub(super) struct Background<'scope, 'env, 'a> {
    scope: &'scope Scope<'scope, 'env>,
    steps: Vec<Running<'scope, 'a>>,
    turns: Arc<Turns>,
    /// The number of the next.
    next: usize,
    /// Whether any has failed, also where the job did not mind when it waited.
    has_failed: bool,
}

/// A step in the background.
struct Running<'scope, 'a> {
    number: usize,
    place: usize,
    step: &'a Step,
    name: String,
    cancel: Cancel,
    /// Whether a step has cancelled it: that it did not come to its end is no fault then.
    is_cancelled: bool,
    handle: ScopedJoinHandle<'scope, RunningJob<'a>>,
}

/// Whose turn it is, and who is done.
#[derive(Debug, Default)]
struct Turns {
    state: Mutex<Turn>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Turn {
    running: usize,
    /// The numbers of those that are done.
    done: HashSet<usize>,
}

/// A turn, until it is dropped: also where its step panics.
struct OnTurn<'t> {
    turns: &'t Turns,
    number: usize,
}

impl Drop for OnTurn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.turns.state);
        state.running -= 1;
        state.done.insert(self.number);
        drop(state);
        self.turns.changed.notify_all();
    }
}

impl Turns {
    /// Waits for one that is free, or until the step is to end.
    fn take(&self, number: usize, cancel: &Cancel) -> OnTurn<'_> {
        let mut state = lock(&self.state);
        while state.running >= MAX_AT_A_TIME && cancel.end().is_none() {
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.running += 1;
        OnTurn { turns: self, number }
    }

    /// Waits until all of these are done; false where that takes longer than `tick`.
    fn wait(&self, numbers: &[usize], tick: Option<Duration>) -> bool {
        let open = |state: &mut Turn| !numbers.iter().all(|number| state.done.contains(number));
        let state = lock(&self.state);
        match tick {
            None => {
                drop(self.changed.wait_while(state, open));
                true
            }
            Some(tick) => {
                let waited = self.changed.wait_timeout_while(state, tick, open);
                !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
            }
        }
    }
}

/// Returns the beginning of the keys of the steps that a step of the job holds, if it holds any.
pub(super) fn scope_of(step: &Step) -> String {
    match &step.action {
        Action::Parallel(_) => format!("{}/", step.id),
        _ => String::new(),
    }
}

impl<'scope, 'env, 'a: 'scope> Background<'scope, 'env, 'a> {
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>) -> Self {
        let (steps, turns) = (Vec::new(), Arc::default());
        Self { scope, steps, turns, next: 0, has_failed: false }
    }

    /// Begins a step at a place, which is told apart from others of its id by `group`.
    fn start(&mut self, job: &mut RunningJob<'a>, place: usize, step: &'a Step, group: &str) {
        let name = step.display_name(job.contexts.view());
        if let Err(why) = self.try_start(job, place, step, group, &name) {
            let at = clock::now_ms();
            job.log.step(StepEvent::Started { step: place, name: name.clone(), at });
            let done = job.refuse(place, &format!("cannot be done in the background: {why}"));
            job.end_step(place, step, name, done.outcome, done.outcome, &[]);
        }
    }

    fn try_start(
        &mut self,
        job: &mut RunningJob<'a>,
        place: usize,
        step: &'a Step,
        group: &str,
        name: &str,
    ) -> Result<(), String> {
        if self.steps.len() >= MAX_OPEN {
            return Err(format!("the job has not waited for {MAX_OPEN} others"));
        }
        let cancel = job.cancel.part().map_err(|error| error.to_string())?;
        // What was asked of the job before is its own to hear.
        job.notice_cancel();
        let mut aside = job.aside(cancel.clone(), group);
        let (number, turns) = (self.next, Arc::clone(&self.turns));
        let named = name.to_owned();
        let work = move || {
            let _turn = turns.take(number, &aside.cancel);
            if matches!(aside.cancel.end(), Some(End::Unwanted)) {
                let outcome = StepConclusion::Cancelled;
                aside.end_step(place, step, named, outcome, outcome, &[]);
            } else {
                aside.step(place, step);
            }
            aside
        };
        let thread = Builder::new().name("background".into());
        let handle = thread.spawn_scoped(self.scope, work).map_err(|error| error.to_string())?;
        self.next += 1;
        let (name, is_cancelled) = (name.to_owned(), false);
        self.steps.push(Running { number, place, step, name, cancel, is_cancelled, handle });
        Ok(())
    }

    /// Waits for steps, and tells the job what they said; returns how they ended together.
    fn wait(
        &mut self,
        job: &mut RunningJob<'a>,
        place: usize,
        is_meant: impl Fn(&Running<'scope, 'a>) -> bool,
    ) -> StepConclusion {
        let (meant, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.steps).into_iter().partition(is_meant);
        self.steps = others;
        let numbers: Vec<usize> = meant.iter().map(|step| step.number).collect();
        // What ended steps have left running goes on to write.
        while !self.turns.wait(&numbers, (!job.left_open.is_empty()).then_some(left_open::TICK)) {
            job.drain_left_open();
        }
        // What was waited for before is not waited for again.
        let mut all = match meant.is_empty() {
            true => StepConclusion::Success,
            false => StepConclusion::Skipped,
        };
        for step in meant {
            let conclusion = match step.handle.join() {
                Ok(aside) => job.take_in(aside, &step.step.id),
                Err(_) => {
                    let why = "the step was lost: that is a fault of muster";
                    let done = job.refuse(step.place, why);
                    let name = step.name.clone();
                    job.end_step(step.place, step.step, name, done.outcome, done.outcome, &[]);
                    done.outcome
                }
            };
            self.has_failed |= conclusion == StepConclusion::Failure;
            job.say(place, &format!("{}: {}", step.name, conclusion.as_str()));
            all = match (conclusion, all) {
                (StepConclusion::Failure, _) | (_, StepConclusion::Failure) => {
                    StepConclusion::Failure
                }
                (StepConclusion::Cancelled, _) if !step.is_cancelled => StepConclusion::Cancelled,
                (StepConclusion::Skipped, all) | (_, all @ StepConclusion::Cancelled) => all,
                _ => StepConclusion::Success,
            };
        }
        all
    }

    /// Waits for all that the job has not waited for: no step outlives those of its job.
    pub(super) fn end(&mut self, job: &mut RunningJob<'a>) {
        if job.failed_by.is_some() {
            // The next attempt does all of it.
            self.steps.iter().for_each(|step| step.cancel.end_for(End::Unwanted));
        }
        if !self.steps.is_empty() {
            let place = job.last_place;
            job.say(place, "Waiting for the steps in the background");
            self.wait(job, place, |_| true);
        }
        if self.has_failed && job.contexts.status() == JobStatus::Success {
            job.contexts.set_status(JobStatus::Failure);
        }
        job.notice_cancel();
    }
}

impl<'a> RunningJob<'a> {
    /// Does a step of the job, or what it says of those in the background; returns how many places it takes.
    pub(super) fn step_of_job<'scope>(
        &mut self,
        place: usize,
        step: &'a Step,
        background: &mut Background<'scope, '_, 'a>,
    ) -> usize
    where
        'a: 'scope,
    {
        match &step.action {
            Action::Run { .. } | Action::Uses { .. } if step.background => {
                background.start(self, place, step, "");
            }
            Action::Run { .. } | Action::Uses { .. } => self.step(place, step),
            Action::Parallel(steps) => {
                let (first, group) = (background.next, scope_of(step));
                for (at, step) in steps.iter().enumerate() {
                    background.start(self, place + at, step, &group);
                }
                let place = place + steps.len();
                self.control(place, step, "Waiting for all of them", |job| {
                    background.wait(job, place, |step| step.number >= first)
                });
                return steps.len() + 1;
            }
            Action::Wait(ids) => {
                let what = format!("Waiting for {}", ids.join(", "));
                self.control(place, step, &what, |job| {
                    let is_meant = |id: &String| ids.iter().any(|one| one.eq_ignore_ascii_case(id));
                    background.wait(job, place, |running| is_meant(&running.step.id))
                });
            }
            Action::WaitAll => {
                let what = "Waiting for all steps in the background";
                self.control(place, step, what, |job| background.wait(job, place, |_| true));
            }
            Action::Cancel(id) => {
                self.control(place, step, &format!("Cancelling {id}"), |job| {
                    let is_meant =
                        |running: &Running<'_, '_>| running.step.id.eq_ignore_ascii_case(id);
                    for running in background.steps.iter_mut().filter(|one| is_meant(one)) {
                        running.is_cancelled = true;
                        running.cancel.end_for(End::Unwanted);
                    }
                    background.wait(job, place, is_meant);
                    // That it had failed before counts in the end, as at GitHub.
                    StepConclusion::Success
                });
            }
        }
        1
    }

    /// Does what a step says of those in the background, which it does also where the job goes badly: what runs would not
    /// end otherwise.
    fn control(
        &mut self,
        place: usize,
        step: &Step,
        what: &str,
        work: impl FnOnce(&mut Self) -> StepConclusion,
    ) {
        let name = step.display_name(self.contexts.view());
        let at = clock::now_ms();
        self.log.step(StepEvent::Started { step: place, name: name.clone(), at });
        self.say(place, what);
        let outcome = work(self);
        self.notice_cancel();
        let is_forgiven = outcome == StepConclusion::Failure
            && step.continue_on_error.get(self.contexts.view()).unwrap_or(false);
        let conclusion = if is_forgiven { StepConclusion::Success } else { outcome };
        self.end_step(place, step, name, outcome, conclusion, &[]);
    }

    /// Returns who does a step in the background.
    fn aside(&self, cancel: Cancel, group: &str) -> Self {
        Self {
            spec: self.spec,
            workflow: self.workflow,
            definition: self.definition,
            cancel,
            actions: Arc::clone(&self.actions),
            log: self.log.aside(),
            contexts: self.contexts.aside(),
            ground: Arc::clone(&self.ground),
            held: Arc::clone(&self.held),
            paths: self.paths.clone(),
            left_open: Vec::new(),
            deadline: self.deadline,
            number: Arc::clone(&self.number),
            depth: 0,
            within: None,
            hostile_inputs: Vec::new(),
            steps_of_actions: Arc::clone(&self.steps_of_actions),
            summary: (0, String::new()),
            posts: Vec::new(),
            states: self.states.clone(),
            home: self.home.clone(),
            scope: group.to_owned(),
            stopped: self.stopped.clone(),
            memory_kills: 0,
            out_of_memory: None,
            exceeded: self.exceeded,
            usage: None,
            last_place: 0,
            refused: self.refused.clone(),
            failed_by: None,
            deferred: Some(Deferred::default()),
            stage: None,
            failed_at: None,
            _disk: None,
        }
    }

    /// Hears what a step in the background has said and left; returns how it ended.
    fn take_in(&mut self, aside: Self, id: &str) -> StepConclusion {
        let deferred = aside.deferred.unwrap_or_default();
        self.contexts.extend_env(&deferred.env);
        for path in deferred.paths {
            self.paths.insert(0, path);
        }
        self.left_open.extend(aside.left_open);
        aside.posts.into_iter().for_each(|post| self.keep_post(post));
        for (key, state) in aside.states {
            // They only grow; what it knew of those of others may be old.
            let known = self.states.entry(key).or_default();
            if state.len() > known.len() {
                *known = state;
            }
        }
        self.refused = self.refused.take().or(aside.refused);
        self.failed_at = self.failed_at.take().or(aside.failed_at);
        self.failed_by = self.failed_by.take().or(aside.failed_by);
        self.out_of_memory = self.out_of_memory.take().or(aside.out_of_memory);
        let Some(Ended { outcome, conclusion, outputs }) = deferred.ended else {
            return StepConclusion::Cancelled;
        };
        self.contexts.end_step(id, outcome, conclusion, &outputs);
        conclusion
    }
}
