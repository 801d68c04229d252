//! The grammar of a workflow file as one table: what may stand where, and which contexts and functions an
//! expression may use there.
//!
//! The facts are those of GitHub's
//! [workflow syntax](https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax) and of
//! the schema in its own parser; `tests` compares the two, key by key.

use crate::expr::Scope;

/// What may stand at a place.
#[derive(Debug)]
pub(crate) struct Rule {
    /// What expressions may use from here on down; without one, what they may use further up. Where there
    /// is none up to the top, no expression may stand.
    pub(crate) scope: Option<Scope<'static>>,
    /// Any of these.
    pub(crate) shapes: &'static [Shape],
}

/// A form that a value may have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Null,
    Boolean,
    Number,
    /// Any scalar, as text.
    Text,
    /// A scalar that is not empty.
    Name,
    /// An expression with or without `${{ }}` around it.
    Condition,
    /// One of these words.
    Words(&'static [&'static str]),
    List(&'static Rule),
    Mapping(&'static Mapping),
    /// The name of an event.
    Event,
    /// Events and what is asked of each.
    Events,
    /// Anything at all.
    Any,
}

/// A mapping: its keys, and what stands under those that the file may choose.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// What it is, with its article, for messages.
    pub(crate) what: &'static str,
    pub(crate) keys: &'static [Key],
    pub(crate) others: Option<&'static Rule>,
}

/// A key of a mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) rule: &'static Rule,
    pub(crate) required: bool,
}

impl Mapping {
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const fn rule(shapes: &'static [Shape]) -> Rule {
    Rule { scope: None, shapes }
}

const fn within(scope: Scope<'static>, shapes: &'static [Shape]) -> Rule {
    Rule { scope: Some(scope), shapes }
}

const fn key(name: &'static str, rule: &'static Rule) -> Key {
    Key { name, rule, required: false }
}

const fn required(name: &'static str, rule: &'static Rule) -> Key {
    Key { name, rule, required: true }
}

const fn mapping(what: &'static str, keys: &'static [Key]) -> Mapping {
    Mapping { what, keys, others: None }
}

const fn map_of(what: &'static str, others: &'static Rule) -> Mapping {
    Mapping { what, keys: &[], others: Some(others) }
}

use Shape::{
    Any, Boolean, Condition, Event, Events, List, Mapping as Map, Name, Null, Number, Text, Words,
};

// Scopes.

const fn values(contexts: &'static [&'static str]) -> Scope<'static> {
    Scope { contexts, status_functions: false, hash_files: false }
}

/// Of the workflow itself.
const RUN: Scope<'static> = values(&["github", "inputs", "vars"]);
const RUN_WITH_SECRETS: Scope<'static> = values(&["github", "inputs", "vars", "secrets"]);
const RUN_WITH_JOBS: Scope<'static> = values(&["github", "inputs", "vars", "jobs"]);
/// Before a job has its legs.
const JOB: Scope<'static> = values(&["github", "inputs", "vars", "needs"]);
/// Of one leg.
const LEG: Scope<'static> = values(&["github", "inputs", "vars", "needs", "strategy", "matrix"]);
const LEG_WITH_SECRETS: Scope<'static> =
    values(&["github", "inputs", "vars", "needs", "strategy", "matrix", "secrets"]);
const LEG_WITH_ENV: Scope<'static> =
    values(&["github", "inputs", "vars", "needs", "strategy", "matrix", "env"]);
const CREDENTIALS: Scope<'static> = values(&["github", "inputs", "vars", "secrets", "env"]);
/// Where the job runs.
const RUNNER: Scope<'static> = values(&[
    "github", "inputs", "vars", "needs", "strategy", "matrix", "secrets", "steps", "job", "runner",
    "env",
]);
const RUNNER_WITHOUT_SECRETS: Scope<'static> = values(&[
    "github", "inputs", "vars", "needs", "strategy", "matrix", "steps", "job", "runner", "env",
]);
const STEP: Scope<'static> = Scope { hash_files: true, ..RUNNER };
const JOB_IF: Scope<'static> = Scope { status_functions: true, ..JOB };
const STEP_IF: Scope<'static> =
    Scope { hash_files: true, status_functions: true, ..RUNNER_WITHOUT_SECRETS };

// What many places share.

