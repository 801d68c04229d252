//! Where a job stands: the file that it is of, and what its expressions see.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use muster_workflow::call::MAX_NESTED;
use muster_workflow::expr::{Contexts, Object, Value};
use muster_workflow::permissions::{Level, Permissions};
use muster_workflow::workflow::{self, Call, CallSecrets, Workflow};
use muster_workflow::{Found, MAX_GIVEN, PlannedJob, Workflows, given_to, legs};

use super::{Reason, Run, Work, needs};

/// The secret that each workflow has, whether its caller gives it any or none.
const TOKEN: &str = "GITHUB_TOKEN";

/// The files of a run, and what the expressions of its own file see.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The files.
    pub workflows: &'a Workflows,
    /// The contexts, but for what the run itself knows, such as `needs`.
    pub contexts: &'a Contexts,
}

/// What is to be known of a job to run it.
#[derive(Debug)]
pub struct Assignment {
    /// The name of the file that it is of; empty for the run's own.
    pub file: String,
    /// Which leg it is of which job.
    pub leg: PlannedJob,
    /// What its expressions see, but for secrets.
    pub contexts: Contexts,
    /// Whether its failure leaves the run green.
    pub continue_on_error: bool,
    /// What it deploys to; what is empty in the end is none.
    pub environment: Option<String>,
    /// Whether it asks for identity tokens, and each call that it is of lets it.
    pub may_identify: bool,
    /// Whether any of its steps uses an action other than `actions/checkout`.
    pub uses_actions: bool,
}

/// The scopes that were entered, by the places of the jobs that call them: what a call is given is settled when it begins.
#[derive(Debug, Clone, Default)]
pub(super) struct Scopes(Arc<Mutex<HashMap<usize, Arc<Scope>>>>);

/// The jobs of one file: the run's own, or one that a job calls.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) workflow: Arc<Workflow>,
    /// Its name; empty for the run's own file.
    pub(super) file: String,
    /// The names of the files around it.
    around: Vec<String>,
    /// What its expressions see, but for what is of one job.
    pub(super) contexts: Contexts,
}

impl Scope {
    pub(super) fn job(&self, id: &str) -> Result<&workflow::Job, Reason> {
        let lacks = || Reason::new("plan", format!("its workflow file has no job `{id}` any more"));
        self.workflow.job(id).ok_or_else(lacks)
    }
}

impl Run {
    /// Returns what is to be known to run the job at `place`.
    ///
    /// # Errors
    ///
    /// Why it cannot be run: what it reads has no value.
    pub fn assignment(&self, place: usize, ground: Ground<'_>) -> Result<Assignment, Reason> {
        let scope = self.scope(self.jobs[place].within, ground)?;
        let (leg, contexts) = self.leg(place, &scope)?;
        let definition = scope.job(&self.jobs[place].id)?;
        let continue_on_error = definition.continue_on_error.get(&contexts).map_err(|error| {
            Reason::new("continue-on-error", format!("`continue-on-error`: {error}"))
        })?;
        let environment = definition.environment.as_ref().map(|to| to.name.text(&contexts));
        let environment = environment
            .transpose()
            .map_err(|error| Reason::new("environment", format!("`environment`: {error}")))?;
        let environment = environment.filter(|name| !name.is_empty());
        let uses = |step: &workflow::Step| match &step.action {
            workflow::Action::Uses { uses, .. } => !uses.is("actions/checkout"),
            _ => false,
        };
        let uses_actions = definition.steps.iter().flat_map(workflow::Step::alone).any(uses);
        let may_identify = self.may_identify(place, ground)?;
        let file = scope.file.clone();
        Ok(Assignment {
            file,
            leg,
            contexts,
            continue_on_error,
            environment,
            may_identify,
            uses_actions,
        })
    }

    /// Returns whether the job at `place` may write `id-token`: permissions only shrink from call to call.
    fn may_identify(&self, place: usize, ground: Ground<'_>) -> Result<bool, Reason> {
        let mut next = Some(place);
        while let Some(place) = next {
            let job = &self.jobs[place];
            let scope = self.scope(job.within, ground)?;
            let definition = scope.job(&job.id)?;
            let said = definition.permissions.as_ref().or(scope.workflow.permissions.as_ref());
            let allows = |said: &Permissions| said.level("id-token") == Level::Write;
            // What is called and says nothing has what its caller has; nobody has it without a word.
            if !said.map_or(job.within.is_some(), allows) {
                return Ok(false);
            }
            next = job.within;
        }
        Ok(true)
    }

    /// Returns what of the run's secrets the job at `place` may see: each call says what it gives on.
    ///
    /// # Errors
    ///
    /// When an expression that gives one has no value.
    pub fn secrets(
        &self,
        place: usize,
        ground: Ground<'_>,
        all: &[(String, String)],
    ) -> Result<Vec<(String, String)>, Reason> {
        let Some(caller) = self.jobs[place].within else { return Ok(all.to_vec()) };
        let of_caller = self.secrets(caller, ground, all)?;
        let scope = self.scope(self.jobs[caller].within, ground)?;
        let given = match &call(&scope, &self.jobs[caller].id)?.secrets {
            CallSecrets::Inherit => return Ok(of_caller),
            CallSecrets::Given(given) => given,
        };
        let (_, mut contexts) = self.leg(caller, &scope)?;
        contexts.set("secrets", of_caller.iter().cloned().collect::<Object>());
        let is_token = |name: &String| name.eq_ignore_ascii_case(TOKEN);
        let mut secrets: Vec<_> =
            of_caller.iter().filter(|(name, _)| is_token(name)).cloned().collect();
        for (name, template) in given.iter().filter(|(name, _)| !is_token(name)) {
            // What is wrong with it may quote a secret.
            let value = template.text(&contexts).map_err(|_| {
                Reason::new("secrets", format!("the expression of secret `{name}` has no value"))
            })?;
            // One that is not there is as one that is empty.
            if !value.is_empty() {
                secrets.push((name.clone(), value));
            }
        }
        Ok(secrets)
    }

