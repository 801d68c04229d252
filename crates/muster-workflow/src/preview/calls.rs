//! The workflows that a run calls, and what bounds them together.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;

use super::MAX_JOBS;
use crate::call::{Caller, MAX_FILES, MAX_NESTED, MAX_PARTS, check_call, parts};
use crate::called::{Found, Workflows};
use crate::diagnostic::{Problem, Rule};
use crate::permissions::{Level, Permissions};
use crate::workflow::{Call, Job, Workflow};

/// The calls that led to a workflow.
pub(super) struct Calls<'a> {
    pub(super) workflows: &'a Workflows,
    /// What they name, from the first on.
    pub(super) within: Vec<String>,
    /// How many jobs there are already, in all workflows.
    pub(super) jobs: &'a Cell<usize>,
    /// What all of them name.
    pub(super) files: &'a RefCell<HashSet<String>>,
    /// What was looked at for all of them, see [`parts`].
    pub(super) parts: &'a Cell<usize>,
}

/// Why a workflow that is called is not looked into.
pub(super) enum Lost {
    /// It may be right, but is not here.
    NotHere(String),
    /// The call is wrong: nothing of the workflow runs.
    Refused(Vec<Problem>),
}

impl<'a> Calls<'a> {
    /// Finds the workflow that a job calls.
    pub(super) fn find(
        &self,
        job: &Job,
        call: &Call,
        permissions: Option<&Permissions>,
    ) -> Result<(String, Arc<Workflow>), Lost> {
        let uses = call.uses.as_str();
        let refused = |why: String| {
            Err(Lost::Refused(vec![Problem::invalid(call.span, why).of(Rule::WorkflowCall)]))
        };
        let within = self.within.last().map(String::as_str).unwrap_or_default();
        let (name, found) = self.workflows.find(within, uses);
        if self.within.contains(&name) {
            return refused(format!("`{uses}` calls itself"));
        }
        if self.within.len() >= MAX_NESTED {
            return refused(format!("workflows call each other deeper than {MAX_NESTED}"));
        }
        if self.jobs.get() >= MAX_JOBS {
            return refused(format!("the run has more than {MAX_JOBS} jobs"));
        }
        let is_new = self.files.borrow_mut().insert(name.clone());
        // The first file is one of them.
        if is_new && self.files.borrow().len() >= MAX_FILES {
            return refused(format!("more than {MAX_FILES} workflow files call each other"));
        }
        let workflow = match found {
            Found::Workflow(workflow) => workflow,
            Found::Wrong(why) => return refused(format!("`{uses}` {why}")),
            Found::NotHere => {
                return Err(Lost::NotHere(format!("it calls `{uses}`, which is not here")));
            }
        };
        self.parts.set(self.parts.get() + parts(&workflow));
        if self.parts.get() > MAX_PARTS {
            return refused(
                "the calls of the run have too many inputs and jobs together".to_owned(),
            );
        }
        // What the token may do at most is settled by the owner, not by the file.
        let default = Permissions::all(Level::Write);
        let permissions = job.permissions.as_ref().or(permissions);
        let caller = Caller { job, permissions, default: &default };
        let wrong = check_call(caller, &workflow);
        if wrong.is_empty() { Ok((name, workflow)) } else { Err(Lost::Refused(wrong)) }
    }

    /// Goes into the file `name`.
    pub(super) fn below(&self, name: String) -> Self {
        let within = self.within.iter().cloned().chain([name]).collect();
        Calls {
            workflows: self.workflows,
            within,
            jobs: self.jobs,
            files: self.files,
            parts: self.parts,
        }
    }
}
