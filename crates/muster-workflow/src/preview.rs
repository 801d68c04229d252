//! What would run for an event: all jobs of a workflow and of those it calls, and why some would not.
//!
//! Nothing has run yet, so what comes before a job is taken to end well; what only its outputs tell stays open.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::call::MAX_NESTED;
use crate::diagnostic::Problem;
use crate::expr::{Contexts, JobStatus, Object, Value};
use crate::inputs::{dispatched, value_of};
use crate::plan::{MAX_JOBS, PlannedJob, plan_job};
use crate::strategy::Strategy;
use crate::workflow::{Call, Job, Workflow};

/// A job that would run, or would not.
#[derive(Debug, Clone)]
pub struct Preview {
    /// Its id; of a workflow that is called, after those of the jobs that call: `build/test`.
    pub id: String,
    /// The name that people and required checks know.
    pub name: String,
    /// The ids of the jobs that end first.
    pub needs: Vec<String>,
    /// The `matrix` context; null without one, and where it is not known yet.
    pub matrix: Value,
    /// Whether it runs.
    pub runs: bool,
    /// Why not; or what has still to be known.
    pub reason: Option<String>,
}

/// Finds the workflows that are called.
pub trait Called {
    /// Returns the workflow that a `uses` names; `None` where it is not here.
    fn find(&self, uses: &str) -> Option<Rc<Workflow>>;
}

/// No workflows: those that are called are not looked into.
impl Called for () {
    fn find(&self, _: &str) -> Option<Rc<Workflow>> {
        None
    }
}

/// Returns the jobs of a workflow, in the order of the file and of each matrix.
///
/// # Errors
///
/// All values that cannot be computed or are not allowed, each at its place in `workflow`.
pub fn preview(
    workflow: &Workflow,
    contexts: &Contexts,
    called: &dyn Called,
) -> Result<Vec<Preview>, Vec<Problem>> {
    let mut contexts = contexts.clone();
    if contexts.get("inputs").is_none() {
        contexts.set("inputs", from_event(workflow, &contexts));
    }
    let calls = Calls { called, within: Vec::new(), jobs: &Cell::new(0) };
    jobs(workflow, &contexts, &calls)
}

/// The calls that led to a workflow.
struct Calls<'a> {
    called: &'a dyn Called,
    /// What they name, from the first on.
    within: Vec<&'a str>,
    /// How many jobs there are already, in all workflows.
    jobs: &'a Cell<usize>,
}

/// Why a workflow that is called is not looked into.
enum Lost {
    /// It may be right, but is not here.
    NotHere(String),
    /// The call is wrong.
    Refused(String),
}

impl<'a> Calls<'a> {
    /// Finds a workflow that is called from here.
    fn find(&self, uses: &str) -> Result<Rc<Workflow>, Lost> {
        if self.within.contains(&uses) {
            return Err(Lost::Refused(format!("it calls `{uses}`, which calls itself")));
        }
        if self.within.len() >= MAX_NESTED {
            let why = format!("workflows call each other deeper than {MAX_NESTED}");
            return Err(Lost::Refused(why));
        }
        if self.jobs.get() >= MAX_JOBS {
            return Err(Lost::Refused(format!("the run has more than {MAX_JOBS} jobs")));
        }
        let found = self.called.find(uses);
        found.ok_or_else(|| Lost::NotHere(format!("it calls `{uses}`, which is not here")))
    }

    fn below(&self, uses: &'a str) -> Self {
        let within = self.within.iter().copied().chain([uses]).collect();
        Calls { called: self.called, within, jobs: self.jobs }
    }
}

/// Returns the inputs that the event has, else the defaults.
fn from_event(workflow: &Workflow, contexts: &Contexts) -> Value {
    let given = match contexts.get("github") {
        Some(Value::Object(github)) => match github.get("event") {
            Some(Value::Object(event)) => event.get("inputs").cloned(),
            _ => None,
        },
        _ => None,
    };
    let mut values = Object::new();
    for input in dispatched(workflow) {
        let given = match &given {
            Some(Value::Object(given)) => given.get(&input.name).cloned(),
            _ => None,
        };
        values.insert(input.name.as_str(), value_of(input, given, contexts));
    }
    values.into()
}