static ANY: Rule = rule(&[Any]);
static BOOLEAN: Rule = rule(&[Boolean]);
static NUMBER: Rule = rule(&[Number]);
static TEXT: Rule = rule(&[Text]);
static NAME: Rule = rule(&[Name]);
static TEXTS: Rule = rule(&[List(&TEXT)]);
static NAMES: Rule = rule(&[List(&NAME)]);
/// As the filters of events are.
pub(crate) static NAME_OR_NAMES: Rule = rule(&[Name, List(&NAME)]);
static LIST: Rule = rule(&[List(&ANY)]);

// The workflow.

pub(crate) static WORKFLOW: Rule = rule(&[Map(&ROOT)]);

static ROOT: Mapping = mapping(
    "a workflow",
    &[
        key("name", &TEXT),
        key("description", &TEXT),
        key("run-name", &RUN_NAME),
        required("on", &ON),
        key("permissions", &PERMISSIONS),
        key("env", &WORKFLOW_ENV),
        key("defaults", &WORKFLOW_DEFAULTS),
        key("concurrency", &WORKFLOW_CONCURRENCY),
        required("jobs", &JOBS),
    ],
);
static RUN_NAME: Rule = within(RUN, &[Text]);
static WORKFLOW_ENV: Rule = within(RUN_WITH_SECRETS, &[Map(&ENV)]);
static ENV: Mapping = map_of("`env`", &TEXT);
static WORKFLOW_DEFAULTS: Rule = rule(&[Map(&DEFAULTS)]);
static DEFAULTS: Mapping = mapping("`defaults`", &[key("run", &DEFAULTS_RUN)]);
static DEFAULTS_RUN: Rule = rule(&[Map(&RUN_DEFAULTS)]);
static RUN_DEFAULTS: Mapping =
    mapping("`defaults.run`", &[key("shell", &NAME), key("working-directory", &NAME)]);

static WORKFLOW_CONCURRENCY: Rule = within(RUN, &[Text, Map(&CONCURRENCY)]);
static JOB_CONCURRENCY: Rule = within(LEG, &[Name, Map(&CONCURRENCY)]);
static CONCURRENCY: Mapping = mapping(
    "`concurrency`",
    &[
        required("group", &NAME),
        key("cancel-in-progress", &BOOLEAN),
        key("queue", &CONCURRENCY_QUEUE),
    ],
);
static CONCURRENCY_QUEUE: Rule = rule(&[Words(&["single", "max"])]);

pub(crate) static PERMISSIONS: Rule = rule(&[Words(&["read-all", "write-all"]), Map(&SCOPES)]);
pub(crate) static SCOPES: Mapping = mapping(
    "`permissions`",
    &[
        key("actions", &LEVEL),
        key("artifact-metadata", &LEVEL),
        key("attestations", &LEVEL),
        key("checks", &LEVEL),
        key("code-quality", &LEVEL),
        key("contents", &LEVEL),
        key("copilot-requests", &WRITE),
        key("deployments", &LEVEL),
        key("discussions", &LEVEL),
        key("drives", &LEVEL),
        key("id-token", &WRITE),
        key("issues", &LEVEL),
        key("models", &READ),
        key("packages", &LEVEL),
        key("pages", &LEVEL),
        key("pull-requests", &LEVEL),
        key("repository-projects", &LEVEL),
        key("security-events", &LEVEL),
        key("statuses", &LEVEL),
        key("vulnerability-alerts", &READ),
    ],
);
static LEVEL: Rule = rule(&[Words(&["read", "write", "none"])]);
static READ: Rule = rule(&[Words(&["read", "none"])]);
static WRITE: Rule = rule(&[Words(&["write", "none"])]);

// `on`. The events and what each may carry are in `events`.

static ON: Rule = rule(&[Event, List(&EVENT), Events]);
static EVENT: Rule = rule(&[Event]);

pub(crate) static SCHEDULE: Rule = rule(&[List(&CRON)]);
static CRON: Rule = rule(&[Map(&CRON_KEYS)]);
static CRON_KEYS: Mapping =
    mapping("an item of `schedule`", &[required("cron", &NAME), key("timezone", &NAME)]);

/// The key for the activities of an event.
pub(crate) const TYPES: &str = "types";

pub(crate) static REPOSITORY_DISPATCH: Rule = rule(&[Null, Map(&REPOSITORY_DISPATCH_KEYS)]);
static REPOSITORY_DISPATCH_KEYS: Mapping =
    mapping("event `repository_dispatch`", &[key("types", &NAMES)]);

