//! Steps that use an action: what its manifest says is done, with its own inputs, steps and outputs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use muster_sys::clock;
use muster_sys::process::Program;
use muster_workflow::expr::{Contexts, EvalError, JobStatus, Object};
use muster_workflow::manifest::{Hook, Manifest, Node, Runs};
use muster_workflow::workflow::Step;
use muster_workflow::{Condition, Template};

use super::{Done, RunningJob, deadline};
use crate::contexts::Inside;
use crate::files::CommandFiles;
use crate::follow::{Bounds, Stop, follow};
use crate::log::Allows;
use crate::spec::{Level, StepConclusion, StepEvent};

/// The most bytes of a manifest.
const MAX_MANIFEST: u64 = 1 << 20;
/// GitHub's bound on composite actions within each other.
const MAX_DEPTH: usize = 10;
/// The most steps of actions in a job: what uses itself again and again ends.
const MAX_STEPS: usize = 1_000;
/// Node.js says its version within this time, in so many bytes.
const NODE_ANSWERS: Duration = Duration::from_secs(10);
const NODE_SAYS: usize = 1 << 10;

/// What an action does when all steps are done.
pub(super) struct Post {
    /// The step's name, as its log has it.
    name: String,
    condition: Option<Condition>,
    /// The id of the step of the job.
    action: String,
    minutes: Option<f64>,
    /// Whether it may fail.
    is_forgiven: bool,
    /// The variables of the step, and of those around it.
    env: Vec<(String, String)>,
    /// What the action was given, and what it has kept, as variables.
    variables: Vec<(String, String)>,
    node: Node,
    program: PathBuf,
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
    /// Does what the action in a folder of the workspace says.
    pub(super) fn local_action(&mut self, folder: &str, of: &Use<'_>) -> Done {
        let manifest = match self.manifest(folder) {
            Ok(manifest) => manifest,
            Err(why) => return self.refuse(of.place, &why),
        };
        if matches!(&manifest.runs, Runs::JavaScript { pre: Some(_), .. }) {
            let why = "`pre` of an action in the workspace does not run";
            self.log.tell(of.place, Level::Warning, why);
        }
        let inputs = match self.inputs(&manifest, of) {
            Ok(inputs) => inputs,
            Err(why) => return self.refuse(of.place, &why),
        };
        let folder = self.ground.places.workspace.join(folder.trim_start_matches("./"));
        let within = earlier(self.within, of.minutes.and_then(deadline));
        let outer = std::mem::replace(&mut self.within, within);
        let done = match &manifest.runs {
            Runs::Composite(steps) => self.composite(&manifest, steps, &folder, inputs, of),
            Runs::JavaScript { node, main, post, .. } => {
                self.java_script(*node, [&folder, Path::new(main)], post.as_ref(), inputs, of)
            }
            Runs::Docker { .. } => {
                self.refuse(of.place, "actions that are containers are not supported yet")
            }
        };
        self.within = outer;
        done
    }

    /// Reads the manifest of an action in the workspace.
    fn manifest(&self, folder: &str) -> Result<Manifest, String> {
        for file in ["action.yml", "action.yaml"] {
            let path = Path::new(folder).join(file);
            let found = self.ground.read_in_workspace(&path, MAX_MANIFEST);
            let found =
                found.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            let Some(text) = found else { continue };
            if text.len() as u64 > MAX_MANIFEST {
                return Err(format!("{} has more than {MAX_MANIFEST} bytes", path.display()));
            }
            let text = String::from_utf8_lossy(&text);
            return Manifest::read(&text).map_err(|problems| {
                let problems = problems.iter().map(|problem| {
                    format!("{}:{}: {}", path.display(), problem.line(&text), problem.message)
                });
                problems.collect::<Vec<_>>().join("\n")
            });
        }
        Err(format!(
            "no action in `{folder}`: it has neither action.yml nor action.yaml. Is the repository checked out \
             before this step?"
        ))
    }

