//! Driving runs in this process's memory: one supervisor a job, all told through one channel.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Context as _;
use muster_core::concurrency::Claimant;
use muster_core::id::Attempt;
use muster_core::identity::{self, claims};
use muster_core::labels::Labels;
use muster_core::run::{Assignment, Conclusion, Effect, Ground, JobState, Legs, Reason, Work};
use muster_core::trust::Trust;
use muster_runner::spec::{
    ActionSource, Annotation, EngineAccess, JobConclusion, JobResult, JobSpec, Private, Secrets,
    Source, StepEvent,
};
use muster_runner::spool::{MAX_LINE, Record};
use muster_sys::process::{OWN_PROGRAM, Program};
use muster_sys::{clock, sandbox, signal, tree};
use muster_workflow::expr::Value;

use super::Planned;
use super::groups::{Groups, Turn};
use super::screen::{News, Of, RunEnd, Screen};
use super::services::LocalServices;
use crate::config::{IsolationConfig, SandboxConfig};
use crate::machine::{self, Host, Images};
use crate::shell;

/// How often a live view is drawn anew.
const TICK: Duration = Duration::from_millis(100);
/// So many messages of all jobs may wait to be shown, each of 256 KiB at most but for a longer line.
const AHEAD: usize = 64;

/// What the jobs of a `muster run` have in common.
pub(super) struct Engine {
    pub(super) folder: PathBuf,
    pub(super) source: Source,
    pub(super) in_place: Option<PathBuf>,
    pub(super) labels: Labels,
    pub(super) images: Images,
    /// For so many seconds a job that has failed is kept.
    pub(super) keep_s: Option<u64>,
    pub(super) parallel: usize,
    pub(super) isolation: IsolationConfig,
    pub(super) sandbox: SandboxConfig,
    pub(super) secrets: Secrets,
    pub(super) actions: ActionSource,
    pub(super) env: Vec<(String, String)>,
    /// What tells its caches from those of other repositories.
    pub(super) repository: String,
    /// Where its artifacts are left.
    pub(super) artifacts: Option<PathBuf>,
}

/// How many workflows did not end green.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) red: usize,
    pub(super) unable: usize,
}

/// Which job of which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) run: usize,
    pub(super) job: usize,
}

enum Message {
    /// Lines of a job's spool; the last may lack its end where the spool has none.
    Lines(Place, Vec<u8>),
    /// A job's spool ended.
    Ended(Place),
    /// The user asks for the end.
    Interrupted(&'static str, usize),
}

struct Supervisor {
    place: Place,
    child: Child,
    orders: ChildStdin,
    started: i64,
    result: Option<JobResult>,
}

struct Driver<'e> {
    engine: &'e Engine,
    planned: Vec<Planned>,
    /// How long each job ran, in milliseconds.
    took: HashMap<Place, i64>,
    /// What the jobs of each run have told about the code.
    annotations: Vec<Vec<(usize, Annotation)>>,
    /// What there is of lines that go on in another record, by job and step.
    parts: HashMap<(Place, usize), Vec<u8>>,
    queue: Vec<Place>,
    running: Vec<Supervisor>,
    groups: Groups,
    sender: SyncSender<Message>,
    services: LocalServices,
    /// The signal by which somebody has killed all, if somebody has.
    killed_by: Option<&'static str>,
    /// The jobs that have failed and are kept, and who keeps each.
    kept: Vec<(Place, u32)>,
}

