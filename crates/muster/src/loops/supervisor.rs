//! The supervisor of an attempt as the server sees it: a spool that is read on, a process where the server
//! started it, and what both leave.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::{Duration, Instant};

use muster_runner::spec::{JobResult, StepEvent};
use muster_runner::spool::Record;
use muster_sys::{clock, files, sandbox, tree};
use rustix::fs::{FlockOperation, flock};

use super::start;
use crate::data::Data;

/// How much of a spool is taken at once, and the longest record there can be.
const CHUNK: usize = 4 << 20;
const MAX_RECORD: usize = 256 << 20;
/// A supervisor that was told to stop and goes on for longer is killed. What runs although its job was
/// cancelled has five minutes.
const UNANSWERED: Duration = Duration::from_secs(360);
/// What a lost supervisor's steps left running has so long to die.
const CLEAN_UP: Duration = Duration::from_secs(5);

/// The supervisor of an attempt, alive or not: its spool says what became of the job.
pub(super) struct Supervisor {
    pub(super) run_id: String,
    pub(super) job_id: String,
    pub(super) attempt: i64,
    spool: File,
    /// How far the spool has been taken over.
    pub(super) taken: u64,
    /// When it was told to stop, once it was.
    told: Option<Instant>,
    /// Whether its run is gone with its repository: it is ended, and nothing of it is stored.
    pub(super) is_orphan: bool,
    /// Its process, when this server started it.
    pub(super) child: Option<std::process::Child>,
}

/// What a spool has that was not taken yet.
#[derive(Default)]
pub(super) struct News {
    pub(super) to: u64,
    pub(super) steps: Vec<StepEvent>,
    pub(super) result: Option<JobResult>,
    /// Nobody writes to it any more, and there is no result.
    pub(super) lost: bool,
}

impl Supervisor {
    /// Looks after an attempt whose spool has not been read yet.
    pub(super) fn new(run_id: String, job_id: String, attempt: i64, spool: File) -> Self {
        Self { run_id, job_id, attempt, spool, taken: 0, told: None, is_orphan: false, child: None }
    }

    /// Returns whether its process is there.
    pub(super) fn is_there(&self) -> anyhow::Result<bool> {
        match flock(&self.spool, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                flock(&self.spool, FlockOperation::Unlock)?;
                Ok(false)
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what is new in the spool, whole records only.
    pub(super) fn news(&mut self) -> anyhow::Result<News> {
        // Whether anybody writes must be known before the end is read, or the last words are missed.
        let written_to = self.is_there()?;
        let mut news = News { to: self.taken, ..News::default() };
        let mut limit = CHUNK;
        loop {
            self.spool.seek(SeekFrom::Start(news.to))?;
            let mut chunk = Vec::new();
            (&mut self.spool).take(limit as u64).read_to_end(&mut chunk)?;
            let whole = chunk.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if whole == 0 && chunk.len() == limit && limit < MAX_RECORD {
                // A record that is longer than a chunk: a summary, or outputs.
                limit *= 2;
                continue;
            }
            for line in chunk[..whole].split_inclusive(|byte| *byte == b'\n') {
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                // Only events and the result concern the store; the rest is read where it is shown.
                if !matches!(line.first(), Some(b'e' | b'r')) {
                    continue;
                }
                match Record::parse(line) {
                    Some(Record::Step(event)) => news.steps.push(event),
                    Some(Record::Result(result)) => news.result = Some(result),
                    Some(Record::Output { .. }) | None => {}
                }
            }
            news.to += whole as u64;
            if chunk.len() < limit || whole == 0 {
                break;
            }
        }
        news.lost = !written_to && news.result.is_none();
        Ok(news)
    }

    /// Tells it to stop; one that does not answer is killed.
    pub(super) fn stop(&mut self, data: &Data, reason: &str) {
        match (self.told, &mut self.child) {
            (None, _) => {
                // One that cannot be told yet is told at the next step.
                let told = start::order(&data.job(&self.job_id, self.attempt), reason).is_ok();
                self.told = told.then(clock::monotonic);
            }
            // It does not answer: its job has stopped it, say.
            (Some(since), Some(child)) if since.elapsed() > UNANSWERED => drop(child.kill()),
            (Some(_), _) => {}
        }
    }

    /// Removes what an attempt that is over leaves on the machine: files, and where its supervisor was
    /// lost also processes and control groups.
    pub(super) fn clean_up(
        self,
        data: &Data,
        engine: Option<std::path::PathBuf>,
        lost: bool,
    ) -> impl Future<Output = ()> + use<> {
        // Nobody is nudged any more; one that is not there was never made.
        drop(std::fs::remove_file(data.nudges().join(format!("job-{}", self.job_id))));
        let folder = data.job(&self.job_id, self.attempt);
        let group = start::group(&self.job_id, self.attempt);
        let mark = start::tracking_id(&self.job_id, self.attempt);
        let child = self.child;
        async move {
            let done = tokio::task::spawn_blocking(move || {
                if let Some(mut child) = child {
                    // Its result is in the spool already.
                    drop(child.wait());
                }
                let mut left = 0;
                if lost {
                    left = tree::kill_marked(start::TRACKING_VARIABLE, &mark, CLEAN_UP);
                    if let Err(why) = muster_runner::reap(engine.as_deref(), &group) {
                        tracing::warn!(group, why, "a job may have left containers");
                    }
                }
                // Also one that was killed after its last word has left it.
                sandbox::forget(&group);
                (left, files::remove_tree(&folder))
            });
            match done.await {
                Ok((0, Ok(()))) => {}
                Ok((left, removed)) => {
                    let error = removed.err().map(|error| error.to_string());
                    tracing::warn!(
                        job.id = self.job_id,
                        left,
                        error,
                        "a job left something behind"
                    );
                }
                Err(error) => tracing::error!(%error, "clean-up panicked"),
            }
        }
    }
}
