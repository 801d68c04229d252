//! Moving runs: the engine's steps, jobs to supervisors, their spools back into the store.
//!
//! The only writer of jobs while they are not over. It keeps the active runs in memory and stores
//! every move before anything follows from it; after a restart it loads them and reads the spools on
//! from where they were taken.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use muster_core::concurrency::turns;
use muster_core::id::{Attempt, RepoId};
use muster_core::labels::Labels;
use muster_core::run::{Conclusion, Ground, JobState, Reason, Report, fairest, moved};
use muster_runner::spec::{JobConclusion, JobResult};
use muster_sys::clock;
use muster_workflow::{Workflows, read};
use tokio::task::JoinHandle;

use super::start::{self, Kept, Start};
use super::supervisor::Supervisor;
use super::{Shared, Step};
use crate::called;
use crate::data::NO_ROOM;
use crate::machine;
use crate::shell;
use crate::store::claims::Claim;
use crate::store::jobs::{Moved, Taken};
use crate::store::new_id;
use crate::store::runs::{ActiveRun, Order};

/// Why a job ends of which the store knows nothing any more.
const REMOVED: &str = "its repository was removed";

pub(super) struct Drive {
    shared: Arc<Shared>,
    labels: Labels,
    runs: HashMap<String, Live>,
    supervisors: Vec<Supervisor>,
    /// Of attempts that are over, and may be kept for people to look around in; the oldest first.
    kept: Vec<Supervisor>,
    /// Processes of supervisors that were taken up again: they are only waited for.
    children: Vec<std::process::Child>,
    loaded: bool,
}

/// A run in motion.
struct Live {
    active: ActiveRun,
    workflows: Workflows,
}

