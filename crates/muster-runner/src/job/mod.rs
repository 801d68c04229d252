//! A job from beginning to end.

mod action;
mod background;
mod contained;
mod docker;
mod end;
mod hashes;
mod hooks;
mod kept;
mod left_open;
mod script;
mod setup;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use muster_sys::clock;
use muster_sys::process::{Program, Running};
use muster_sys::usage::Usage;
use muster_workflow::expr::{Contexts, EvalError, JobStatus};
use muster_workflow::read;
use muster_workflow::uses::Uses;
use muster_workflow::workflow::{self, Action, Step, Workflow};

use crate::Listener;
use crate::actions::{Actions, Fetch, is_own_checkout};
use crate::cancel::{Cancel, End};
use crate::contexts::JobContexts;
use crate::disk::DiskWatch;
use crate::files::{CommandFiles, MAX_SUMMARY_BYTES, Said};
use crate::follow::{Bounds, Ended, Stop, follow};
use crate::ground::{Ground, Places, places_in_a_container};
use crate::log::{Allows, Lines, Log};
use crate::marks::mark;
use crate::spec::{JobConclusion, JobResult, JobSpec, Level, StepConclusion, StepEvent, StepUsage};

use self::action::{Use, earlier};
use self::background::{Background, Deferred};
pub use self::contained::PULLING;
use self::contained::{Held, Wants};
use self::end::CLEAN_UP;
use self::hooks::Post;
use self::kept::{FailedAt, Stage};
pub use self::kept::{Kept, On, Started};
use self::left_open::LeftOpen;

/// The secret, or variable, that shows what is only for finding faults.
const STEP_DEBUG: &str = "ACTIONS_STEP_DEBUG";

/// The line of a job's log that says what stands between its steps and the machine begins so.
pub const ISOLATION: &str = "Isolation: ";

/// Runs a job. What goes wrong with it is in the result and in the log.
///
/// # Errors
///
/// When the disk of this machine failed the job, which says nothing of the job.
pub fn run(
    spec: &JobSpec,
    cancel: &Cancel,
    fetch: &mut (dyn Fetch + Send),
    listener: &mut (dyn Listener + Send),
) -> Result<Finished, io::Error> {
    let error = |reason: String| Ok(Finished::with(JobConclusion::Error, Some(reason)));
    let Ok(workflow) = read(&spec.workflow) else {
        return error(format!("{} cannot be read any more", spec.workflow_path));
    };
    let Some(definition) = workflow.job(&spec.job) else {
        return error(format!("{} has no job `{}`", spec.workflow_path, spec.job));
    };
    let mut job = match RunningJob::prepare(spec, &workflow, definition, cancel, fetch, listener) {
        Ok(job) => job,
        Err(reason) => {
            // Who has told it to stop while it was prepared is not told of what that has cut off.
            let Some(End::Asked(why)) = cancel.end() else { return error(reason) };
            return Ok(Finished::with(JobConclusion::Cancelled, Some(why)));
        }
    };
    let mut place = 1 + job.run_pres(&definition.steps);
    std::thread::scope(|scope| {
        let mut background = Background::new(scope);
        for step in &definition.steps {
            place += job.step_of_job(place, step, &mut background);
            // What this attempt would go on to do, the next one does.
            if job.failed_by.is_some() {
                break;
            }
        }
        background.end(&mut job);
    });
    job.run_posts(place);
    let failed_by = job.failed_by.take();
    let finished = job.finish(definition, failed_by.is_none());
    match failed_by {
        Some(error) => Err(error),
        None => Ok(finished),
    }
}

/// What became of a job.
#[derive(Debug)]
pub struct Finished {
    /// Its verdict.
    pub result: JobResult,
    /// The job itself, where it is kept.
    pub kept: Option<Kept>,
}

impl Finished {
    fn with(conclusion: JobConclusion, reason: Option<String>) -> Self {
        Self { result: JobResult { conclusion, reason, outputs: Vec::new() }, kept: None }
    }
}

