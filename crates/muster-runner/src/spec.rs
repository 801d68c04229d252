//! What a runner is given, and what it says in return. All of it crosses a process boundary.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use muster_sys::usage::Usage;
use muster_workflow::uses::Uses;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::actions::check;
use crate::egress::Network;

/// Everything that is needed to run one job.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobSpec {
    /// The text of the workflow file, as it was planned from.
    pub workflow: String,
    /// The file's path in the repository.
    pub workflow_path: String,
    /// The key under `jobs`.
    pub job: String,
    /// The job's display name.
    pub name: String,
    /// The `github` context, but for what only the runner knows (workspace, paths of files).
    pub github: Json,
    /// The `matrix` context.
    pub matrix: Json,
    /// The `strategy` context.
    pub strategy: Json,
    /// The `needs` context.
    pub needs: Json,
    /// The `vars` context.
    pub vars: Json,
    /// The `inputs` context.
    #[serde(default)]
    pub inputs: Json,
    /// What is never written with the rest: the supervisor gets it by its orders.
    #[serde(skip)]
    pub private: Private,
    /// What it deploys to.
    #[serde(default)]
    pub deploys_to: Option<String>,
    /// What its log says first.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Variables that every step has, and the context `env`, unless the workflow sets them.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// The variables that every step has beside GitHub's: `PATH`, `HOME` and the like.
    pub environment: Vec<(String, String)>,
    /// Where the actions come from that are not in the workspace.
    #[serde(default)]
    pub actions: ActionSource,
    /// What makes its containers, where it wants any.
    #[serde(default)]
    pub engine: EngineAccess,
    /// The folder that belongs to this job alone; everything the job gets is made below it.
    pub folder: PathBuf,
    /// Where `actions/checkout` takes the commit from.
    pub source: Source,
    /// The work tree to run in, instead of a workspace that starts empty.
    pub in_place: Option<PathBuf>,
    /// Where tools are kept between jobs that run without a sandbox.
    pub tool_cache: PathBuf,
    /// What stands between the steps and this machine.
    pub isolation: Isolation,
    /// The image that stands for the machine it asks for, where this machine does not.
    #[serde(default)]
    pub image: Option<MachineImage>,
    /// Whether text that strangers wrote may not become part of a script: for code of those who may
    /// not push.
    pub guarded: bool,
    /// How much the job may have on disk, below its folder.
    pub disk: DiskLimits,
    /// The runner's name.
    pub runner: String,
    /// After so many seconds without output the job is ended; `None` is never.
    pub idle_timeout_s: Option<u64>,
    /// For so many seconds it is kept as it is when it has failed, for people to look around in it; `None` is not at all.
    #[serde(default)]
    pub keep_s: Option<u64>,
}

/// What of a job nobody else may see: its first order.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Private {
    /// The `secrets` context.
    pub secrets: Secrets,
    /// The services for actions, where the job can reach them.
    #[serde(default)]
    pub services: Option<ServiceAccess>,
}

/// The services for actions, such as artifacts and caches.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAccess {
    /// Where they are, with a slash at the end.
    pub url: String,
    /// What the job shows them.
    pub token: String,
    /// Where it gets identity tokens, if it may have any; there is a query in it already.
    #[serde(default)]
    pub identity_url: Option<String>,
}

impl ServiceAccess {
    /// Returns the address of this machine at which they are.
    pub fn address(&self) -> Option<SocketAddr> {
        self.url.strip_prefix("http://")?.strip_suffix('/')?.parse().ok()
    }
}

impl fmt::Debug for ServiceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// The container engine of this machine, Docker or Podman.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct EngineAccess {
    /// The socket at which it listens; looked for in the usual places where none is named.
    pub socket: Option<PathBuf>,
    /// What all bear that it makes for this attempt of the job, to be found by.
    pub mark: String,
}

/// Names and values that nobody may see. Shown, they are a count.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secrets(pub Vec<(String, String)>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// Where actions come from.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ActionSource {
    /// The folder that keeps their repositories.
    pub folder: PathBuf,
    /// The code host: repositories are below it, as `owner/name`.
    pub from: String,
    /// Folders in the place of repositories, by `owner/name` or `owner/name@ref`.
    pub given: Vec<(String, PathBuf)>,
    /// Which are muster's own.
    #[serde(default)]
    pub native: Native,
    /// The commits that refs are to be, by `owner/name@ref`: a run that is done again uses what it did.
    pub pinned: Vec<(String, String)>,
}

