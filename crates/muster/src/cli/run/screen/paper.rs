//! Plain lines, coloured on a terminal.

use std::collections::{BTreeMap, HashMap};

use muster_core::run::{Conclusion, JobState, in_order};
use muster_runner::marks::mark;
use muster_runner::spec::{Annotation, Level, StepConclusion, StepEvent};
use muster_runner::{ISOLATION, PULLING, marks};
use muster_workflow::diagnostic;
use muster_workflow::text::one_line;

use super::safe::safe;
use super::{News, Of, RunEnd};
use crate::cli::run::engine::Place;
use crate::words::duration;

/// Writes what happens down as people read it.
#[derive(Debug)]
pub(super) struct Paper {
    colour: bool,
    /// Whether it is a terminal that is written to.
    is_terminal: bool,
    /// Whether each line names its job.
    pub(super) many: bool,
    /// What is known of the jobs that go on.
    jobs: HashMap<Place, Known>,
    /// What stands between the steps and this machine, as it was last said.
    isolation: String,
}

#[derive(Debug, Default)]
struct Known {
    /// The steps that run, by their places: several at a time where some are in the background.
    steps: BTreeMap<usize, KnownStep>,
    /// What its preparation has said that was not shown.
    preparation: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct KnownStep {
    name: String,
    started: i64,
    /// What it has written as its summary: each part of an action adds to it.
    summary: Option<String>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Paint {
    Green,
    Red,
    Yellow,
    Faint,
    Bold,
}

/// Returns whether a line of a preparation is shown when it comes.
fn is_news(line: &[u8]) -> bool {
    let marks = [Level::Error, Level::Warning, Level::Notice].map(mark);
    marks.into_iter().chain([PULLING]).any(|beginning| line.starts_with(beginning.as_bytes()))
}

impl Paper {
    pub(super) fn new(is_terminal: bool, colour: bool) -> Self {
        let (many, jobs, isolation) = (false, HashMap::new(), String::new());
        Self { colour, is_terminal, many, jobs, isolation }
    }

    /// Writes something down.
    pub(super) fn tell(&mut self, news: News<'_>, out: &mut Vec<u8>) {
        match news {
            News::Note(text) => line(out, text),
            News::NotRun { path, why } => line(out, &format!("{path}: not run: {why}")),
            News::Refused { path, text, problems } => {
                out.extend_from_slice(diagnostic::render(path, text, problems).as_bytes());
            }
            News::RunBegins { path, name, .. } => {
                let title = match name {
                    Some(name) if name != path => format!("{name} ({path})"),
                    _ => path.to_owned(),
                };
                line(out, &self.paint(Paint::Bold, &one_line(&title)));
            }
            News::JobBegins(of) => drop(self.jobs.insert(of.place, Known::default())),
            News::Output { of, step: 0, text } => self.preparation(of, text, out),
            News::Output { of, step, text } => self.output(of, Some(step), text, out),
            News::Step { of, event } => self.step(of, event, out),
            News::JobEnds { of, state, .. } => {
                let known = self.jobs.remove(&of.place).unwrap_or_default();
                if state.conclusion() == Some(Conclusion::Error) {
                    for text in &known.preparation {
                        self.output(of, None, text, out);
                    }
                }
            }
            News::RunEnds(end) => {
                let conclusion = end.conclusion.map_or("unfinished", Conclusion::as_str);
                line(out, &format!("{}: {conclusion}", end.path));
                self.verdicts(end, out);
                for (job, annotation) in end.annotations {
                    let name = end.run.jobs.get(*job).map_or("", |job| job.name.as_str());
                    self.annotation(name, annotation, out);
                }
            }
            News::Artifact { file, .. } => line(out, &format!("  artifact {}", file.display())),
        }
    }

    fn prefix(&self, of: Of<'_>) -> String {
        if self.many { format!("{} ", of.name) } else { String::new() }
    }

    /// Of what the preparation says, its problems are news, what it waits for, and the isolation, once; all else is of use
    /// where it fails.
    fn preparation(&mut self, of: Of<'_>, text: &[u8], out: &mut Vec<u8>) {
        if is_news(text) {
            self.output(of, None, text, out);
            return;
        }
        self.jobs.entry(of.place).or_default().preparation.push(text.to_vec());
        let text = String::from_utf8_lossy(text);
        if let Some(isolation) = text.strip_prefix(ISOLATION)
            && self.isolation != isolation
        {
            isolation.clone_into(&mut self.isolation);
            line(out, &format!("isolation: {isolation}"));
        }
    }

    /// Shows a line of output of a step, which is named where several run. Bytes go out as they came, but for GitHub's
    /// marks, and for what a terminal may not have.
    fn output(&self, of: Of<'_>, step: Option<usize>, text: &[u8], out: &mut Vec<u8>) {
        let Some(text) = marks::in_words(text) else { return };
        let running = self.jobs.get(&of.place).map(|known| &known.steps);
        let several = running.filter(|running| running.len() > 1);
        let named = several.zip(step).and_then(|(running, step)| running.get(&step));
        let named = named.map(|step| format!("{} ", step.name)).unwrap_or_default();
        let prefix = self.paint(Paint::Faint, &format!("{}{named}│ ", self.prefix(of)));
        out.extend_from_slice(prefix.as_bytes());
        if self.is_terminal {
            out.extend_from_slice(safe(&text).as_bytes());
        } else {
            out.extend_from_slice(&text);
        }
        out.push(b'\n');
    }

    fn step(&mut self, of: Of<'_>, event: &StepEvent, out: &mut Vec<u8>) {
        let prefix = self.prefix(of);
        let known = self.jobs.entry(of.place).or_default();
        let told = match event {
            StepEvent::Started { step, name, at } => {
                let (started, summary) = (*at, None);
                let one = KnownStep { name: one_line(name).to_string(), started, summary };
                known.steps.insert(*step, one);
                let (mark, name) = (self.paint(Paint::Bold, "▸"), self.paint(Paint::Bold, name));
                // The preparation is news only where it fails, and then the result says it.
                (*step > 0).then(|| format!("{prefix}{mark} {name}"))
            }
            StepEvent::Finished { step, name, outcome, conclusion, at, .. } => {
                let ended = known.steps.remove(step);
                let summary = ended.as_ref().and_then(|step| step.summary.as_deref());
                for text in summary.unwrap_or_default().lines() {
                    self.output(of, None, text.as_bytes(), out);
                }
                let took = ended.map(|step| format!(" {}", duration(at - step.started)));
                let forgiven = if outcome == conclusion { "" } else { " (failed, may fail)" };
                let (paint, mark) = match conclusion {
                    StepConclusion::Success => (Paint::Green, "✓"),
                    StepConclusion::Failure => (Paint::Red, "✗"),
                    StepConclusion::Cancelled => (Paint::Yellow, "■"),
                    StepConclusion::Skipped => (Paint::Faint, "-"),
                };
                let (mark, took) =
                    (self.paint(paint, mark), self.paint(Paint::Faint, &took.unwrap_or_default()));
                (*step > 0).then(|| format!("{prefix}{mark} {name}{forgiven}{took}"))
            }
            StepEvent::Summary { step, markdown } => {
                if let Some(step) = known.steps.get_mut(step) {
                    step.summary = Some(markdown.clone());
                }
                None
            }
            StepEvent::Environment { name, url: Some(url) } => {
                let mark = self.paint(Paint::Bold, "▸");
                Some(format!("{prefix}{mark} {name}: {}", one_line(url)))
            }
            StepEvent::Annotated { .. }
            | StepEvent::Uses { .. }
            | StepEvent::Environment { .. } => None,
        };
        if let Some(told) = told {
            line(out, &told);
        }
    }

    /// Shows what a job has told about the code.
    fn annotation(&self, job: &str, annotation: &Annotation, out: &mut Vec<u8>) {
        let (paint, word) = match annotation.level {
            Level::Error => (Paint::Red, "error"),
            Level::Warning => (Paint::Yellow, "warning"),
            Level::Notice => (Paint::Bold, "notice"),
        };
        let mut place = job.to_owned();
        if let Some(file) = &annotation.file {
            place = format!("{place}: {file}");
            for number in [annotation.line, annotation.column].into_iter().flatten() {
                place = format!("{place}:{number}");
            }
        }
        let title = annotation.title.as_ref().map(|title| format!("{title}: "));
        let message = format!("{}{}", title.unwrap_or_default(), annotation.message);
        let message = message.replace('\n', " ");
        let word = self.paint(paint, word);
        line(out, &format!("  {word}  {place}: {}", one_line(&message)));
    }

    /// Shows the verdict on each job of a run.
    fn verdicts(&self, end: &RunEnd<'_>, out: &mut Vec<u8>) {
        let jobs = &end.run.jobs;
        let mut places = in_order(jobs);
        places.retain(|place| jobs[*place].is_shown());
        let names = places.iter().map(|place| jobs[*place].name.chars().count());
        let width = names.max().unwrap_or(0);
        for place in places {
            let (job, took) = (&jobs[place], end.took.get(place).copied().flatten());
            let paint = match &job.state {
                JobState::Finished { conclusion, .. } => match conclusion {
                    Conclusion::Success => Paint::Green,
                    Conclusion::Skipped => Paint::Faint,
                    Conclusion::Cancelled => Paint::Yellow,
                    Conclusion::Failure | Conclusion::TimedOut | Conclusion::Error => Paint::Red,
                },
                _ => Paint::Yellow,
            };
            let state = self.paint(paint, job.state.as_str());
            let took = took.map(|took| format!("  {}", duration(took))).unwrap_or_default();
            let reason = job.state.reason().map(|reason| format!("  {reason}")).unwrap_or_default();
            let padding = " ".repeat(width - job.name.chars().count());
            line(out, &format!("  {}{padding}  {state}{took}{reason}", job.name));
        }
    }

    pub(super) fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Green => 32,
            Paint::Red => 31,
            Paint::Yellow => 33,
            Paint::Faint => 2,
            Paint::Bold => 1,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_step_where_several_run() {
        let of = Of { place: Place { run: 0, job: 0 }, id: "test", name: "test" };
        let (mut paper, mut out) = (Paper::new(false, false), Vec::new());
        let started = |step, name: &str| StepEvent::Started { step, name: name.into(), at: 0 };
        let (outcome, conclusion) = (StepConclusion::Success, StepConclusion::Success);
        let name = "Server".to_owned();
        let ended = StepEvent::Finished { step: 1, name, outcome, conclusion, at: 5, usage: None };
        for news in [
            News::JobBegins(of),
            News::Step { of, event: &started(1, "Server") },
            News::Output { of, step: 1, text: b"alone" },
            News::Step { of, event: &started(2, "Client") },
            News::Output { of, step: 1, text: b"heard" },
            News::Output { of, step: 2, text: b"asked" },
            News::Step { of, event: &ended },
            News::Output { of, step: 2, text: b"alone again" },
        ] {
            paper.tell(news, &mut out);
        }
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        ▸ Server
        │ alone
        ▸ Client
        Server │ heard
        Client │ asked
        ✓ Server 5 ms
        │ alone again
        ");
    }
}
