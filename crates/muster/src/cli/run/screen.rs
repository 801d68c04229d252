//! What `muster run` shows: plain lines, coloured on a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use muster_core::run::{Conclusion, JobState, Run, in_order};
use muster_runner::marks;
use muster_runner::spec::{Annotation, Level, StepConclusion, StepEvent};
use muster_workflow::text::one_line;

use crate::words::duration;

/// Writes to standard output. A closed output is no error: the run goes on for its exit code.
#[derive(Debug)]
pub(super) struct Screen {
    colour: bool,
    /// What is not written yet.
    buffer: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Paint {
    Green,
    Red,
    Yellow,
    Faint,
    Bold,
}

impl Screen {
    pub(super) fn new() -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour, buffer: Vec::new() }
    }

    pub(super) fn line(&mut self, line: &str) {
        self.block(&format!("{line}\n"));
    }

    pub(super) fn block(&mut self, block: &str) {
        self.buffer.extend_from_slice(block.as_bytes());
        self.flush();
    }

    /// Writes all that was said.
    pub(super) fn flush(&mut self) {
        let mut out = io::stdout().lock();
        drop(out.write_all(&self.buffer).and_then(|()| out.flush()));
        self.buffer.clear();
    }

    /// Says that a workflow starts.
    pub(super) fn workflow(&mut self, path: &str, name: Option<&str>) {
        let title = match name {
            Some(name) if name != path => format!("{name} ({path})"),
            _ => path.to_owned(),
        };
        let title = self.paint(Paint::Bold, &title);
        self.line(&title);
    }

    /// Shows a line of output of a step, with the next [`Self::flush`]. Bytes go out as they came, but for GitHub's marks.
    pub(super) fn output(&mut self, prefix: &str, text: &[u8]) {
        let Some(text) = marks::in_words(text) else { return };
        let prefix = self.paint(Paint::Faint, &format!("{prefix}│ "));
        self.buffer.extend_from_slice(prefix.as_bytes());
        self.buffer.extend_from_slice(&text);
        self.buffer.push(b'\n');
    }

    /// Shows that a step started or ended; `started` is when it started, if it did.
    pub(super) fn step(&mut self, prefix: &str, event: &StepEvent, started: Option<i64>) {
        let line = match event {
            StepEvent::Started { name, .. } => {
                format!(
                    "{prefix}{} {}",
                    self.paint(Paint::Bold, "▸"),
                    self.paint(Paint::Bold, name)
                )
            }
            StepEvent::Finished { name, outcome, conclusion, at, .. } => {
                let took = started.map(|started| format!(" {}", duration(at - started)));
                let forgiven = if outcome == conclusion { "" } else { " (failed, may fail)" };
                let (paint, mark) = match conclusion {
                    StepConclusion::Success => (Paint::Green, "✓"),
                    StepConclusion::Failure => (Paint::Red, "✗"),
                    StepConclusion::Cancelled => (Paint::Yellow, "■"),
                    StepConclusion::Skipped => (Paint::Faint, "-"),
                };
                let took = self.paint(Paint::Faint, &took.unwrap_or_default());
                format!("{prefix}{} {name}{forgiven}{took}", self.paint(paint, mark))
            }
            StepEvent::Summary { markdown, .. } => {
                for line in markdown.lines() {
                    self.output(prefix, line.as_bytes());
                }
                return;
            }
            StepEvent::Environment { name, url: Some(url) } => {
                format!("{prefix}{} {name}: {}", self.paint(Paint::Bold, "▸"), one_line(url))
            }
            StepEvent::Annotated { .. }
            | StepEvent::Uses { .. }
            | StepEvent::Environment { .. } => return,
        };
        self.line(&line);
    }

    /// Shows what the jobs of a run have told about the code: the job's place and what it told.
    pub(super) fn annotations(&mut self, run: &Run, told: &[(usize, Annotation)]) {
        for (job, annotation) in told {
            let (paint, word) = match annotation.level {
                Level::Error => (Paint::Red, "error"),
                Level::Warning => (Paint::Yellow, "warning"),
                Level::Notice => (Paint::Bold, "notice"),
            };
            let mut place = run.jobs.get(*job).map(|job| job.name.clone()).unwrap_or_default();
            if let Some(file) = &annotation.file {
                place = format!("{place}: {file}");
                for number in [annotation.line, annotation.column].into_iter().flatten() {
                    place = format!("{place}:{number}");
                }
            }
            let title = annotation.title.as_ref().map(|title| format!("{title}: "));
            let message = format!("{}{}", title.unwrap_or_default(), annotation.message);
            let line = format!(
                "  {}  {place}: {}",
                self.paint(paint, word),
                one_line(&message.replace('\n', " "))
            );
            self.line(&line);
        }
    }

    /// Shows the verdict on each job of a run.
    pub(super) fn verdicts(&mut self, run: &Run, took: impl Fn(usize) -> Option<i64>) {
        let mut places = in_order(&run.jobs);
        places.retain(|place| run.jobs[*place].is_shown());
        let names = places.iter().map(|place| run.jobs[*place].name.chars().count());
        let width = names.max().unwrap_or(0);
        for place in places {
            let (job, took) = (&run.jobs[place], took(place));
            let state = job.state.as_str();
            let paint = match &job.state {
                JobState::Finished { conclusion, .. } => match conclusion {
                    Conclusion::Success => Paint::Green,
                    Conclusion::Skipped => Paint::Faint,
                    Conclusion::Cancelled => Paint::Yellow,
                    Conclusion::Failure | Conclusion::TimedOut | Conclusion::Error => Paint::Red,
                },
                _ => Paint::Yellow,
            };
            let took = took.map(|took| format!("  {}", duration(took))).unwrap_or_default();
            let reason = job.state.reason().map(|reason| format!("  {reason}")).unwrap_or_default();
            let padding = " ".repeat(width - job.name.chars().count());
            let line =
                format!("  {}{padding}  {}{took}{reason}", job.name, self.paint(paint, state));
            self.line(&line);
        }
    }

    fn paint(&self, paint: Paint, text: &str) -> String {
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