impl Drive {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let labels = machine::labels(&shared.config.labels, &shared.config.images);
        Self {
            shared,
            labels,
            runs: HashMap::new(),
            supervisors: Vec::new(),
            kept: Vec::new(),
            children: Vec::new(),
            loaded: false,
        }
    }

    /// Takes up runs that are new, that were asked to end, or that have a new attempt.
    async fn follow_orders(&mut self) -> anyhow::Result<()> {
        let claims = self.give_turns().await?;
        let orders = self.shared.store.orders().await?;
        // A run that was removed with its repository has no orders any more.
        self.runs.retain(|id, _| orders.iter().any(|order| order.id == *id));
        for supervisor in &mut self.supervisors {
            supervisor.is_orphan = orders.iter().all(|order| order.id != supervisor.run_id);
        }
        for order in orders {
            // A run that waits for its turn is not begun, unless to end it.
            if order.is_held() && order.cancel().is_none() {
                continue;
            }
            if let Err(error) = self.take_up(&order).await {
                // What is wrong with one run must not hold up the others.
                tracing::error!(
                    run.id = order.id,
                    error = format!("{error:#}"),
                    "cannot take up a run"
                );
            }
        }
        self.tell_turns(claims).await;
        Ok(())
    }

    /// Gives their turns to those who have them in their concurrency groups.
    async fn give_turns(&self) -> anyhow::Result<Vec<Claim>> {
        let store = &self.shared.store;
        let claims = store.claims().await?;
        let turns = turns(claims.iter().map(|claim| (&claim.group, &claim.member)));
        for who in &turns {
            if let Some(claim) = claims.iter().find(|claim| claim.member.who == *who) {
                store.give_turn(RepoId::new(claim.group.0.as_str()), *who).await?;
            }
        }
        if turns.is_empty() { Ok(claims) } else { Ok(store.claims().await?) }
    }

    /// Tells the runs that were taken up what was decided of their jobs in concurrency groups.
    async fn tell_turns(&mut self, claims: Vec<Claim>) {
        for claim in claims {
            let Some(place) = claim.member.who.job else { continue };
            let Some(live) = self.runs.get_mut(&claim.run_id) else { continue };
            match &claim.cancel {
                Some(reason) => {
                    let effects = live.active.run.supersede(place, reason);
                    let moved: Vec<usize> = moved(&effects).into_iter().collect();
                    if !moved.is_empty()
                        && let Err(error) = self.save(&claim.run_id, &moved, None, Vec::new()).await
                    {
                        self.forget(&claim.run_id, &error);
                    }
                }
                None if !claim.member.held => live.active.run.admit(place),
                None => {}
            }
        }
    }

    async fn take_up(&mut self, order: &Order) -> anyhow::Result<()> {
        let known =
            self.runs.get(&order.id).is_some_and(|live| live.active.attempt == order.attempt);
        if !known {
            let Some(mut active) = self.shared.store.active_run(&order.id).await? else {
                return Ok(());
            };
            let workflow = read(&active.source).ok();
            let hopeless = match (&workflow, order.cancel()) {
                (None, _) => {
                    let text = format!("{} cannot be read any more", active.path);
                    Some((Conclusion::Error, Reason::new("unreadable", text)))
                }
                // Its turn never came, so nothing of it runs, not even what asks to run always.
                (Some(_), Some(reason)) if order.is_held() => Some((Conclusion::Cancelled, reason)),
                (Some(_), _) => None,
            };
            if let Some((conclusion, reason)) = hopeless {
                active.run.abandon(conclusion, &reason);
                return self.save_all(&active).await;
            }
            let Some(workflow) = workflow else { return Ok(()) };
            let workflows = called::again(workflow, &active.called);
            self.runs.insert(order.id.clone(), Live { active, workflows });
        }
        if let Some(live) = self.runs.get_mut(&order.id)
            && live.active.run.cancel.is_none()
        {
            live.active.run.cancel = order.cancel();
        }
        Ok(())
    }

    /// Stores all jobs of a run that is over.
    async fn save_all(&self, active: &ActiveRun) -> anyhow::Result<()> {
        let jobs = active.job_ids.iter().zip(&active.run.jobs);
        let jobs = jobs.map(|(id, job)| Moved { id: id.clone(), job: job.clone(), added: None });
        let jobs = jobs.collect();
        let (conclusion, now) = (active.run.concluded, clock::now_ms());
        self.shared.store.save_moves(active, jobs, conclusion, Vec::new(), now).await?;
        self.shared.wake.drive.notify_one();
        self.shared.wake.deliver.notify_one();
        Ok(())
    }

    /// Forgets what is in memory of a run, so that it is taken up from the store again: after a write
    /// that failed the two differ.
    fn forget(&mut self, run_id: &str, error: &anyhow::Error) {
        tracing::error!(run.id = run_id, error = format!("{error:#}"), "taking the run up again");
        self.runs.remove(run_id);
        let (theirs, others) =
            std::mem::take(&mut self.supervisors).into_iter().partition(|s| s.run_id == run_id);
        self.supervisors = others;
        let theirs: Vec<Supervisor> = theirs;
        self.children.extend(theirs.into_iter().filter_map(|supervisor| supervisor.child));
        self.loaded = false;
    }

    /// Finds the supervisors of an earlier life of this server.
    async fn attach(&mut self) -> anyhow::Result<()> {
        for attempt in self.shared.store.running_attempts().await? {
            let known = |s: &Supervisor| s.job_id == attempt.job_id && s.attempt == attempt.attempt;
            if self.supervisors.iter().any(known) {
                continue;
            }
            let path = self.shared.data.log(&attempt.job_id, attempt.attempt);
            let spool = start::open_log(&path)?;
            tracing::info!(job.id = attempt.job_id, attempt.attempt, "attached");
            let taken = u64::try_from(attempt.taken).unwrap_or(0);
            let (run_id, job_id) = (attempt.run_id, attempt.job_id);
            let mut supervisor = Supervisor::new(run_id, job_id, attempt.attempt, spool);
            supervisor.taken = taken;
            self.supervisors.push(supervisor);
        }
        self.attach_kept()?;
        self.loaded = true;
        Ok(())
    }

    /// Takes up the attempts that are over and kept, which an earlier server has left.
    fn attach_kept(&mut self) -> anyhow::Result<()> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.shared.data.jobs())? {
            let folder = entry?.path();
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let attempt = name.rsplit_once('.').and_then(|(job, n)| Some((job, n.parse().ok()?)));
            let Some((job, attempt)) = attempt.filter(|_| shell::is_open(&folder)) else {
                continue;
            };
            let known = |of: &Supervisor| of.job_id == job && of.attempt == attempt;
            if !self.supervisors.iter().chain(&self.kept).any(known) {
                let spool = start::open_log(&self.shared.data.log(job, attempt))?;
                let ended = spool.metadata()?.modified()?;
                let supervisor = Supervisor::new(String::new(), job.to_owned(), attempt, spool);
                found.push((ended, supervisor));
            }
        }
        found.sort_by_key(|(ended, _)| *ended);
        self.kept.splice(0..0, found.into_iter().map(|(_, supervisor)| supervisor));
        Ok(())
    }

    /// Takes over what the spools have that is new.
    async fn take_news(&mut self) -> anyhow::Result<()> {
        let mut place = 0;
        while place < self.supervisors.len() {
            let supervisor = &mut self.supervisors[place];
            let news = supervisor.news().context("cannot read a job's log")?;
            if news.to == supervisor.taken && !news.lost {
                place += 1;
                continue;
            }
            let over = news.result.is_some() || news.lost;
            let is_orphan = supervisor.is_orphan;
            let (run_id, job_id, attempt) =
                (supervisor.run_id.clone(), supervisor.job_id.clone(), supervisor.attempt);
            let taken = Taken {
                job_id: job_id.clone(),
                attempt,
                to: i64::try_from(news.to).unwrap_or(i64::MAX),
                steps: news.steps,
                ended: if news.lost {
                    Some("lost")
                } else {
                    news.result.as_ref().map(|_| "finished")
                },
            };
            // Of a run that is gone nothing is stored; one that is not taken up yet waits.
            if !is_orphan {
                if !self.runs.contains_key(&run_id) {
                    place += 1;
                    continue;
                }
                let reported = self.report(&run_id, &job_id, attempt, news.result, news.lost);
                let stored = match reported {
                    Ok(()) => self.step_run(&run_id, vec![taken]).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = stored {
                    self.forget(&run_id, &error);
                    place = 0;
                    continue;
                }
            }
            self.supervisors[place].taken = news.to;
            if over {
                let supervisor = self.supervisors.swap_remove(place);
                if !news.lost && self.shared.config.shell.keep_minutes > 0 {
                    self.kept.push(supervisor);
                    continue;
                }
                // A large workspace takes its time, and nobody has to wait for that; what a lost attempt
                // left running must be gone before the next one starts.
                let done = self.clean_up(supervisor, news.lost);
                if news.lost {
                    done.await?;
                }
            } else {
                place += 1;
            }
        }
        Ok(())
    }

    fn clean_up(&self, supervisor: Supervisor, lost: bool) -> JoinHandle<()> {
        let engine = machine::engine(self.shared.config.containers.socket.as_ref());
        let clean_up = supervisor.clean_up(&self.shared.data, engine, lost);
        self.shared.errands.spawn("clean-up", clean_up)
    }

    /// Cleans up after those that are kept no longer, and ends the oldest where there are more than jobs run at once.
    async fn look_after_kept(&mut self) -> anyhow::Result<()> {
        let mut place = 0;
        while place < self.kept.len() {
            let job = &self.kept[place];
            if job.is_there()? {
                if !self.shared.store.has_job(&job.job_id).await? {
                    self.kept[place].stop(&self.shared.data, REMOVED);
                }
                place += 1;
                continue;
            }
            // One that has ended by itself has taken its door away.
            let was_killed = shell::is_open(&self.shared.data.job(&job.job_id, job.attempt));
            let gone = self.kept.remove(place);
            drop(self.clean_up(gone, was_killed));
        }
        let data = &self.shared.data;
        // One that is about to end by itself is not kept.
        let is_kept = |kept: &Supervisor| shell::is_open(&data.job(&kept.job_id, kept.attempt));
        let mut there: Vec<_> = self.kept.iter_mut().filter(|kept| is_kept(kept)).collect();
        let excess = there.len().saturating_sub(self.shared.config.jobs);
        there.iter_mut().take(excess).for_each(|kept| kept.stop(data, "newer ones are kept"));
        Ok(())
    }

    /// Tells the engine what became of an attempt.
    fn report(
        &mut self,
        run_id: &str,
        job_id: &str,
        attempt: i64,
        result: Option<JobResult>,
        lost: bool,
    ) -> anyhow::Result<()> {
        let Some(live) = self.runs.get_mut(run_id) else { return Ok(()) };
        let Some(place) = live.active.job_ids.iter().position(|id| id == job_id) else {
            return Ok(());
        };
        let attempt = Attempt(u32::try_from(attempt)?);
        let report = match result {
            Some(result) => {
                let (conclusion, code) = conclusion(result.conclusion);
                let reason = result.reason.map(|text| Reason::new(code, text));
                Report::Finished { conclusion, reason, outputs: result.outputs }
            }
            None if lost => Report::Lost,
            None => return Ok(()),
        };
        if let Err(refused) = live.active.run.report(place, attempt, report) {
            tracing::warn!(job.id = job_id, %refused, "a late report changes nothing");
        }
        Ok(())
    }

    /// Lets the engine take the moves of a run, and stores them with what was taken over.
    async fn step_run(&mut self, run_id: &str, taken: Vec<Taken>) -> anyhow::Result<()> {
        let Some(live) = self.runs.get_mut(run_id) else { return Ok(()) };
        let contexts = live.active.contexts(live.workflows.root());
        let ground = Ground { workflows: &live.workflows, contexts: &contexts };
        let effects = live.active.run.step(ground);
        let mut moved = moved(&effects);
        // What was reported has moved too.
        for taken in taken.iter().filter(|taken| taken.ended.is_some()) {
            moved.extend(live.active.job_ids.iter().position(|id| *id == taken.job_id));
        }
        if moved.is_empty() && taken.is_empty() && effects.is_empty() {
            return Ok(());
        }
        let concluded = live.active.run.concluded;
        let moved: Vec<usize> = moved.into_iter().collect();
        let is_in_group = moved.iter().any(|place| live.active.run.jobs[*place].claim.is_some());
        self.save(run_id, &moved, concluded, taken).await?;
        if concluded.is_some() {
            self.runs.remove(run_id);
        }
        if concluded.is_some() || is_in_group {
            // Another of its concurrency group may have waited for this, or it for another.
            self.shared.wake.drive.notify_one();
        }
        Ok(())
    }

    async fn save(
        &mut self,
        run_id: &str,
        moved: &[usize],
        conclusion: Option<Conclusion>,
        taken: Vec<Taken>,
    ) -> anyhow::Result<()> {
        let Some(live) = self.runs.get_mut(run_id) else { return Ok(()) };
        let ActiveRun { job_ids, run, .. } = &mut live.active;
        let stored = job_ids.len();
        // When they cannot be written, the run is forgotten with its new ids.
        job_ids.resize_with(run.jobs.len(), new_id);
        let jobs = moved.iter().map(|place| Moved {
            id: job_ids[*place].clone(),
            job: run.jobs[*place].clone(),
            added: (*place >= stored).then_some(*place),
        });
        let jobs = jobs.collect();
        self.shared
            .store
            .save_moves(&live.active, jobs, conclusion, taken, clock::now_ms())
            .await?;
        self.shared.wake.deliver.notify_one();
        if conclusion.is_some() {
            self.shared.wake.notify.notify_one();
        }
        Ok(())
    }

    /// Gives queued jobs to supervisors: repositories with the fewest running jobs first.
    async fn start_queued(&mut self) -> anyhow::Result<()> {
        // How many run is known only while all are: not after a write that failed.
        while self.loaded && self.supervisors.len() < self.shared.config.jobs {
            let Some((run_id, place)) = self.next_queued() else { break };
            // Its log could not be kept.
            if !self.shared.data.has_room() {
                tracing::warn!("no job is started: {NO_ROOM}");
                break;
            }
            if let Err(error) = self.start(&run_id, place).await {
                self.forget(&run_id, &error);
                // The store may be out of order; the next step tries again.
                break;
            }
        }
        Ok(())
    }

    fn next_queued(&self) -> Option<(String, usize)> {
        let repository_of =
            |run_id: &str| self.runs.get(run_id).map(|live| live.active.repository.clone());
        let running = |live: &Live| {
            self.supervisors
                .iter()
                .filter(|s| repository_of(&s.run_id).as_ref() == Some(&live.active.repository))
                .count()
        };
        fairest(self.runs.iter().filter_map(|(run_id, live)| {
            let place = live.active.run.next_queued()?;
            Some((running(live), live.active.number, (run_id.clone(), place)))
        }))
    }

    /// Starts a job: stored as running first, so that a crash in between is seen as a lost attempt.
    async fn start(&mut self, run_id: &str, place: usize) -> anyhow::Result<()> {
        let pinned = self.shared.store.actions_of(run_id).await?;
        let Some(live) = self.runs.get_mut(run_id) else { return Ok(()) };
        let Live { active, workflows } = live;
        let kept = Kept::of(&self.shared.store, &active.repository).await?;
        let prepared =
            Start::prepare(&self.shared, active, workflows, place, &self.labels, pinned, &kept);
        let job = &mut live.active.run.jobs[place];
        let JobState::Queued { attempt } = job.state else { return Ok(()) };
        match prepared {
            Ok(ready) => {
                job.continue_on_error = ready.continue_on_error;
                live.active.run.start(place, attempt)?;
                self.save(run_id, &[place], None, Vec::new()).await?;
                match ready.spawn(&self.shared) {
                    Ok((child, spool)) => {
                        let (run_id, attempt) = (run_id.to_owned(), i64::from(attempt.0));
                        let mut supervisor = Supervisor::new(run_id, ready.job_id, attempt, spool);
                        supervisor.child = Some(child);
                        self.supervisors.push(supervisor);
                        Ok(())
                    }
                    Err(error) => {
                        self.refuse(run_id, place, Reason::new("start", format!("{error:#}"))).await
                    }
                }
            }
            Err(reason) => self.refuse(run_id, place, reason).await,
        }
    }

    /// Ends a job that cannot be started.
    async fn refuse(&mut self, run_id: &str, place: usize, reason: Reason) -> anyhow::Result<()> {
        let Some(live) = self.runs.get_mut(run_id) else { return Ok(()) };
        let job = &mut live.active.run.jobs[place];
        let taken = match job.state {
            JobState::Running { attempt, .. } => vec![Taken {
                job_id: live.active.job_ids[place].clone(),
                attempt: i64::from(attempt.0),
                to: 0,
                steps: Vec::new(),
                ended: Some("lost"),
            }],
            _ => Vec::new(),
        };
        job.state = JobState::finished(Conclusion::Error, Some(reason));
        self.save(run_id, &[place], None, taken).await?;
        self.step_run(run_id, Vec::new()).await
    }

    /// Tells supervisors to stop whose jobs are to end.
    fn tell(&mut self) {
        for supervisor in &mut self.supervisors {
            let reason = if supervisor.is_orphan {
                REMOVED
            } else {
                let Some(live) = self.runs.get(&supervisor.run_id) else { continue };
                let place = live.active.job_ids.iter().position(|id| *id == supervisor.job_id);
                match place.map(|place| &live.active.run.jobs[place].state) {
                    Some(JobState::Running { stopping: Some(reason), .. }) => &*reason.text,
                    _ => continue,
                }
            };
            supervisor.stop(&self.shared.data, reason);
        }
    }
}

impl Step for Drive {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        if !self.loaded {
            self.attach().await?;
        }
        self.follow_orders().await?;
        self.take_news().await?;
        self.look_after_kept().await?;
        for run_id in self.runs.keys().cloned().collect::<Vec<_>>() {
            if let Err(error) = self.step_run(&run_id, Vec::new()).await {
                self.forget(&run_id, &error);
            }
        }
        self.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        self.tell();
        if !self.loaded {
            // One run that cannot be stored holds up no other.
            self.attach().await?;
        }
        self.start_queued().await?;
        // A supervisor that dies sends no nudge.
        Ok(if self.supervisors.is_empty() && self.kept.is_empty() {
            Duration::from_secs(10)
        } else {
            Duration::from_millis(500)
        })
    }
}

fn conclusion(of: JobConclusion) -> (Conclusion, &'static str) {
    match of {
        JobConclusion::Success => (Conclusion::Success, "success"),
        JobConclusion::Failure => (Conclusion::Failure, "failure"),
        JobConclusion::Cancelled => (Conclusion::Cancelled, "cancelled"),
        JobConclusion::TimedOut => (Conclusion::TimedOut, "timeout"),
        JobConclusion::Error => (Conclusion::Error, "error"),
    }
}
