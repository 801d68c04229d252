//! The grammar of a workflow file as one table: what may stand where, and which contexts and functions an
//! expression may use there.
//!
//! The facts are those of GitHub's
//! [workflow syntax](https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax) and of
//! the schema in its own parser; `tests` compares the two, key by key.

use crate::diagnostic::Rule as Broken;
use crate::expr::Scope;
use crate::keys;

mod action;

pub(crate) use action::ACTION;

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
    /// What it is where it is not known yet which of several it is.
    pub(crate) class: Option<&'static str>,
    pub(crate) keys: &'static [Key],
    pub(crate) others: Option<&'static Rule>,
}

/// A key of a mapping.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) rule: &'static Rule,
    pub(crate) required: bool,
    /// The rule that is broken by what stands under it and does not fit; without one, that of what it is in.
    pub(crate) breaks: Option<Broken>,
}

impl Mapping {
    /// Says what it is, whichever of several it turns out to be.
    pub(crate) fn class(&self) -> &'static str {
        self.class.unwrap_or(self.what)
    }

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
    Key { name, rule, required: false, breaks: None }
}

const fn required(name: &'static str, rule: &'static Rule) -> Key {
    Key { name, rule, required: true, breaks: None }
}

const fn mapping(what: &'static str, keys: &'static [Key]) -> Mapping {
    Mapping { what, class: None, keys, others: None }
}

const fn step(what: &'static str, keys: &'static [Key]) -> Mapping {
    Mapping { what, class: Some("a step"), keys, others: None }
}

impl Key {
    /// Says which rule is broken by what stands under it and does not fit.
    const fn breaks(self, rule: Broken) -> Self {
        Self { breaks: Some(rule), ..self }
    }
}

const fn map_of(what: &'static str, others: &'static Rule) -> Mapping {
    Mapping { what, class: None, keys: &[], others: Some(others) }
}

use Shape::{
    Any, Boolean, Condition, Event, Events, List, Mapping as Map, Name, Null, Number, Text, Words,
};

// Scopes.

const fn values(contexts: &'static [&'static str]) -> Scope<'static> {
    Scope { contexts, ..Scope::NOTHING }
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
const JOB_IF: Scope<'static> = Scope { status_functions: true, status_takes_names: true, ..JOB };
const STEP_IF: Scope<'static> =
    Scope { hash_files: true, status_functions: true, ..RUNNER_WITHOUT_SECRETS };

// What many places share.

pub(crate) static ANY: Rule = rule(&[Any]);
static BOOLEAN: Rule = rule(&[Boolean]);
static NUMBER: Rule = rule(&[Number]);
pub(crate) static TEXT: Rule = rule(&[Text]);
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
        key(keys::NAME, &TEXT),
        key(keys::DESCRIPTION, &TEXT),
        key(keys::RUN_NAME, &RUN_NAME),
        required(keys::ON, &ON),
        key(keys::PERMISSIONS, &PERMISSIONS).breaks(Broken::Permissions),
        key(keys::ENV, &WORKFLOW_ENV),
        key(keys::DEFAULTS, &WORKFLOW_DEFAULTS),
        key(keys::CONCURRENCY, &WORKFLOW_CONCURRENCY),
        required(keys::JOBS, &JOBS),
    ],
);
static RUN_NAME: Rule = within(RUN, &[Text]);
static WORKFLOW_ENV: Rule = within(RUN_WITH_SECRETS, &[Map(&ENV)]);
static ENV: Mapping = map_of("`env`", &TEXT);
static WORKFLOW_DEFAULTS: Rule = rule(&[Map(&DEFAULTS)]);
static DEFAULTS: Mapping = mapping("`defaults`", &[key(keys::RUN, &DEFAULTS_RUN)]);
static DEFAULTS_RUN: Rule = rule(&[Map(&RUN_DEFAULTS)]);
static RUN_DEFAULTS: Mapping =
    mapping("`defaults.run`", &[key(keys::SHELL, &NAME), key(keys::WORKING_DIRECTORY, &NAME)]);

