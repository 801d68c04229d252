//! What would run for an event: all jobs of a workflow and of those it calls, and why some would not.
//!
//! Nothing has run yet, so what comes before a job is taken to end well; what only its outputs tell stays open.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::call::{Caller, MAX_FILES, MAX_NESTED, MAX_PARTS, check_call, parts};
use crate::diagnostic::{Problem, Rule};
use crate::expr::{Contexts, JobStatus, Object, Value};
use crate::inputs::{from_event, value_of};
use crate::permissions::{Level, Permissions};
use crate::plan::{PlannedJob, plan_job};
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
    /// Returns the workflow that a `uses` names.
    fn find(&self, uses: &str) -> Found;
}

/// A workflow that is called.
#[derive(Debug, Clone)]
pub enum Found {
    /// It can be read.
    Workflow(Rc<Workflow>),
    /// It is wrong, and this is the first that is wrong with it.
    Wrong(String),
    /// It may be right, but is not here.
    NotHere,
}

/// No workflows: those that are called are not looked into.
impl Called for () {
    fn find(&self, _: &str) -> Found {
        Found::NotHere
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
    let (told, files, parts) = (Cell::new(0), RefCell::default(), Cell::new(0));
    let within = Vec::new();
    let calls = Calls { called, within, jobs: &told, files: &files, parts: &parts };
    jobs(workflow, &contexts, &calls)
}

/// How many jobs are told at most, of one file and of all that call each other: these multiply.
pub(crate) const MAX_JOBS: usize = 2_000;

/// How many jobs all of them may need together: who needs a job that calls needs all that it calls.
const MAX_NEEDS: usize = 50_000;

/// The calls that led to a workflow.
struct Calls<'a> {
    called: &'a dyn Called,
    /// What they name, from the first on.
    within: Vec<&'a str>,
    /// How many jobs there are already, in all workflows.
    jobs: &'a Cell<usize>,
    /// What all of them name.
    files: &'a RefCell<HashSet<String>>,
    /// What was looked at for all of them, see [`parts`].
    parts: &'a Cell<usize>,
}

/// Why a workflow that is called is not looked into.
enum Lost {
    /// It may be right, but is not here.
    NotHere(String),
    /// The call is wrong: nothing of the workflow runs.
    Refused(Problem),
}

impl<'a> Calls<'a> {
    /// Finds the workflow that a job calls.
    fn find(
        &self,
        job: &Job,
        call: &Call,
        permissions: Option<&Permissions>,
    ) -> Result<Rc<Workflow>, Lost> {
        let uses = call.uses.as_str();
        let refused = |why: String| {
            Err(Lost::Refused(Problem::invalid(call.span, why).of(Rule::WorkflowCall)))
        };
        if self.within.contains(&uses) {
            return refused(format!("`{uses}` calls itself"));
        }
        if self.within.len() >= MAX_NESTED {
            return refused(format!("workflows call each other deeper than {MAX_NESTED}"));
        }
        if self.jobs.get() >= MAX_JOBS {
            return refused(format!("the run has more than {MAX_JOBS} jobs"));
        }
        let is_new = self.files.borrow_mut().insert(uses.to_owned());
        // The first file is one of them.
        if is_new && self.files.borrow().len() >= MAX_FILES {
            return refused(format!("more than {MAX_FILES} workflow files call each other"));
        }
        let workflow = match self.called.find(uses) {
            Found::Workflow(workflow) => workflow,
            Found::Wrong(why) => return refused(format!("`{uses}` is wrong: {why}")),
            Found::NotHere => {
                return Err(Lost::NotHere(format!("it calls `{uses}`, which is not here")));
            }
        };
        self.parts.set(self.parts.get() + parts(&workflow));
        if self.parts.get() > MAX_PARTS {
            return refused(
                "the calls of the run have too many inputs and jobs together".to_owned(),
            );
        }
        // What the token may do at most is settled by the owner, not by the file.
        let default = Permissions::all(Level::Write);
        let permissions = job.permissions.as_ref().or(permissions);
        let caller = Caller { job, permissions, default: &default };
        match check_call(caller, &workflow).first() {
            Some(wrong) => Err(Lost::Refused(wrong.clone())),
            None => Ok(workflow),
        }
    }

    fn below(&self, uses: &'a str) -> Self {
        let within = self.within.iter().copied().chain([uses]).collect();
        Calls { called: self.called, within, jobs: self.jobs, files: self.files, parts: self.parts }
    }
}

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
                            problems.push(wrong);
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

/// Whether a job runs, and why not.
#[derive(Debug, Clone)]
enum Verdict {
    Runs,
    /// It runs when what is not known yet allows it.
    Depends(String),
    Skipped(String),
}

