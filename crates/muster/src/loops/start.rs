//! Starting the supervisor of a job.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Child;

use anyhow::Context as _;
use muster_core::cache::scopes;
use muster_core::id::RepoId;
use muster_core::identity::{self, claims};
use muster_core::labels::Labels;
use muster_core::run::{Assignment, Ground, JobState, Reason};
use muster_core::trust::{Protection, Trust};
use muster_runner::spec::{EngineAccess, Isolation, JobSpec, Kit, Private, Secrets, Source};
use muster_sys::clock;
use muster_sys::process::{OWN_PROGRAM, Program};
use muster_workflow::Workflows;
use muster_workflow::expr::Value;
use rustix::fs::{FileType, FlockOperation, Mode, flock, mknodat};
use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};

use super::Shared;
use crate::config::IsolationConfig;
use crate::machine::{self, Host};
use crate::secrets::{chosen, not_given};
use crate::services::Bearer;
use crate::store::runs::ActiveRun;
use crate::store::secrets::Stored;
use crate::store::{Store, StoreError};

/// The variable by which the processes of a job are found, as GitHub's runner has it.
pub(super) const TRACKING_VARIABLE: &str = "RUNNER_TRACKING_ID";

/// A job that is ready to be started.
pub(super) struct Start {
    pub(super) job_id: String,
    pub(super) continue_on_error: bool,
    attempt: i64,
    spec: JobSpec,
}

/// What people keep for the jobs of a repository.
pub(super) struct Kept {
    secrets: Vec<Stored>,
    variables: Vec<Stored>,
    /// Which of its branches and tags are protected now.
    protection: Option<Protection>,
    /// What it is called now.
    name: String,
}

impl Kept {
    /// Looks it up.
    pub(super) async fn of(store: &Store, repository: &RepoId) -> Result<Self, StoreError> {
        let found = store.repository(repository).await?;
        let (secrets, variables) = store.values_for(repository).await?;
        Ok(Self {
            name: found.as_ref().map(|repository| repository.name.clone()).unwrap_or_default(),
            protection: found.map(|repository| repository.protection()).transpose()?,
            secrets,
            variables,
        })
    }

    /// Returns how far a run is trusted now: that of a ref that is not protected any more was of a time that is over.
    fn trust(&self, active: &ActiveRun) -> Trust {
        let name = active.github.get("ref").and_then(|name| name.as_str()).unwrap_or_default();
        let is_protected = self.protection.as_ref().is_some_and(|these| these.covers(name));
        if is_protected { active.trust } else { active.trust.min(Trust::Member) }
    }
}

/// Returns the mark of an attempt's processes.
pub(super) fn tracking_id(job_id: &str, attempt: i64) -> String {
    format!("muster_{job_id}.{attempt}")
}

/// Returns the name of an attempt's control group.
pub(super) fn group(job_id: &str, attempt: i64) -> String {
    format!("{job_id}.{attempt}")
}

