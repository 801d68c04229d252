//! What the expressions and the processes of a job can see.

use std::path::Path;
use std::sync::Arc;

use muster_workflow::expr::{Contexts, EvalError, Hashes, JobStatus, Object, Value};
use muster_workflow::uses::Uses;
use muster_workflow::workflow::Env;

use crate::ground::Places;
use crate::spec::{JobSpec, StepConclusion};

/// The keys of the `github` context that steps also have as variables, from GitHub's runner.
const GITHUB_VARIABLES: [&str; 33] = [
    "action",
    "action_path",
    "action_ref",
    "action_repository",
    "actor",
    "actor_id",
    "api_url",
    "base_ref",
    "event_name",
    "event_path",
    "graphql_url",
    "head_ref",
    "job",
    "ref",
    "ref_name",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "retention_days",
    "run_attempt",
    "run_id",
    "run_number",
    "server_url",
    "sha",
    "triggering_actor",
    "workflow",
    "workflow_ref",
    "workflow_sha",
    "workspace",
    "job_workflow_sha",
];

/// Where the `github` context says from which repository an action is, and at which ref.
const ACTION_NAMES: [&str; 2] = ["action_repository", "action_ref"];

/// The secret that is `github.token`, too.
const TOKEN: &str = "GITHUB_TOKEN";

/// The contexts of a job as it goes on.
#[derive(Debug, Clone)]
pub(crate) struct JobContexts {
    contexts: Contexts,
    github: Object,
    runner: Object,
    /// The context `job`, but for its status.
    job: Object,
    env: Object,
    steps: Object,
    /// The variables of the steps around, within a composite action.
    around: Object,
    /// Whether a step of a composite action runs.
    is_inside: bool,
    /// Whether all went well around it until then.
    was_well: bool,
    /// Whether strangers' text may not choose the names of variables.
    guarded: bool,
}

/// What the steps of a composite action have.
pub(crate) struct Inside {
    /// The context `inputs`.
    pub(crate) inputs: Object,
    /// The folder of the action, as the steps see it.
    pub(crate) action_path: String,
    /// The variables of the step that uses it.
    pub(crate) env: Vec<(String, String)>,
}

/// What is around a composite action whose steps run.
pub(crate) struct Outside {
    github: Object,
    inputs: Value,
    steps: Object,
    around: Object,
    is_inside: bool,
    was_well: bool,
    status: JobStatus,
    is_cancelled: bool,
}

