//! From a workflow and an event's contexts to the jobs of a run.

use crate::diagnostic::Problem;
use crate::expr::{Contexts, Object, Value};
use crate::strategy::{Legs, Strategy};
use crate::template::Template;
use crate::text::{cut, one_line};
use crate::workflow::{Job, Workflow};

/// How many jobs a run has at most. GitHub bounds those of one matrix alone; whoever runs them looks at each for each.
pub const MAX_JOBS: usize = 256;

/// GitHub's bound on a job's display name, in characters.
const MAX_NAME: usize = 100;

/// One job of a run: a job of the file, or one leg of its matrix.
#[derive(Debug, Clone)]
pub struct PlannedJob {
    /// The key under `jobs`.
    pub id: String,
    /// Which leg of the matrix, from 0, and how many there are.
    pub leg: usize,
    /// How many legs the job has; 1 without a matrix.
    pub legs: usize,
    /// The name that people and required checks know.
    pub name: String,
    /// The `matrix` context; null without a matrix.
    pub matrix: Value,
    /// Whether a failure cancels the other legs.
    pub fail_fast: bool,
    /// How many legs may run at a time.
    pub max_parallel: usize,
    /// The labels that the runner must bear.
    pub labels: Vec<String>,
    /// The jobs that must end first.
    pub needs: Vec<String>,
    /// Whether its legs, name or labels read what the jobs have said that it needs: it stands for all its legs
    /// until these have ended, and then [`legs`] makes them.
    pub is_open: bool,
    /// Whether it calls a workflow, whose jobs stand for it once it has.
    pub is_call: bool,
}

impl PlannedJob {
    /// Returns the `strategy` context.
    pub fn strategy(&self) -> Value {
        #[expect(clippy::cast_precision_loss, reason = "as a number of expressions")]
        let number = |count: usize| Value::Number(count as f64);
        let mut strategy = Object::new();
        strategy.insert("fail-fast", self.fail_fast);
        strategy.insert("job-index", number(self.leg));
        strategy.insert("job-total", number(self.legs));
        strategy.insert("max-parallel", number(self.max_parallel));
        strategy.into()
    }
}

/// Plans the jobs of a workflow, in the order of the file and of the matrix.
///
/// # Errors
///
/// All values that cannot be computed or are not allowed, each at its place.
pub fn plan(workflow: &Workflow, contexts: &Contexts) -> Result<Vec<PlannedJob>, Vec<Problem>> {
    let mut planned = Vec::new();
    let mut problems = Vec::new();
    for job in &workflow.jobs {
        let legs =
            if waits(job) { open(job, contexts).map(|job| vec![job]) } else { legs(job, contexts) };
        match legs {
            Ok(legs) => planned.extend(legs),
            Err(problem) => problems.push(problem),
        }
    }
    if planned.len() > MAX_JOBS {
        let span = workflow.jobs.first().map(|job| job.span).unwrap_or_default();
        let message = format!("the run has {} jobs, more than {MAX_JOBS}", planned.len());
        problems.push(Problem::invalid(span, message));
    }
    if problems.is_empty() { Ok(planned) } else { Err(problems) }
}

/// Plans the legs of one job, when all is known that they read.
///
/// # Errors
///
/// The first value that cannot be computed or is not allowed.
pub fn legs(job: &Job, contexts: &Contexts) -> Result<Vec<PlannedJob>, Problem> {
    let mut legs = plan_job(job, contexts)?;
    for leg in &mut legs {
        let mut contexts = contexts.clone();
        contexts.set("matrix", leg.matrix.clone());
        contexts.set("strategy", leg.strategy());
        leg.labels = labels(job, &contexts).map_err(|message| at_job(job, message))?;
    }
    Ok(legs)
}

/// Returns true for a job whose legs, names or labels are known only when the jobs have ended that it needs.
pub(crate) fn waits(job: &Job) -> bool {
    job.strategy.as_ref().is_some_and(Strategy::waits)
        || job.name.iter().chain(&job.runs_on).any(|template| template.reads_context("needs"))
}

/// Plans what stands for all legs of a job.
pub(crate) fn open(job: &Job, contexts: &Contexts) -> Result<PlannedJob, Problem> {
    let is_of_legs = |name: &Template| {
        ["matrix", "needs", "strategy"].iter().any(|context| name.reads_context(context))
    };
    let mut alone = Job { strategy: None, ..job.clone() };
    if alone.name.as_ref().is_some_and(is_of_legs) || plan_job(&alone, contexts).is_err() {
        // Nobody can compute its name either.
        alone.name = None;
    }
    let mut planned = plan_job(&alone, contexts)?;
    let mut planned = planned.remove(0);
    planned.is_open = true;
    Ok(planned)
}

fn at_job(job: &Job, message: impl std::fmt::Display) -> Problem {
    Problem::invalid(job.span, format!("job `{}`: {message}", job.id))
}

/// Plans the legs of one job, but for their labels.
pub(crate) fn plan_job(job: &Job, contexts: &Contexts) -> Result<Vec<PlannedJob>, Problem> {
    let at_job = |message: String| at_job(job, message);
    let found = match &job.strategy {
        Some(strategy) => strategy.legs(contexts).map_err(at_job)?,
        None => Legs::one(),
    };
    let legs = found.legs.len();
    let mut planned = Vec::with_capacity(legs);
    for (place, leg) in found.legs.into_iter().enumerate() {
        let mut entry = PlannedJob {
            id: job.id.clone(),
            leg: place,
            legs,
            name: String::new(),
            matrix: leg.matrix,
            fail_fast: found.fail_fast,
            max_parallel: found.max_parallel,
            labels: Vec::new(),
            needs: job.needs.clone(),
            is_open: false,
            is_call: job.call.is_some(),
        };
        let mut contexts = contexts.clone();
        contexts.set("matrix", entry.matrix.clone());
        contexts.set("strategy", entry.strategy());
        entry.name = name(job, &leg.suffix, &contexts).map_err(at_job)?;
        planned.push(entry);
    }
    Ok(planned)
}

/// Names a job as GitHub names its check: a computed name stands alone, any other gets the suffix.
fn name(job: &Job, suffix: &str, contexts: &Contexts) -> Result<String, String> {
    let given = match &job.name {
        None => String::new(),
        Some(template) => template.text(contexts).map_err(|error| error.to_string())?,
    };
    let is_computed = job.name.as_ref().is_some_and(|name| name.as_literal().is_none());
    let name = match given.trim() {
        "" => &job.id,
        _ => &given,
    };
    let name = match suffix {
        "" => name.clone(),
        _ if is_computed && !std::ptr::eq(name, &job.id) => name.clone(),
        _ => format!("{name} ({suffix})"),
    };
    Ok(cut(&one_line(&name), MAX_NAME))
}

fn labels(job: &Job, contexts: &Contexts) -> Result<Vec<String>, String> {
    let mut labels = Vec::new();
    // A job that calls a workflow runs nowhere, and one for a group has labels only where it names some.
    if job.call.is_some() || (job.group.is_some() && job.runs_on.is_empty()) {
        return Ok(labels);
    }
    for template in &job.runs_on {
        match template.evaluate(contexts).map_err(|error| error.to_string())? {
            Value::Array(items) => labels.extend(items.iter().map(Value::to_string)),
            value => labels.push(value.to_string()),
        }
    }
    if labels.is_empty() || labels.iter().any(String::is_empty) {
        return Err("`runs-on` gives an empty label".into());
    }
    Ok(labels)
}