pub(crate) static WORKFLOW_DISPATCH: Rule = rule(&[Null, Map(&DISPATCH_KEYS)]);
static DISPATCH_KEYS: Mapping =
    mapping("event `workflow_dispatch`", &[key("inputs", &DISPATCH_INPUTS)]);
static DISPATCH_INPUTS: Rule = rule(&[Map(&DISPATCH_INPUTS_MAP)]);
static DISPATCH_INPUTS_MAP: Mapping = map_of("`inputs`", &DISPATCH_INPUT);
static DISPATCH_INPUT: Rule = rule(&[Null, Map(&DISPATCH_INPUT_KEYS)]);
static DISPATCH_INPUT_KEYS: Mapping = mapping(
    "an input",
    &[
        key("description", &TEXT),
        // GitHub takes any, and one that it does not know for a string.
        key("type", &NAME),
        key("required", &BOOLEAN),
        key("default", &SCALAR),
        key("options", &TEXTS),
    ],
);
static SCALAR: Rule = rule(&[Text, Boolean, Number]);

pub(crate) static WORKFLOW_CALL: Rule = rule(&[Null, Map(&CALL_KEYS)]);
static CALL_KEYS: Mapping = mapping(
    "event `workflow_call`",
    &[key("inputs", &CALL_INPUTS), key("secrets", &CALL_SECRETS), key("outputs", &CALL_OUTPUTS)],
);
static CALL_INPUTS: Rule = rule(&[Map(&CALL_INPUTS_MAP)]);
static CALL_INPUTS_MAP: Mapping = map_of("`inputs`", &CALL_INPUT);
static CALL_INPUT: Rule = rule(&[Map(&CALL_INPUT_KEYS)]);
static CALL_INPUT_KEYS: Mapping = mapping(
    "an input",
    &[
        key("description", &TEXT),
        required("type", &CALL_INPUT_TYPE),
        key("required", &BOOLEAN),
        key("default", &CALL_INPUT_DEFAULT),
    ],
);
static CALL_INPUT_TYPE: Rule = rule(&[Words(&["string", "boolean", "number"])]);
static CALL_INPUT_DEFAULT: Rule = within(RUN, &[Text, Boolean, Number]);
static CALL_SECRETS: Rule = rule(&[Map(&CALL_SECRETS_MAP)]);
static CALL_SECRETS_MAP: Mapping = map_of("`secrets`", &CALL_SECRET);
static CALL_SECRET: Rule = rule(&[Null, Map(&CALL_SECRET_KEYS)]);
static CALL_SECRET_KEYS: Mapping =
    mapping("a secret", &[key("description", &TEXT), key("required", &BOOLEAN)]);
static CALL_OUTPUTS: Rule = rule(&[Map(&CALL_OUTPUTS_MAP)]);
static CALL_OUTPUTS_MAP: Mapping = map_of("`outputs`", &CALL_OUTPUT);
static CALL_OUTPUT: Rule = rule(&[Map(&CALL_OUTPUT_KEYS)]);
static CALL_OUTPUT_KEYS: Mapping =
    mapping("an output", &[key("description", &TEXT), required("value", &CALL_OUTPUT_VALUE)]);
static CALL_OUTPUT_VALUE: Rule = within(RUN_WITH_JOBS, &[Text]);

// Jobs.

static JOBS: Rule = rule(&[Map(&JOBS_MAP)]);
static JOBS_MAP: Mapping = map_of("`jobs`", &JOB_RULE);
static JOB_RULE: Rule = rule(&[Map(&JOB_KEYS), Map(&CALLING_JOB_KEYS)]);
static JOB_KEYS: Mapping = mapping(
    "a job",
    &[
        key("name", &LEG_TEXT),
        key("needs", &NEEDS),
        key("if", &JOB_CONDITION),
        key("permissions", &PERMISSIONS),
        required("runs-on", &RUNS_ON),
        key("environment", &ENVIRONMENT),
        key("concurrency", &JOB_CONCURRENCY),
        key("outputs", &OUTPUTS),
        key("env", &JOB_ENV),
        key("defaults", &JOB_DEFAULTS),
        key("steps", &STEPS),
        key("timeout-minutes", &LEG_NUMBER),
        key("cancel-timeout-minutes", &LEG_NUMBER),
        key("strategy", &STRATEGY),
        key("continue-on-error", &LEG_BOOLEAN),
        key("container", &CONTAINER),
        key("services", &SERVICES),
        key("snapshot", &SNAPSHOT),
    ],
);
static CALLING_JOB_KEYS: Mapping = mapping(
    "a job that calls a workflow",
    &[
        key("name", &LEG_TEXT),
        key("needs", &NEEDS),
        key("if", &JOB_CONDITION),
        key("permissions", &PERMISSIONS),
        required("uses", &NAME),
        key("with", &CALL_WITH),
        key("secrets", &SECRETS),
        key("concurrency", &JOB_CONCURRENCY),
        key("strategy", &STRATEGY),
    ],
);
static LEG_TEXT: Rule = within(LEG, &[Text]);
static LEG_NUMBER: Rule = within(LEG, &[Number]);
static LEG_BOOLEAN: Rule = within(LEG, &[Boolean]);
static NEEDS: Rule = rule(&[List(&NAME), Name]);
static JOB_CONDITION: Rule = within(JOB_IF, &[Condition]);

