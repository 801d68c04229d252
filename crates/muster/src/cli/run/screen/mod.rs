//! What happens in a `muster run`, told to who started it: as lines, as a live view of a terminal, or as JSON.

mod json;
mod live;
mod paper;
mod safe;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use muster_core::run::{Conclusion, JobState, Run};
use muster_runner::spec::{Annotation, StepEvent};
use muster_workflow::diagnostic::Problem;

use self::live::Live;
use self::paper::Paper;
use super::engine::Place;

/// Something that is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum News<'n> {
    /// Something of all the runs.
    Note(&'n str),
    /// A workflow does not run.
    NotRun { path: &'n str, why: &'n str },
    /// A workflow cannot run: what is wrong with its text.
    Refused { path: &'n str, text: &'n str, problems: &'n [Problem] },
    /// A workflow begins to run.
    RunBegins { run: usize, path: &'n str, name: Option<&'n str> },
    /// A job begins.
    JobBegins(Of<'n>),
    /// A job has written a line of its log; step 0 is its preparation.
    Output { of: Of<'n>, step: usize, text: &'n [u8] },
    /// Something happened to a step.
    Step { of: Of<'n>, event: &'n StepEvent },
    /// A job that had begun has ended, after so many milliseconds.
    JobEnds { of: Of<'n>, state: &'n JobState, took: i64 },
    /// All jobs of a workflow have ended.
    RunEnds(&'n RunEnd<'n>),
    /// A run has left an artifact.
    Artifact { run: usize, file: &'n Path },
}

/// A job that something is told of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Of<'n> {
    pub(super) place: Place,
    /// Its key in the file.
    pub(super) id: &'n str,
    pub(super) name: &'n str,
}

/// How a run has ended.
#[derive(Debug)]
pub(super) struct RunEnd<'n> {
    /// Which of them it is.
    pub(super) place: usize,
    pub(super) path: &'n str,
    pub(super) run: &'n Run,
    pub(super) conclusion: Option<Conclusion>,
    /// How long each job has taken, in milliseconds, by its place.
    pub(super) took: Vec<Option<i64>>,
    /// What the jobs have told about the code: a job's place, and what it told.
    pub(super) annotations: &'n [(usize, Annotation)],
}

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Lines, or a live view of a terminal.
    Auto,
    /// Lines, on a terminal too.
    Plain,
    /// A JSON object a line.
    Json,
}

/// Writes to standard output. A closed output is no error: the run goes on for its exit code. What else goes wrong is told
/// at the end.
#[derive(Debug)]
pub(super) struct Screen {
    way: Way,
    /// What is not written yet.
    buffer: Vec<u8>,
    failed: Option<io::Error>,
}

#[derive(Debug)]
enum Way {
    Plain(Paper),
    Live(Live),
    Json,
}

impl Screen {
    pub(super) fn new(form: Form) -> Self {
        let on_terminal = io::stdout().is_terminal();
        let colour = on_terminal && std::env::var_os("NO_COLOR").is_none();
        let can_draw = on_terminal && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let way = match form {
            Form::Json => Way::Json,
            Form::Auto if can_draw => Way::Live(Live::new(Paper::new(on_terminal, colour))),
            Form::Auto | Form::Plain => Way::Plain(Paper::new(on_terminal, colour)),
        };
        Self { way, buffer: Vec::new(), failed: None }
    }

    /// Says whether there is more than one job: each line names its own then.
    pub(super) fn set_many(&mut self, many: bool) {
        match &mut self.way {
            Way::Plain(paper) => paper.many = many,
            Way::Live(live) => live.paper.many = many,
            Way::Json => {}
        }
    }

    /// Tells something, at once.
    pub(super) fn tell(&mut self, news: News<'_>) {
        self.note(news);
        self.flush();
    }

    /// Tells something with the next [`Self::flush`].
    pub(super) fn note(&mut self, news: News<'_>) {
        match &mut self.way {
            Way::Plain(paper) => paper.tell(news, &mut self.buffer),
            Way::Live(live) => live.tell(news, &mut self.buffer),
            Way::Json => json::tell(news, &mut self.buffer),
        }
    }

    /// Returns whether it shows what goes on, and wants to be flushed again and again.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.way, Way::Live(_))
    }

    /// Writes all that was told.
    pub(super) fn flush(&mut self) {
        if let Way::Live(live) = &mut self.way {
            live.draw(&mut self.buffer);
        }
        let mut out = io::stdout().lock();
        let written = out.write_all(&self.buffer).and_then(|()| out.flush());
        self.buffer.clear();
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            self.failed.get_or_insert(error);
        }
    }

    /// Returns whether all was written.
    ///
    /// # Errors
    ///
    /// The first that was not.
    pub(super) fn end(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}