/// Which of the actions that muster brings with it take the place of others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Native {
    /// All.
    Always,
    /// Those that are not used at a commit: who names one wants that code.
    #[default]
    Unpinned,
    /// None.
    Never,
}

/// How much a job may have on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskLimits {
    /// MiB.
    pub mib: u64,
    /// Files and folders.
    pub files: u64,
}

/// An image that jobs of a label have for a machine: their root is a copy of it that goes with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineImage {
    /// The label of `runs-on` that it stands for.
    pub label: String,
    /// Where it comes from.
    pub source: ImageSource,
    /// The folder in which images are kept that were unpacked.
    pub kept: PathBuf,
}

/// Where the image of a machine comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageSource {
    /// A path on this machine: a folder that is a root, a layout of the Open Container Initiative, or an archive (tar)
    /// of either.
    Path(PathBuf),
    /// A name that the container engine pulls from a registry.
    Pulled(String),
}

impl fmt::Display for ImageSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Pulled(name) => write!(f, "docker://{name}"),
        }
    }
}

/// What stands between the steps of a job and the machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Isolation {
    /// Nothing; under root the steps are another user all the same, where one may be chosen.
    None {
        /// Why there is no sandbox, where one could be expected.
        why: Option<String>,
        /// What that other user gets; without it the steps are who the runner is.
        guest: Option<Lodging>,
    },
    /// A sandbox, or the job does not run.
    Sandbox(Cage),
    /// A sandbox where this machine can make one, else as [`Self::None`].
    Auto {
        /// The sandbox.
        cage: Cage,
        /// What the other user gets where there is no sandbox.
        guest: Option<Lodging>,
    },
}

/// What of this machine a job can work with that does not run as the runner does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kit {
    /// Variables in place of [`JobSpec::environment`]; their paths are as the steps see them.
    pub environment: Vec<(String, String)>,
    /// Folders with programs that are no part of the system.
    pub tools: Vec<Tool>,
    /// What its home starts with.
    pub home: Vec<Seed>,
}

/// What a job gets that runs without a sandbox as a user of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Lodging {
    /// What it can work with.
    pub kit: Kit,
    /// The name of its control group.
    pub group: String,
    /// A folder that it sees empty: the home of whoever runs the server.
    pub hidden: Option<PathBuf>,
    /// The most bytes of memory that its processes use together.
    pub memory_bytes: u64,
    /// The most processes and threads at once.
    pub processes: u32,
}

/// What a sandboxed job gets of this machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cage {
    /// The name of its control group.
    pub group: String,
    /// What it can work with.
    pub kit: Kit,
    /// What of the world it reaches.
    pub network: Network,
    /// The most bytes of memory that its processes use together.
    pub memory_bytes: u64,
    /// The most processes and threads at once.
    pub processes: u32,
    /// Whether a step cannot look into the processes of others: for jobs with secrets of protected refs.
    #[serde(default)]
    pub walls: bool,
}

/// A folder with programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Where it is on this machine.
    pub from: PathBuf,
    /// Where the steps see it.
    pub to: PathBuf,
    /// A path by which its programs call each other, that has to lead there too.
    pub known_as: Option<PathBuf>,
}

/// The home of a sandboxed job, as its steps see it.
pub const HOME: &str = "/home/runner";

/// The home of a job that runs without a sandbox as a user of its own, as its steps see it.
pub const LODGING: &str = "/run/muster/home";

/// Something that is in a job's home before its first step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Where, from the home on: names alone, each of which is made.
    pub path: PathBuf,
    /// What is there.
    pub content: Content,
}

/// What a job's home starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// A link to a path inside.
    Link(PathBuf),
    /// A file with this text.
    Text(String),
    /// A script with this text, which can be run.
    Script(String),
    /// A program of this machine, which the job may replace and not change.
    Program(PathBuf),
}

/// A repository on this machine and the commit that a run is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Source {
    /// The git directory. Only its objects and refs are read.
    pub git_dir: PathBuf,
    /// Objects that are not in it, such as a commit of uncommitted changes.
    pub extra_objects: Option<PathBuf>,
    /// The commit.
    pub sha: String,
    /// The ref that the commit was found at, such as `refs/heads/main`.
    pub git_ref: String,
    /// What `origin` is set to in the workspace.
    pub url: String,
}

impl JobSpec {
    /// Returns the run's own repository at its own commit, as actions are named.
    pub fn own_repository(&self) -> Uses {
        let name = self.github["repository"].as_str().unwrap_or_default();
        let known = Uses::read(&format!("{name}@{}", self.source.sha));
        let known = known.filter(|uses| check(uses).is_ok());
        // What is no `owner/name` is so here alone.
        known.unwrap_or_else(|| Uses::Repository {
            owner: "local".to_owned(),
            name: "repository".to_owned(),
            path: String::new(),
            git_ref: self.source.sha.clone(),
        })
    }