impl Start {
    /// Gathers everything that the job at `place` needs.
    ///
    /// # Errors
    ///
    /// The reason why it can never start here.
    pub(super) fn prepare(
        shared: &Shared,
        active: &ActiveRun,
        workflows: &Workflows,
        place: usize,
        labels: &Labels,
        pinned: Vec<(String, String)>,
        kept: &Kept,
    ) -> Result<Self, Reason> {
        let job = &active.run.jobs[place];
        let JobState::Queued { attempt } = job.state else {
            return Err(Reason::new("state", "it is not queued"));
        };
        labels.serve(&job.labels)?;
        let ground = Ground { workflows, contexts: &active.contexts(workflows.root()) };
        let Assignment {
            file,
            contexts,
            continue_on_error,
            environment: deploys_to,
            may_identify,
            ..
        } = active.run.assignment(place, ground)?;
        let trust = kept.trust(active);
        let Given { secrets, mut notes } =
            secrets(shared, active, ground, place, (kept, trust), deploys_to.as_deref())?;
        let context = |name: &str| contexts.get(name).unwrap_or(&Value::Null).to_json();
        let called = workflows.text(&file).map(|text| (text.to_owned(), file.clone()));
        let (workflow, workflow_path) =
            called.unwrap_or_else(|| (active.source.clone(), active.path.clone()));
        let job_id = active.job_ids[place].clone();
        let attempt = i64::from(attempt.0);
        let folder = shared.data.job(&job_id, attempt);
        let text = |name: &str| -> String {
            active.github.get(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
        };
        let mut github = active.github.clone();
        github["run_attempt"] = active.attempt.to_string().into();
        if !secrets.is_empty() {
            github["secret_source"] = "Actions".into();
        }
        github["ref_protected"] = (trust == Trust::Protected).into();
        let mut vars = context("vars");
        if let Some(name) = &deploys_to {
            for var in chosen(&kept.variables, trust, Some(name)) {
                vars[var.place.entry.name.as_str()] = var.value.as_str().into();
            }
        }
        let mut environment = machine::servers_environment(&folder.join("home"));
        environment.push((TRACKING_VARIABLE.to_owned(), tracking_id(&job_id, attempt)));
        let isolation = isolation(shared, active.trust, &job_id, attempt);
        let mut bearer = bearer(active, trust, &job_id, attempt);
        // Its name may be another's by now.
        let is_named = text("repository") == kept.name;
        if may_identify && trust >= Trust::Member && !active.shadow && is_named {
            bearer.identity = Some(claims(&identity::Job {
                github: &github,
                environment: deploys_to.as_deref(),
                file: &file,
                trust,
                repository_id: active.repository.as_str(),
            }));
        } else if may_identify {
            let why = "the run is not trusted so far, is in the shadow, or its repository has another name now";
            notes.push(format!("No identity tokens: {why}"));
        }
        let services = Some(shared.services.access(&bearer, clock::now_ms()));
        let spec = JobSpec {
            workflow,
            workflow_path,
            job: job.id.clone(),
            name: job.name.clone(),
            github,
            matrix: context("matrix"),
            strategy: context("strategy"),
            needs: context("needs"),
            vars,
            inputs: context("inputs"),
            private: Private { secrets: Secrets(secrets), services },
            deploys_to,
            notes,
            environment,
            env: Vec::new(),
            actions: shared.config.actions.source(shared.data.actions(), pinned),
            engine: EngineAccess {
                socket: machine::engine(shared.config.containers.socket.as_ref()),
                mark: group(&job_id, attempt),
            },
            folder,
            source: Source {
                git_dir: shared.data.mirror(&active.repository),
                extra_objects: None,
                sha: active.tested.to_string(),
                git_ref: text("ref"),
                url: text("repositoryUrl"),
            },
            in_place: None,
            tool_cache: shared.data.tools(),
            isolation,
            image: shared.config.images.of(&job.labels, shared.data.images()),
            guarded: active.trust < Trust::Member,
            disk: machine::disk(&shared.config.sandbox),
            runner: machine::name(),
            idle_timeout_s: Some(shared.config.idle_timeout_s),
            keep_s: Some(shared.config.shell.keep_minutes.saturating_mul(60)).filter(|s| *s > 0),
        };
        Ok(Self { job_id, continue_on_error, attempt, spec })
    }

    /// Starts the supervisor; returns it and its spool, to be read.
    pub(super) fn spawn(&self, shared: &Shared) -> anyhow::Result<(Child, File)> {
        let folder = &self.spec.folder;
        fs::create_dir_all(folder.join("home")).context("cannot make the job's folder")?;
        let spec = folder.join("job.json");
        fs::write(&spec, serde_json::to_vec(&self.spec)?).context("cannot write the job")?;
        let log = shared.data.log(&self.job_id, self.attempt);
        let spool = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log)
            .context("cannot make the job's log")?;
        // The lock goes with the open file to the supervisor, and ends with it, however it ends.
        flock(&spool, FlockOperation::NonBlockingLockExclusive)
            .context("the job's log is in use")?;
        let nudge = shared.data.nudges().join(format!("job-{}", self.job_id));
        let mut control = control(folder).context("cannot make the job's control pipe")?;
        let private = serde_json::to_string(&self.spec.private)?;
        let order = format!("secrets {private}\n");
        // Nobody reads yet: what the pipe does not hold would be waited for.
        if order.len() > fcntl_getpipe_size(&control)? {
            fcntl_setpipe_size(&control, order.len())
                .context("its secrets are more than a pipe of this machine can hold")?;
        }
        control.write_all(order.as_bytes())?;
        let child = Program::new(OWN_PROGRAM)
            .arg("supervise")
            .arg("--nudge")
            .arg(nudge)
            .arg(&spec)
            .detach(control, spool)?;
        let spool = open_log(&log)?;
        Ok((child, spool))
    }
}

/// The secrets that a job gets, and what its log says of them.
struct Given {
    secrets: Vec<(String, String)>,
    notes: Vec<String>,
}

