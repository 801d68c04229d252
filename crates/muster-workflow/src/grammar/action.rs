//! The grammar of the manifest of an action. Contexts and keys are those of the schema in GitHub's own runner.

use super::Shape::{Condition, List, Mapping as Map, Text};
use super::{
    ANY, BOOLEAN, ENV, Key, Mapping, NAME, Rule, Scope, TEXT, WITH, key, map_of, mapping, required,
    rule, step, values, within,
};
use crate::keys;

/// What an expression of a composite action sees: no secrets, and nothing of other jobs.
const INSIDE: Scope<'static> = Scope {
    hash_files: true,
    ..values(&["github", "inputs", "strategy", "matrix", "steps", "job", "runner", "env"])
};
const INSIDE_IF: Scope<'static> = Scope { status_functions: true, ..INSIDE };
/// Before the first step and after the last.
const HOOK_IF: Scope<'static> = Scope {
    hash_files: true,
    status_functions: true,
    ..values(&["github", "inputs", "strategy", "matrix", "job", "runner", "env"])
};
const OUTPUT: Scope<'static> = Scope { hash_files: false, ..INSIDE };
const DEFAULT: Scope<'static> =
    Scope { hash_files: true, ..values(&["github", "strategy", "matrix", "job", "runner"]) };
const CONTAINER: Scope<'static> = values(&["inputs"]);

/// A manifest.
pub(crate) static ACTION: Rule = rule(&[Map(&ROOT)]);

static ROOT: Mapping = Mapping {
    others: Some(&ANY),
    ..mapping(
        "an action",
        &[
            key(keys::NAME, &TEXT),
            key(keys::DESCRIPTION, &TEXT),
            key(keys::INPUTS, &INPUTS),
            required(keys::RUNS, &RUNS),
            key(keys::OUTPUTS, &OUTPUTS),
        ],
    )
};
static INPUTS: Rule = rule(&[Map(&INPUTS_MAP)]);
static INPUTS_MAP: Mapping = map_of("`inputs`", &INPUT);
static INPUT: Rule = rule(&[Map(&INPUT_KEYS)]);
static INPUT_KEYS: Mapping =
    Mapping { others: Some(&ANY), ..mapping("an input", &[key(keys::DEFAULT, &INPUT_DEFAULT)]) };
static INPUT_DEFAULT: Rule = within(DEFAULT, &[Text]);
static OUTPUTS: Rule = rule(&[Map(&OUTPUTS_MAP)]);
static OUTPUTS_MAP: Mapping = map_of("`outputs`", &OUTPUT_RULE);
static OUTPUT_RULE: Rule = rule(&[Map(&OUTPUT_KEYS)]);
static OUTPUT_KEYS: Mapping =
    mapping("an output", &[key(keys::DESCRIPTION, &TEXT), key(keys::VALUE, &OUTPUT_VALUE)]);
static OUTPUT_VALUE: Rule = within(OUTPUT, &[Text]);

static RUNS: Rule = rule(&[Map(&DOCKER), Map(&NODE), Map(&COMPOSITE)]);
const fn runs(what: &'static str, keys: &'static [Key]) -> Mapping {
    Mapping { class: Some("`runs`"), ..mapping(what, keys) }
}
static DOCKER: Mapping = runs(
    "a Docker action",
    &[
        required(keys::USING, &NAME),
        key(keys::IMAGE, &NAME),
        key(keys::ENTRYPOINT, &NAME),
        key(keys::ARGS, &ARGS),
        key(keys::ENV, &CONTAINER_ENV),
        key(keys::PRE_ENTRYPOINT, &NAME),
        key(keys::PRE_IF, &HOOK_CONDITION),
        key(keys::POST_ENTRYPOINT, &NAME),
        key(keys::POST_IF, &HOOK_CONDITION),
    ],
);
static ARGS: Rule = rule(&[List(&ARG)]);
static ARG: Rule = within(CONTAINER, &[Text]);
static CONTAINER_ENV: Rule = within(CONTAINER, &[Map(&ENV)]);
static NODE: Mapping = runs(
    "a JavaScript action",
    &[
        required(keys::USING, &NAME),
        key(keys::MAIN, &NAME),
        key(keys::PRE, &NAME),
        key(keys::PRE_IF, &HOOK_CONDITION),
        key(keys::POST, &NAME),
        key(keys::POST_IF, &HOOK_CONDITION),
    ],
);
static HOOK_CONDITION: Rule = within(HOOK_IF, &[Condition]);
static COMPOSITE: Mapping =
    runs("a composite action", &[required(keys::USING, &NAME), key(keys::STEPS, &STEPS)]);
static STEPS: Rule = rule(&[List(&STEP)]);
static STEP: Rule = rule(&[Map(&RUN_STEP), Map(&USES_STEP)]);
static RUN_STEP: Mapping = step(
    "a step with `run`",
    &[
        key(keys::NAME, &INSIDE_TEXT),
        key(keys::ID, &NAME),
        key(keys::IF, &INSIDE_CONDITION),
        required(keys::RUN, &INSIDE_TEXT),
        key(keys::ENV, &INSIDE_ENV),
        key(keys::CONTINUE_ON_ERROR, &INSIDE_BOOLEAN),
        key(keys::WORKING_DIRECTORY, &INSIDE_TEXT),
        required(keys::SHELL, &INSIDE_TEXT),
    ],
);
static USES_STEP: Mapping = step(
    "a step with `uses`",
    &[
        key(keys::NAME, &INSIDE_TEXT),
        key(keys::ID, &NAME),
        key(keys::IF, &INSIDE_CONDITION),
        required(keys::USES, &NAME),
        key(keys::CONTINUE_ON_ERROR, &INSIDE_BOOLEAN),
        key(keys::WITH, &INSIDE_WITH),
        key(keys::ENV, &INSIDE_ENV),
    ],
);
static INSIDE_TEXT: Rule = within(INSIDE, &[Text]);
static INSIDE_CONDITION: Rule = within(INSIDE_IF, &[Condition]);
static INSIDE_BOOLEAN: Rule = Rule { scope: Some(INSIDE), ..BOOLEAN };
static INSIDE_ENV: Rule = within(INSIDE, &[Map(&ENV)]);
static INSIDE_WITH: Rule = within(INSIDE, &[Map(&WITH)]);