    /// Finds the jobs that the job at `within` calls; without one, those of the run's own file.
    pub(super) fn scope(
        &self,
        within: Option<usize>,
        ground: Ground<'_>,
    ) -> Result<Arc<Scope>, Reason> {
        let Some(caller) = within else {
            let (workflow, contexts) = (ground.workflows.root().clone(), ground.contexts.clone());
            let (file, around) = (String::new(), Vec::new());
            return Ok(Arc::new(Scope { workflow, file, around, contexts }));
        };
        let is_called = self.jobs[caller].work == Work::Called;
        let known = || self.scopes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known().get(&caller).filter(|_| is_called) {
            return Ok(Arc::clone(known));
        }
        let outer = self.scope(self.jobs[caller].within, ground)?;
        let scope = Arc::new(self.scope_of_call(caller, &outer, ground)?);
        if is_called {
            known().insert(caller, Arc::clone(&scope));
        }
        Ok(scope)
    }

    /// Goes into the workflow that the job at `caller` calls, which stands in `outer`.
    pub(super) fn scope_of_call(
        &self,
        caller: usize,
        outer: &Scope,
        ground: Ground<'_>,
    ) -> Result<Scope, Reason> {
        let call = call(outer, &self.jobs[caller].id)?;
        let (file, workflow) = match ground.workflows.find(&outer.file, &call.uses) {
            (file, Found::Workflow(workflow)) => (file, workflow),
            (_, Found::Wrong(why)) => {
                return Err(Reason::new("call", format!("`{}` {why}", call.uses)));
            }
            (_, Found::NotHere) => {
                return Err(Reason::new("call", format!("`{}` is not here", call.uses)));
            }
        };
        let refused = |why: String| Reason::new("call", why);
        if file == outer.file || outer.around.contains(&file) {
            return Err(refused(format!("`{}` calls itself", call.uses)));
        }
        if outer.around.len() >= MAX_NESTED {
            return Err(refused(format!("workflows call each other deeper than {MAX_NESTED}")));
        }
        let (_, contexts) = self.leg(caller, outer)?;
        let inputs = given_to(&workflow, call, &contexts).map_err(refused)?;
        let mut contexts = outer.contexts.clone();
        contexts.set("inputs", inputs);
        let around = outer.around.iter().chain([&outer.file]).cloned().collect();
        Ok(Scope { workflow, file, around, contexts })
    }

    /// Returns which leg of which job stands at `place`, and what its expressions see.
    fn leg(&self, place: usize, scope: &Scope) -> Result<(PlannedJob, Contexts), Reason> {
        let job = &self.jobs[place];
        let mut contexts = scope.contexts.clone();
        contexts.set("needs", self.needs_context(place));
        let legs = legs(scope.job(&job.id)?, &contexts)
            .map_err(|problem| Reason::new("plan", problem.message))?;
        let gone = || Reason::new("plan", "its matrix has no such leg any more");
        let leg = legs.into_iter().nth(job.leg).ok_or_else(gone)?;
        contexts.set("matrix", leg.matrix.clone());
        contexts.set("strategy", leg.strategy());
        Ok((leg, contexts))
    }

    /// Returns what the expressions of the leg at `place` see.
    pub(super) fn leg_contexts(&self, place: usize, scope: &Scope) -> Result<Contexts, Reason> {
        self.leg(place, scope).map(|(_, contexts)| contexts)
    }

    /// Returns the outputs of the workflow that the job at `caller` has called.
    pub(super) fn outputs_of_call(
        &self,
        caller: usize,
        ground: Ground<'_>,
    ) -> Result<Vec<(String, String)>, Reason> {
        let scope = self.scope(Some(caller), ground)?;
        let (workflow, mut contexts) = (&scope.workflow, scope.contexts.clone());
        let ids = workflow.jobs.iter().map(|job| job.id.as_str());
        contexts.set("jobs", needs::results(self, Some(caller), ids));
        let outputs =
            workflow.interface().map(|interface| interface.outputs.as_slice()).unwrap_or_default();
        let (mut values, mut bytes) = (Vec::new(), 0);
        for (name, template) in outputs {
            let value = template.text(&contexts).map_err(|error| {
                Reason::new("outputs", format!("output `{name}` has no value: {error}"))
            })?;
            bytes += value.len();
            if bytes > MAX_GIVEN {
                let why =
                    format!("the outputs of `{}` have more than {MAX_GIVEN} bytes", scope.file);
                return Err(Reason::new("outputs", why));
            }
            values.push((name.clone(), value));
        }
        Ok(values)
    }

    /// Returns the `needs` context of the job at `place`.
    fn needs_context(&self, place: usize) -> Value {
        let job = &self.jobs[place];
        needs::results(self, job.within, job.needs.iter().map(String::as_str))
    }

    /// Returns what expressions of the job at `place` see of what came before.
    pub(super) fn with_needs(&self, place: usize, scope: &Scope) -> Contexts {
        let mut contexts = scope.contexts.clone();
        contexts.set("needs", self.needs_context(place));
        contexts
    }
}

fn call<'s>(scope: &'s Scope, id: &str) -> Result<&'s Call, Reason> {
    let no_call = || Reason::new("plan", format!("job `{id}` does not call a workflow any more"));
    scope.job(id)?.call.as_ref().ok_or_else(no_call)
}