/// Opens the secrets that a job gets.
fn secrets(
    shared: &Shared,
    active: &ActiveRun,
    ground: Ground<'_>,
    place: usize,
    (kept, trust): (&Kept, Trust),
    environment: Option<&str>,
) -> Result<Given, Reason> {
    let stored = &kept.secrets;
    let mut notes = Vec::new();
    if active.shadow {
        if !stored.is_empty() {
            notes.push(
                "Secrets: none while the repository is in shadow, which `muster adopt` ends"
                    .to_owned(),
            );
        }
        return Ok(Given { secrets: Vec::new(), notes });
    }
    let open = |stored: &Stored| {
        let name = &stored.place.entry.name;
        let opened = shared.vault.open(&stored.place.seal(), &stored.value);
        let opened =
            opened.map_err(|error| Reason::new("secrets", format!("secret {name}: {error}")));
        Ok((name.clone(), opened?))
    };
    let opened = |environment| -> Result<Vec<_>, Reason> {
        chosen(stored, trust, environment).into_iter().map(open).collect()
    };
    // What its caller does not give on it does not have, but for those of its own environment.
    let mut secrets = active.run.secrets(place, ground, &opened(None)?)?;
    if environment.is_some() {
        for (name, value) in opened(environment)? {
            secrets.retain(|(known, _)| !known.eq_ignore_ascii_case(&name));
            secrets.push((name, value));
        }
    }
    if !secrets.is_empty() {
        let names: Vec<&str> = secrets.iter().map(|(name, _)| name.as_str()).collect();
        notes.push(format!("Secrets: {}", names.join(", ")));
    }
    // Strangers need not know what there would be.
    let withheld = not_given(stored, trust, environment);
    if trust >= Trust::Member && !withheld.is_empty() {
        let trust = trust.as_str();
        notes.push(format!(
            "Secrets not given to a run of trust `{trust}`: {}",
            withheld.join(", ")
        ));
    }
    Ok(Given { secrets, notes })
}

/// Returns for whom a job speaks to the services for actions.
fn bearer(active: &ActiveRun, trust: Trust, job_id: &str, attempt: i64) -> Bearer {
    let text = |pointer: &str| active.github.pointer(pointer).and_then(|value| value.as_str());
    let base = text("/base_ref").filter(|base| !base.is_empty());
    let base = base.map(|base| format!("refs/heads/{base}"));
    let default_branch = text("/event/repository/default_branch").unwrap_or("main");
    let own = text("/ref").unwrap_or_default();
    Bearer {
        run: active.id.to_string(),
        run_attempt: active.attempt,
        job: job_id.to_owned(),
        attempt,
        repository: active.repository.to_string(),
        caches: scopes(own, base.as_deref(), default_branch, trust),
        guest: trust < Trust::Member,
        identity: None,
    }
}

/// Decides what stands between a job and this machine.
fn isolation(shared: &Shared, trust: Trust, job_id: &str, attempt: i64) -> Isolation {
    let (wanted, missing) = match &shared.cageless {
        Some(why) if trust < Trust::Member && shared.config.approved_without_sandbox => {
            (IsolationConfig::None, Some(why.clone()))
        }
        // Also one that was let through when there was a sandbox, before a restart: it ends with the
        // reason.
        _ if trust < Trust::Member => (IsolationConfig::Sandbox, None),
        _ => (shared.config.isolation, None),
    };
    let config = &shared.config.sandbox;
    let group = group(job_id, attempt);
    let mut isolation = machine::isolation(wanted, config, trust, Host::Server, &group);
    let mark = |kit: &mut Kit| {
        let tracking = tracking_id(job_id, attempt);
        kit.environment.push((TRACKING_VARIABLE.to_owned(), tracking));
    };
    match &mut isolation {
        Isolation::None { why, guest } => {
            *why = missing;
            guest.iter_mut().for_each(|guest| mark(&mut guest.kit));
        }
        Isolation::Sandbox(cage) => mark(&mut cage.kit),
        Isolation::Auto { cage, guest } => {
            mark(&mut cage.kit);
            guest.iter_mut().for_each(|guest| mark(&mut guest.kit));
        }
    }
    isolation
}

/// Opens a log to read.
pub(super) fn open_log(path: &Path) -> anyhow::Result<File> {
    // One that was never made is that of a supervisor that never started.
    let open = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    open.with_context(|| format!("cannot open {}", path.display()))
}

fn control_path(folder: &Path) -> PathBuf {
    folder.join("control")
}

/// Makes the pipe through which a supervisor gets its orders. Open for both, it never ends.
fn control(folder: &Path) -> io::Result<File> {
    let path = control_path(folder);
    mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    OpenOptions::new().read(true).write(true).open(path)
}

/// Tells a supervisor to stop.
///
/// # Errors
///
/// When it is not there to hear it.
pub(super) fn order(folder: &Path, reason: &str) -> io::Result<()> {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let mut control =
        OpenOptions::new().write(true).custom_flags(nonblocking).open(control_path(folder))?;
    control.write_all(format!("cancel {}\n", reason.replace('\n', " ")).as_bytes())
}
