//! What the expressions and the processes of a job can see.

use std::path::Path;

use muster_workflow::expr::{Contexts, EvalError, JobStatus, Object, Value};
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

/// The contexts of a job as it goes on.
#[derive(Debug)]
pub(crate) struct JobContexts {
    contexts: Contexts,
    github: Object,
    runner: Object,
    env: Object,
    steps: Object,
}

impl JobContexts {
    pub(crate) fn new(spec: &JobSpec, places: &Places) -> Self {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut github = object(&Value::from(&spec.github));
        github.insert("workspace", text(&places.workspace));
        github.insert("event_path", text(&places.event));
        github.insert("job", spec.job.as_str());
        let runner = Object::from_iter([
            ("name", spec.runner.clone()),
            ("os", "Linux".to_owned()),
            ("arch", arch().to_owned()),
            ("temp", text(&places.temp)),
            ("tool_cache", text(&places.tool_cache)),
            ("workspace", text(places.workspace.parent().unwrap_or(&places.workspace))),
            ("environment", "self-hosted".to_owned()),
        ]);
        let mut contexts = Contexts::new();
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
        let mut this = Self { contexts, github, runner, env: Object::new(), steps: Object::new() };
        this.set_status(JobStatus::Success);
        this
    }

    /// Returns what an expression of the job can see now.
    pub(crate) fn view(&self) -> &Contexts {
        &self.contexts
    }

    /// Returns what an expression of a step can see, whose own variables are `env`.
    pub(crate) fn with_env(&self, env: &[(String, String)]) -> Contexts {
        let mut all = self.env.clone();
        for (name, value) in env {
            all.insert(name.as_str(), value.as_str());
        }
        let mut contexts = self.contexts.clone();
        contexts.set("env", all);
        contexts
    }

    /// Evaluates variables, each of which sees those before it in outer levels only.
    pub(crate) fn evaluate(&self, env: &Env) -> Result<Vec<(String, String)>, EvalError> {
        env.iter().map(|(name, value)| Ok((name.clone(), value.text(&self.contexts)?))).collect()
    }

    /// Sets variables for all that comes after.
    pub(crate) fn extend_env(&mut self, env: &[(String, String)]) {
        for (name, value) in env {
            self.env.insert(name.as_str(), value.as_str());
        }
        self.contexts.set("env", self.env.clone());
    }

    pub(crate) fn set_status(&mut self, status: JobStatus) {
        self.contexts.status = status;
        let word = match status {
            JobStatus::Success | JobStatus::Skipped => "success",
            JobStatus::Failure => "failure",
            JobStatus::Cancelled => "cancelled",
        };
        self.contexts.set("job", Object::from_iter([("status", word)]));
    }

    pub(crate) fn status(&self) -> JobStatus {
        self.contexts.status
    }

    /// Names the step that runs now.
    pub(crate) fn set_action(&mut self, id: &str) {
        self.github.insert("action", id);
        self.contexts.set("github", self.github.clone());
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
        for (name, value) in self.env.iter() {
            variables.push((name.to_owned(), value.to_string()));
        }
        variables
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