/// Returns whether an error is the disk's, and none that a job has made for itself.
fn is_of_the_disk(error: &io::Error) -> bool {
    let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::ReadOnlyFilesystem];
    full.contains(&error.kind())
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// What a step came to.
struct Done {
    outcome: StepConclusion,
    outputs: Vec<(String, String)>,
    /// What it keeps for its end.
    state: Vec<(String, String)>,
}

impl Done {
    fn of(outcome: StepConclusion) -> Self {
        Self { outcome, outputs: Vec::new(), state: Vec::new() }
    }
}

/// What was fetched of actions, and what fetches more.
struct Fetching<'a> {
    actions: Actions,
    fetch: &'a mut (dyn Fetch + Send),
}

/// A job, for who does its steps one after the other. What it shares is shared with those that do steps in the
/// background.
struct RunningJob<'a> {
    spec: &'a JobSpec,
    workflow: &'a Workflow,
    definition: &'a workflow::Job,
    cancel: Cancel,
    /// What was fetched of actions, and what fetches more.
    actions: Arc<Mutex<Fetching<'a>>>,
    log: Log<'a>,
    contexts: JobContexts,
    ground: Arc<Ground>,
    /// Its containers.
    held: Arc<Held>,
    /// What `GITHUB_PATH` put in front of PATH, the newest first.
    paths: Vec<String>,
    /// Output of what ended steps left running.
    left_open: Vec<LeftOpen>,
    deadline: Option<Instant>,
    /// How many programs were started: their files bear the number.
    number: Arc<AtomicUsize>,
    /// How many composite actions the step is in that runs.
    depth: usize,
    /// The bound of the step whose action runs.
    within: Option<Instant>,
    /// The inputs of the composite action that runs which strangers have written.
    hostile_inputs: Vec<String>,
    /// How many steps of actions have come.
    steps_of_actions: Arc<AtomicUsize>,
    /// What the step of this place has written as its summary.
    summary: (usize, String),
    /// What actions have left for the end of the job.
    posts: Vec<Post>,
    /// What actions have kept for what they do later, by their keys.
    states: HashMap<String, Vec<(String, String)>>,
    /// The repository at a ref that the file is of whose steps run.
    home: Uses,
    /// The beginning of the keys of the actions that a composite one uses.
    scope: String,
    /// Why the job as a whole was stopped, once it was.
    stopped: Option<(JobConclusion, String)>,
    /// How often the kernel has killed something of it for want of memory, and why it is red then.
    memory_kills: u64,
    out_of_memory: Option<String>,
    /// Whether it used more than it may.
    exceeded: bool,
    /// What the programs of the step that runs have used.
    usage: Option<Usage>,
    /// The place of what ended last.
    last_place: usize,
    /// Why it could not be prepared.
    refused: Option<String>,
    /// How the machine's disk failed it.
    failed_by: Option<io::Error>,
    /// What a step in the background has said that the job hears of when it waits for it.
    deferred: Option<Deferred>,
    /// Where the step that runs is at, and the one that has failed first, where the job is to be kept then.
    stage: Option<Stage>,
    failed_at: Option<FailedAt>,
    _disk: Option<DiskWatch>,
}

