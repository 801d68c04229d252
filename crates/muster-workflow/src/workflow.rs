//! A workflow file as a typed tree: what the reader makes and the planner and runner use.

use crate::diagnostic::Span;
use crate::expr::{Contexts, EvalError, Value};
use crate::pattern::Filter;
use crate::template::{Condition, Template};
use crate::text::one_line;

/// A workflow file that muster can run.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// `name`; without one the file's path stands for it.
    pub name: Option<String>,
    /// `run-name`.
    pub run_name: Option<Template>,
    /// `on`: the events that start it.
    pub triggers: Vec<Trigger>,
    /// `env`.
    pub env: Env,
    /// `defaults.run`.
    pub defaults: Defaults,
    /// `permissions`, recorded as written: nothing is granted yet.
    pub permissions: Option<Value>,
    /// `concurrency`.
    pub concurrency: Option<Concurrency>,
    /// `jobs`, in the order of the file.
    pub jobs: Vec<Job>,
}

impl Workflow {
    /// Returns the job called `id`.
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id.eq_ignore_ascii_case(id))
    }
}

/// One event of `on`.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// The event's name, such as `push`.
    pub event: String,
    /// Where it stands.
    pub span: Span,
    /// `types`: the activities; `None` means the event's default ones.
    pub types: Option<Vec<String>>,
    /// `branches` or `branches-ignore`.
    pub branches: Option<Filter>,
    /// `tags` or `tags-ignore`.
    pub tags: Option<Filter>,
    /// `paths` or `paths-ignore`.
    pub paths: Option<Filter>,
}

/// Environment variables in their order.
pub type Env = Vec<(String, Template)>;

/// `defaults.run`.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// `shell`.
    pub shell: Option<Template>,
    /// `working-directory`.
    pub working_directory: Option<Template>,
}

/// `concurrency`.
#[derive(Debug, Clone)]
pub struct Concurrency {
    /// `group`.
    pub group: Template,
    /// `cancel-in-progress`.
    pub cancel_in_progress: Setting<bool>,
}

/// A value that is written down, or computed when it is needed.
#[derive(Debug, Clone)]
pub enum Setting<T> {
    /// Written in the file.
    Fixed(T),
    /// An expression.
    Computed(Template),
}

impl Setting<bool> {
    /// Returns the flag.
    ///
    /// # Errors
    ///
    /// As for [`crate::expr::Expr::evaluate`].
    pub fn get(&self, contexts: &Contexts) -> Result<bool, EvalError> {
        match self {
            Self::Fixed(flag) => Ok(*flag),
            Self::Computed(template) => Ok(template.evaluate(contexts)?.is_truthy()),
        }
    }
}

impl Setting<f64> {
    /// Returns the number; NaN where the expression gives none.
    ///
    /// # Errors
    ///
    /// As for [`crate::expr::Expr::evaluate`].
    pub fn get(&self, contexts: &Contexts) -> Result<f64, EvalError> {
        match self {
            Self::Fixed(number) => Ok(*number),
            Self::Computed(template) => Ok(template.evaluate(contexts)?.to_number()),
        }
    }
}

/// A job as written: one job of a run, or one for each leg of its matrix.
#[derive(Debug, Clone)]
pub struct Job {
    /// The key under `jobs`.
    pub id: String,
    /// Where the key stands.
    pub span: Span,
    /// `name`.
    pub name: Option<Template>,
    /// `needs`: ids of jobs that must end first.
    pub needs: Vec<String>,
    /// `if`.
    pub condition: Option<Condition>,
    /// `runs-on`: labels that the runner must bear.
    pub runs_on: Vec<Template>,
    /// `env`.
    pub env: Env,
    /// `defaults.run`.
    pub defaults: Defaults,
    /// `permissions`, recorded as written.
    pub permissions: Option<Value>,
    /// `concurrency`.
    pub concurrency: Option<Concurrency>,
    /// `strategy`.
    pub strategy: Strategy,
    /// `outputs`.
    pub outputs: Vec<(String, Template)>,
    /// `timeout-minutes`; 360 where it is not given.
    pub timeout_minutes: Setting<f64>,
    /// `continue-on-error`.
    pub continue_on_error: Setting<bool>,
    /// `steps`.
    pub steps: Vec<Step>,
}

/// `strategy`.
#[derive(Debug, Clone)]
pub struct Strategy {
    /// `matrix`.
    pub matrix: Option<Matrix>,
    /// `fail-fast`.
    pub fail_fast: Setting<bool>,
}

/// `strategy.matrix`, all values written down.
#[derive(Debug, Clone, Default)]
pub struct Matrix {
    /// The vectors in the order of the file.
    pub vectors: Vec<(String, Vec<Value>)>,
    /// `include`.
    pub include: Vec<Vec<(String, Value)>>,
    /// `exclude`.
    pub exclude: Vec<Vec<(String, Value)>>,
}

/// A step.
#[derive(Debug, Clone)]
pub struct Step {
    /// `id`, or the one that GitHub generates (`__run`, `__run_2`, `__actions_checkout`).
    pub id: String,
    /// Where the step stands.
    pub span: Span,
    /// `name`.
    pub name: Option<Template>,
    /// `if`.
    pub condition: Option<Condition>,
    /// `env`.
    pub env: Env,
    /// `timeout-minutes`; no bound of its own where it is not given.
    pub timeout_minutes: Option<Setting<f64>>,
    /// `continue-on-error`.
    pub continue_on_error: Setting<bool>,
    /// What it does.
    pub action: Action,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Action {
    /// `run`.
    Run {
        /// The script.
        script: Template,
        /// `shell`.
        shell: Option<Template>,
        /// `working-directory`.
        working_directory: Option<Template>,
    },
    /// `uses: actions/checkout@…`, done natively.
    Checkout {
        /// The text of `uses`.
        uses: String,
        /// `with.ref`.
        git_ref: Option<Template>,
        /// `with.path`.
        path: Option<Template>,
        /// `with.fetch-depth`; 0 is all history.
        fetch_depth: Option<Template>,
        /// `with.persist-credentials`.
        persist_credentials: Option<Template>,
    },
}

impl Step {
    /// Returns the name that people see: `name`, else `Run …` as GitHub shows it.
    pub fn display_name(&self, contexts: &Contexts) -> String {
        if let Some(name) = &self.name {
            return one_line(&name.text(contexts).unwrap_or_else(|error| error.to_string()));
        }
        let shown = match &self.action {
            Action::Run { script, .. } => {
                let script = script.text(contexts).unwrap_or_default();
                let line = script.lines().map(str::trim).find(|line| !line.is_empty());
                format!("Run {}", line.unwrap_or_default())
            }
            Action::Checkout { uses, .. } => format!("Run {uses}"),
        };
        one_line(&shown)
    }
}