impl JobContexts {
    pub(crate) fn new(spec: &JobSpec, places: &Places, is_debug: bool) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut github = object(&Value::from(&spec.github));
        github.insert("workspace", text(&places.workspace));
        github.insert("event_path", text(&places.event));
        github.insert("job", spec.job.as_str());
        let token =
            spec.private.secrets.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(TOKEN));
        github.insert("token", token.map(|(_, value)| value.as_str()).unwrap_or_default());
        let mut runner = Object::from_iter([
            ("name", spec.runner.clone()),
            ("os", "Linux".to_owned()),
            ("arch", arch().to_owned()),
            ("temp", text(&places.temp)),
            ("tool_cache", text(&places.tool_cache)),
            ("workspace", text(places.workspace.parent().unwrap_or(&places.workspace))),
            ("environment", "self-hosted".to_owned()),
        ]);
        if is_debug {
            runner.insert("debug", "1");
        }
        let mut contexts = Contexts::new();
        contexts.files = Some(Arc::default());
        contexts.set("github", github.clone());
        contexts.set("runner", runner.clone());
        for (name, json) in [
            ("matrix", &spec.matrix),
            ("strategy", &spec.strategy),
            ("needs", &spec.needs),
            ("vars", &spec.vars),
            ("inputs", &spec.inputs),
        ] {
            contexts.set(name, json);
        }
        contexts.set("secrets", spec.private.secrets.0.iter().cloned().collect::<Object>());
        let mut this = Self {
            contexts,
            github,
            runner,
            job: Object::new(),
            env: Object::new(),
            steps: Object::new(),
            around: Object::new(),
            is_inside: false,
            guarded: spec.guarded,
            was_well: true,
        };
        this.set_status(JobStatus::Success);
        this
    }

    /// Returns those of a step that is done in the background: as they are, whatever becomes of these.
    pub(crate) fn aside(&self) -> Self {
        let mut aside = self.clone();
        aside.contexts.files = Some(Arc::default());
        aside
    }

    /// Returns what `hashFiles` answers.
    pub(crate) fn files(&self) -> Arc<Hashes> {
        self.contexts.files.clone().unwrap_or_default()
    }

    /// Returns what an expression of the job can see now.
    pub(crate) fn view(&self) -> &Contexts {
        &self.contexts
    }

    /// Returns what an expression of a step can see, whose own variables are `env`.
    pub(crate) fn with_env(&self, env: &[(String, String)]) -> Contexts {
        let mut all = self.all_env();
        for (name, value) in env {
            all.insert(name.as_str(), value.as_str());
        }
        let mut contexts = self.contexts.clone();
        contexts.set("env", all);
        contexts
    }

    /// Returns the variables that all steps here have.
    fn all_env(&self) -> Object {
        let mut all = self.env.clone();
        for (name, value) in self.around.iter() {
            all.insert(name, value.clone());
        }
        all
    }

    /// Goes into a composite action: its steps have their own inputs and know of no others.
    pub(crate) fn enter(&mut self, inside: Inside) -> Outside {
        let outside = Outside {
            github: self.github.clone(),
            inputs: self.contexts.get("inputs").cloned().unwrap_or(Value::Null),
            steps: std::mem::take(&mut self.steps),
            around: self.around.clone(),
            is_inside: self.is_inside,
            was_well: self.was_well,
            status: self.contexts.status,
            is_cancelled: self.contexts.is_cancelled,
        };
        self.was_well = self.goes_well();
        self.github.insert("action_path", inside.action_path);
        for (name, value) in inside.env {
            self.around.insert(name.as_str(), value);
        }
        self.contexts.set("inputs", inside.inputs);
        self.is_inside = true;
        // How it goes is a matter of its own steps; that the job is cancelled is known inside, too.
        self.contexts.is_cancelled |= self.contexts.status == JobStatus::Cancelled;
        self.contexts.status = JobStatus::Success;
        self.github.insert("action_status", word(JobStatus::Success));
        self.show();
        outside
    }

    /// Comes out of a composite action, and returns how its steps went.
    pub(crate) fn leave(&mut self, outside: Outside) -> JobStatus {
        let status = self.contexts.status;
        let was_cancelled = outside.is_cancelled || outside.status == JobStatus::Cancelled;
        self.github = outside.github;
        self.steps = outside.steps;
        self.around = outside.around;
        self.is_inside = outside.is_inside;
        self.contexts.set("inputs", outside.inputs);
        self.was_well = outside.was_well;
        self.contexts.is_cancelled = outside.is_cancelled;
        // One that was cancelled meanwhile stays so.
        if status != JobStatus::Cancelled || was_cancelled {
            self.contexts.status = outside.status;
        }
        self.show();
        status
    }

    /// Shows to expressions what has changed.
    fn show(&mut self) {
        self.contexts.set("github", self.github.clone());
        self.contexts.set("steps", self.steps.clone());
        self.contexts.set("env", self.all_env());
    }

    /// Evaluates variables, each of which sees those before it in outer levels only.
    pub(crate) fn evaluate(&self, env: &Env) -> Result<Vec<(String, String)>, EvalError> {
        env.values(&self.contexts, self.guarded)
    }

    /// Sets variables for all that comes after.
    pub(crate) fn extend_env(&mut self, env: &[(String, String)]) {
        for (name, value) in env {
            self.env.insert(name.as_str(), value.as_str());
        }
        self.contexts.set("env", self.all_env());
    }

    /// Says what the job has beside its steps: `job.container` and `job.services`.
    pub(crate) fn set_containers(&mut self, container: Option<Object>, services: Object) {
        if let Some(container) = container {
            self.job.insert("container", container);
        }
        self.job.insert("services", services);
        self.set_status(self.contexts.status);
    }

    pub(crate) fn set_status(&mut self, status: JobStatus) {
        self.contexts.status = status;
        if self.is_inside {
            self.github.insert("action_status", word(status));
            self.contexts.set("github", self.github.clone());
        }
        if !self.is_inside || status == JobStatus::Cancelled {
            let mut job = self.job.clone();
            job.insert("status", word(status));
            self.contexts.set("job", job);
        }
    }

    /// Returns true when nothing has failed or was stopped, here or around it.
    pub(crate) fn goes_well(&self) -> bool {
        self.was_well && !self.contexts.is_cancelled && self.contexts.status == JobStatus::Success
    }

    /// Returns the variables of the steps around.
    pub(crate) fn around(&self) -> Vec<(String, String)> {
        self.around.iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect()
    }

    pub(crate) fn status(&self) -> JobStatus {
        self.contexts.status
    }

    /// Says from which repository the action is that runs now, and returns what was said before.
    pub(crate) fn name_action(&mut self, uses: Option<&Uses>) -> [String; 2] {
        let named = match uses {
            Some(Uses::Repository { owner, name, git_ref, .. }) => {
                [format!("{owner}/{name}"), git_ref.clone()]
            }
            _ => [String::new(), String::new()],
        };
        let before = self.action_names();
        self.restore_action(named);
        before
    }

    /// Returns from which repository the action is that runs now, and at which ref.
    pub(crate) fn action_names(&self) -> [String; 2] {
        ACTION_NAMES.map(|name| self.github.get(name).map(Value::to_string).unwrap_or_default())
    }

    /// Says again from which repository the action is.
    pub(crate) fn restore_action(&mut self, named: [String; 2]) {
        for (name, value) in ACTION_NAMES.into_iter().zip(named) {
            self.github.insert(name, value);
        }
        self.contexts.set("github", self.github.clone());
    }

    /// Names the step that runs now.
    pub(crate) fn set_action(&mut self, id: &str) {
        self.github.insert("action", id);
        self.contexts.set("github", self.github.clone());
    }

    /// Returns the id of the step that runs now.
    pub(crate) fn action(&self) -> String {
        self.github.get("action").map(Value::to_string).unwrap_or_default()
    }

    /// Records how the step `id` ended and what it said.
    pub(crate) fn end_step(
        &mut self,
        id: &str,
        outcome: StepConclusion,
        conclusion: StepConclusion,
        outputs: &[(String, String)],
    ) {
        let outputs: Object =
            outputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut step = Object::new();
        step.insert("outputs", outputs);
        step.insert("outcome", outcome.as_str());
        step.insert("conclusion", conclusion.as_str());
        self.steps.insert(id, step);
        self.contexts.set("steps", self.steps.clone());
    }

    /// Returns the variables of GitHub, the runner and all `env` so far, in the order they override.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("CI".to_owned(), "true".to_owned()),
            ("GITHUB_ACTIONS".to_owned(), "true".to_owned()),
        ];
        for name in GITHUB_VARIABLES {
            let value = self.github.get(name).map(Value::to_string).unwrap_or_default();
            variables.push((format!("GITHUB_{}", name.to_uppercase()), value));
        }
        for (name, value) in self.runner.iter() {
            variables.push((format!("RUNNER_{}", name.to_uppercase()), value.to_string()));
        }
        for (name, value) in self.all_env().iter() {
            variables.push((name.to_owned(), value.to_string()));
        }
        variables
    }
}

/// Returns the word that `job.status` has for it.
fn word(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Success | JobStatus::Skipped => "success",
        JobStatus::Failure => "failure",
        JobStatus::Cancelled => "cancelled",
    }
}

fn object(value: &Value) -> Object {
    match value {
        Value::Object(object) => object.as_ref().clone(),
        _ => Object::new(),
    }
}

/// Returns the machine's architecture as GitHub spells it.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "X64",
        "aarch64" => "ARM64",
        "arm" => "ARM",
        "x86" => "X86",
        other => other,
    }
}