    /// Returns what stands between its steps and the machine, where anything does.
    pub(crate) fn cage(&self) -> Option<&Cage> {
        match &self.isolation {
            Isolation::None { .. } => None,
            Isolation::Sandbox(cage) | Isolation::Auto { cage, .. } => Some(cage),
        }
    }

    /// Returns the repository and commit that the workflow's file is of.
    pub fn home(&self) -> Uses {
        match Uses::read(&self.workflow_path) {
            Some(called @ Uses::Repository { .. }) => called,
            _ => self.own_repository(),
        }
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepConclusion {
    /// Its program ended with 0.
    Success,
    /// It did not.
    Failure,
    /// It was stopped.
    Cancelled,
    /// Its condition said no.
    Skipped,
}

impl StepConclusion {
    /// Returns the word that the `steps` context has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// A step started or finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StepEvent {
    /// It started.
    Started {
        /// Its place; 0 is the preparation, the steps of the file follow from 1.
        step: usize,
        /// Its display name.
        name: String,
        /// Milliseconds since 1970.
        at: i64,
    },
    /// It finished; a step that was skipped never started.
    Finished {
        /// Its place.
        step: usize,
        /// Its display name.
        name: String,
        /// What happened.
        outcome: StepConclusion,
        /// What it counts as, after `continue-on-error`.
        conclusion: StepConclusion,
        /// Milliseconds since 1970.
        at: i64,
        /// What its programs have used, where any has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        usage: Option<StepUsage>,
    },
    /// An action is used as it is at a commit; told in the preparation.
    Uses {
        /// Its repository and ref: `owner/name@ref`.
        uses: String,
        /// The commit.
        sha: String,
    },
    /// The job deploys to an environment.
    Environment {
        /// Its name.
        name: String,
        /// Where it can be seen, once that is known.
        url: Option<String>,
    },
    /// It wrote a summary in Markdown.
    Summary {
        /// Its place.
        step: usize,
        /// The text.
        markdown: String,
    },
    /// It told of a problem, or of something that people should see.
    Annotated {
        /// Its place.
        step: usize,
        /// What it told.
        annotation: Annotation,
    },
}

impl StepEvent {
    /// Returns the place of the step that it is about.
    pub fn place(&self) -> usize {
        match self {
            Self::Started { step, .. }
            | Self::Finished { step, .. }
            | Self::Summary { step, .. }
            | Self::Annotated { step, .. } => *step,
            Self::Uses { .. } | Self::Environment { .. } => 0,
        }
    }
}

/// What the programs of a step have used of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepUsage {
    /// Time of processors, in milliseconds.
    pub cpu_ms: u64,
    /// The most memory that one of its processes had at once, in bytes.
    pub memory_bytes: u64,
    /// What was read from disks, in bytes.
    pub read_bytes: u64,
    /// What was written for disks, in bytes.
    pub written_bytes: u64,
}

impl From<Usage> for StepUsage {
    fn from(usage: Usage) -> Self {
        Self {
            cpu_ms: u64::try_from(usage.cpu.as_millis()).unwrap_or(u64::MAX),
            memory_bytes: usage.memory,
            read_bytes: usage.read,
            written_bytes: usage.written,
        }
    }
}

/// What a step, or one of its tools, tells about the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Annotation {
    /// How grave it is.
    pub level: Level,
    /// What is to be said: at most 4,096 characters.
    pub message: String,
    /// A heading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The file that it is about, from the workspace on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_line: Option<u32>,
    /// The column, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The last column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_column: Option<u32>,
}

/// How grave an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It is worth knowing.
    Notice,
    /// It may be wrong.
    Warning,
    /// It is wrong.
    Error,
}

impl Level {
    /// Returns GitHub's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobResult {
    /// The verdict.
    pub conclusion: JobConclusion,
    /// Why, where the steps alone do not say it.
    pub reason: Option<String>,
    /// The job's outputs, in order.
    pub outputs: Vec<(String, String)>,
}

/// The verdict on a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobConclusion {
    /// Every step that ran is green, or may fail.
    Success,
    /// A step failed.
    Failure,
    /// It was told to stop.
    Cancelled,
    /// It took longer than its bound, or was silent for too long.
    TimedOut,
    /// It could not be prepared.
    Error,
}
