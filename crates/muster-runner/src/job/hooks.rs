//! What actions do before all steps of a job, and after them.

use muster_sys::clock;
use muster_workflow::Condition;
use muster_workflow::expr::JobStatus;
use muster_workflow::manifest::{Hook, Manifest, Runs};
use muster_workflow::uses::Uses;
use muster_workflow::workflow::{Action, Step};

use super::action::{Script, Use, as_variables};
use super::docker::{Container, Described, Files};
use super::{Done, RunningJob, background, deadline};
use crate::spec::{StepConclusion, StepEvent};

/// What an action does when all steps are done.
pub(super) struct Post {
    /// The step's name, as its log has it.
    name: String,
    condition: Option<Condition>,
    /// The id of the step of the job.
    action: String,
    /// The repository and ref of the action.
    named: [String; 2],
    minutes: Option<f64>,
    /// Whether it may fail.
    is_forgiven: bool,
    what: What,
    program: String,
}

/// What an action is that does something at the end of a job.
pub(super) enum What {
    Script(Script),
    Container(Box<Container>),
}

impl What {
    fn key(&self) -> &str {
        match self {
            Self::Script(script) => &script.key,
            Self::Container(container) => &container.key,
        }
    }

    fn env(&self) -> &[(String, String)] {
        match self {
            Self::Script(script) => &script.env,
            Self::Container(container) => &container.env,
        }
    }
}

impl RunningJob<'_> {
    /// Does what the actions of steps do before all of them; returns how many did anything.
    pub(super) fn run_pres(&mut self, steps: &[Step]) -> usize {
        let mut place = 0;
        let grouped = steps.iter().flat_map(|step| step.alone().iter().map(move |one| (step, one)));
        for (group, step) in grouped {
            let Action::Uses { uses, with } = &step.action else { continue };
            let uses = &uses.within(&self.home);
            let (Ok(manifest), ..) = self.fetched(uses) else { continue };
            let (Runs::JavaScript { pre: Some(pre), .. } | Runs::Docker { pre: Some(pre), .. }) =
                &manifest.runs
            else {
                continue;
            };
            self.notice_cancel();
            if self.refused.is_some() || self.exceeded || self.failed_by.is_some() {
                break;
            }
            self.contexts.set_action(&step.id);
            self.scope = background::scope_of(group);
            let env = self.contexts.evaluate(&step.env);
            let view = match &env {
                Ok(env) => self.contexts.with_env(env),
                Err(_) => self.contexts.view().clone(),
            };
            let condition = pre.condition.as_ref();
            let holds = condition.map_or(Ok(true), |condition| condition.holds_alone(&view));
            if holds == Ok(false) {
                continue;
            }
            place += 1;
            let name = format!("Pre {}", step.display_name(&view));
            let at = clock::now_ms();
            self.log.step(StepEvent::Started { step: place, name: name.clone(), at });
            let around = self.contexts.name_action(Some(uses));
            let done = match (env, holds) {
                (Err(error), _) => self.refuse(place, &format!("`env`: {error}")),
                (_, Err(error)) => self.refuse(place, &format!("`pre-if` has no value: {error}")),
                (Ok(env), Ok(_)) => {
                    let minutes = step.timeout_minutes.as_ref();
                    let minutes = minutes.and_then(|minutes| minutes.get(&view).ok());
                    let of = Use { place, step, with, env: &env, view: &view, minutes };
                    self.within = minutes.and_then(deadline);
                    self.pre(uses, &manifest, &of)
                }
            };
            self.within = None;
            self.contexts.restore_action(around);
            let is_forgiven = step.continue_on_error.get(&view).unwrap_or(false);
            self.end_hook(place, name, done.outcome, is_forgiven);
        }
        self.scope = String::new();
        place
    }

    fn pre(&mut self, uses: &Uses, manifest: &Manifest, of: &Use<'_>) -> Done {
        let inputs = match self.inputs(manifest, of) {
            Ok(inputs) => inputs,
            Err(why) => return self.refuse(of.place, &why),
        };
        let (node, pre, post) = match &manifest.runs {
            Runs::JavaScript { node, pre, post, .. } => (*node, pre, post),
            runs => {
                let (_, _, kept) = self.fetched(uses);
                let files = Files::Kept(kept);
                return match Described::of(runs) {
                    Some(described) => self.docker(&described, &files, inputs, of, described.pre),
                    None => Done::of(StepConclusion::Success),
                };
            }
        };
        let script = Script {
            key: self.key(of.step),
            node,
            folder: self.fetched(uses).1,
            env: [of.env.to_vec(), as_variables(inputs)].concat(),
        };
        let program = pre.as_ref().map(|pre| pre.program.as_str()).unwrap_or_default();
        let done = self.node(of.place, &script, program);
        self.leave_post(What::Script(script), post.as_ref(), of);
        done
    }

    /// Leaves for the end of the job what an action does then, once for each use, with what it is given now.
    pub(super) fn leave_post(&mut self, what: What, post: Option<&Hook>, of: &Use<'_>) {
        let Some(post) = post else { return };
        self.keep_post(Post {
            name: of.step.display_name(of.view),
            condition: post.condition.clone(),
            action: self.contexts.action(),
            named: self.contexts.action_names(),
            minutes: of.minutes,
            is_forgiven: of.step.continue_on_error.get(of.view).unwrap_or(false),
            what,
            program: post.program.clone(),
        });
    }

    /// Keeps what is to be done at the end of the job.
    pub(super) fn keep_post(&mut self, post: Post) {
        // What came before the first step knew less.
        match self.posts.iter_mut().find(|known| known.what.key() == post.what.key()) {
            Some(known) => known.what = post.what,
            None => self.posts.push(post),
        }
    }

    /// Does what actions have left for the end, the last first. `first` is the place after that of the last step.
    pub(super) fn run_posts(&mut self, first: usize) {
        let mut place = first;
        while let Some(post) = self.posts.pop() {
            self.notice_cancel();
            self.drain_left_open();
            let view = self.contexts.with_env(post.what.env());
            let condition = post.condition.as_ref();
            let holds = condition.map_or(Ok(true), |condition| condition.holds_alone(&view));
            if self.exceeded || self.failed_by.is_some() || holds == Ok(false) {
                continue;
            }
            self.memory_kills = self.ground.memory_kills();
            self.contexts.set_action(&post.action);
            self.contexts.restore_action(post.named);
            self.within = post.minutes.and_then(deadline);
            let name = format!("Post {}", post.name);
            let at = clock::now_ms();
            self.log.step(StepEvent::Started { step: place, name: name.clone(), at });
            let done = match holds {
                Err(error) => self.refuse(place, &format!("`post-if` has no value: {error}")),
                Ok(_) => match &post.what {
                    What::Script(script) => self.node(place, script, &post.program),
                    What::Container(container) => {
                        self.run_container(place, container, Some(&post.program))
                    }
                },
            };
            self.end_hook(place, name, done.outcome, post.is_forgiven);
            place += 1;
        }
    }

    fn end_hook(&mut self, step: usize, name: String, outcome: StepConclusion, is_forgiven: bool) {
        let is_forgiven = is_forgiven && outcome == StepConclusion::Failure;
        let conclusion = if is_forgiven { StepConclusion::Success } else { outcome };
        if conclusion == StepConclusion::Failure && self.contexts.goes_well() {
            self.contexts.set_status(JobStatus::Failure);
        }
        self.last_place = step;
        self.tell_end(step, name, outcome, conclusion);
    }
}
