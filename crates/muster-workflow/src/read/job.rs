//! `jobs`.

use super::fields::Reader;
use crate::diagnostic::{Problem, Rule, Span};
use crate::expr::Scope;
use crate::matrix::MAX_LEGS;
use crate::scopes;
use crate::template::Template;
use crate::workflow::{Job, Setting, Strategy};
use crate::yaml::{Entry, Node, Yaml};

/// GitHub's bound where a job names none, in minutes.
const DEFAULT_TIMEOUT: f64 = 360.0;

const KEYS: [&str; 13] = [
    "name",
    "needs",
    "if",
    "runs-on",
    "permissions",
    "concurrency",
    "outputs",
    "env",
    "defaults",
    "strategy",
    "continue-on-error",
    "timeout-minutes",
    "steps",
];

const UNSUPPORTED: [&str; 8] = [
    "environment",
    "container",
    "services",
    "uses",
    "with",
    "secrets",
    "snapshot",
    "cancel-timeout-minutes",
];

impl Reader {
    pub(super) fn jobs(&mut self, node: &Node) -> Vec<Job> {
        let entries = self.mapping(node, "`jobs`").unwrap_or_default();
        if entries.is_empty() {
            self.invalid(node.span, "`jobs` is empty");
        }
        // A run may have no more, so what is beyond need not be read.
        if entries.len() > MAX_LEGS {
            let message = format!("`jobs` has {} jobs, more than {MAX_LEGS}", entries.len());
            self.invalid(node.span, message);
            return Vec::new();
        }
        self.declared = entries.iter().map(|entry| entry.key.to_ascii_lowercase()).collect();
        entries.iter().filter_map(|entry| self.job(entry)).collect()
    }

    fn job(&mut self, entry: &Entry) -> Option<Job> {
        let place = format!("job `{}`", entry.key);
        self.identifier(&entry.key, entry.key_span, "job");
        let entries = self.mapping(&entry.value, &place)?;
        let mut job = Job {
            id: entry.key.clone(),
            span: entry.key_span,
            name: None,
            needs: Vec::new(),
            condition: None,
            runs_on: Vec::new(),
            env: Vec::new(),
            defaults: Default::default(),
            permissions: None,
            concurrency: None,
            strategy: Strategy { matrix: None, fail_fast: Setting::Fixed(true) },
            outputs: Vec::new(),
            timeout_minutes: Setting::Fixed(DEFAULT_TIMEOUT),
            continue_on_error: Setting::Fixed(false),
            steps: Vec::new(),
        };
        for entry in entries {
            self.job_key(&mut job, entry, &place);
        }
        let has = |key: &str| entries.iter().any(|entry| entry.key == key);
        // A job that calls a workflow needs none; that key has been refused already.
        if !has("runs-on") && !has("uses") {
            self.invalid(entry.key_span, format!("{place} needs `runs-on`"));
        }
        Some(job)
    }

    fn job_key(&mut self, job: &mut Job, entry: &Entry, place: &str) {
        let node = &entry.value;
        match entry.key.as_str() {
            "name" if matches!(node.yaml, Yaml::Null) => {}
            "name" => job.name = self.planned(node, "`name`", scopes::JOB),
            "needs" => {
                job.needs = self.strings(node, "`needs`").into_iter().map(|(id, _)| id).collect();
            }
            "if" => job.condition = self.condition(node, scopes::JOB_IF),
            "runs-on" => job.runs_on = self.runs_on(node),
            "permissions" => job.permissions = self.permissions(node),
            "concurrency" => {
                self.unsupported(entry.key_span, "key `concurrency` of a job");
            }
            "outputs" => job.outputs = self.outputs(node),
            "env" => job.env = self.env(node, scopes::JOB_ENV),
            "defaults" => job.defaults = self.defaults(node, scopes::JOB_DEFAULTS),
            "strategy" => job.strategy = self.strategy(node),
            "continue-on-error" => {
                job.continue_on_error = self.flag(node, "`continue-on-error`", scopes::JOB);
            }
            "timeout-minutes" => {
                job.timeout_minutes = self.minutes(node, "`timeout-minutes`", scopes::JOB);
            }
            "steps" => job.steps = self.steps(node),
            _ => self.unknown_key(entry, place, &KEYS, &UNSUPPORTED),
        }
    }

    /// Reads a template whose value must be known when the run is planned.
    fn planned(&mut self, node: &Node, what: &str, scope: Scope<'_>) -> Option<Template> {
        let template = self.template(node, what, scope)?;
        if template.reads_context("needs") {
            self.unsupported(node.span, format!("context `needs` in {what} of a job"));
        }
        Some(template)
    }

    fn runs_on(&mut self, node: &Node) -> Vec<Template> {
        let nodes = match &node.yaml {
            Yaml::Mapping(_) => {
                self.unsupported(node.span, "`runs-on` with a group");
                return Vec::new();
            }
            Yaml::Sequence(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        nodes.iter().filter_map(|node| self.planned(node, "`runs-on`", scopes::JOB)).collect()
    }

    fn outputs(&mut self, node: &Node) -> Vec<(String, Template)> {
        let mut outputs = Vec::new();
        for entry in self.mapping(node, "`outputs`").unwrap_or_default() {
            self.identifier(&entry.key, entry.key_span, "output");
            let what = format!("output `{}`", entry.key);
            if let Some(value) = self.template(&entry.value, &what, scopes::JOB_OUTPUTS) {
                outputs.push((entry.key.clone(), value));
            }
        }
        outputs
    }

    /// Checks an id: `[A-Za-z_][A-Za-z0-9_-]*`, not starting with `__`, at most 100 characters.
    pub(super) fn identifier(&mut self, id: &str, span: Span, noun: &str) {
        let shaped = id.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if !shaped || id.starts_with("__") || id.len() > 100 {
            let message = format!(
                "`{id}` is no {noun} id: it must start with a letter or `_` (not `__`), hold only letters, digits, `-` and `_`, and have at most 100 characters"
            );
            self.problems.push(Problem::invalid(span, message).of(Rule::Id));
        }
    }
}
