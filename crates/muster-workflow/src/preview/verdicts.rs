//! Whether each job runs, and why not.

use std::collections::HashMap;

use crate::expr::{Contexts, JobStatus, Object, Value};
use crate::workflow::{Job, Workflow};

/// Whether a job runs, and why not.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    Runs,
    /// It runs when what is not known yet allows it.
    Depends(String),
    Skipped(String),
}

/// Judges the jobs, each after those that it needs.
pub(super) fn verdicts(workflow: &Workflow, contexts: &Contexts) -> Vec<Verdict> {
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
