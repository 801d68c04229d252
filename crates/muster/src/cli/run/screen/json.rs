//! A JSON object a line, as docs/formats.md describes them.

use std::io::Write as _;

use muster_runner::spec::StepEvent;
use serde_json::{Value, json};

use super::{News, Of, RunEnd};
use crate::cli::lint::problem_json;

/// Writes something down.
pub(super) fn tell(news: News<'_>, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    drop(writeln!(out, "{}", object(news)));
}

fn object(news: News<'_>) -> Value {
    match news {
        News::Note(text) => json!({ "event": "note", "text": text }),
        News::NotRun { path, why } => {
            json!({ "event": "not_run", "path": path, "reason": why })
        }
        News::Refused { path, text, problems } => {
            json!({ "event": "refused", "path": path, "problems": problem_json(path, text, problems) })
        }
        News::RunBegins { run, path, name } => {
            json!({ "event": "run_started", "run": run + 1, "path": path, "name": name })
        }
        News::JobBegins(of) => of_job("job_started", of, json!({})),
        News::Output { of, step, text } => {
            let text = String::from_utf8_lossy(text);
            of_job("output", of, json!({ "step": step, "text": text }))
        }
        News::Step { of, event } => step(of, event),
        News::JobEnds { of, state, took } => {
            let conclusion = state.conclusion().map(|conclusion| conclusion.as_str());
            let reason = state.reason().map(ToString::to_string);
            let about = json!({ "conclusion": conclusion, "reason": reason, "took_ms": took });
            of_job("job_finished", of, about)
        }
        News::RunEnds(end) => run_end(end),
        News::Artifact { run, file } => {
            json!({ "event": "artifact", "run": run + 1, "file": file.to_string_lossy() })
        }
    }
}

/// Says of which job something is told, and what.
fn of_job(event: &str, of: Of<'_>, about: Value) -> Value {
    let run = of.place.run + 1;
    let mut object = json!({ "event": event, "run": run, "job": of.id, "name": of.name });
    if let (Value::Object(object), Value::Object(about)) = (&mut object, about) {
        object.extend(about);
    }
    object
}

fn step(of: Of<'_>, event: &StepEvent) -> Value {
    match event {
        StepEvent::Started { step, name, at } => {
            of_job("step_started", of, json!({ "step": step, "title": name, "at": at }))
        }
        StepEvent::Finished { step, name, outcome, conclusion, at, usage } => {
            let about = json!({
                "step": step,
                "title": name,
                "outcome": outcome,
                "conclusion": conclusion,
                "at": at,
                "usage": usage,
            });
            of_job("step_finished", of, about)
        }
        StepEvent::Uses { uses, sha } => of_job("uses", of, json!({ "uses": uses, "sha": sha })),
        StepEvent::Environment { name, url } => {
            of_job("environment", of, json!({ "environment": name, "url": url }))
        }
        StepEvent::Summary { step, markdown } => {
            of_job("summary", of, json!({ "step": step, "markdown": markdown }))
        }
        StepEvent::Annotated { step, annotation } => {
            of_job("annotation", of, json!({ "step": step, "annotation": annotation }))
        }
    }
}

fn run_end(end: &RunEnd<'_>) -> Value {
    let jobs = end.run.jobs.iter().zip(&end.took).filter(|(job, _)| job.is_shown());
    let jobs = jobs.map(|(job, took)| {
        json!({
            "job": job.id,
            "name": job.name,
            "conclusion": job.state.conclusion().map(|conclusion| conclusion.as_str()),
            "reason": job.state.reason().map(ToString::to_string),
            "took_ms": took,
        })
    });
    json!({
        "event": "run_finished",
        "run": end.place + 1,
        "path": end.path,
        "conclusion": end.conclusion.map(|conclusion| conclusion.as_str()),
        "jobs": jobs.collect::<Vec<_>>(),
    })
}
