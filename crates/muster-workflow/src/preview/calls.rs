//! The workflows that a run calls, and what bounds them together.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

use super::{Called, Found, MAX_JOBS};
use crate::call::{Caller, MAX_FILES, MAX_NESTED, MAX_PARTS, check_call, parts};
use crate::diagnostic::{Problem, Rule};
use crate::permissions::{Level, Permissions};
use crate::workflow::{Call, Job, Workflow};

/// The calls that led to a workflow.
pub(super) struct Calls<'a> {
    pub(super) called: &'a dyn Called,
    /// What they name, from the first on.
    pub(super) within: Vec<&'a str>,
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
    Refused(Problem),
}

impl<'a> Calls<'a> {
    /// Finds the workflow that a job calls.
    pub(super) fn find(
        &self,
        job: &Job,
        call: &Call,
        permissions: Option<&Permissions>,
    ) -> Result<Rc<Workflow>, Lost> {
        let uses = call.uses.as_str();
        let refused = |why: String| {
            Err(Lost::Refused(Problem::invalid(call.span, why).of(Rule::WorkflowCall)))
        };
        if self.within.contains(&uses) {
            return refused(format!("`{uses}` calls itself"));
        }
        if self.within.len() >= MAX_NESTED {
            return refused(format!("workflows call each other deeper than {MAX_NESTED}"));
        }
        if self.jobs.get() >= MAX_JOBS {
            return refused(format!("the run has more than {MAX_JOBS} jobs"));
        }
        let is_new = self.files.borrow_mut().insert(uses.to_owned());
        // The first file is one of them.
        if is_new && self.files.borrow().len() >= MAX_FILES {
            return refused(format!("more than {MAX_FILES} workflow files call each other"));
        }
        let workflow = match self.called.find(uses) {
            Found::Workflow(workflow) => workflow,
            Found::Wrong(why) => return refused(format!("`{uses}` is wrong: {why}")),
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
        match check_call(caller, &workflow).first() {
            Some(wrong) => Err(Lost::Refused(wrong.clone())),
            None => Ok(workflow),
        }
    }

    pub(super) fn below(&self, uses: &'a str) -> Self {
        let within = self.within.iter().copied().chain([uses]).collect();
        Calls { called: self.called, within, jobs: self.jobs, files: self.files, parts: self.parts }
    }
}
