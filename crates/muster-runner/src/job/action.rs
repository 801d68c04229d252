//! Steps that use an action: what its manifest says is done, with its own inputs, steps and outputs.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use muster_sys::clock;
use muster_sys::process::Program;
use muster_workflow::Template;
use muster_workflow::expr::{Contexts, EvalError, JobStatus, Object};
use muster_workflow::manifest::{Hook, Manifest, Node, Runs};
use muster_workflow::uses::Uses;
use muster_workflow::workflow::Step;

use super::contained::lock;
use super::docker::{Described, Files};
use super::hooks::What;
use super::{Done, Fetching, RunningJob, deadline};
use crate::actions::{Actions, Fetch, MAX_MANIFEST, Origin, manifest, no_action};
use crate::contexts::Inside;
use crate::files::CommandFiles;
use crate::log::Allows;
use crate::spec::{Level, ServiceAccess, StepConclusion, StepEvent};

/// GitHub's bound on composite actions within each other.
const MAX_DEPTH: usize = 10;
/// The most steps of actions in a job: what uses itself again and again ends.
const MAX_STEPS: usize = 1_000;
/// Node.js says its version within this time, in so many bytes.
const NODE_ANSWERS: Duration = Duration::from_secs(10);
const NODE_SAYS: usize = 1 << 10;

/// What every action that is a container can be given.
const OF_CONTAINERS: [&str; 2] = ["entrypoint", "args"];

/// A use of an action in JavaScript.
#[derive(Clone)]
pub(super) struct Script {
    /// What tells it from all others of the job.
    pub(super) key: String,
    pub(super) node: Node,
    /// The folder of the action, as the steps see it.
    pub(super) folder: PathBuf,
    /// The variables of the step and of those around it, and what it is given.
    pub(super) env: Vec<(String, String)>,
}

/// A step that uses an action.
pub(super) struct Use<'s> {
    pub(super) place: usize,
    pub(super) step: &'s Step,
    pub(super) with: &'s [(String, Template)],
    /// The variables of the step alone.
    pub(super) env: &'s [(String, String)],
    /// What its expressions see.
    pub(super) view: &'s Contexts,
    /// Its `timeout-minutes`.
    pub(super) minutes: Option<f64>,
}