/// Judges the jobs, each after those that it needs.
fn verdicts(workflow: &Workflow, contexts: &Contexts) -> Vec<Verdict> {
    let places: HashMap<String, usize> = workflow
        .jobs
        .iter()
        .enumerate()
        .map(|(place, job)| (job.id.to_ascii_lowercase(), place))
        .collect();
    let needs: Vec<Vec<usize>> = workflow
        .jobs
        .iter()
        .map(|job| {
            let places = job.needs.iter().map(|need| places.get(&need.to_ascii_lowercase()));
            places.flatten().copied().collect()
        })
        .collect();
    let mut verdicts: Vec<Option<Verdict>> = vec![None; workflow.jobs.len()];
    // Of each job that was judged, one that does not run among it and all that came before it.
    let mut skipped: Vec<Option<usize>> = vec![None; workflow.jobs.len()];
    for first in 0..workflow.jobs.len() {
        let mut path = vec![first];
        // There is no cycle in a file that was read.
        while let Some(place) = path.last().copied() {
            if verdicts[place].is_some() {
                path.pop();
                continue;
            }
            let before = path.len();
            path.extend(needs[place].iter().copied().filter(|need| verdicts[*need].is_none()));
            if path.len() > before {
                continue;
            }
            path.pop();
            let job = &workflow.jobs[place];
            let blame = needs[place].iter().find_map(|need| skipped[*need]);
            let blame = blame.map(|blame| workflow.jobs[blame].id.as_str());
            let before: Vec<Before<'_>> = needs[place]
                .iter()
                .filter_map(|need| {
                    Some((workflow.jobs[*need].id.as_str(), verdicts[*need].as_ref()?))
                })
                .collect();
            let verdict = judge(job, contexts, blame, &before);
            skipped[place] = match &verdict {
                Verdict::Skipped(_) => Some(place),
                _ => needs[place].iter().find_map(|need| skipped[*need]),
            };
            verdicts[place] = Some(verdict);
        }
    }
    verdicts.into_iter().map(|verdict| verdict.unwrap_or(Verdict::Runs)).collect()
}

/// A job that is needed, and its verdict.
type Before<'a> = (&'a str, &'a Verdict);

/// Judges a job; `skipped` is one that does not run, of all that come before it, `before` those that it needs.
fn judge(job: &Job, contexts: &Contexts, skipped: Option<&str>, before: &[Before<'_>]) -> Verdict {
    let status = if skipped.is_some() { JobStatus::Skipped } else { JobStatus::Success };
    let after_skipped = |skipped: &str| {
        let is_needed = job.needs.iter().any(|need| need.eq_ignore_ascii_case(skipped));
        let needs = if is_needed { "it needs" } else { "what it needs comes after" };
        Verdict::Skipped(format!("{needs} `{skipped}`, which does not run"))
    };
    let Some(condition) = &job.condition else {
        return skipped.map_or(Verdict::Runs, after_skipped);
    };
    if condition.needs_success()
        && let Some(skipped) = skipped
    {
        return after_skipped(skipped);
    }
    let text = condition.as_expression();
    let mut contexts = contexts.with_status(status);
    contexts.set("needs", results(before));
    match condition.decide(&contexts, &|path| is_open(path, before)) {
        Ok(None) => {
            Verdict::Depends(format!("when `{text}` holds, which the jobs it needs decide"))
        }
        Ok(Some(true)) => Verdict::Runs,
        Ok(Some(false)) => Verdict::Skipped(format!("its condition `{text}` does not hold")),
        Err(error) => {
            Verdict::Skipped(format!("its condition `{text}` cannot be computed: {error}"))
        }
    }
}

/// Returns the `needs` context as far as it is known: what runs is taken to end well, and says nothing yet.
fn results(before: &[Before<'_>]) -> Object {
    let needs = before.iter().map(|(id, verdict)| {
        let is_skipped = matches!(verdict, Verdict::Skipped(_));
        let mut need = Object::new();
        need.insert("result", if is_skipped { "skipped" } else { "success" });
        need.insert("outputs", Object::new());
        (*id, Value::from(need))
    });
    needs.collect()
}

/// Returns true for a path to what jobs say when they have ended.
fn is_open(path: &[String], before: &[Before<'_>]) -> bool {
    let [context, rest @ ..] = path else { return false };
    if !context.eq_ignore_ascii_case("needs") {
        return false;
    }
    let (job, field) = (rest.first(), rest.get(1));
    let named = |id: &str| job.is_none_or(|job| job == "*" || job.eq_ignore_ascii_case(id));
    let is_result = field.is_some_and(|field| field.eq_ignore_ascii_case("result"));
    before.iter().filter(|(id, _)| named(id)).any(|(_, verdict)| match verdict {
        Verdict::Skipped(_) => false,
        Verdict::Runs => !is_result,
        Verdict::Depends(_) => true,
    })
}

/// Returns the legs of a job; one that stands for all where they are not known yet, or are never computed.
fn legs(job: &Job, verdict: &Verdict, contexts: &Contexts) -> Result<Vec<PlannedJob>, Problem> {
    if matches!(verdict, Verdict::Skipped(_)) {
        let mut job = Job { strategy: None, ..job.clone() };
        return plan_job(&job, contexts).or_else(|_| {
            // Nobody computes its name either.
            job.name = None;
            plan_job(&job, contexts)
        });
    }
    if job.strategy.as_ref().is_some_and(Strategy::waits) {
        let mut job = job.clone();
        job.strategy = None;
        return plan_job(&job, contexts);
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
) -> Result<Vec<Preview>, Problem> {
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
    let called = match calls.find(job, call, workflow.permissions.as_ref()) {
        Ok(called) if runs => called,
        Ok(_) => return Ok(vec![own]),
        Err(Lost::NotHere(why)) => {
            own.reason = own.reason.or(Some(why));
            return Ok(vec![own]);
        }
        Err(Lost::Refused(wrong)) => return Err(wrong),
    };
    let mut within = contexts.clone();
    within.set("matrix", leg.matrix.clone());
    within.set("strategy", leg.strategy());
    within.set("inputs", given(&called, call, &within));
    within.set("matrix", Value::Null);
    match jobs(&called, &within, &calls.below(&call.uses)) {
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
                return Err(Problem::invalid(call.span, message).of(Rule::WorkflowCall));
            }
            own.runs = false;
            own.reason = Some(format!("`{}` cannot be planned: {first}", call.uses));
            Ok(vec![own])
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