static CALL_WITH: Rule = rule(&[Map(&CALL_WITH_MAP)]);
static CALL_WITH_MAP: Mapping = map_of("`with`", &CALL_WITH_VALUE);
static CALL_WITH_VALUE: Rule = within(LEG, &[Text, Boolean, Number]);
static SECRETS: Rule = rule(&[Words(&["inherit"]), Map(&SECRETS_MAP)]);
static SECRETS_MAP: Mapping = map_of("`secrets`", &SECRET_VALUE);
static SECRET_VALUE: Rule = within(LEG_WITH_SECRETS, &[Text, Boolean, Number]);

static STRATEGY: Rule = within(JOB, &[Map(&STRATEGY_KEYS)]);
static STRATEGY_KEYS: Mapping = mapping(
    "`strategy`",
    &[key("fail-fast", &BOOLEAN), key("max-parallel", &NUMBER), key("matrix", &MATRIX)],
);
static MATRIX: Rule = rule(&[Map(&MATRIX_KEYS)]);
static MATRIX_KEYS: Mapping = Mapping {
    what: "`matrix`",
    keys: &[key("include", &COMBINATIONS), key("exclude", &COMBINATIONS)],
    others: Some(&LIST),
};
static COMBINATIONS: Rule = rule(&[List(&COMBINATION)]);
static COMBINATION: Rule = rule(&[Map(&COMBINATION_MAP)]);
static COMBINATION_MAP: Mapping = map_of("a combination", &ANY);

static SNAPSHOT: Rule = rule(&[Name, Map(&SNAPSHOT_KEYS)]);
static SNAPSHOT_KEYS: Mapping = mapping(
    "`snapshot`",
    &[required("image-name", &NAME), key("if", &SNAPSHOT_CONDITION), key("version", &NAME)],
);
static SNAPSHOT_CONDITION: Rule = within(LEG, &[Condition]);

static RUNS_ON: Rule = within(LEG, &[Name, List(&NAME), Map(&RUNS_ON_KEYS)]);
static RUNS_ON_KEYS: Mapping =
    mapping("`runs-on`", &[key("group", &NAME), key("labels", &NAME_OR_NAMES)]);
static JOB_ENV: Rule = within(LEG_WITH_SECRETS, &[Map(&ENV)]);
static ENVIRONMENT: Rule = within(LEG, &[Text, Map(&ENVIRONMENT_KEYS)]);
static ENVIRONMENT_KEYS: Mapping = mapping(
    "`environment`",
    &[required("name", &LEG_TEXT), key("url", &ENVIRONMENT_URL), key("deployment", &BOOLEAN)],
);
static ENVIRONMENT_URL: Rule = within(RUNNER_WITHOUT_SECRETS, &[Text]);
static JOB_DEFAULTS: Rule = rule(&[Map(&JOB_DEFAULTS_KEYS)]);
static JOB_DEFAULTS_KEYS: Mapping = mapping("`defaults`", &[key("run", &JOB_DEFAULTS_RUN)]);
static JOB_DEFAULTS_RUN: Rule = within(LEG_WITH_ENV, &[Map(&RUN_DEFAULTS)]);
static OUTPUTS: Rule = rule(&[Map(&OUTPUTS_MAP)]);
static OUTPUTS_MAP: Mapping = map_of("`outputs`", &RUNNER_TEXT);
static RUNNER_TEXT: Rule = within(RUNNER, &[Text]);

