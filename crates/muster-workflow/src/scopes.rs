//! Which contexts and functions may stand at which key.
//!
//! From GitHub's
//! [context availability](https://docs.github.com/en/actions/reference/workflows-and-actions/contexts#context-availability).

use crate::expr::Scope;

impl Scope<'static> {
    /// All that GitHub has anywhere.
    pub const GITHUB: Self = Self {
        contexts: &[
            "github", "env", "vars", "job", "jobs", "steps", "runner", "secrets", "strategy",
            "matrix", "needs", "inputs",
        ],
        status_functions: true,
        hash_files: true,
    };
}

const fn values(contexts: &'static [&'static str]) -> Scope<'static> {
    Scope { contexts, status_functions: false, hash_files: false }
}

pub(crate) const RUN_NAME: Scope<'static> = values(&["github", "inputs", "vars"]);
pub(crate) const WORKFLOW_ENV: Scope<'static> = values(&["github", "secrets", "inputs", "vars"]);
pub(crate) const WORKFLOW_CONCURRENCY: Scope<'static> = RUN_NAME;
pub(crate) const STRATEGY: Scope<'static> = values(&["github", "needs", "vars", "inputs"]);
pub(crate) const JOB: Scope<'static> =
    values(&["github", "needs", "strategy", "matrix", "vars", "inputs"]);
pub(crate) const JOB_ENV: Scope<'static> =
    values(&["github", "needs", "strategy", "matrix", "vars", "secrets", "inputs"]);
pub(crate) const JOB_DEFAULTS: Scope<'static> =
    values(&["github", "needs", "strategy", "matrix", "env", "vars", "inputs"]);
pub(crate) const JOB_IF: Scope<'static> = Scope {
    contexts: &["github", "needs", "vars", "inputs"],
    status_functions: true,
    hash_files: false,
};
pub(crate) const JOB_OUTPUTS: Scope<'static> = values(&[
    "github", "needs", "strategy", "matrix", "job", "runner", "env", "vars", "secrets", "steps",
    "inputs",
]);
pub(crate) const STEP: Scope<'static> =
    Scope { contexts: JOB_OUTPUTS.contexts, status_functions: false, hash_files: true };
pub(crate) const STEP_IF: Scope<'static> = Scope {
    contexts: &[
        "github", "needs", "strategy", "matrix", "job", "runner", "env", "vars", "steps", "inputs",
    ],
    status_functions: true,
    hash_files: true,
};