impl<'a> RunningJob<'a> {
    fn prepare(
        spec: &'a JobSpec,
        workflow: &'a Workflow,
        definition: &'a workflow::Job,
        cancel: &'a Cancel,
        fetch: &'a mut (dyn Fetch + Send),
        listener: &'a mut (dyn Listener + Send),
    ) -> Result<Self, String> {
        let started = clock::now_ms();
        let name = "Set up job".to_owned();
        let is_debug = is_debug(spec);
        let secrets = spec.private.secrets.0.iter().map(|(_, value)| value.as_str());
        let secrets = secrets.chain(spec.private.services.iter().map(|of| of.token.as_str()));
        let mut log = Log::new(listener, secrets, is_debug).map_err(|error| error.to_string())?;
        log.step(StepEvent::Started { step: 0, name: name.clone(), at: started });
        let contexts_at = |places: &Places| {
            let mut contexts = JobContexts::new(spec, places, is_debug);
            contexts.extend_env(&spec.env);
            for env in [&workflow.env, &definition.env] {
                let env = contexts.evaluate(env).map_err(|error| format!("`env`: {error}"))?;
                contexts.extend_env(&env);
            }
            Ok::<_, String>(contexts)
        };
        // What is wanted of containers may name the places that there are in one.
        let wants = if definition.container.is_none() && definition.services.is_empty() {
            Ok(Wants::default())
        } else {
            contexts_at(&places_in_a_container(spec))
                .and_then(|contexts| Wants::of(definition, &contexts, spec.guarded))
        };
        let wants = wants.map_err(|why| log.masked(&why))?;
        let passwords = wants.passwords().map(str::to_owned).collect::<Vec<_>>();
        for password in passwords.iter().filter(|password| !password.is_empty()) {
            log.mask(password).map_err(|error| error.to_string())?;
        }
        let made = wants.make(spec, &mut log, cancel);
        let (ground, held, told) = made.map_err(|why| log.masked(&why))?;
        let contexts = contexts_at(&ground.places).map_err(|why| log.masked(&why));
        let mut contexts = contexts?;
        if let Some([container, services]) = told {
            let container = Some(container).filter(|_| ground.inmate().is_some());
            contexts.set_containers(container, services);
        }
        let minutes = definition.timeout_minutes.get(contexts.view());
        let minutes =
            minutes.map_err(|error| log.masked(&format!("`timeout-minutes`: {error}")))?;
        let actions = Actions::new(ground.inmate().is_none() && !ground.has_own_root());
        let mut job = Self {
            spec,
            workflow,
            definition,
            cancel: cancel.clone(),
            actions: Arc::new(Mutex::new(Fetching { actions, fetch })),
            log,
            contexts,
            ground: Arc::new(ground),
            held: Arc::new(held),
            paths: Vec::new(),
            left_open: Vec::new(),
            deadline: deadline(minutes),
            number: Arc::default(),
            depth: 0,
            within: None,
            hostile_inputs: Vec::new(),
            steps_of_actions: Arc::default(),
            summary: (0, String::new()),
            posts: Vec::new(),
            states: HashMap::new(),
            home: spec.home(),
            scope: String::new(),
            stopped: None,
            memory_kills: 0,
            out_of_memory: None,
            exceeded: false,
            usage: None,
            last_place: 0,
            refused: None,
            failed_by: None,
            deferred: None,
            stage: None,
            failed_at: None,
            _disk: Some(DiskWatch::start(spec.folder.clone(), spec.disk, cancel.clone())),
        };
        job.say(0, &format!("Runner: muster {} on `{}`", env!("CARGO_PKG_VERSION"), spec.runner));
        job.say(0, &format!("{ISOLATION}{}", job.ground.description));
        job.say(0, &format!("Workspace: {}", job.ground.places.workspace.display()));
        for note in &spec.notes {
            job.say(0, note);
        }
        if let Err(error) = job.tell_environment(false) {
            return Err(job.log.masked(&format!("`environment`: {error}")));
        }
        let outcome = match job.bring_actions(0, &definition.steps) {
            Ok(()) => StepConclusion::Success,
            // As at GitHub no step runs then, whatever its condition.
            Err(why) => {
                job.contexts.set_status(JobStatus::Failure);
                job.say(0, &format!("{}{why}", mark(Level::Error)));
                job.refused = Some(why);
                StepConclusion::Failure
            }
        };
        job.tell_end(0, name, outcome, outcome);
        Ok(job)
    }