static CONTAINER: Rule = within(LEG, &[Text, Map(&CONTAINER_KEYS)]);
static CONTAINER_KEYS: Mapping = mapping(
    "`container`",
    &[
        key("image", &NAME),
        key("options", &TEXT),
        key("env", &CONTAINER_ENV),
        key("ports", &NAMES),
        key("volumes", &NAMES),
        key("credentials", &CREDENTIALS_RULE),
    ],
);
static CONTAINER_ENV: Rule = rule(&[Map(&CONTAINER_ENV_MAP)]);
static CONTAINER_ENV_MAP: Mapping = map_of("`env`", &RUNNER_TEXT);
static CREDENTIALS_RULE: Rule = within(CREDENTIALS, &[Map(&CREDENTIALS_KEYS)]);
static CREDENTIALS_KEYS: Mapping =
    mapping("`credentials`", &[key("username", &NAME), key("password", &NAME)]);
static SERVICES: Rule = within(LEG, &[Map(&SERVICES_MAP)]);
static SERVICES_MAP: Mapping = map_of("`services`", &SERVICE);
static SERVICE: Rule = within(LEG, &[Name, Map(&SERVICE_KEYS)]);
static SERVICE_KEYS: Mapping = mapping(
    "a service",
    &[
        key("image", &NAME),
        key("options", &TEXT),
        key("env", &CONTAINER_ENV),
        key("ports", &NAMES),
        key("volumes", &NAMES),
        key("credentials", &CREDENTIALS_RULE),
        key("entrypoint", &TEXT),
        key("command", &TEXT),
    ],
);

// Steps.

static STEPS: Rule = rule(&[List(&STEP_RULE)]);
static STEP_RULE: Rule = rule(&[
    Map(&RUN_STEP),
    Map(&USES_STEP),
    Map(&WAIT_STEP),
    Map(&WAIT_ALL_STEP),
    Map(&CANCEL_STEP),
    Map(&PARALLEL_STEP),
]);
static RUN_STEP: Mapping = mapping(
    "a step with `run`",
    &[
        key("name", &STEP_TEXT),
        key("id", &NAME),
        key("if", &STEP_CONDITION),
        key("timeout-minutes", &STEP_NUMBER),
        required("run", &STEP_TEXT),
        key("continue-on-error", &STEP_BOOLEAN),
        key("env", &STEP_ENV),
        key("working-directory", &STEP_TEXT),
        key("shell", &NAME),
        key("background", &BOOLEAN),
    ],
);
static USES_STEP: Mapping = mapping(
    "a step with `uses`",
    &[
        key("name", &STEP_TEXT),
        key("id", &NAME),
        key("if", &STEP_CONDITION),
        key("continue-on-error", &STEP_BOOLEAN),
        key("timeout-minutes", &STEP_NUMBER),
        required("uses", &NAME),
        key("with", &STEP_WITH),
        key("env", &STEP_ENV),
        key("background", &BOOLEAN),
    ],
);
static WAIT_STEP: Mapping = mapping(
    "a step with `wait`",
    &[
        key("name", &STEP_TEXT),
        key("id", &NAME),
        key("continue-on-error", &STEP_BOOLEAN),
        required("wait", &NAME_OR_NAMES),
    ],
);
static WAIT_ALL_STEP: Mapping = mapping(
    "a step with `wait-all`",
    &[
        key("name", &STEP_TEXT),
        key("id", &NAME),
        key("continue-on-error", &STEP_BOOLEAN),
        required("wait-all", &WAIT_ALL),
    ],
);
static WAIT_ALL: Rule = rule(&[Null, Boolean]);
static CANCEL_STEP: Mapping = mapping(
    "a step with `cancel`",
    &[
        key("name", &STEP_TEXT),
        key("id", &NAME),
        key("continue-on-error", &STEP_BOOLEAN),
        required("cancel", &NAME),
    ],
);
static PARALLEL_STEP: Mapping = mapping("a step with `parallel`", &[required("parallel", &STEPS)]);
static STEP_TEXT: Rule = within(STEP, &[Text]);
static STEP_NUMBER: Rule = within(STEP, &[Number]);
static STEP_BOOLEAN: Rule = within(STEP, &[Boolean]);
static STEP_CONDITION: Rule = within(STEP_IF, &[Condition]);
static STEP_ENV: Rule = within(STEP, &[Map(&ENV)]);
static STEP_WITH: Rule = within(STEP, &[Map(&WITH)]);
static WITH: Mapping = map_of("`with`", &TEXT);

#[cfg(test)]
mod tests;