    /// Returns what an action gets: what the step gives, else its defaults.
    fn inputs(&mut self, manifest: &Manifest, of: &Use<'_>) -> Result<Vec<Input>, String> {
        let mut inputs = Vec::new();
        let failed = |name: &str, error: EvalError| format!("input `{name}`: {error}");
        for (name, template) in of.with {
            let value = template.text(of.view).map_err(|error| failed(name, error))?;
            let known = manifest.inputs.iter().find(|input| input.name.eq_ignore_ascii_case(name));
            match known {
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
        let mut stopped = None;
        for step in steps {
            self.steps_of_actions += 1;
            if self.steps_of_actions > MAX_STEPS {
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
        [folder, main]: [&Path; 2],
        post: Option<&Hook>,
        inputs: Vec<Input>,
        of: &Use<'_>,
    ) -> Done {
        let mut variables: Vec<(String, String)> = inputs
            .into_iter()
            .map(|input| {
                (format!("INPUT_{}", input.name.replace(' ', "_").to_uppercase()), input.value)
            })
            .collect();
        let more = [of.env, variables.as_slice()].concat();
        let mut done = self.node(of.place, node, &folder.join(main), &more);
        if let Some(post) = post {
            // What it has kept is given back to it.
            let state = std::mem::take(&mut done.state).into_iter();
            variables.extend(state.map(|(name, value)| (format!("STATE_{name}"), value)));
            self.posts.push(Post {
                name: of.step.display_name(of.view),
                condition: post.condition.clone(),
                action: self.contexts.action(),
                minutes: of.minutes,
                is_forgiven: of.step.continue_on_error.get(of.view).unwrap_or(false),
                env: [self.contexts.around(), of.env.to_vec()].concat(),
                variables,
                node,
                program: folder.join(&post.program),
            });
        }
        done
    }

    /// Runs a program of JavaScript.
    fn node(&mut self, place: usize, node: Node, program: &Path, env: &[(String, String)]) -> Done {
        let number = self.next_number();
        let files = match CommandFiles::create(&self.ground, number) {
            Ok(files) => files,
            Err(error) => return self.unwritten(place, error),
        };
        let variables = self.variables(env, &files);
        let allows = Allows::of(&variables);
        let node = match self.find_node(node, &variables) {
            Ok(node) => node,
            Err(why) => return self.refuse(place, &why),
        };
        let program =
            Program::new(node).arg(program).dir(&self.ground.places.workspace).envs(variables);
        self.perform_program(place, program, &files, None, allows)
    }

    /// Finds the Node.js that an action asks for, or a newer one. It is asked as a step would ask it: what a step has put
    /// in its place is the step's own.
    fn find_node(
        &mut self,
        Node(wanted): Node,
        variables: &[(String, String)],
    ) -> Result<PathBuf, String> {
        let path = variables.iter().rev().find(|(name, _)| name == "PATH");
        let path = path.map(|(_, path)| path.as_str()).unwrap_or_default();
        let node = self.ground.find("node", path);
        let node = node.ok_or_else(|| {
            format!("the action asks for Node.js {wanted}, and there is no `node` in PATH")
        })?;
        let program = Program::new(&node)
            .arg("--version")
            .dir(&self.ground.places.workspace)
            .envs(variables.iter().cloned());
        let mut running = self.ground.spawn(program).map_err(|error| error.to_string())?;
        let bounds = Bounds {
            step: clock::monotonic().checked_add(NODE_ANSWERS),
            job: self.deadline,
            idle: None,
            tick: None,
        };
        let mut said = Vec::new();
        let followed = follow(&mut running, self.cancel, bounds, |bytes| {
            let room = NODE_SAYS.saturating_sub(said.len());
            said.extend(bytes.unwrap_or_default().iter().take(room));
        });
        let ended =
            followed.map_err(|error| format!("lost touch with `node --version`: {error}"))?;
        if let Some(stop) = ended.stopped.filter(|stop| *stop != Stop::StepTimeout) {
            self.stop_job(stop);
            return Err("stopped".to_owned());
        }
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let version = said.trim_start_matches('v').split('.').next();
        match version.and_then(|version| version.parse::<u32>().ok()) {
            Some(version) if version >= wanted => Ok(node),
            _ => Err(format!(
                "the action asks for Node.js {wanted}, and {} is `{said}`",
                node.display()
            )),
        }
    }

    /// Does what actions have left for the end, the last first. `first` is the place after that of the last step.
    pub(super) fn run_posts(&mut self, first: usize) {
        let mut place = first;
        while let Some(post) = self.posts.pop() {
            self.notice_cancel();
            self.drain_left_open();
            let view = self.contexts.with_env(&post.env);
            let holds =
                post.condition.as_ref().map_or(Ok(true), |condition| condition.holds(&view));
            if self.exceeded || self.failed_by.is_some() || holds == Ok(false) {
                continue;
            }
            self.memory_kills = self.ground.memory_kills();
            self.contexts.set_action(&post.action);
            self.within = post.minutes.and_then(deadline);
            let name = format!("Post {}", post.name);
            let at = clock::now_ms();
            self.log.step(StepEvent::Started { step: place, name: name.clone(), at });
            let done = match holds {
                Err(error) => self.refuse(place, &format!("`post-if` has no value: {error}")),
                Ok(_) => {
                    let env = [post.env.as_slice(), &post.variables].concat();
                    self.node(place, post.node, &post.program, &env)
                }
            };
            let (outcome, at) = (done.outcome, clock::now_ms());
            let is_forgiven = post.is_forgiven && outcome == StepConclusion::Failure;
            let conclusion = if is_forgiven { StepConclusion::Success } else { outcome };
            if conclusion == StepConclusion::Failure && self.contexts.goes_well() {
                self.contexts.set_status(JobStatus::Failure);
            }
            self.log.step(StepEvent::Finished { step: place, name, outcome, conclusion, at });
            place += 1;
        }
    }
}

/// What an action is given.
struct Input {
    name: String,
    value: String,
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
