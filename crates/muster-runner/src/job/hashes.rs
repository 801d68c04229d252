//! What `hashFiles` answers in a step: found out by a program in the job's own place, before the step needs it.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use muster_sys::clock;
use muster_sys::process::Program;
use muster_workflow::workflow::Step;

use super::RunningJob;
use crate::follow::{Bounds, Stop, follow};
use crate::hash_files::HashOrder;

/// GitHub's bound on one call.
const HASHED_WITHIN: Duration = Duration::from_secs(120);
/// A hash, or what is wrong, has so many bytes.
const MAX_ANSWER: usize = 4 << 10;
/// What depends on hashes can ask for more; so often.
const MAX_ROUNDS: usize = 10;

impl RunningJob<'_> {
    /// Finds out what the expressions of a step ask of files.
    pub(super) fn hash_files(&mut self, step: &Step) {
        if !step.calls_hash_files() {
            return;
        }
        let files = self.contexts.files();
        // Steps may have changed any since.
        files.forget();
        for _ in 0..MAX_ROUNDS {
            let view = match self.contexts.evaluate(&step.env) {
                Ok(env) => self.contexts.with_env(&env),
                Err(_) => self.contexts.view().clone(),
            };
            step.ask(&view);
            let asked = files.asked();
            if asked.is_empty() {
                break;
            }
            for patterns in asked {
                let hash = self.hash(&patterns);
                files.tell(patterns, hash);
            }
        }
    }

    fn hash(&mut self, patterns: &[String]) -> Result<String, String> {
        self.beside(|job, inside| {
            let inside = inside.map(|inside| inside.workspace_from(&job.ground));
            let workspace = inside.unwrap_or_else(|| job.ground.places.workspace.clone());
            job.hash_in(&workspace, patterns)
        })?
    }

    fn hash_in(&mut self, workspace: &Path, patterns: &[String]) -> Result<String, String> {
        let order = HashOrder { workspace: workspace.to_owned(), patterns: patterns.to_vec() };
        let name = format!("hash_{}.json", self.next_number());
        let order = serde_json::to_vec(&order).map_err(|error| error.to_string())?;
        let order = self.ground.write(&name, &order).map_err(|error| error.to_string())?;
        let home = self.ground.environment.iter().filter(|(name, _)| name == "HOME").cloned();
        let program = Program::new(&self.ground.program)
            .arg("hash-files")
            .arg(order)
            .dir(workspace)
            .envs(home);
        let answer = self.ask(program, HASHED_WITHIN, MAX_ANSWER);
        self.ground.remove(&name);
        match answer? {
            (status, hash) if status.success() => Ok(hash),
            (_, why) => Err(why),
        }
    }

    /// Runs a program that answers in one line, with the bounds of the job; returns how it ended, and the line.
    pub(super) fn ask(
        &mut self,
        program: Program,
        within: Duration,
        most: usize,
    ) -> Result<(ExitStatus, String), String> {
        let mut running = self.ground.spawn(program).map_err(|error| error.to_string())?;
        let bounds = Bounds {
            step: clock::monotonic().checked_add(within),
            job: self.deadline,
            idle: None,
            tick: None,
        };
        let mut said = Vec::new();
        let followed = follow(&mut running, &self.cancel, bounds, |bytes| {
            let room = most.saturating_sub(said.len());
            said.extend(bytes.unwrap_or_default().iter().take(room));
        });
        let ended = followed.map_err(|error| format!("lost touch with it: {error}"))?;
        match ended.stopped {
            Some(Stop::StepTimeout) => return Err(format!("no answer in {} s", within.as_secs())),
            Some(stop) => {
                self.stop_job(stop);
                return Err("stopped".to_owned());
            }
            None => {}
        }
        Ok((ended.status, String::from_utf8_lossy(&said).trim().to_owned()))
    }
}
