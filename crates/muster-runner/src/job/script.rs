//! Steps that are one program: a script in its shell, a checkout.

use std::io;
use std::time::Instant;

use muster_sys::process::Program;
use muster_workflow::Template;
use muster_workflow::expr::{Contexts, EvalError, Value};
use muster_workflow::workflow::Defaults;

use super::action::Use;
use super::contained::adopt;
use super::{Done, RunningJob, deadline};
use crate::checkout::{CheckoutOrder, Credentials, Inputs};
use crate::files::CommandFiles;
use crate::log::Allows;
use crate::shell;
use crate::spec::StepConclusion;

/// Why a step does not start.
enum Unprepared {
    /// It is wrong.
    Wrong(String),
    /// What it needs could not be written.
    Unwritten(io::Error),
}

impl RunningJob<'_> {
    /// Checks the commit out that the run is about, or another of its repository.
    pub(super) fn checkout(&mut self, of: &Use<'_>) -> Done {
        let place = of.place;
        let input = |name: &str| {
            let given = of.with.iter().find(|(input, _)| input.eq_ignore_ascii_case(name));
            given.map_or(Ok(String::new()), |(_, template)| template.text(of.view))
        };
        let read = || {
            let persists = !input("persist-credentials")?.trim().eq_ignore_ascii_case("false");
            let credentials = persists.then(|| self.credentials(input("token")?)).transpose()?;
            let (git_ref, path, fetch_depth) =
                (input("ref")?, input("path")?, input("fetch-depth")?);
            let credentials = credentials.flatten();
            Ok::<_, EvalError>(Inputs { git_ref, path, fetch_depth, credentials })
        };
        let inputs = match read() {
            Ok(inputs) => inputs,
            Err(error) => return self.refuse(place, &format!("`with`: {error}")),
        };
        if self.spec.in_place.is_some() {
            self.say(place, "Running in place: the work tree is used as it is.");
            return Done::of(StepConclusion::Success);
        }
        let path = inputs.path.clone();
        let done = self.beside(|job, inside| {
            let done = job.check_out(of, inputs, inside.is_some());
            match inside.filter(|_| done.outcome == StepConclusion::Success) {
                Some(inside) => adopt(inside, &job.ground, &path).map(|()| done),
                None => Ok(done),
            }
        });
        match done.and_then(|done| done) {
            Ok(done) => done,
            Err(why) => self.refuse(place, &why),
        }
    }

    fn check_out(&mut self, of: &Use<'_>, mut inputs: Inputs, is_beside: bool) -> Done {
        let place = of.place;
        if is_beside {
            // Handed over it comes to its path, which must lead over nothing that was checked out.
            inputs.path = String::new();
            if let Err(error) = self.ground.begin_anew() {
                return self.unwritten(place, error);
            }
        }
        let order = CheckoutOrder {
            source: self.ground.source.clone(),
            inputs,
            workspace: self.ground.places.workspace.clone(),
        };
        let prepared = serde_json::to_vec(&order).map_err(io::Error::from).and_then(|order| {
            let number = self.next_number();
            let files = CommandFiles::create(&self.ground, number)?;
            Ok((self.ground.write(&format!("checkout_{number}.json"), &order)?, files))
        });
        let (order, files) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return self.unwritten(place, error),
        };
        let path = self.ground.environment.iter().find(|(name, _)| name == "PATH").cloned();
        let program = Program::new(&self.ground.program)
            .arg("checkout")
            .arg(order)
            .dir(&self.ground.places.workspace)
            .envs(path)
            .envs(files.variables());
        let deadline = of.minutes.and_then(deadline);
        self.perform_program(place, program, &files, deadline, Allows::default())
    }

    /// Returns what a checkout leaves for git to show to the code host: a `token`, else that of the job.
    fn credentials(&self, token: String) -> Result<Option<Credentials>, EvalError> {
        let github = |field: &str| match self.contexts.view().get("github") {
            Some(Value::Object(github)) => github.get(field).map(Value::to_string),
            _ => None,
        };
        let token = Some(token).filter(|token| !token.is_empty()).or_else(|| github("token"));
        let token = token.filter(|token| !token.is_empty());
        let url = github("server_url").unwrap_or_default();
        Ok(token.map(|token| Credentials { url, token }))
    }

    pub(super) fn script(
        &mut self,
        place: usize,
        deadline: Option<Instant>,
        env: &[(String, String)],
        view: &Contexts,
        [script, shell, folder]: [Option<&Template>; 3],
    ) -> Done {
        let prepared = self.prepare_script(view, env, [script, shell, folder]);
        let (program, files, allows) = match prepared {
            Ok(prepared) => prepared,
            Err(Unprepared::Wrong(why)) => return self.refuse(place, &why),
            Err(Unprepared::Unwritten(error)) => return self.unwritten(place, error),
        };
        self.perform_program(place, program, &files, deadline, allows)
    }

    /// Writes the script and builds the command that runs it.
    fn prepare_script(
        &mut self,
        view: &Contexts,
        env: &[(String, String)],
        [script, shell, folder]: [Option<&Template>; 3],
    ) -> Result<(Program, CommandFiles, Allows), Unprepared> {
        let wrong = Unprepared::Wrong;
        // A step of an action says itself what it needs.
        let defaults: &[&Defaults] = match self.depth {
            0 => &[&self.definition.defaults, &self.workflow.defaults],
            _ => &[],
        };
        let shell = shell.or_else(|| defaults.iter().find_map(|defaults| defaults.shell.as_ref()));
        let folder = folder
            .or_else(|| defaults.iter().find_map(|defaults| defaults.working_directory.as_ref()));
        let text = |what: &str, template: Option<&Template>| {
            let text = template.map(|template| template.text(view)).transpose();
            text.map_err(|error| wrong(format!("`{what}`: {error}")))
        };
        for template in [script, shell, folder].into_iter().flatten().filter(|_| self.spec.guarded)
        {
            if template.reads_field("inputs", &self.hostile_inputs) {
                let why = "an input of the action holds text of a stranger that a shell could take for commands. \
                           The action has to hand it over as a variable: `env: {TEXT: ${{ inputs.NAME }}}`, and \
                           \"$TEXT\" in the script";
                return Err(wrong(why.to_owned()));
            }
            if let Ok(Some(path)) = template.hostile(view) {
                return Err(wrong(format!(
                    "`${{{{ {path} }}}}` holds text of a stranger that a shell could take for commands. \
                     Hand it over as a variable: `env: {{TEXT: ${{{{ {path} }}}}}}`, and \"$TEXT\" in the script"
                )));
            }
        }
        let script = text("run", script)?.unwrap_or_default();
        let shell = text("shell", shell)?;
        let folder = text("working-directory", folder)?.unwrap_or_default();
        let folder = self.ground.places.workspace.join(folder);
        if self.ground.lacks_folder(&folder) {
            let text = format!("`working-directory`: {} does not exist", folder.display());
            return Err(wrong(text));
        }
        let number = self.next_number();
        let files = CommandFiles::create(&self.ground, number).map_err(Unprepared::Unwritten)?;
        let name = format!("step_{number}.{}", shell::extension(shell.as_deref()));
        let script = shell::prepare(shell.as_deref(), &script);
        let path = self.ground.write(&name, script.as_bytes());
        let path = path.map_err(Unprepared::Unwritten)?;
        let variables = self.variables(env, &files);
        let search_path = variables.iter().rev().find(|(name, _)| name == "PATH");
        let search_path = search_path.map(|(_, value)| value.as_str()).unwrap_or_default();
        let find = |name: &str| self.ground.find(name, search_path);
        // What an image has is not ours to say, so GitHub takes what every one has.
        let in_container = self.ground.inmate().map(|_| "sh");
        let invocation = shell::invocation(shell.as_deref().or(in_container), &path, find)
            .map_err(|error| wrong(error.to_string()))?;
        let allows = Allows::of(&variables);
        let program =
            Program::new(invocation.program).args(invocation.args).dir(&folder).envs(variables);
        self.set_stage(&program);
        Ok((program, files, allows))
    }

    /// Returns the variables by which a step gets identity tokens, where the job may have any.
    pub(super) fn identity(&self) -> Vec<(String, String)> {
        let Some(access) = &self.spec.private.services else { return Vec::new() };
        let Some(url) = &access.identity_url else { return Vec::new() };
        let variables = [
            ("ACTIONS_ID_TOKEN_REQUEST_URL", url),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", &access.token),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.clone())).to_vec()
    }

    /// Returns the variables of a step, the later ones overriding.
    pub(super) fn variables(
        &self,
        env: &[(String, String)],
        files: &CommandFiles,
    ) -> Vec<(String, String)> {
        let mut variables = self.ground.environment.clone();
        variables.extend(self.contexts.variables());
        variables.extend(self.identity());
        variables.extend(env.iter().cloned());
        for (name, path) in files.variables() {
            variables.push((name.to_owned(), path.to_string_lossy().into_owned()));
        }
        let path =
            variables.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
        let mut paths = self.paths.clone();
        paths.extend(path);
        variables.push(("PATH".to_owned(), paths.join(":")));
        variables
    }
}
