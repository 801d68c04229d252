//! Steps that set up a tool of this machine, in the place of their action.

use std::io;
use std::time::{Duration, Instant};

use muster_sys::clock;
use muster_sys::process::Program;
use muster_workflow::uses::Uses;

use super::action::{Use, earlier};
use super::contained::lock;
use super::{Done, RunningJob, deadline};
use crate::files::CommandFiles;
use crate::log::Allows;
use crate::setup::{Found, Looked, SetupOrder, Tool};
use crate::spec::Level;

/// Looking asks each of the machine's tools of that name for its version.
const LOOKED_WITHIN: Duration = Duration::from_secs(120);
const MAX_ANSWER: usize = 64 << 10;

impl RunningJob<'_> {
    /// Returns the tool that muster sets up itself where an action is used.
    pub(super) fn own_tool(&self, uses: &Uses) -> Option<Tool> {
        let fetching = lock(&self.actions);
        fetching.actions.own_tool(uses, &*fetching.fetch)
    }

    /// Sets a tool up that is here; what is not, and what only the action can do, the action itself does.
    pub(super) fn set_up(&mut self, tool: Tool, uses: &Uses, of: &Use<'_>) -> Done {
        let place = of.place;
        let ends = earlier(of.minutes.and_then(deadline), self.within);
        let number = self.next_number();
        let files = match CommandFiles::create(&self.ground, number) {
            Ok(files) => files,
            Err(error) => return self.unwritten(place, error),
        };
        let ready = self.tool_inputs(tool, of).and_then(|inputs| {
            let workspace = self.ground.places.workspace.clone();
            let git_ref = match uses {
                Uses::Repository { git_ref, .. } => git_ref.clone(),
                _ => String::new(),
            };
            let mut order = SetupOrder { tool, git_ref, inputs, workspace, chosen: None };
            order.chosen = self.choose(&order, uses, of, &files, number, ends)?;
            Ok(order)
        });
        let order = match ready {
            Ok(order) => order,
            Err(why) => return self.refuse(place, &why),
        };
        if order.chosen.is_none() {
            return self.fetched_action(uses, of);
        }
        let done = match self.set_up_program(&order, of, &files, number) {
            Ok(program) => self.perform_program(place, program, &files, ends, Allows::default()),
            Err(error) => self.unwritten(place, error),
        };
        // What the step was given is not for later ones.
        self.ground.remove(&order_file(number));
        done
    }

    /// Returns what the step gives its action; of what that does not have, it is told.
    fn tool_inputs(&mut self, tool: Tool, of: &Use<'_>) -> Result<Vec<(String, String)>, String> {
        let mut inputs = Vec::new();
        for (name, template) in of.with {
            let value = template.text(of.view);
            let value = value.map_err(|error| format!("input `{name}`: {error}"))?;
            if !tool.inputs().iter().any(|known| known.eq_ignore_ascii_case(name)) {
                let why = format!("the action has no input `{name}`");
                self.log.tell(of.place, Level::Warning, &why);
            }
            // What is only for downloads is written nowhere.
            if !name.to_ascii_lowercase().ends_with("token") {
                inputs.push((name.clone(), value));
            }
        }
        Ok(inputs)
    }

    /// Chooses of what is here; `None` where the action itself is to do it, which was fetched then.
    fn choose(
        &mut self,
        order: &SetupOrder,
        uses: &Uses,
        of: &Use<'_>,
        files: &CommandFiles,
        number: usize,
        ends: Option<Instant>,
    ) -> Result<Option<Vec<Found>>, String> {
        let program = self.set_up_program(order, of, files, number);
        let program = program.map_err(|error| format!("cannot prepare the step: {error}"))?;
        let left = ends.map(|ends| ends.saturating_duration_since(clock::monotonic()));
        let within = left.unwrap_or(LOOKED_WITHIN).min(LOOKED_WITHIN);
        let answer = self.ask(program, within, MAX_ANSWER);
        self.ground.remove(&order_file(number));
        if ends.is_some_and(|ends| ends <= clock::monotonic()) {
            return Err("the step took longer than its `timeout-minutes`".to_owned());
        }
        let (status, said) = answer?;
        if !status.success() {
            return Err(said);
        }
        let Looked { found, itself } =
            serde_json::from_str(&said).map_err(|_| "what is here cannot be told".to_owned())?;
        let Some(why) = itself else { return Ok(found) };
        match self.bring(of.place, |actions, fetch| actions.gather_itself(uses, fetch)) {
            Ok(()) => {
                self.say(of.place, &format!("{uses} does it itself: {why}"));
                Ok(None)
            }
            Err(missing) if found.is_some() => {
                let why = format!("what is here has to do, though {why}: {missing}");
                self.log.tell(of.place, Level::Warning, &why);
                Ok(found)
            }
            Err(missing) => Err(format!("{why}; {missing}")),
        }
    }

    fn set_up_program(
        &self,
        order: &SetupOrder,
        of: &Use<'_>,
        files: &CommandFiles,
        number: usize,
    ) -> io::Result<Program> {
        let order = self.ground.write(&order_file(number), &serde_json::to_vec(order)?)?;
        let variables = [self.contexts.around(), of.env.to_vec()].concat();
        Ok(Program::new(&self.ground.program)
            .arg("set-up")
            .arg(order)
            .dir(&self.ground.places.workspace)
            .envs(self.variables(&variables, files)))
    }
}

/// Returns the name of the file that says what to set up.
fn order_file(number: usize) -> String {
    format!("set_up_{number}.json")
}
