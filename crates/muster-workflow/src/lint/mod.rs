//! Mistakes in workflow files: all that GitHub refuses, and what it takes but nobody means.
//!
//! The rules have the names that people know from actionlint. One file a subject: `expressions` with their `types`
//! and `contexts`, `conditions`, `events`, `jobs` with their `matrix` and `runners`, `actions`
//! with those that are `popular`.

mod actions;
mod conditions;
mod contexts;
mod events;
mod expressions;
mod jobs;
mod matrix;
mod popular;
mod runners;
#[cfg(test)]
mod tests;
mod types;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use crate::call::MAX_FILES;
use crate::diagnostic::{Problem, Rule, Span};
use crate::keys;
use crate::read::{self, Parsed, in_order};
use crate::token::{Pair, Places, Token};
use crate::workflow::{Job, Workflow};

use self::types::Type;

/// The files of the repository that a workflow is in.
pub trait Files {
    /// Returns the text of a file, by its path from the top of the repository; `None` where it is not there.
    fn read(&self, path: &str) -> Option<String>;
}

/// No files: what a workflow names is not looked at.
impl Files for () {
    fn read(&self, _: &str) -> Option<String> {
        None
    }
}

/// Returns all that is wrong with a workflow file, in the order of the places.
pub fn lint(source: &str, files: &dyn Files) -> Vec<Problem> {
    let Parsed { tree, mut problems, unused } = read::parse(source, Places::Linted);
    let Some((root, workflow)) = &tree else { return in_order(problems) };
    let mut lint = Lint {
        source,
        root,
        workflow,
        files,
        called: RefCell::default(),
        actions: RefCell::default(),
        outputs: RefCell::default(),
        parts: 0,
        problems: Vec::new(),
    };
    for span in unused {
        lint.say(span, Rule::Syntax, "no alias names this anchor");
    }
    lint.events();
    lint.jobs();
    lint.expressions();
    // What GitHub refuses is said once.
    let told: HashSet<(usize, &str)> =
        problems.iter().map(|problem| (problem.span.start, problem.rule.name())).collect();
    let is_new = |problem: &Problem| !told.contains(&(problem.span.start, problem.rule.name()));
    let more: Vec<Problem> = lint.problems.into_iter().filter(is_new).collect();
    problems.extend(more);
    in_order(problems)
}

struct Lint<'a> {
    source: &'a str,
    root: &'a Token,
    workflow: &'a Workflow,
    files: &'a dyn Files,
    /// The workflows that this one calls, by their `uses`.
    called: RefCell<HashMap<String, Option<Rc<Workflow>>>>,
    /// The local actions that it uses, by their folders.
    actions: RefCell<HashMap<String, Option<Rc<popular::Interface>>>>,
    /// What the jobs leave, by their ids.
    outputs: RefCell<HashMap<String, Type>>,
    /// What was looked at for all calls, see [`crate::call::parts`].
    parts: usize,
    problems: Vec<Problem>,
}

impl<'a> Lint<'a> {
    /// Iterates over the jobs, each as it is written and as it is read.
    fn jobs_with_tokens(&self) -> impl Iterator<Item = (&'a Pair, &'a Job)> + use<'a> {
        let tokens = self.root.get(keys::JOBS).map(Token::pairs).unwrap_or_default();
        let read = &self.workflow.jobs;
        tokens.iter().filter_map(move |pair| {
            // A job whose id is wrong is not read.
            let job = read.iter().find(|job| job.span == pair.key.span)?;
            Some((pair, job))
        })
    }

    /// Returns true when there is more than anybody reads.
    fn is_full(&self) -> bool {
        self.problems.len() > read::MAX_PROBLEMS
    }

    fn say(&mut self, span: Span, rule: Rule, message: impl Into<String>) {
        if !self.is_full() {
            self.problems.push(Problem::advice(span, rule, message));
        }
    }

    fn say_with_hint(&mut self, span: Span, rule: Rule, message: impl Into<String>, hint: &str) {
        if !self.is_full() {
            self.problems.push(Problem::advice(span, rule, message).with_hint(hint));
        }
    }

    /// Returns true where a word without quotes stands.
    fn is_word(&self, span: Span) -> bool {
        let text = self.source.get(span.start..span.end).unwrap_or_default();
        text.starts_with(|c: char| c.is_alphanumeric())
    }

    /// Returns the type of what a job leaves.
    fn outputs_of(&self, job: &Job) -> Type {
        let mut known = self.outputs.borrow_mut();
        known.entry(job.id.clone()).or_insert_with(|| contexts::outputs(job)).clone()
    }

    /// Returns a workflow of the same repository that can be read.
    fn called(&self, uses: &str) -> Option<Rc<Workflow>> {
        let path = uses.strip_prefix("./").or_else(|| uses.strip_prefix("$/"))?;
        if let Some(known) = self.called.borrow().get(path) {
            return known.clone();
        }
        if self.called.borrow().len() >= MAX_FILES {
            return None;
        }
        let read = self.files.read(path).and_then(|source| read::read(&source).ok()).map(Rc::new);
        self.called.borrow_mut().insert(path.to_owned(), read.clone());
        read
    }
}
