//! What would run for an event: all jobs of a workflow and of those it calls, and why some would not.
//!
//! Nothing has run yet, so what comes before a job is taken to end well; what only its outputs tell stays open.

mod calls;
mod verdicts;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use self::calls::{Calls, Lost};
use self::verdicts::{Verdict, verdicts};
use crate::call::MAX_PARTS;
use crate::called::Workflows;
use crate::diagnostic::{Problem, Rule};
use crate::expr::{Contexts, Value};
use crate::inputs::{from_event, given_so_far};
use crate::plan::{PlannedJob, open, plan_job, waits};
use crate::strategy::Strategy;
use crate::workflow::{Job, Workflow};

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

/// Returns the jobs of a workflow, in the order of the file and of each matrix.
///
/// # Errors
///
/// All values that cannot be computed or are not allowed, and all calls that are wrong, each at its place in the file
/// that the run is of.
pub fn preview(workflows: &Workflows, contexts: &Contexts) -> Result<Vec<Preview>, Vec<Problem>> {
    let workflow = workflows.root();
    let mut contexts = contexts.clone();
    if contexts.get("inputs").is_none() {
        contexts.set("inputs", from_event(workflow, &contexts));
    }
    let (told, files, parts) = (Cell::new(0), RefCell::default(), Cell::new(0));
    let within = Vec::new();
    let calls = Calls { workflows, within, jobs: &told, files: &files, parts: &parts };
    jobs(workflow, &contexts, &calls)
}

/// How many jobs are told at most, of one file and of all that call each other: these multiply.
pub(crate) const MAX_JOBS: usize = 2_000;

/// How many jobs all of them may need together: who needs a job that calls needs all that it calls.
const MAX_NEEDS: usize = 50_000;

fn jobs(
    workflow: &Workflow,
    contexts: &Contexts,
    calls: &Calls<'_>,
) -> Result<Vec<Preview>, Vec<Problem>> {
    let verdicts = verdicts(workflow, contexts);
    let mut previews = Vec::new();
    let mut problems = Vec::new();
    let mut calling: HashMap<&str, Vec<String>> = HashMap::new();
    for (job, verdict) in workflow.jobs.iter().zip(&verdicts) {
        match legs(job, verdict, contexts) {
            Ok(legs) if calls.jobs.get() + legs.len() > MAX_JOBS => {
                let message = format!("the run has more than {MAX_JOBS} jobs");
                problems.push(Problem::invalid(job.span, message));
                break;
            }
            Ok(legs) => {
                let mut ids = Vec::new();
                for leg in legs {
                    match with_called(workflow, job, &leg, verdict, contexts, calls) {
                        Ok(told) => {
                            ids.extend(told.iter().map(|job| job.id.clone()));
                            previews.extend(told);
                        }
                        Err(wrong) => {
                            // It is the same for each leg.
                            problems.extend(wrong);
                            if calls.parts.get() > MAX_PARTS {
                                return Err(problems);
                            }
                            break;
                        }
                    }
                }
                if job.call.is_some() {
                    let mut seen = HashSet::new();
                    ids.retain(|id| seen.insert(id.clone()));
                    calling.insert(&job.id, ids);
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    // Who needs a job that calls needs the jobs of what it calls.
    let told = |need: &String| calling.get(need.as_str()).map_or(1, Vec::len);
    let count: usize = previews.iter().flat_map(|preview| &preview.needs).map(told).sum();
    if count > MAX_NEEDS {
        let span = workflow.jobs.first().map(|job| job.span).unwrap_or_default();
        let message = format!("the jobs of the run need more than {MAX_NEEDS} jobs together");
        problems.push(Problem::invalid(span, message));
        return Err(problems);
    }
    for preview in &mut previews {
        let needs = std::mem::take(&mut preview.needs).into_iter();
        preview.needs = needs
            .flat_map(|need| calling.get(need.as_str()).cloned().unwrap_or_else(|| vec![need]))
            .collect();
    }
    if problems.is_empty() { Ok(previews) } else { Err(problems) }
}

/// Returns the legs of a job; one that stands for all where they are not known yet, or are never computed.
fn legs(job: &Job, verdict: &Verdict, contexts: &Contexts) -> Result<Vec<PlannedJob>, Problem> {
    if matches!(verdict, Verdict::Skipped(_)) || waits(job) {
        return open(job, contexts).map(|job| vec![job]);
    }
    plan_job(job, contexts)
}

/// Returns a leg, or the jobs of the workflow that it calls.
///
/// # Errors
///
/// Where the call is wrong, or one of those within it: then nothing of the workflow runs.
fn with_called(
    workflow: &Workflow,
    job: &Job,
    leg: &PlannedJob,
    verdict: &Verdict,
    contexts: &Contexts,
    calls: &Calls<'_>,
) -> Result<Vec<Preview>, Vec<Problem>> {
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
    let Some(call) = &job.call else { return Ok(vec![own]) };
    let (name, called) = match calls.find(job, call, workflow.permissions.as_ref()) {
        Ok(found) => found,
        Err(Lost::NotHere(why)) => {
            own.reason = own.reason.or(Some(why));
            return Ok(vec![own]);
        }
        Err(Lost::Refused(wrong)) => return Err(wrong),
    };
    let mut within = contexts.clone();
    within.set("matrix", leg.matrix.clone());
    within.set("strategy", leg.strategy());
    let inputs = given_so_far(&called, call, &within)
        .map_err(|why| vec![Problem::invalid(call.span, why).of(Rule::WorkflowCall)])?;
    within.set("inputs", inputs);
    within.set("matrix", Value::Null);
    let count = calls.jobs.get();
    let nested = jobs(&called, &within, &calls.below(name));
    if !runs {
        // It is looked into all the same: a call that is wrong is so before anything runs.
        calls.jobs.set(count);
    }
    match nested {
        Ok(_) if !runs => Ok(vec![own]),
        Ok(nested) => Ok(nested
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
            .collect()),
        Err(problems) => {
            let first = problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
            if problems.iter().any(|problem| problem.rule == Rule::WorkflowCall) {
                let message = format!("`{}` is wrong: {first}", call.uses);
                return Err(vec![Problem::invalid(call.span, message).of(Rule::WorkflowCall)]);
            }
            if !runs {
                return Ok(vec![own]);
            }
            own.runs = false;
            own.reason = Some(format!("`{}` cannot be planned: {first}", call.uses));
            Ok(vec![own])
        }
    }
}
