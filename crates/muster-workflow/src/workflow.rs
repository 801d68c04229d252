//! A workflow file as a typed tree: what the reader makes and the planner and runner use.

use serde::{Deserialize, Serialize};

use crate::container::Container;
use crate::diagnostic::{Problem, Span};
use crate::expr::{Contexts, EvalError, Expr, Value};
use crate::pattern::Filter;
use crate::permissions::Permissions;
use crate::strategy::Strategy;
use crate::template::{Condition, Template};
use crate::text::one_line;
use crate::uses::Uses;

/// A workflow file that is right for GitHub.
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
    /// `permissions`: nothing is granted yet.
    pub permissions: Option<Permissions>,
    /// `concurrency`.
    pub concurrency: Option<Concurrency>,
    /// `jobs`, in the order of the file.
    pub jobs: Vec<Job>,
    /// What of it muster cannot run yet; with any of it, it must not be run.
    pub unsupported: Vec<Problem>,
}

impl Workflow {
    /// Returns the job called `id`.
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id.eq_ignore_ascii_case(id))
    }

    /// Returns what a workflow that calls this one gives and gets; `None` where it cannot be called.
    pub fn interface(&self) -> Option<&Interface> {
        self.triggers.iter().find_map(|trigger| match &trigger.details {
            Details::Call(interface) => Some(interface),
            _ => None,
        })
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
    /// `branches` and `branches-ignore`: all must pass.
    pub branches: Vec<Filter>,
    /// `tags` and `tags-ignore`.
    pub tags: Vec<Filter>,
    /// `paths` and `paths-ignore`.
    pub paths: Vec<Filter>,
    /// What only this event can carry.
    pub details: Details,
}

/// What only some events carry.
#[derive(Debug, Clone)]
pub enum Details {
    /// Nothing more.
    None,
    /// `schedule`: when it runs.
    Schedule(Vec<Schedule>),
    /// `workflow_dispatch`: the inputs that people fill in.
    Dispatch(Vec<Input>),
    /// `workflow_call`: what the calling workflow gives and gets.
    Call(Interface),
    /// `workflow_run`: the names of the workflows that it follows.
    Follows(Vec<String>),
}

/// An item of `schedule`.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// `cron`: five fields, as POSIX has them.
    pub cron: String,
    /// `timezone`: a name of the IANA database; UTC without one.
    pub timezone: Option<String>,
    /// Where it stands.
    pub span: Span,
}

impl Workflow {
    /// Returns when it is scheduled.
    pub fn schedules(&self) -> impl Iterator<Item = &Schedule> {
        self.triggers.iter().flat_map(|trigger| match &trigger.details {
            Details::Schedule(times) => times.as_slice(),
            _ => &[],
        })
    }
}

/// What a workflow that is called takes and gives.
#[derive(Debug, Clone, Default)]
pub struct Interface {
    /// `inputs`.
    pub inputs: Vec<Input>,
    /// `secrets`: their names, and whether each is required.
    pub secrets: Vec<(String, bool)>,
    /// `outputs`.
    pub outputs: Vec<(String, Template)>,
}

/// An input of a workflow.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// `type`.
    pub kind: InputKind,
    /// `required`.
    pub required: bool,
    /// `default`.
    pub default: Option<Argument>,
    /// Where its name stands.
    pub span: Span,
}

impl InputKind {
    /// Returns true for a value that an input of this kind takes: what is computed shows when it is.
    pub fn takes(&self, value: &Argument) -> bool {
        match value {
            Argument::Computed(_) => true,
            Argument::Written { value, .. } => match self {
                Self::Boolean => matches!(value, Value::Bool(_)),
                Self::Number => matches!(value, Value::Number(_)),
                _ => true,
            },
        }
    }

    /// Returns true for a value that was computed and can be one of this kind.
    pub(crate) fn fits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Boolean, Value::Bool(_)) => true,
            (Self::Boolean, Value::String(text)) => {
                ["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word))
            }
            (Self::Boolean, _) => false,
            (Self::Number, value) => !value.to_number().is_nan(),
            _ => true,
        }
    }

    /// Returns the word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::Choice(_) => "choice",
            Self::Environment => "environment",
        }
    }
}