impl Engine {
    /// Runs all workflows, as many jobs at once as the machine has cores.
    pub(super) fn run(&self, planned: Vec<Planned>, screen: &mut Screen) -> anyhow::Result<Tally> {
        // What is not shown yet holds up who writes it.
        let (sender, receiver) = sync_channel(AHEAD);
        let on_signal = sender.clone();
        signal::on_termination(move |name, before| {
            // Nobody listens any more once the runs are over.
            drop(on_signal.send(Message::Interrupted(name, before)));
        })?;
        // What a run that was killed has left is nobody's.
        sandbox::sweep(|name| {
            let run = name.strip_prefix("run-").and_then(|rest| rest.split('-').next());
            run.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
        });
        // What a killed supervisor leaves behind comes to us.
        tree::adopt_orphans().context("cannot adopt what the jobs leave behind")?;
        let is_many = |entry: &Planned| {
            entry.run.jobs.iter().any(|job| job.work == Work::Call || job.legs == Legs::Open)
        };
        let jobs: usize = planned.iter().map(|planned| planned.run.jobs.len()).sum();
        screen.set_many(jobs > 1 || planned.iter().any(is_many));
        for (run, entry) in planned.iter().enumerate() {
            let name = entry.workflows.root().name.as_deref();
            screen.tell(News::RunBegins { run, path: &entry.file.path, name });
        }
        let mut driver = Driver {
            engine: self,
            annotations: planned.iter().map(|_| Vec::new()).collect(),
            planned,
            took: HashMap::new(),
            parts: HashMap::new(),
            queue: Vec::new(),
            running: Vec::new(),
            groups: Groups::default(),
            sender,
            services: LocalServices::new(&self.folder, &self.repository),
            killed_by: None,
            kept: Vec::new(),
        };
        driver.drive(&receiver, screen)
    }

    fn folder_of(&self, place: Place) -> PathBuf {
        self.folder.join(format!("{}-{}", place.run, place.job))
    }
}

/// Returns which job is meant by who is in a concurrency group.
fn job_of(who: Claimant) -> Option<Place> {
    Some(Place { run: usize::try_from(who.run - 1).ok()?, job: who.job? })
}

/// Returns who a job is in a concurrency group: to people the first run is number 1.
fn claimant_of(run: usize, job: usize) -> Claimant {
    Claimant::job(i64::try_from(run + 1).unwrap_or(i64::MAX), job)
}