impl RunningJob<'_> {
    /// Fetches what `steps` use from elsewhere, and shows it to the steps of the job.
    pub(super) fn bring_actions(&mut self, place: usize, steps: &[Step]) -> Result<(), String> {
        let home = self.home.clone();
        self.bring(place, |actions, fetch| actions.gather(steps, &home, fetch))
    }

    /// Fetches with `gather`, and shows what is new to the steps of the job.
    pub(super) fn bring(
        &mut self,
        place: usize,
        gather: impl FnOnce(&mut Actions, &mut dyn Fetch) -> Result<(), String>,
    ) -> Result<(), String> {
        // One at a time: what is shown is put together at one place, and shown once.
        let fetching = Arc::clone(&self.actions);
        let mut fetching = lock(&fetching);
        let Fetching { actions, fetch } = &mut *fetching;
        let gathered = gather(actions, &mut **fetch);
        for repository in actions.take_new() {
            let uses = repository.uses();
            repository
                .show(&self.ground)
                .map_err(|error| format!("cannot show `{uses}`: {error}"))?;
            match &repository.fetched.origin {
                Origin::Commit(sha) => {
                    self.say(place, &format!("Action {uses} is {sha}"));
                    self.log.step(StepEvent::Uses { uses, sha: sha.clone() });
                }
                Origin::Remembered(sha, why) => {
                    let why = format!("{uses} is taken to be {sha}, as it was before: {why}");
                    self.log.tell(place, Level::Warning, &why);
                    self.log.step(StepEvent::Uses { uses, sha: sha.clone() });
                }
                Origin::Own => self.say(place, "Actions of `$/` are of the run's own commit"),
                Origin::Given => self.say(place, &format!("Action {uses} is given")),
                Origin::Native => self.say(place, &format!("Action {uses} is muster's own")),
            }
        }
        gathered
    }

    /// Does what the action in a folder of the workspace says.
    pub(super) fn local_action(&mut self, folder: &str, of: &Use<'_>) -> Done {
        let read =
            |file: &str| self.ground.read_in_workspace(&Path::new(folder).join(file), MAX_MANIFEST);
        let manifest = match manifest(folder, read) {
            Ok(Some(manifest)) => manifest,
            Ok(None) => {
                let why = no_action(folder);
                let why = format!("{why}. Is the repository checked out before this step?");
                return self.refuse(of.place, &why);
            }
            Err(why) => return self.refuse(of.place, &why),
        };
        if matches!(&manifest.runs, Runs::JavaScript { pre: Some(_), .. }) {
            let why = "`pre` of an action in the workspace does not run";
            self.log.tell(of.place, Level::Warning, why);
        }
        if let Runs::Composite(steps) = &manifest.runs
            && let Err(why) = self.bring_actions(of.place, steps)
        {
            return self.refuse(of.place, &why);
        }
        let files = Files::Workspace(PathBuf::from(folder.trim_start_matches("./")));
        let folder = self.ground.places.workspace.join(folder.trim_start_matches("./"));
        self.action(&manifest, &folder, None, &files, of)
    }

    /// Does what an action says that was fetched.
    pub(super) fn fetched_action(&mut self, uses: &Uses, of: &Use<'_>) -> Done {
        let (manifest, folder, kept) = self.fetched(uses);
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(why) => return self.refuse(of.place, &why),
        };
        let files = Files::Kept(kept);
        let home = std::mem::replace(&mut self.home, uses.clone());
        let done = self.action(&manifest, &folder, Some(uses), &files, of);
        self.home = home;
        done
    }

    /// Returns the manifest of an action that was fetched, and where its files are, as the steps see it and as we do.
    pub(super) fn fetched(&self, uses: &Uses) -> (Result<Arc<Manifest>, String>, PathBuf, PathBuf) {
        let actions = &lock(&self.actions).actions;
        let folder = self.ground.places.actions.join(actions.folder_of(uses));
        (actions.manifest(uses), folder, actions.kept(uses))
    }

    fn action(
        &mut self,
        manifest: &Manifest,
        folder: &Path,
        uses: Option<&Uses>,
        files: &Files,
        of: &Use<'_>,
    ) -> Done {
        let inputs = match self.inputs(manifest, of) {
            Ok(inputs) => inputs,
            Err(why) => return self.refuse(of.place, &why),
        };
        let within = earlier(self.within, of.minutes.and_then(deadline));
        let outer = std::mem::replace(&mut self.within, within);
        let around = self.contexts.name_action(uses);
        let done = match &manifest.runs {
            Runs::Composite(steps) => self.composite(manifest, steps, folder, inputs, of),
            Runs::JavaScript { node, main, post, .. } => {
                self.java_script(*node, folder, main, post.as_ref(), inputs, of)
            }
            runs @ Runs::Docker { .. } => match Described::of(runs) {
                Some(described) => self.docker(&described, files, inputs, of, None),
                None => Done::of(StepConclusion::Success),
            },
        };
        self.contexts.restore_action(around);
        self.within = outer;
        done
    }

    /// Returns what an action gets: what the step gives, else its defaults.
    pub(super) fn inputs(
        &mut self,
        manifest: &Manifest,
        of: &Use<'_>,
    ) -> Result<Vec<Input>, String> {
        let is_container = matches!(manifest.runs, Runs::Docker { .. });
        self.inputs_of(manifest, of, is_container)
    }

    /// As [`Self::inputs`]; a container is told by two more what it runs.
    pub(super) fn inputs_of(
        &mut self,
        manifest: &Manifest,
        of: &Use<'_>,
        is_container: bool,
    ) -> Result<Vec<Input>, String> {
        let mut inputs = Vec::new();
        let failed = |name: &str, error: EvalError| format!("input `{name}`: {error}");
        for (name, template) in of.with {
            let value = template.text(of.view).map_err(|error| failed(name, error))?;
            let known = manifest.inputs.iter().find(|input| input.name.eq_ignore_ascii_case(name));
            match known {
                None if is_container
                    && OF_CONTAINERS.iter().any(|of| name.eq_ignore_ascii_case(of)) => {}
                None => {
                    let why = format!("the action has no input `{name}`");
                    self.log.tell(of.place, Level::Warning, &why);
                }
                Some(input) => {
                    if let Some(why) = &input.deprecated {
                        let why = format!("input `{name}` is deprecated: {why}");
                        self.log.tell(of.place, Level::Warning, &why);
                    }
                }
            }
            let is_hostile = matches!(template.hostile(of.view), Ok(Some(_)));
            let is_hostile = is_hostile || template.reads_field("inputs", &self.hostile_inputs);
            inputs.push(Input { name: name.clone(), value, is_hostile });
        }
        for input in &manifest.inputs {
            if inputs.iter().any(|given| given.name.eq_ignore_ascii_case(&input.name)) {
                continue;
            }
            let default = input.default.as_ref();
            let is_hostile =
                default.is_some_and(|default| matches!(default.hostile(of.view), Ok(Some(_))));
            let value = default.map(|default| default.text(of.view)).transpose();
            let value = value.map_err(|error| failed(&input.name, error))?.unwrap_or_default();
            inputs.push(Input { name: input.name.clone(), value, is_hostile });
        }
        Ok(inputs)
    }

    fn composite(
        &mut self,
        manifest: &Manifest,
        steps: &[Step],
        folder: &Path,
        inputs: Vec<Input>,
        of: &Use<'_>,
    ) -> Done {
        if self.depth == MAX_DEPTH {
            let why = format!("composite actions use each other deeper than {MAX_DEPTH}");
            return self.refuse(of.place, &why);
        }
        let hostile = inputs.iter().filter(|input| input.is_hostile);
        let hostile_inputs = hostile.map(|input| input.name.clone()).collect();
        let inside = Inside {
            inputs: inputs.into_iter().map(|input| (input.name, input.value)).collect::<Object>(),
            action_path: folder.to_string_lossy().into_owned(),
            env: of.env.to_vec(),
        };
        let outside = self.contexts.enter(inside);
        let hostile_inputs = std::mem::replace(&mut self.hostile_inputs, hostile_inputs);
        self.depth += 1;
        let scope = format!("{}/", self.key(of.step));
        let scope = std::mem::replace(&mut self.scope, scope);
        let mut stopped = None;
        for step in steps {
            if self.steps_of_actions.fetch_add(1, Ordering::Relaxed) >= MAX_STEPS {
                stopped = Some(format!("the actions of the job have more than {MAX_STEPS} steps"));
            } else if self.within.is_some_and(|within| clock::monotonic() >= within) {
                stopped = Some("the step took longer than its `timeout-minutes`".to_owned());
            }
            if stopped.is_some() || self.failed_by.is_some() {
                break;
            }
            self.step(of.place, step);
        }
        self.depth -= 1;
        self.scope = scope;
        self.hostile_inputs = hostile_inputs;
        let mut outputs = Vec::new();
        let mut refused = None;
        for (name, value) in &manifest.outputs {
            let value = value.as_ref().map(|value| value.text(self.contexts.view())).transpose();
            match value {
                Ok(value) => outputs.push((name.clone(), value.unwrap_or_default())),
                Err(error) => refused = Some(format!("output `{name}`: {error}")),
            }
        }
        let outcome = match self.contexts.leave(outside) {
            JobStatus::Failure => StepConclusion::Failure,
            JobStatus::Cancelled => StepConclusion::Cancelled,
            JobStatus::Success | JobStatus::Skipped => StepConclusion::Success,
        };
        match stopped.or(refused) {
            Some(why) => self.refuse(of.place, &why),
            None => Done { outcome, outputs, state: Vec::new() },
        }
    }

    fn java_script(
        &mut self,
        node: Node,
        folder: &Path,
        main: &str,
        post: Option<&Hook>,
        inputs: Vec<Input>,
        of: &Use<'_>,
    ) -> Done {
        let script = Script {
            key: self.key(of.step),
            node,
            folder: folder.to_owned(),
            env: [self.contexts.around(), of.env.to_vec(), as_variables(inputs)].concat(),
        };
        let done = self.node(of.place, &script, main);
        self.leave_post(What::Script(script), post, of);
        done
    }

    /// Returns what tells a use of an action from all others of the job.
    pub(super) fn key(&self, step: &Step) -> String {
        format!("{}{}", self.scope, step.id)
    }

    /// Runs a program of an action in JavaScript. What it keeps is given to those that come after.
    pub(super) fn node(&mut self, place: usize, script: &Script, program: &str) -> Done {
        let number = self.next_number();
        let files = match CommandFiles::create(&self.ground, number) {
            Ok(files) => files,
            Err(error) => return self.unwritten(place, error),
        };
        let kept = self.states.get(&script.key).cloned().unwrap_or_default().into_iter();
        let kept = kept.map(|(name, value)| (format!("STATE_{name}"), value));
        let env: Vec<_> = script.env.iter().cloned().chain(kept).chain(self.services()).collect();
        let variables = self.variables(&env, &files);
        let allows = Allows::of(&variables);
        let node = match self.find_node(script.node, &variables) {
            Ok(node) => node,
            Err(why) => return self.refuse(place, &why),
        };
        let program = Program::new(node)
            .arg(script.folder.join(program))
            .dir(&self.ground.places.workspace)
            .envs(variables);
        self.set_stage(&program);
        let mut done = self.perform_program(place, program, &files, None, allows);
        let state = std::mem::take(&mut done.state);
        self.states.entry(script.key.clone()).or_default().extend(state);
        done
    }

    /// Returns the variables by which GitHub's clients find the services for actions.
    pub(super) fn services(&self) -> Vec<(String, String)> {
        let Some(ServiceAccess { url, token, .. }) = &self.spec.private.services else {
            return Vec::new();
        };
        let urls = ["ACTIONS_RUNTIME_URL", "ACTIONS_RESULTS_URL", "ACTIONS_CACHE_URL"];
        let mut variables = urls.map(|name| (name.to_owned(), url.clone())).to_vec();
        variables.push(("ACTIONS_RUNTIME_TOKEN".to_owned(), token.clone()));
        variables.push(("ACTIONS_CACHE_SERVICE_V2".to_owned(), "True".to_owned()));
        variables
    }

    /// Finds the Node.js that an action asks for, or a newer one: the machine's, else one that a step has put into PATH.
    /// It is asked as a step would ask it: what a step has put in its place is the step's own.
    fn find_node(
        &mut self,
        Node(wanted): Node,
        variables: &[(String, String)],
    ) -> Result<PathBuf, String> {
        let path = |variables: &[(String, String)]| {
            let found = variables.iter().rev().find(|(name, _)| name == "PATH");
            found.map(|(_, path)| path.clone()).unwrap_or_default()
        };
        let mut tried = Vec::new();
        let own = self.ground.own_node().map(Path::to_owned);
        let others = [path(&self.ground.environment), path(variables)];
        let others = others.map(|path| self.ground.find("node", &path));
        for node in [own].into_iter().chain(others).flatten() {
            if tried.iter().any(|(known, _)| *known == node) {
                continue;
            }
            let program = Program::new(&node)
                .arg("--version")
                .dir(&self.ground.places.workspace)
                .envs(variables.iter().cloned());
            let answer = self.ask(program, NODE_ANSWERS, NODE_SAYS);
            // An image need not have one.
            let (_, said) = match answer {
                Err(why) if self.ground.has_own_root() => (ExitStatus::default(), why),
                answer => answer.map_err(|why| format!("`node --version`: {why}"))?,
            };
            let version = said.trim_start_matches('v').split('.').next();
            match version.and_then(|version| version.parse::<u32>().ok()) {
                Some(version) if version >= wanted => return Ok(node),
                _ => tried.push((node, said)),
            }
        }
        let there: Vec<String> =
            tried.iter().map(|(node, said)| format!("{} is `{said}`", node.display())).collect();
        Err(if there.is_empty() {
            format!("the action asks for Node.js {wanted}, and there is no `node` in PATH")
        } else {
            format!("the action asks for Node.js {wanted}, and {}", there.join(", "))
        })
    }
}

/// Returns what an action is given as variables.
pub(super) fn as_variables(inputs: Vec<Input>) -> Vec<(String, String)> {
    let name = |name: &str| format!("INPUT_{}", name.replace(' ', "_").to_uppercase());
    inputs.into_iter().map(|input| (name(&input.name), input.value)).collect()
}

/// What an action is given.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) value: String,
    /// Whether strangers have written it, and it is more than a word to a shell.
    is_hostile: bool,
}

/// Returns the earlier of two moments.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
