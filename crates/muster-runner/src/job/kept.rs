//! A job that has failed and is kept as it is, for people to look around in it.

use std::ffi::OsString;
use std::io::{PipeReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_sys::process::{ProcessError, Program, Running};
use muster_sys::terminal::Terminal;
use muster_sys::tree;

use super::contained::{Held, lock};
use super::{CLEAN_UP, RunningJob};
use crate::cancel::Cancel;
use crate::disk::DiskWatch;
use crate::ground::Ground;
use crate::spec::{JobConclusion, JobResult};

/// Where the programs of a step run, and with which variables.
#[derive(Debug, Clone, Default)]
pub(super) struct Stage {
    folder: Option<PathBuf>,
    variables: Vec<(OsString, OsString)>,
}

impl Stage {
    /// Returns that of a program of a step.
    pub(super) fn of(program: &Program) -> Self {
        let (folder, variables) = program.setting();
        Self { folder, variables }
    }
}

/// The step that failed first: its name, and its stage.
#[derive(Debug, Clone)]
pub(super) struct FailedAt {
    name: String,
    stage: Option<Stage>,
}

/// What a program is started on.
#[derive(Debug, Clone, Copy)]
pub enum On<'t> {
    /// A terminal.
    Terminal(&'t Terminal),
    /// Pipes of its own.
    Pipes,
}

/// A program that was started in a job that is kept.
#[derive(Debug)]
pub struct Started {
    /// The program.
    pub running: Running,
    /// What it writes, and what it reads, where that is no terminal.
    pub pipes: Option<(PipeReader, PipeWriter)>,
    /// What is to be said of where it is.
    pub note: Option<String>,
}

/// A job that has failed: its sandbox or container, its workspace, and what its first failed step was given. What steps
/// have left running goes on. Dropping it leaves that to who ends this process.
#[derive(Debug)]
pub struct Kept {
    ground: Arc<Ground>,
    held: Arc<Held>,
    stage: Stage,
    workspace: PathBuf,
    step: Option<String>,
    cancel: Cancel,
    _disk: Option<DiskWatch>,
}

impl RunningJob<'_> {
    /// Notes where the step is at that starts this program.
    pub(super) fn set_stage(&mut self, program: &Program) {
        if self.spec.keep_s.is_some() {
            self.stage = Some(Stage::of(program));
        }
    }

    /// Notes that a step of the job has failed.
    pub(super) fn fail_at(&mut self, name: &str) {
        if self.failed_at.is_none() {
            let stage = self.stage.take();
            self.failed_at = Some(FailedAt { name: name.to_owned(), stage });
        }
    }

    /// Keeps the job where it is to be kept: it has failed, by itself, and has not used more than it may.
    pub(super) fn keep(&mut self, result: &JobResult) -> Option<Kept> {
        let is_kept = self.spec.keep_s.is_some()
            && matches!(result.conclusion, JobConclusion::Failure | JobConclusion::TimedOut)
            && !self.exceeded
            && self.failed_by.is_none();
        if !is_kept {
            return None;
        }
        let (name, stage) = match self.failed_at.take() {
            Some(FailedAt { name, stage }) => (Some(name), stage),
            None => (None, None),
        };
        Some(Kept {
            stage: stage.unwrap_or_else(|| self.stage_of_job()),
            workspace: self.ground.places.workspace.clone(),
            ground: Arc::clone(&self.ground),
            held: Arc::clone(&self.held),
            step: name,
            cancel: self.cancel.clone(),
            _disk: self._disk.take(),
        })
    }

    /// Returns what a step would have that says nothing of its own.
    fn stage_of_job(&self) -> Stage {
        let mut variables = self.ground.environment.clone();
        variables.extend(self.contexts.variables());
        let variables = variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        Stage { folder: None, variables: variables.collect() }
    }
}

impl Kept {
    /// Returns the name of the step that failed first, where one did.
    pub fn step(&self) -> Option<&str> {
        self.step.as_deref()
    }

    /// Returns whether it is to end: somebody has asked for that, or it uses more than it may.
    pub fn is_over(&self) -> bool {
        self.cancel.end().is_some()
    }

    /// Asks for its end.
    pub fn end_soon(&self) {
        self.cancel.request("it need be kept no longer");
    }

    /// Starts a program where the step was at that failed, as its programs were started; without words a shell. On a
    /// terminal it is of the kind `term`.
    ///
    /// # Errors
    ///
    /// When it cannot be started, as when the job's sandbox is gone.
    pub fn start(&self, on: On<'_>, words: &[String], term: &str) -> Result<Started, ProcessError> {
        let folder = self.stage.folder.as_deref().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(&self.workspace);
        // A later step may have removed it.
        let others = [self.workspace.as_path(), Path::new("/")];
        let mut started = self.start_in(folder, on, words, term);
        for other in others {
            match started {
                Err(ProcessError::Start { error, .. })
                    if error.kind() == std::io::ErrorKind::NotADirectory => {}
                done => return done,
            }
            started = self.start_in(other, on, words, term).map(|started| {
                let gone =
                    Some(format!("{} is gone; this is {}", folder.display(), other.display()));
                Started { note: gone, ..started }
            });
        }
        started
    }

    fn start_in(
        &self,
        folder: &Path,
        on: On<'_>,
        words: &[String],
        term: &str,
    ) -> Result<Started, ProcessError> {
        let is_terminal = matches!(on, On::Terminal(_));
        let program = self.program(words, term, is_terminal).dir(folder);
        match on {
            On::Terminal(terminal) => {
                let running = self.ground.spawn_on(terminal, program)?;
                Ok(Started { running, pipes: None, note: None })
            }
            On::Pipes => {
                let (running, output, input) = self.ground.spawn_talking(program)?;
                Ok(Started { running, pipes: Some((output, input)), note: None })
            }
        }
    }

    fn program(&self, words: &[String], term: &str, is_terminal: bool) -> Program {
        let path = self.stage.variables.iter().rev().find(|(name, _)| name == "PATH");
        let path = path.map(|(_, path)| path.to_string_lossy()).unwrap_or_default();
        let program = match words {
            [] => {
                let shell = self.ground.find("bash", &path);
                let shell = Program::bare(shell.unwrap_or_else(|| "sh".into()));
                if is_terminal { shell.arg("-i") } else { shell }
            }
            [name, arguments @ ..] => {
                let found = self.ground.find(name, &path);
                Program::bare(found.unwrap_or_else(|| name.into())).args(arguments)
            }
        };
        program
            .envs(self.stage.variables.iter().map(|(name, value)| (name, value)))
            .env("TERM", term)
    }

    /// Ends it, and all that runs in it.
    pub fn end(mut self) {
        if let Some(ground) = Arc::get_mut(&mut self.ground) {
            ground.kill();
        }
        tree::kill_descendants(&[], CLEAN_UP);
        let containers = lock(&self.held.containers).take();
        // What stays bears its mark, and is found by that.
        drop(containers.map(|mut containers| containers.close()));
        self.ground.clear();
    }
}