    fn step(&mut self, place: usize, step: &Step) {
        self.notice_cancel();
        self.drain_left_open();
        if self.depth == 0 {
            self.contexts.set_action(&step.id);
        }
        self.hash_files(step);
        let name = step.display_name(self.contexts.view());
        let env = self.contexts.evaluate(&step.env);
        let view = match &env {
            Ok(env) => self.contexts.with_env(env),
            Err(_) => self.contexts.view().clone(),
        };
        if self.exceeded || self.refused.is_some() {
            // Nothing of it goes on, whatever its conditions ask for.
            let outcome = StepConclusion::Skipped;
            self.end_step(place, step, name, outcome, outcome, &[]);
            return;
        }
        self.memory_kills = self.ground.memory_kills();
        if self.depth == 0 {
            self.stage = None;
        }
        let holds = match &step.condition {
            None => Ok(self.contexts.status() == JobStatus::Success),
            Some(condition) => condition.holds(&view),
        };
        if holds == Ok(false) {
            let outcome = StepConclusion::Skipped;
            self.end_step(place, step, name, outcome, outcome, &[]);
            return;
        }
        if self.depth > 0 {
            // The log of an action is that of the step that uses it.
            self.say(place, &name);
        } else {
            let at = clock::now_ms();
            self.log.step(StepEvent::Started { step: place, name: name.clone(), at });
        }
        let done = match (holds, env) {
            (Err(error), _) => self.refuse(place, &format!("`if` has no value: {error}")),
            (_, Err(error)) => self.refuse(place, &format!("`env`: {error}")),
            (Ok(_), Ok(env)) => self.perform(place, step, &env, &view),
        };
        let forgiven = done.outcome == StepConclusion::Failure
            && step.continue_on_error.get(&view).unwrap_or(false);
        let conclusion = if forgiven { StepConclusion::Success } else { done.outcome };
        if forgiven {
            self.out_of_memory = None;
        }
        self.end_step(place, step, name, done.outcome, conclusion, &done.outputs);
    }

    fn end_step(
        &mut self,
        place: usize,
        step: &Step,
        name: String,
        outcome: StepConclusion,
        conclusion: StepConclusion,
        outputs: &[(String, String)],
    ) {
        if conclusion == StepConclusion::Failure && self.contexts.status() == JobStatus::Success {
            self.contexts.set_status(JobStatus::Failure);
        }
        self.contexts.end_step(&step.id, outcome, conclusion, outputs);
        if let Some(deferred) = self.deferred.as_mut().filter(|_| self.depth == 0) {
            let outputs = outputs.to_vec();
            deferred.ended = Some(background::Ended { outcome, conclusion, outputs });
        }
        if self.depth == 0 {
            self.last_place = place;
            if conclusion == StepConclusion::Failure {
                self.fail_at(&name);
            }
            self.tell_end(place, name, outcome, conclusion);
        }
    }

    /// Tells that a step has ended, and what its programs have used.
    fn tell_end(
        &mut self,
        step: usize,
        name: String,
        outcome: StepConclusion,
        conclusion: StepConclusion,
    ) {
        let (at, usage) = (clock::now_ms(), self.usage.take().map(StepUsage::from));
        self.log.step(StepEvent::Finished { step, name, outcome, conclusion, at, usage });
    }