fn jobs(
    workflow: &Workflow,
    contexts: &Contexts,
    calls: &Calls<'_>,
) -> Result<Vec<Preview>, Vec<Problem>> {
    let mut verdicts: HashMap<String, Verdict> = HashMap::new();
    for job in in_order(workflow) {
        let verdict = judge(job, contexts, &verdicts);
        verdicts.insert(job.id.to_ascii_lowercase(), verdict);
    }
    let mut previews = Vec::new();
    let mut problems = Vec::new();
    for job in &workflow.jobs {
        let verdict = &verdicts[&job.id.to_ascii_lowercase()];
        match legs(job, contexts) {
            Ok(legs) => {
                for leg in legs {
                    previews.extend(with_called(job, &leg, verdict, contexts, calls));
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(previews) } else { Err(problems) }
}

/// Whether a job runs, and why not.
#[derive(Debug, Clone)]
enum Verdict {
    Runs,
    /// It runs when what is not known yet allows it.
    Depends(String),
    Skipped(String),
}

/// Returns the jobs so that each comes after those it needs; there is no cycle in a file that was read.
fn in_order(workflow: &Workflow) -> Vec<&Job> {
    let mut ordered: Vec<&Job> = Vec::new();
    while ordered.len() < workflow.jobs.len() {
        let is_there =
            |ordered: &[&Job], id: &str| ordered.iter().any(|job| job.id.eq_ignore_ascii_case(id));
        let before = ordered.len();
        for job in &workflow.jobs {
            let is_ready = job.needs.iter().all(|need| is_there(&ordered, need));
            if is_ready && !is_there(&ordered, &job.id) {
                ordered.push(job);
            }
        }
        if ordered.len() == before {
            break;
        }
    }
    ordered
}

fn judge(job: &Job, contexts: &Contexts, verdicts: &HashMap<String, Verdict>) -> Verdict {
    let skipped = job.needs.iter().find(|need| {
        matches!(verdicts.get(&need.to_ascii_lowercase()), Some(Verdict::Skipped(_)) | None)
    });
    let status = if skipped.is_some() { JobStatus::Skipped } else { JobStatus::Success };
    let after_skipped =
        |need: &String| Verdict::Skipped(format!("it needs `{need}`, which does not run"));
    let Some(condition) = &job.condition else {
        return skipped.map_or(Verdict::Runs, after_skipped);
    };
    if condition.needs_success()
        && let Some(need) = skipped
    {
        return after_skipped(need);
    }
    let text = condition.as_expression();
    if condition.expressions().any(|expr| expr.reads_context("needs")) {
        return Verdict::Depends(format!("when `{text}` holds, which the jobs it needs decide"));
    }
    match condition.holds(&contexts.with_status(status)) {
        Ok(true) => Verdict::Runs,
        Ok(false) => Verdict::Skipped(format!("its condition `{text}` does not hold")),
        Err(error) => {
            Verdict::Skipped(format!("its condition `{text}` cannot be computed: {error}"))
        }
    }
}

/// Returns the legs of a job; one that stands for all where they are not known yet.
fn legs(job: &Job, contexts: &Contexts) -> Result<Vec<PlannedJob>, Problem> {
    if job.strategy.as_ref().is_some_and(Strategy::waits) {
        let mut job = job.clone();
        job.strategy = None;
        return plan_job(&job, contexts);
    }
    plan_job(job, contexts)
}

/// Returns a leg, or the jobs of the workflow that it calls.
fn with_called(
    job: &Job,
    leg: &PlannedJob,
    verdict: &Verdict,
    contexts: &Contexts,
    calls: &Calls<'_>,
) -> Vec<Preview> {
    calls.jobs.set(calls.jobs.get() + 1);
    let waits = job.strategy.as_ref().is_some_and(Strategy::waits);
    let (runs, reason) = match verdict {
        Verdict::Runs if waits => {
            (true, Some("its matrix is known when the jobs have ended that it needs".to_owned()))
        }
        Verdict::Runs => (true, None),
        Verdict::Depends(on) => (true, Some(on.clone())),
        Verdict::Skipped(why) => (false, Some(why.clone())),
    };
    let mut own = Preview {
        id: leg.id.clone(),
        name: leg.name.clone(),
        needs: leg.needs.clone(),
        matrix: leg.matrix.clone(),
        runs,
        reason,
    };
    let Some(call) = job.call.as_ref().filter(|_| runs) else { return vec![own] };
    let workflow = match calls.find(&call.uses) {
        Ok(workflow) => workflow,
        Err(lost) => {
            let (runs, why) = match lost {
                Lost::NotHere(why) => (true, why),
                Lost::Refused(why) => (false, why),
            };
            (own.runs, own.reason) = (runs, Some(why));
            return vec![own];
        }
    };
    let mut within = contexts.clone();
    within.set("matrix", leg.matrix.clone());
    within.set("strategy", leg.strategy());
    within.set("inputs", given(&workflow, call, &within));
    within.set("matrix", Value::Null);
    match jobs(&workflow, &within, &calls.below(&call.uses)) {
        Ok(nested) => nested
            .into_iter()
            .map(|nested| Preview {
                id: format!("{}/{}", own.id, nested.id),
                name: format!("{} / {}", own.name, nested.name),
                needs: match nested.needs.as_slice() {
                    [] => own.needs.clone(),
                    needs => needs.iter().map(|need| format!("{}/{need}", own.id)).collect(),
                },
                reason: nested.reason.or_else(|| own.reason.clone()),
                ..nested
            })
            .collect(),
        Err(problems) => {
            let first = problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
            own.runs = false;
            own.reason = Some(format!("`{}` cannot be planned: {first}", call.uses));
            vec![own]
        }
    }
}

/// Returns the inputs that a called workflow gets.
fn given(workflow: &Workflow, call: &Call, contexts: &Contexts) -> Value {
    let mut values = Object::new();
    for input in
        workflow.interface().map(|interface| interface.inputs.as_slice()).unwrap_or_default()
    {
        let given = call.with.iter().find(|(name, _)| name.eq_ignore_ascii_case(&input.name));
        let given = given.and_then(|(_, argument)| argument.get(contexts).ok());
        values.insert(input.name.as_str(), value_of(input, given, contexts));
    }
    values.into()
}