static WORKFLOW_CONCURRENCY: Rule = within(RUN, &[Text, Map(&CONCURRENCY)]);
static JOB_CONCURRENCY: Rule = within(LEG, &[Name, Map(&CONCURRENCY)]);
static CONCURRENCY: Mapping = mapping(
    "`concurrency`",
    &[
        required(keys::GROUP, &NAME),
        key(keys::CANCEL_IN_PROGRESS, &BOOLEAN),
        key(keys::QUEUE, &CONCURRENCY_QUEUE),
    ],
);
static CONCURRENCY_QUEUE: Rule = rule(&[Words(&["single", "max"])]);

pub(crate) static PERMISSIONS: Rule = rule(&[Words(&["read-all", "write-all"]), Map(&SCOPES)]);
pub(crate) static SCOPES: Mapping = mapping(
    "`permissions`",
    &[
        key(keys::ACTIONS, &LEVEL),
        key(keys::ARTIFACT_METADATA, &LEVEL),
        key(keys::ATTESTATIONS, &LEVEL),
        key(keys::CHECKS, &LEVEL),
        key(keys::CODE_QUALITY, &LEVEL),
        key(keys::CONTENTS, &LEVEL),
        key(keys::COPILOT_REQUESTS, &WRITE),
        key(keys::DEPLOYMENTS, &LEVEL),
        key(keys::DISCUSSIONS, &LEVEL),
        key(keys::DRIVES, &LEVEL),
        key(keys::ID_TOKEN, &WRITE),
        key(keys::ISSUES, &LEVEL),
        key(keys::MODELS, &READ),
        key(keys::PACKAGES, &LEVEL),
        key(keys::PAGES, &LEVEL),
        key(keys::PULL_REQUESTS, &LEVEL),
        key(keys::REPOSITORY_PROJECTS, &LEVEL),
        key(keys::SECURITY_EVENTS, &LEVEL),
        key(keys::STATUSES, &LEVEL),
        key(keys::VULNERABILITY_ALERTS, &READ),
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
    mapping("an item of `schedule`", &[required(keys::CRON, &NAME), key(keys::TIMEZONE, &NAME)]);

pub(crate) static REPOSITORY_DISPATCH: Rule = rule(&[Null, Map(&REPOSITORY_DISPATCH_KEYS)]);
static REPOSITORY_DISPATCH_KEYS: Mapping =
    mapping("event `repository_dispatch`", &[key(keys::TYPES, &NAMES)]);

pub(crate) static WORKFLOW_DISPATCH: Rule = rule(&[Null, Map(&DISPATCH_KEYS)]);
static DISPATCH_KEYS: Mapping =
    mapping("event `workflow_dispatch`", &[key(keys::INPUTS, &DISPATCH_INPUTS)]);
static DISPATCH_INPUTS: Rule = rule(&[Map(&DISPATCH_INPUTS_MAP)]);
static DISPATCH_INPUTS_MAP: Mapping = map_of("`inputs`", &DISPATCH_INPUT);
static DISPATCH_INPUT: Rule = rule(&[Null, Map(&DISPATCH_INPUT_KEYS)]);
static DISPATCH_INPUT_KEYS: Mapping = mapping(
    "an input",
    &[
        key(keys::DESCRIPTION, &TEXT),
        // GitHub takes any, and one that it does not know for a string.
        key(keys::TYPE, &NAME),
        key(keys::REQUIRED, &BOOLEAN),
        key(keys::DEFAULT, &SCALAR),
        key(keys::OPTIONS, &TEXTS),
    ],
);
static SCALAR: Rule = rule(&[Text, Boolean, Number]);

pub(crate) static WORKFLOW_CALL: Rule = rule(&[Null, Map(&CALL_KEYS)]);
static CALL_KEYS: Mapping = mapping(
    "event `workflow_call`",
    &[
        key(keys::INPUTS, &CALL_INPUTS),
        key(keys::SECRETS, &CALL_SECRETS),
        key(keys::OUTPUTS, &CALL_OUTPUTS),
    ],
);
static CALL_INPUTS: Rule = rule(&[Map(&CALL_INPUTS_MAP)]);
static CALL_INPUTS_MAP: Mapping = map_of("`inputs`", &CALL_INPUT);
static CALL_INPUT: Rule = rule(&[Map(&CALL_INPUT_KEYS)]);
static CALL_INPUT_KEYS: Mapping = mapping(
    "an input",
    &[
        key(keys::DESCRIPTION, &TEXT),
        required(keys::TYPE, &CALL_INPUT_TYPE),
        key(keys::REQUIRED, &BOOLEAN),
        key(keys::DEFAULT, &CALL_INPUT_DEFAULT),
    ],
);
static CALL_INPUT_TYPE: Rule = rule(&[Words(&["string", "boolean", "number"])]);
static CALL_INPUT_DEFAULT: Rule = within(RUN, &[Text, Boolean, Number]);
static CALL_SECRETS: Rule = rule(&[Map(&CALL_SECRETS_MAP)]);
static CALL_SECRETS_MAP: Mapping = map_of("`secrets`", &CALL_SECRET);
static CALL_SECRET: Rule = rule(&[Null, Map(&CALL_SECRET_KEYS)]);
static CALL_SECRET_KEYS: Mapping =
    mapping("a secret", &[key(keys::DESCRIPTION, &TEXT), key(keys::REQUIRED, &BOOLEAN)]);
static CALL_OUTPUTS: Rule = rule(&[Map(&CALL_OUTPUTS_MAP)]);
static CALL_OUTPUTS_MAP: Mapping = map_of("`outputs`", &CALL_OUTPUT);
static CALL_OUTPUT: Rule = rule(&[Map(&CALL_OUTPUT_KEYS)]);
static CALL_OUTPUT_KEYS: Mapping = mapping(
    "an output",
    &[key(keys::DESCRIPTION, &TEXT), required(keys::VALUE, &CALL_OUTPUT_VALUE)],
);
static CALL_OUTPUT_VALUE: Rule = within(RUN_WITH_JOBS, &[Text]);

// Jobs.

static JOBS: Rule = rule(&[Map(&JOBS_MAP)]);
static JOBS_MAP: Mapping = map_of("`jobs`", &JOB_RULE);
static JOB_RULE: Rule = rule(&[Map(&JOB_KEYS), Map(&CALLING_JOB_KEYS)]);
static JOB_KEYS: Mapping = mapping(
    "a job",
    &[
        key(keys::NAME, &LEG_TEXT),
        key(keys::NEEDS, &NEEDS),
        key(keys::IF, &JOB_CONDITION),
        key(keys::PERMISSIONS, &PERMISSIONS).breaks(Broken::Permissions),
        required(keys::RUNS_ON, &RUNS_ON),
        key(keys::ENVIRONMENT, &ENVIRONMENT),
        key(keys::CONCURRENCY, &JOB_CONCURRENCY),
        key(keys::OUTPUTS, &OUTPUTS),
        key(keys::ENV, &JOB_ENV),
        key(keys::DEFAULTS, &JOB_DEFAULTS),
        key(keys::STEPS, &STEPS),
        key(keys::TIMEOUT_MINUTES, &LEG_NUMBER),
        key(keys::CANCEL_TIMEOUT_MINUTES, &LEG_NUMBER),
        key(keys::STRATEGY, &STRATEGY),
        key(keys::CONTINUE_ON_ERROR, &LEG_BOOLEAN),
        key(keys::CONTAINER, &CONTAINER),
        key(keys::SERVICES, &SERVICES),
        key(keys::SNAPSHOT, &SNAPSHOT),
    ],
);
static CALLING_JOB_KEYS: Mapping = mapping(
    "a job that calls a workflow",
    &[
        key(keys::NAME, &LEG_TEXT),
        key(keys::NEEDS, &NEEDS),
        key(keys::IF, &JOB_CONDITION),
        key(keys::PERMISSIONS, &PERMISSIONS).breaks(Broken::Permissions),
        required(keys::USES, &NAME),
        key(keys::WITH, &CALL_WITH),
        key(keys::SECRETS, &SECRETS),
        key(keys::CONCURRENCY, &JOB_CONCURRENCY),
        key(keys::STRATEGY, &STRATEGY),
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
    &[key(keys::FAIL_FAST, &BOOLEAN), key(keys::MAX_PARALLEL, &NUMBER), key(keys::MATRIX, &MATRIX)],
);
static MATRIX: Rule = rule(&[Map(&MATRIX_KEYS)]);
static MATRIX_KEYS: Mapping = Mapping {
    what: "`matrix`",
    class: None,
    keys: &[key(keys::INCLUDE, &COMBINATIONS), key(keys::EXCLUDE, &COMBINATIONS)],
    others: Some(&LIST),
};
static COMBINATIONS: Rule = rule(&[List(&COMBINATION)]);
static COMBINATION: Rule = rule(&[Map(&COMBINATION_MAP)]);
static COMBINATION_MAP: Mapping = map_of("a combination", &ANY);

static SNAPSHOT: Rule = rule(&[Name, Map(&SNAPSHOT_KEYS)]);
static SNAPSHOT_KEYS: Mapping = mapping(
    "`snapshot`",
    &[
        required(keys::IMAGE_NAME, &NAME),
        key(keys::IF, &SNAPSHOT_CONDITION),
        key(keys::VERSION, &NAME),
    ],
);
static SNAPSHOT_CONDITION: Rule = within(LEG, &[Condition]);

static RUNS_ON: Rule = within(LEG, &[Name, List(&NAME), Map(&RUNS_ON_KEYS)]);
static RUNS_ON_KEYS: Mapping =
    mapping("`runs-on`", &[key(keys::GROUP, &NAME), key(keys::LABELS, &NAME_OR_NAMES)]);
static JOB_ENV: Rule = within(LEG_WITH_SECRETS, &[Map(&ENV)]);
static ENVIRONMENT: Rule = within(LEG, &[Text, Map(&ENVIRONMENT_KEYS)]);
static ENVIRONMENT_KEYS: Mapping = mapping(
    "`environment`",
    &[
        required(keys::NAME, &LEG_TEXT),
        key(keys::URL, &ENVIRONMENT_URL),
        key(keys::DEPLOYMENT, &BOOLEAN),
    ],
);
static ENVIRONMENT_URL: Rule = within(RUNNER_WITHOUT_SECRETS, &[Text]);
static JOB_DEFAULTS: Rule = rule(&[Map(&JOB_DEFAULTS_KEYS)]);
static JOB_DEFAULTS_KEYS: Mapping = mapping("`defaults`", &[key(keys::RUN, &JOB_DEFAULTS_RUN)]);
static JOB_DEFAULTS_RUN: Rule = within(LEG_WITH_ENV, &[Map(&RUN_DEFAULTS)]);
static OUTPUTS: Rule = rule(&[Map(&OUTPUTS_MAP)]);
static OUTPUTS_MAP: Mapping = map_of("`outputs`", &RUNNER_TEXT);
static RUNNER_TEXT: Rule = within(RUNNER, &[Text]);

static CONTAINER: Rule = within(LEG, &[Text, Map(&CONTAINER_KEYS)]);
static CONTAINER_KEYS: Mapping = mapping(
    "`container`",
    &[
        key(keys::IMAGE, &NAME),
        key(keys::OPTIONS, &TEXT),
        key(keys::ENV, &CONTAINER_ENV),
        key(keys::PORTS, &NAMES),
        key(keys::VOLUMES, &NAMES),
        key(keys::CREDENTIALS, &CREDENTIALS_RULE),
    ],
);
static CONTAINER_ENV: Rule = rule(&[Map(&CONTAINER_ENV_MAP)]);
static CONTAINER_ENV_MAP: Mapping = map_of("`env`", &RUNNER_TEXT);
static CREDENTIALS_RULE: Rule = within(CREDENTIALS, &[Map(&CREDENTIALS_KEYS)]);
static CREDENTIALS_KEYS: Mapping =
    mapping("`credentials`", &[key(keys::USERNAME, &NAME), key(keys::PASSWORD, &NAME)]);
static SERVICES: Rule = within(LEG, &[Map(&SERVICES_MAP)]);
static SERVICES_MAP: Mapping = map_of("`services`", &SERVICE);
static SERVICE: Rule = within(LEG, &[Name, Map(&SERVICE_KEYS)]);
static SERVICE_KEYS: Mapping = mapping(
    "a service",
    &[
        key(keys::IMAGE, &NAME),
        key(keys::OPTIONS, &TEXT),
        key(keys::ENV, &CONTAINER_ENV),
        key(keys::PORTS, &NAMES),
        key(keys::VOLUMES, &NAMES),
        key(keys::CREDENTIALS, &CREDENTIALS_RULE),
        key(keys::ENTRYPOINT, &TEXT),
        key(keys::COMMAND, &TEXT),
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
static RUN_STEP: Mapping = step(
    "a step with `run`",
    &[
        key(keys::NAME, &STEP_TEXT),
        key(keys::ID, &NAME),
        key(keys::IF, &STEP_CONDITION),
        key(keys::TIMEOUT_MINUTES, &STEP_NUMBER),
        required(keys::RUN, &STEP_TEXT),
        key(keys::CONTINUE_ON_ERROR, &STEP_BOOLEAN),
        key(keys::ENV, &STEP_ENV),
        key(keys::WORKING_DIRECTORY, &STEP_TEXT),
        key(keys::SHELL, &NAME),
        key(keys::BACKGROUND, &BOOLEAN),
    ],
);
static USES_STEP: Mapping = step(
    "a step with `uses`",
    &[
        key(keys::NAME, &STEP_TEXT),
        key(keys::ID, &NAME),
        key(keys::IF, &STEP_CONDITION),
        key(keys::CONTINUE_ON_ERROR, &STEP_BOOLEAN),
        key(keys::TIMEOUT_MINUTES, &STEP_NUMBER),
        required(keys::USES, &NAME),
        key(keys::WITH, &STEP_WITH),
        key(keys::ENV, &STEP_ENV),
        key(keys::BACKGROUND, &BOOLEAN),
    ],
);
static WAIT_STEP: Mapping = step(
    "a step with `wait`",
    &[
        key(keys::NAME, &STEP_TEXT),
        key(keys::ID, &NAME),
        key(keys::CONTINUE_ON_ERROR, &STEP_BOOLEAN),
        required(keys::WAIT, &NAME_OR_NAMES),
    ],
);
static WAIT_ALL_STEP: Mapping = step(
    "a step with `wait-all`",
    &[
        key(keys::NAME, &STEP_TEXT),
        key(keys::ID, &NAME),
        key(keys::CONTINUE_ON_ERROR, &STEP_BOOLEAN),
        required(keys::WAIT_ALL, &WAIT_ALL),
    ],
);
static WAIT_ALL: Rule = rule(&[Null, Boolean]);
static CANCEL_STEP: Mapping = step(
    "a step with `cancel`",
    &[
        key(keys::NAME, &STEP_TEXT),
        key(keys::ID, &NAME),
        key(keys::CONTINUE_ON_ERROR, &STEP_BOOLEAN),
        required(keys::CANCEL, &NAME),
    ],
);
static PARALLEL_STEP: Mapping = step("a step with `parallel`", &[required(keys::PARALLEL, &STEPS)]);
static STEP_TEXT: Rule = within(STEP, &[Text]);
static STEP_NUMBER: Rule = within(STEP, &[Number]);
static STEP_BOOLEAN: Rule = within(STEP, &[Boolean]);
static STEP_CONDITION: Rule = within(STEP_IF, &[Condition]);
static STEP_ENV: Rule = within(STEP, &[Map(&ENV)]);
static STEP_WITH: Rule = within(STEP, &[Map(&WITH)]);
static WITH: Mapping = map_of("`with`", &TEXT);

/// Returns the rule of a key of the workflow itself.
pub(crate) fn rule_of_workflow(key: &str) -> Option<&'static Rule> {
    ROOT.key(key).map(|key| key.rule)
}

/// Returns the rule of a key of a job of either kind.
pub(crate) fn rule_of_job(key: &str) -> Option<&'static Rule> {
    JOB_KEYS.key(key).or_else(|| CALLING_JOB_KEYS.key(key)).map(|key| key.rule)
}

/// Returns the rule of a key of a step of any kind.
pub(crate) fn rule_of_step(key: &str) -> Option<&'static Rule> {
    STEP_RULE.shapes.iter().find_map(|shape| match shape {
        Map(mapping) => mapping.key(key).map(|key| key.rule),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