impl Driver<'_> {
    fn drive(
        &mut self,
        receiver: &Receiver<Message>,
        screen: &mut Screen,
    ) -> anyhow::Result<Tally> {
        for run in 0..self.planned.len() {
            self.step(run);
        }
        loop {
            self.start_queued(screen);
            if self.running.is_empty() {
                break;
            }
            let next = if screen.is_live() {
                receiver.recv_timeout(TICK)
            } else {
                receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let message = match next {
                Err(RecvTimeoutError::Timeout) => {
                    screen.flush();
                    continue;
                }
                message => message.context("all supervisors are gone")?,
            };
            match message {
                Message::Lines(place, lines) => {
                    for line in lines.split_inclusive(|byte| *byte == b'\n') {
                        self.line(place, line.strip_suffix(b"\n").unwrap_or(line), screen);
                    }
                    screen.flush();
                }
                Message::Ended(place) => self.ended(place, screen),
                Message::Interrupted(name, before) => self.interrupted(name, before, screen),
            }
        }
        let mut tally = Tally::default();
        for (place, (entry, annotations)) in self.planned.iter().zip(&self.annotations).enumerate()
        {
            let conclusion = entry.run.conclusion();
            match conclusion {
                Some(Conclusion::Success | Conclusion::Skipped) => {}
                Some(Conclusion::Error) | None => tally.unable += 1,
                Some(Conclusion::Failure | Conclusion::TimedOut | Conclusion::Cancelled) => {
                    tally.red += 1;
                }
            }
            let took = (0..entry.run.jobs.len())
                .map(|job| self.took.get(&Place { run: place, job }).copied());
            screen.tell(News::RunEnds(&RunEnd {
                place,
                path: &entry.file.path,
                run: &entry.run,
                conclusion,
                took: took.collect(),
                annotations,
            }));
            if let Some(folder) = &self.engine.artifacts {
                for file in self.services.export(place, folder)? {
                    screen.tell(News::Artifact { run: place, file: &file });
                }
            }
        }
        for (place, _) in &self.kept {
            if !shell::is_kept(&self.engine.folder_of(*place)) {
                continue;
            }
            let name = &self.planned[place.run].run.jobs[place.job].name;
            let minutes = self.engine.keep_s.unwrap_or_default() / 60;
            let folder = self.engine.folder.file_name().unwrap_or_default().to_string_lossy();
            let quoted = shlex::try_quote(name).unwrap_or_else(|_| name.into());
            let note = format!("{name} is kept for {minutes} min: muster shell {folder} {quoted}");
            screen.tell(News::Note(&note));
        }
        Ok(tally)
    }

    /// Lets the engine take the moves of a run that can be taken now, and then those of jobs in concurrency groups.
    fn step(&mut self, run: usize) {
        self.take_moves(run);
        loop {
            let planned = &self.planned;
            let is_over = |who: Claimant| {
                let job = job_of(who).and_then(|at| planned.get(at.run)?.run.jobs.get(at.job));
                job.is_none_or(|job| job.state.conclusion().is_some())
            };
            self.groups.forget(is_over);
            let Some(turn) = self.groups.next() else { break };
            let (Turn::Goes(who) | Turn::Ends(who, _)) = &turn;
            let Some(at) = job_of(*who) else { continue };
            let run = &mut self.planned[at.run].run;
            match &turn {
                Turn::Goes(_) => run.admit(at.job),
                Turn::Ends(_, reason) => {
                    let effects = run.supersede(at.job, reason);
                    self.follow(at.run, effects);
                }
            }
            self.take_moves(at.run);
        }
    }

    fn take_moves(&mut self, run: usize) {
        let Planned { run: state, workflows, contexts, .. } = &mut self.planned[run];
        let effects = state.step(Ground { workflows, contexts });
        self.follow(run, effects);
    }

    /// Does what follows from moves of a run.
    fn follow(&mut self, run: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Claim(job) => {
                    let job_now = &self.planned[run].run.jobs[job];
                    if let Some(claim) = &job_now.claim {
                        let is_whole = job_now.work != Work::Steps;
                        self.groups.come(claimant_of(run, job), claim, is_whole);
                    }
                }
                Effect::Queue(job) => self.queue.push(Place { run, job }),
                Effect::Stop(job, reason) => {
                    let place = Place { run, job };
                    if let Some(supervisor) = self.running.iter_mut().find(|s| s.place == place) {
                        order(supervisor, &reason.text);
                    }
                }
                Effect::Planned(_) | Effect::Finished(_) | Effect::Concluded(_) => {}
            }
        }
    }

    fn start_queued(&mut self, screen: &mut Screen) {
        while self.running.len() < self.engine.parallel && !self.queue.is_empty() {
            let place = self.queue.remove(0);
            let job = &self.planned[place.run].run.jobs[place.job];
            // A job may have been cancelled while it was in the queue.
            if !matches!(job.state, JobState::Queued { .. }) {
                continue;
            }
            if let Err(error) = self.start(place, screen) {
                let reason = Reason::new("start", format!("{error:#}"));
                let name = &self.planned[place.run].run.jobs[place.job].name;
                screen.tell(News::Note(&format!("{name}: {reason}")));
                let state = JobState::finished(Conclusion::Error, Some(reason));
                self.planned[place.run].run.jobs[place.job].state = state;
                self.step(place.run);
            }
        }
    }

    fn start(&mut self, place: Place, screen: &mut Screen) -> anyhow::Result<()> {
        let entry = &mut self.planned[place.run];
        let job = &entry.run.jobs[place.job];
        if let Err(reason) = self.engine.labels.serve(&job.labels) {
            anyhow::bail!("{reason}");
        }
        let ground = Ground { workflows: &entry.workflows, contexts: &entry.contexts };
        let secrets = entry.run.secrets(place.job, ground, &self.engine.secrets.0);
        let secrets = Secrets(secrets.map_err(|reason| anyhow::anyhow!(reason.text))?);
        let assignment = entry.run.assignment(place.job, ground);
        let Assignment {
            file,
            contexts,
            continue_on_error,
            environment,
            may_identify,
            uses_actions,
            ..
        } = assignment.map_err(|reason| anyhow::anyhow!(reason.text))?;
        let identity = may_identify.then(|| {
            claims(&identity::Job {
                github: &entry.github,
                environment: environment.as_deref(),
                file: &file,
                // It is the caller's own work tree.
                trust: Trust::Member,
                repository_id: &self.engine.repository,
            })
        });
        let (workflow, workflow_path) = match entry.workflows.text(&file) {
            Some(text) => (text.to_owned(), file),
            None => (entry.file.text.clone(), entry.file.path.clone()),
        };
        entry.run.jobs[place.job].continue_on_error = continue_on_error;
        let job = &entry.run.jobs[place.job];
        let folder = self.engine.folder_of(place);
        fs::create_dir(&folder).context("cannot make the job's folder")?;
        let context = |name: &str| contexts.get(name).map_or(serde_json::json!({}), Value::to_json);
        let spec = JobSpec {
            workflow,
            workflow_path,
            job: job.id.clone(),
            name: job.name.clone(),
            github: entry.github.clone(),
            matrix: context("matrix"),
            strategy: context("strategy"),
            needs: context("needs"),
            vars: context("vars"),
            inputs: context("inputs"),
            private: Private::default(),
            deploys_to: environment,
            notes: Vec::new(),
            environment: machine::callers_environment(),
            env: self.engine.env.clone(),
            actions: self.engine.actions.clone(),
            engine: EngineAccess { socket: machine::engine(None), mark: group(place) },
            folder: folder.clone(),
            source: self.engine.source.clone(),
            in_place: self.engine.in_place.clone(),
            tool_cache: machine::callers_cache("tools"),
            isolation: machine::isolation(
                self.engine.isolation,
                &self.engine.sandbox,
                // It is the caller's own work tree.
                Trust::Member,
                Host::Caller,
                &group(place),
            ),
            image: self.engine.images.of(&job.labels, machine::callers_cache("images")),
            guarded: false,
            disk: machine::disk(&self.engine.sandbox),
            runner: machine::name(),
            idle_timeout_s: None,
            keep_s: self.engine.keep_s,
        };
        let needs_services = uses_actions || identity.is_some();
        let services = if needs_services {
            Some(self.services.access(place, &spec.github, identity)?)
        } else {
            None
        };
        let path = folder.join("job.json");
        fs::write(&path, serde_json::to_vec(&spec)?).context("cannot write the job")?;
        let mut talk = Program::new(OWN_PROGRAM).arg("supervise").arg(&path).converse()?;
        // By a pipe: a file, or its command line, could be read by others.
        let private = serde_json::to_string(&Private { secrets, services })?;
        talk.input.write_all(format!("secrets {private}\n").as_bytes())?;
        entry.run.start(place.job, Attempt::FIRST)?;
        let sender = self.sender.clone();
        let mut output = BufReader::with_capacity(256 * 1024, talk.output);
        std::thread::Builder::new().name("spool".into()).spawn(move || {
            let mut lines = Vec::new();
            // What is there at once is shown at once.
            while let Ok(chunk @ [_, ..]) = output.fill_buf() {
                let count = chunk.len();
                lines.extend_from_slice(chunk);
                output.consume(count);
                let whole = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
                if whole > 0 {
                    let rest = lines.split_off(whole);
                    let lines = std::mem::replace(&mut lines, rest);
                    drop(sender.send(Message::Lines(place, lines)));
                }
            }
            if !lines.is_empty() {
                drop(sender.send(Message::Lines(place, lines)));
            }
            drop(sender.send(Message::Ended(place)));
        })?;
        self.running.push(Supervisor {
            place,
            child: talk.child,
            orders: talk.input,
            started: clock::now_ms(),
            result: None,
        });
        screen.tell(News::JobBegins(of(&self.planned, place)));
        Ok(())
    }

    fn line(&mut self, place: Place, line: &[u8], screen: &mut Screen) {
        let Some(supervisor) = self.running.iter_mut().find(|s| s.place == place) else { return };
        let of = of(&self.planned, place);
        match Record::parse(line) {
            Some(Record::Output { step, text, ends, .. }) => {
                let begun = self.parts.remove(&(place, step));
                if ends && begun.is_none() {
                    screen.note(News::Output { of, step, text });
                    return;
                }
                let mut line = begun.unwrap_or_default();
                line.extend_from_slice(text);
                if ends || line.len() >= MAX_LINE {
                    screen.note(News::Output { of, step, text: &line });
                } else {
                    self.parts.insert((place, step), line);
                }
            }
            Some(Record::Step(event)) => {
                if let StepEvent::Finished { step, .. } = event
                    && let Some(text) = self.parts.remove(&(place, step))
                {
                    screen.note(News::Output { of, step, text: &text });
                }
                screen.note(News::Step { of, event: &event });
                if let StepEvent::Annotated { annotation, .. } = event {
                    self.annotations[place.run].push((place.job, annotation));
                }
            }
            Some(Record::Result(result)) => supervisor.result = Some(result),
            // What a supervisor says that ends by itself.
            None => screen.note(News::Output { of, step: 1, text: line }),
        }
    }

    fn ended(&mut self, place: Place, screen: &mut Screen) {
        let Some(at) = self.running.iter().position(|s| s.place == place) else { return };
        let mut supervisor = self.running.remove(at);
        let took = clock::now_ms() - supervisor.started;
        self.took.insert(place, took);
        if self.engine.keep_s.is_some() && shell::is_kept(&self.engine.folder_of(place)) {
            // It stays behind, and ends by itself.
            self.kept.push((place, supervisor.child.id()));
        } else {
            // Its exit code says nothing that the result does not.
            drop(supervisor.child.wait());
        }
        let result = supervisor.result.unwrap_or_else(|| {
            // What it has left comes to us, beside the other supervisors.
            let others = self.running.iter().map(|other| other.child.id());
            let others: Vec<u32> = others.chain(self.kept.iter().map(|(_, id)| *id)).collect();
            tree::kill_descendants(&others, Duration::from_secs(5));
            sandbox::forget(&group(place));
            if let Err(why) = muster_runner::reap(machine::engine(None).as_deref(), &group(place)) {
                tracing::warn!(why, "a job may have left containers");
            }
            let (conclusion, reason) = match self.killed_by {
                Some(name) => (JobConclusion::Cancelled, format!("killed by {name}")),
                None => (JobConclusion::Error, "the job's supervisor was lost".to_owned()),
            };
            JobResult { conclusion, reason: Some(reason), outputs: Vec::new() }
        });
        let (conclusion, code) = match result.conclusion {
            JobConclusion::Success => (Conclusion::Success, "success"),
            JobConclusion::Failure => (Conclusion::Failure, "failure"),
            JobConclusion::Cancelled => (Conclusion::Cancelled, "cancelled"),
            JobConclusion::TimedOut => (Conclusion::TimedOut, "timeout"),
            JobConclusion::Error => (Conclusion::Error, "error"),
        };
        let reason = result.reason.map(|text| Reason::new(code, text));
        let run = &mut self.planned[place.run].run;
        // The job is running, for it had a supervisor.
        drop(run.finish(place.job, Attempt::FIRST, conclusion, reason, result.outputs));
        let of = of(&self.planned, place);
        let mut left: Vec<_> = self
            .parts
            .extract_if(|(of, _), _| *of == place)
            .map(|((_, step), text)| (step, text))
            .collect();
        left.sort();
        for (step, text) in left {
            screen.note(News::Output { of, step, text: &text });
        }
        let state = &self.planned[place.run].run.jobs[place.job].state;
        screen.tell(News::JobEnds { of, state, took });
        self.step(place.run);
    }

    /// The first signal cancels, the second kills.
    fn interrupted(&mut self, name: &'static str, before: usize, screen: &mut Screen) {
        if before > 0 {
            self.killed_by = Some(name);
            tree::kill_descendants(&[], Duration::from_secs(5));
            return;
        }
        screen.tell(News::Note(&format!("{name}: cancelling; once more to kill")));
        for run in 0..self.planned.len() {
            self.planned[run].run.cancel =
                Some(Reason::new("cancelled", format!("cancelled by {name}")));
            self.step(run);
        }
    }
}

/// Returns which job something is told of.
fn of(planned: &[Planned], place: Place) -> Of<'_> {
    let job = &planned[place.run].run.jobs[place.job];
    Of { place, id: &job.id, name: &job.name }
}

/// Names the control group of a job.
fn group(place: Place) -> String {
    format!("run-{}-{}-{}", std::process::id(), place.run, place.job)
}

fn order(supervisor: &mut Supervisor, reason: &str) {
    let line = format!("cancel {}\n", reason.replace('\n', " "));
    // A supervisor that is gone has stopped already.
    drop(supervisor.orders.write_all(line.as_bytes()));
}