/// What is given to an input.
#[derive(Debug, Clone)]
pub enum Argument {
    /// Written in the file.
    Written {
        /// The value, of the kind that it is written as.
        value: Value,
        /// Where it stands.
        span: Span,
    },
    /// An expression.
    Computed(Template),
}

impl Argument {
    /// Returns where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Written { span, .. } => *span,
            Self::Computed(template) => template.span,
        }
    }

    /// Returns the value.
    ///
    /// # Errors
    ///
    /// As for [`crate::expr::Expr::evaluate`].
    pub fn get(&self, contexts: &Contexts) -> Result<Value, EvalError> {
        match self {
            Self::Written { value, .. } => Ok(value.clone()),
            Self::Computed(template) => template.evaluate(contexts),
        }
    }
}

/// What an input is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputKind {
    /// `string`, and what GitHub does not know.
    Text,
    /// `boolean`.
    Boolean,
    /// `number`.
    Number,
    /// `choice`: one of these.
    Choice(Vec<String>),
    /// `environment`: the name of one.
    Environment,
}

/// Environment variables.
#[derive(Debug, Clone)]
pub enum Env {
    /// Each for itself, in their order.
    Listed(Vec<(String, Template)>),
    /// One expression that gives all of them as an object.
    Computed(Template),
}

impl Default for Env {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl Env {
    /// Finds out their values, in their order; `guarded` says whether strangers' text may not choose their names.
    ///
    /// # Errors
    ///
    /// When one has no value, or what gives them all is no object of texts.
    pub fn values(
        &self,
        contexts: &Contexts,
        guarded: bool,
    ) -> Result<Vec<(String, String)>, EvalError> {
        let template = match self {
            Self::Listed(listed) => {
                let values = listed.iter();
                return values.map(|(name, it)| Ok((name.clone(), it.text(contexts)?))).collect();
            }
            Self::Computed(template) => template,
        };
        let wrong = |what: &str| EvalError::new(what.to_owned());
        if guarded && let Some(path) = template.reads_untrusted() {
            let what = format!("`{path}` holds text of a stranger, which would name variables");
            return Err(EvalError::new(what));
        }
        match template.evaluate(contexts)? {
            Value::Object(object) => object
                .iter()
                .map(|(name, value)| match value {
                    Value::Object(_) | Value::Array(_) => {
                        Err(wrong(&format!("`{}` must be a text", one_line(name))))
                    }
                    scalar => Ok((name.to_owned(), scalar.to_string())),
                })
                .collect(),
            _ => Err(wrong("the expression must give an object of names and texts")),
        }
    }

    fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Listed(listed) => listed.iter().map(|(_, value)| value).collect(),
            Self::Computed(template) => vec![template],
        }
    }
}

/// `defaults.run`.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// `shell`.
    pub shell: Option<Template>,
    /// `working-directory`.
    pub working_directory: Option<Template>,
}

/// GitHub's bound on the name of a concurrency group, in characters.
pub const MAX_GROUP: usize = 400;

/// `concurrency`.
#[derive(Debug, Clone)]
pub struct Concurrency {
    /// `group`.
    pub group: Template,
    /// `cancel-in-progress`.
    pub cancel_in_progress: Setting<bool>,
    /// `queue`.
    pub queue: Queue,
}

/// How many may wait in a concurrency group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queue {
    /// One: a newer one takes its place.
    #[default]
    Single,
    /// Up to a hundred, one after the other.
    Max,
}

impl Queue {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Max => "max",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Single, Self::Max].into_iter().find(|queue| queue.as_str() == word)
    }
}

/// `environment` of a job.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `name`; what is empty in the end is none.
    pub name: Template,
    /// `url`: where it can be seen, known once the job is over.
    pub url: Option<Template>,
}

/// A value that is written down, or computed when it is needed.
#[derive(Debug, Clone)]
pub enum Setting<T> {
    /// Written in the file.
    Fixed(T),
    /// An expression.
    Computed(Template),
}