    /// Returns the number of the next program.
    fn next_number(&mut self) -> usize {
        self.number.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn perform(
        &mut self,
        place: usize,
        step: &Step,
        env: &[(String, String)],
        view: &Contexts,
    ) -> Done {
        let minutes = step.timeout_minutes.as_ref().map(|minutes| minutes.get(view)).transpose();
        let minutes = match minutes {
            Ok(minutes) => minutes,
            Err(error) => return self.refuse(place, &format!("`timeout-minutes`: {error}")),
        };
        match &step.action {
            Action::Run { script, shell, working_directory } => {
                let texts = [Some(script), shell.as_ref(), working_directory.as_ref()];
                self.script(place, minutes.and_then(deadline), env, view, texts)
            }
            Action::Uses { uses, with } => {
                let of = Use { place, step, with, env, view, minutes };
                match &uses.within(&self.home) {
                    uses if is_own_checkout(uses, with) => self.checkout(&of),
                    Uses::Local(folder) => self.local_action(folder, &of),
                    Uses::Docker(image) => self.docker_image(image, &of),
                    uses => match self.own_tool(uses) {
                        Some(tool) => self.set_up(tool, uses, &of),
                        None => self.fetched_action(uses, &of),
                    },
                }
            }
            // A job does them itself; of an action GitHub refuses them, too.
            Action::Wait(_) | Action::WaitAll | Action::Cancel(_) | Action::Parallel(_) => {
                self.refuse(place, "steps of actions do not run in the background")
            }
        }
    }

    /// Runs the program of a step to its end.
    fn perform_program(
        &mut self,
        place: usize,
        program: Program,
        files: &CommandFiles,
        deadline: Option<Instant>,
        allows: Allows,
    ) -> Done {
        match self.ground.spawn(program) {
            Ok(running) => self.perform_running(place, running, files, deadline, allows),
            Err(error) => self.refuse(place, &error.to_string()),
        }
    }

    /// Follows a program of a step, which has been started, to its end.
    fn perform_running(
        &mut self,
        place: usize,
        mut running: Running,
        files: &CommandFiles,
        deadline: Option<Instant>,
        allows: Allows,
    ) -> Done {
        let bounds = Bounds {
            step: earlier(deadline, self.within),
            job: self.deadline,
            // A step in the background may be silent: what the job does beside it counts.
            idle: self
                .spec
                .idle_timeout_s
                .filter(|_| self.deferred.is_none())
                .map(Duration::from_secs),
            tick: if self.left_open.is_empty() { None } else { Some(left_open::TICK) },
        };
        self.log.begin(allows);
        let (outcome, mut lines) = self.follow(place, &mut running, bounds);
        let left = running.into_output();
        // What goes on is no line yet.
        let ended = left.is_none().then_some(&mut lines);
        let told = self.log.end(place, ended, &self.ground);
        self.left_open.extend(left.map(|pipe| LeftOpen::read(place, lines, pipe)));
        self.drain_left_open();
        let is_wrong = told.is_failed && outcome == StepConclusion::Success;
        let outcome = if is_wrong { StepConclusion::Failure } else { outcome };
        self.take_files(place, outcome, told.said, files)
    }

    /// Follows a program to its end; also returns the line that it has not ended.
    fn follow(
        &mut self,
        place: usize,
        running: &mut Running,
        bounds: Bounds,
    ) -> (StepConclusion, Lines) {
        let (log, ground, left_open) = (&mut self.log, &self.ground, &mut self.left_open);
        let mut lines = Lines::default();
        let followed = follow(running, &self.cancel, bounds, |bytes| {
            for left in left_open.iter_mut() {
                left.tell(log);
            }
            match bytes {
                Some(bytes) => log.write(place, &mut lines, bytes, ground),
                None => log.idle(place, &mut lines),
            }
        });
        (self.judge(place, followed), lines)
    }

    /// Returns how a step went whose program has ended, or was stopped.
    fn judge(&mut self, place: usize, followed: io::Result<Ended>) -> StepConclusion {
        let ended = match followed {
            Ok(ended) => ended,
            Err(error) => {
                return self.refuse(place, &format!("lost touch with the step: {error}")).outcome;
            }
        };
        if let Some(usage) = ended.usage {
            self.usage.get_or_insert_default().add(usage);
        }
        match ended.stopped {
            None if ended.status.success() => StepConclusion::Success,
            None => {
                // That it failed is known of the step: no annotation of the code.
                let line = format!("{}{}", mark(Level::Error), describe(ended.status));
                self.log.say(place, &line);
                self.notice_memory_kills(place);
                if ended.status.code().is_none() && self.lost_container() {
                    let why = "the container of the job has ended, or its engine has";
                    self.log.tell(place, Level::Error, why);
                    self.refused = Some(why.to_owned());
                }
                StepConclusion::Failure
            }
            Some(Stop::StepTimeout) => {
                let why = "the step took longer than its `timeout-minutes` and was stopped";
                self.log.tell(place, Level::Error, why);
                StepConclusion::Failure
            }
            Some(stop) => {
                self.stop_job(stop);
                let why = self.stopped.as_ref().map(|(_, why)| why.clone()).unwrap_or_default();
                let why = format!("stopped: {why}");
                match self.cancel.end() {
                    Some(End::Unwanted) => self.say(place, &why),
                    _ => self.log.tell(place, Level::Error, &why),
                }
                StepConclusion::Cancelled
            }
        }
    }

    /// Takes over what a step said through its files.
    fn take_files(
        &mut self,
        place: usize,
        outcome: StepConclusion,
        mut said: Said,
        files: &CommandFiles,
    ) -> Done {
        let (in_files, refused) = match files.read(&self.ground) {
            Ok(read) => read,
            Err(error) => return self.refuse(place, &error.to_string()),
        };
        for error in refused {
            self.log.tell(place, Level::Error, &error.to_string());
        }
        said.extend(in_files);
        if let Some(deferred) = &mut self.deferred {
            deferred.env.extend(said.env.iter().cloned());
            deferred.paths.extend(said.paths.iter().cloned());
        }
        self.contexts.extend_env(&said.env);
        for path in said.paths {
            self.paths.insert(0, path);
        }
        if !said.summary.is_empty() {
            // Steps of an action add to one summary.
            if self.summary.0 != place {
                self.summary = (place, String::new());
            }
            self.summary.1.push_str(&said.summary);
            let markdown = self.summary.1.clone();
            if markdown.len() as u64 > MAX_SUMMARY_BYTES {
                let why = format!("its summary has more than {MAX_SUMMARY_BYTES} bytes");
                return self.refuse(place, &why);
            }
            self.log.step(StepEvent::Summary { step: place, markdown });
        }
        Done { outcome, outputs: said.outputs, state: said.state }
    }

    /// Ends a step whose files cannot be written, and the job with it where that is the disk's fault.
    fn unwritten(&mut self, place: usize, error: io::Error) -> Done {
        let done = self.refuse(place, &format!("cannot write the step's files: {error}"));
        // What was red or stopped before is no other for it.
        let goes_well = self.stopped.is_none() && self.contexts.goes_well();
        if goes_well && is_of_the_disk(&error) {
            self.failed_by = Some(error);
        }
        done
    }

    /// Ends a step that could not run, saying why in its log. One that nobody wants any more is no failure.
    fn refuse(&mut self, place: usize, why: &str) -> Done {
        if matches!(self.cancel.end(), Some(End::Unwanted)) {
            self.say(place, why);
            return Done::of(StepConclusion::Cancelled);
        }
        self.log.tell(place, Level::Error, why);
        Done::of(StepConclusion::Failure)
    }

    /// Logs what children of ended steps have written meanwhile.
    fn drain_left_open(&mut self) {
        for left in &mut self.left_open {
            left.tell(&mut self.log);
        }
    }

    /// Logs the end of what children of ended steps have written.
    fn end_left_open(&mut self) {
        for left in std::mem::take(&mut self.left_open) {
            left.end(&mut self.log);
        }
    }

    /// Tells to which environment the job deploys; where that can be seen, once it is over.
    fn tell_environment(&mut self, is_over: bool) -> Result<(), EvalError> {
        let Some(name) = self.spec.deploys_to.clone() else { return Ok(()) };
        let url = self.definition.environment.as_ref().and_then(|to| to.url.as_ref());
        let url = url.filter(|_| is_over).map(|url| url.text(self.contexts.view())).transpose()?;
        let url = url.filter(|url| !url.is_empty());
        self.log.step(StepEvent::Environment { name, url });
        Ok(())
    }

    fn say(&mut self, place: usize, line: &str) {
        self.log.say(place, line);
    }
}

/// Returns whether somebody looks for a fault of the workflow, by GitHub's name for that.
fn is_debug(spec: &JobSpec) -> bool {
    let secret =
        spec.private.secrets.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(STEP_DEBUG));
    let asked = secret.map(|(_, value)| value.as_str());
    asked.or_else(|| spec.vars.get(STEP_DEBUG)?.as_str()) == Some("true")
}

/// Returns the moment `minutes` from now; `None` for what is no bound.
fn deadline(minutes: f64) -> Option<Instant> {
    let span = Duration::try_from_secs_f64(minutes * 60.0).ok()?;
    clock::monotonic().checked_add(span)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
        (Some(code), _) => format!("the step ended with exit code {code}"),
        (None, Some(signal)) => format!("the step was killed by signal {signal}"),
        (None, None) => format!("the step ended with {status}"),
    }
}
