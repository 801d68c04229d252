//! How a job comes to its end: by itself, by somebody's word, or by a bound.

use std::sync::Arc;
use std::time::Duration;

use muster_sys::{clock, tree};
use muster_workflow::expr::JobStatus;
use muster_workflow::workflow;

use super::{Finished, RunningJob};
use crate::cancel::End;
use crate::follow::Stop;
use crate::ground::Door;
use crate::spec::{JobConclusion, JobResult, Level};

/// What runs although the job was told to stop has so long, GitHub's bound.
const AFTER_CANCEL: Duration = Duration::from_secs(300);
/// The most bytes that the outputs of a job may have, GitHub's bound.
const MAX_OUTPUTS: usize = 1 << 20;
/// What a job leaves behind has so long to die.
pub(super) const CLEAN_UP: Duration = Duration::from_secs(5);

impl RunningJob<'_> {
    /// Hears that the job is to end, or that its time is over.
    pub(super) fn notice_cancel(&mut self) {
        if self.deadline.is_some_and(|deadline| clock::monotonic() >= deadline) {
            match self.stopped {
                None => self.stop_job(Stop::JobTimeout),
                // What it was allowed to do after that has had its time.
                Some(_) => self.exceeded = true,
            }
        }
        let end = self.cancel.end();
        if let Some(end) = end.filter(|end| {
            self.stopped.is_none() || (!self.exceeded && matches!(end, End::Exceeded(_)))
        }) {
            self.cancel.acknowledge();
            self.stop_job(match end {
                End::Asked(_) | End::Unwanted => Stop::Cancelled,
                End::Exceeded(_) => Stop::Exceeded,
            });
        }
    }

    /// Says that a step failed for want of memory, where that is so: its exit code does not.
    pub(super) fn notice_memory_kills(&mut self, place: usize) {
        let kills = self.ground.memory_kills();
        if kills > self.memory_kills {
            self.memory_kills = kills;
            let why = "its processes wanted more memory than they may use together (`memory_mib`)";
            let why_red = format!("the kernel killed a process of the job: {why}");
            self.log.tell(place, Level::Error, &why_red);
            self.out_of_memory = Some(why.to_owned());
        }
    }

    /// From here on only steps run whose `if` asks for it, and not for long.
    pub(super) fn stop_job(&mut self, stop: Stop) {
        let (conclusion, why) = match stop {
            Stop::Cancelled | Stop::Exceeded => match self.cancel.end() {
                Some(End::Exceeded(what)) => (JobConclusion::Failure, what),
                Some(End::Asked(why)) => (JobConclusion::Cancelled, why),
                Some(End::Unwanted) => {
                    (JobConclusion::Cancelled, "another step has cancelled it".to_owned())
                }
                None => (JobConclusion::Cancelled, "cancelled".to_owned()),
            },
            Stop::JobTimeout | Stop::StepTimeout => (
                JobConclusion::TimedOut,
                "the job took longer than its `timeout-minutes`".to_owned(),
            ),
            Stop::Idle => {
                let seconds = self.spec.idle_timeout_s.unwrap_or_default();
                (JobConclusion::TimedOut, format!("the job wrote nothing for {seconds} s"))
            }
        };
        self.exceeded |= stop == Stop::Exceeded;
        if self.stopped.is_none() || self.exceeded {
            self.stopped = Some((conclusion, why));
        }
        self.contexts.set_status(JobStatus::Cancelled);
        self.deadline = Some(clock::monotonic() + AFTER_CANCEL);
    }

    /// Ends the job: its outputs, the verdict, and what is left of it, unless it is kept as it is.
    pub(super) fn finish(mut self, definition: &workflow::Job, may_be_kept: bool) -> Finished {
        let place = self.last_place;
        let mut outputs = Vec::new();
        let mut refused = None;
        for (name, template) in &definition.outputs {
            match template.text(self.contexts.view()) {
                // Other jobs, and who reads of the run, are not to have it.
                Ok(value) if self.log.holds_secret(&value) => {
                    let why = format!("output `{name}` is left out: it may hold a secret");
                    self.log.tell(place, Level::Warning, &why);
                }
                Ok(value) => outputs.push((name.clone(), value)),
                Err(error) => refused = Some(format!("output `{name}`: {error}")),
            }
        }
        if let Err(error) = self.tell_environment(true) {
            refused = Some(format!("`environment`: {error}"));
        }
        let bytes: usize = outputs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > MAX_OUTPUTS {
            refused = Some(format!("its outputs have {bytes} bytes, more than {MAX_OUTPUTS}"));
            outputs.clear();
        }
        if let Some(told) = self.held.door.as_ref().and_then(Door::told) {
            self.log.say(place, &told);
        }
        let is_well = self.stopped.is_none() && self.contexts.status() == JobStatus::Success;
        let (conclusion, reason) = match (self.stopped.take(), self.contexts.status(), refused) {
            (Some((conclusion, why)), ..) => (conclusion, Some(why)),
            (None, _, Some(why)) => (JobConclusion::Failure, Some(why)),
            (None, JobStatus::Failure, None) => {
                (JobConclusion::Failure, self.out_of_memory.take().or(self.refused.take()))
            }
            (None, ..) => (JobConclusion::Success, None),
        };
        let reason = reason.map(|reason| self.log.masked(&reason));
        let result = JobResult { conclusion, reason, outputs };
        let kept = if may_be_kept { self.keep(&result) } else { None };
        if kept.is_some() {
            // What goes on to run is heard no more.
            self.tell_services(place);
            self.end_left_open();
            return Finished { result, kept };
        }
        // Nobody does a step any more.
        if let Some(ground) = Arc::get_mut(&mut self.ground) {
            ground.kill();
        }
        let left = tree::kill_descendants(&[], CLEAN_UP);
        if left > 0 {
            let why = format!("{left} processes of the job could not be killed");
            self.log.tell(place, Level::Error, &why);
        }
        self.leave_containers(place, is_well);
        self.end_left_open();
        self.ground.clear();
        Finished { result, kept }
    }
}
