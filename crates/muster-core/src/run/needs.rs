//! What a job needs: are they over, how did they go, what did they say.

use muster_workflow::expr::{JobStatus, Object, Value};

use super::{Conclusion, Job, JobState, Reason, Run};

/// Returns the legs of the job `id` of those that the one at `within` calls.
fn legs<'r>(run: &'r Run, within: Option<usize>, id: &str) -> impl Iterator<Item = &'r Job> {
    run.jobs.iter().filter(move |job| job.within == within && job.id.eq_ignore_ascii_case(id))
}

/// Returns true when every leg of every needed job is over.
pub(super) fn are_over(run: &Run, job: &Job) -> bool {
    job.needs
        .iter()
        .flat_map(|id| legs(run, job.within, id))
        .all(|need| matches!(need.state, JobState::Finished { .. }))
}

/// Returns how all that comes before `job` went, directly needed or not.
pub(super) fn status(run: &Run, job: &Job) -> JobStatus {
    if run.cancelled(job.within).is_some() {
        return JobStatus::Cancelled;
    }
    let mut seen: Vec<&str> = Vec::new();
    let mut next: Vec<&str> = job.needs.iter().map(String::as_str).collect();
    let mut status = JobStatus::Success;
    while let Some(id) = next.pop() {
        if seen.contains(&id) {
            continue;
        }
        seen.push(id);
        for need in legs(run, job.within, id) {
            next.extend(need.needs.iter().map(String::as_str));
            status = match (status, counted(need)) {
                (_, Some(Conclusion::Failure | Conclusion::TimedOut | Conclusion::Error)) => {
                    JobStatus::Failure
                }
                (JobStatus::Success | JobStatus::Skipped, Some(Conclusion::Cancelled)) => {
                    JobStatus::Cancelled
                }
                (JobStatus::Success, Some(Conclusion::Skipped)) => JobStatus::Skipped,
                (status, _) => status,
            };
        }
    }
    status
}

/// Refuses a job that asks for success where there is none, saying which need is in the way.
pub(super) fn implicit_success(
    run: &Run,
    job: &Job,
    status: JobStatus,
) -> Result<(), (Conclusion, Reason)> {
    if let (JobStatus::Cancelled, Some(reason)) = (status, run.cancelled(job.within)) {
        return Err((Conclusion::Cancelled, reason.clone()));
    }
    if status == JobStatus::Success {
        return Ok(());
    }
    let blame = job.needs.iter().flat_map(|id| legs(run, job.within, id)).find_map(|need| {
        counted(need).filter(|conclusion| *conclusion != Conclusion::Success).map(|c| (need, c))
    });
    let text = match blame {
        Some((need, conclusion)) => {
            format!("it needs `{}`, which ended as {conclusion}", need.name)
        }
        None => "a job before those it needs did not succeed".to_owned(),
    };
    Err((Conclusion::Skipped, Reason::new("needs", text)))
}

/// Returns what expressions see of jobs that are over, by id, of those that the one at `within` calls.
pub(super) fn results<'i>(
    run: &Run,
    within: Option<usize>,
    ids: impl Iterator<Item = &'i str>,
) -> Value {
    let results = ids.map(|id| {
        let mut outputs = Object::new();
        let mut result: Option<Conclusion> = None;
        for job in legs(run, within, id) {
            // Of the legs of a matrix, the last that says something has the say.
            for (name, value) in job.outputs.iter().filter(|(_, value)| !value.is_empty()) {
                outputs.insert(name.as_str(), value.as_str());
            }
            let conclusion = counted(job).unwrap_or(Conclusion::Skipped);
            result = Some(result.map_or(conclusion, |worst| worst.worse(conclusion)));
        }
        let result = result.unwrap_or(Conclusion::Skipped).as_result();
        let mut entry = Object::new();
        entry.insert("result", result);
        entry.insert("outputs", outputs);
        (id, Value::from(entry))
    });
    results.collect::<Object>().into()
}

/// Returns how a job counts for those that need it.
pub(super) fn counted(job: &Job) -> Option<Conclusion> {
    let conclusion = job.state.conclusion()?;
    Some(if job.continue_on_error { conclusion.forgiven() } else { conclusion })
}