impl<T> Setting<T> {
    fn calls_hash_files(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Computed(template) => template.expressions().any(Expr::calls_hash_files),
        }
    }
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
    /// `runs-on.group`: the group that the runner must be of.
    pub group: Option<Template>,
    /// `env`.
    pub env: Env,
    /// `defaults.run`.
    pub defaults: Defaults,
    /// `permissions`.
    pub permissions: Option<Permissions>,
    /// `concurrency`.
    pub concurrency: Option<Concurrency>,
    /// `environment`: what it deploys to.
    pub environment: Option<Environment>,
    /// `strategy`.
    pub strategy: Option<Strategy>,
    /// `uses`: the workflow that it calls. Such a job has no steps, and none of what is for them.
    pub call: Option<Call>,
    /// `outputs`.
    pub outputs: Vec<(String, Template)>,
    /// `timeout-minutes`; 360 where it is not given.
    pub timeout_minutes: Setting<f64>,
    /// `continue-on-error`.
    pub continue_on_error: Setting<bool>,
    /// `container`: where its steps run.
    pub container: Option<Container>,
    /// `services`: the containers beside it, by their names.
    pub services: Vec<(String, Container)>,
    /// `steps`.
    pub steps: Vec<Step>,
}

/// The workflow that a job calls.
#[derive(Debug, Clone)]
pub struct Call {
    /// `uses`, as it is written.
    pub uses: String,
    /// Where that stands.
    pub span: Span,
    /// `with`, each with its place.
    pub with: Vec<(String, Argument)>,
    /// `secrets`.
    pub secrets: CallSecrets,
}

/// The secrets that a workflow gets which is called.
#[derive(Debug, Clone)]
pub enum CallSecrets {
    /// `inherit`: all that the caller has.
    Inherit,
    /// These.
    Given(Vec<(String, Template)>),
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
    /// `background`: the job goes on beside it.
    pub background: bool,
    /// What it does.
    pub action: Action,
}

impl Step {
    /// Returns it, or those that run in parallel.
    pub fn alone(&self) -> &[Self] {
        match &self.action {
            Action::Parallel(steps) => steps,
            _ => std::slice::from_ref(self),
        }
    }

    /// Returns whether anything of it asks for the hash of files.
    pub fn calls_hash_files(&self) -> bool {
        let of_condition = self.condition.iter().flat_map(Condition::expressions);
        let mut all = self.texts().flat_map(Template::expressions).chain(of_condition);
        let is_asked = all.any(Expr::calls_hash_files);
        is_asked
            || self.continue_on_error.calls_hash_files()
            || self.timeout_minutes.as_ref().is_some_and(Setting::calls_hash_files)
    }

    /// Computes all that it says once, for what [`Contexts::files`] is asked meanwhile.
    pub fn ask(&self, contexts: &Contexts) {
        self.texts().for_each(|text| drop(text.text(contexts)));
        drop(self.condition.as_ref().map(|condition| condition.holds(contexts)));
        drop(self.continue_on_error.get(contexts));
        drop(self.timeout_minutes.as_ref().map(|minutes| minutes.get(contexts)));
    }

    fn texts(&self) -> impl Iterator<Item = &Template> {
        let texts = self.name.iter().chain(self.env.templates());
        let of_action: Vec<&Template> = match &self.action {
            Action::Run { script, shell, working_directory } => {
                [Some(script), shell.as_ref(), working_directory.as_ref()]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Action::Uses { with, .. } => with.iter().map(|(_, value)| value).collect(),
            Action::Wait(_) | Action::WaitAll | Action::Cancel(_) | Action::Parallel(_) => {
                Vec::new()
            }
        };
        texts.chain(of_action)
    }
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
    /// `uses`.
    Uses {
        /// What it names.
        uses: Uses,
        /// `with`.
        with: Vec<(String, Template)>,
    },
    /// `wait`: for these steps that run in the background.
    Wait(Vec<String>),
    /// `wait-all`.
    WaitAll,
    /// `cancel`: this step that runs in the background.
    Cancel(String),
    /// `parallel`: all of these at a time.
    Parallel(Vec<Step>),
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
            Action::Uses { uses, .. } => format!("Run {uses}"),
            Action::Wait(_) => "Wait".to_owned(),
            Action::WaitAll => "Wait for all".to_owned(),
            Action::Cancel(_) => "Cancel".to_owned(),
            Action::Parallel(_) => "Parallel".to_owned(),
        };
        one_line(&shown)
    }
}
