//! From a workflow file to a [`Workflow`], or to all its problems at once.
//!
//! What may stand where has been settled when a file comes here as [tokens](crate::token); what no value shows by
//! itself is checked here. One file a level of the document: `trigger` (`on`), `job`, `strategy`, `step`; `needs`
//! between jobs; `fields` has what they share.

mod fields;
mod job;
mod manifest;
mod needs;
mod step;
mod strategy;
#[cfg(test)]
mod tests;
pub(crate) mod trigger;

use crate::diagnostic::{Problem, Span};
use crate::keys;
use crate::manifest::Manifest;
use crate::support;
use crate::token::{self, Places, Token};
use crate::workflow::Workflow;
use crate::yaml;

/// Reads a workflow file.
///
/// # Errors
///
/// All problems of the file, in the order of their places. What muster does not support yet is none: it is in
/// [`Workflow::unsupported`].
pub fn read(source: &str) -> Result<Workflow, Vec<Problem>> {
    let Parsed { tree, problems, .. } = parse(source, Places::Words);
    match tree {
        Some((_, workflow)) if problems.is_empty() => Ok(workflow),
        _ => Err(in_order(problems)),
    }
}

/// Returns all that is wrong with a workflow file, in the order of the places; what muster does not support
/// yet is not wrong.
pub fn check(source: &str) -> Vec<Problem> {
    in_order(parse(source, Places::Words).problems)
}

/// A file as far as it could be read.
pub(crate) struct Parsed {
    pub(crate) tree: Option<(Token, Workflow)>,
    /// All that is wrong with it, in no order.
    pub(crate) problems: Vec<Problem>,
    /// The anchors that no alias names.
    pub(crate) unused: Vec<Span>,
}

/// Reads a file as far as it can be read.
pub(crate) fn parse(source: &str, places: Places) -> Parsed {
    let yaml::Read { root, mut problems, unused } = yaml::read_with_anchors(source);
    let tree = root.map(|root| {
        let (root, more) = token::read(source, root, places);
        problems.extend(more);
        let (workflow, more) = convert(&root, places, problems.is_empty());
        problems.extend(more);
        (root, workflow)
    });
    Parsed { tree, problems, unused }
}

/// The most problems of a file that are told: a file may have as many as it has words.
pub(crate) const MAX_PROBLEMS: usize = 1_000;

/// Brings problems into the order of their places, each once.
pub(crate) fn in_order(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| (a.span.start, &a.message).cmp(&(b.span.start, &b.message)));
    // What an alias stands for is read wherever it stands, and is wrong at one place.
    problems.dedup_by(|a, b| (a.span, &a.message) == (b.span, &b.message));
    if problems.len() > MAX_PROBLEMS {
        let span = problems[MAX_PROBLEMS].span;
        problems.truncate(MAX_PROBLEMS);
        problems.push(Problem::invalid(span, "from here on there are more problems"));
    }
    problems
}

/// Makes the typed tree of a file, and says what is wrong that no value shows by itself.
pub(crate) fn convert(
    root: &Token,
    places: Places,
    is_well_formed: bool,
) -> (Workflow, Vec<Problem>) {
    let mut reader = Reader { problems: Vec::new(), places, is_well_formed, pattern_bytes: 0 };
    let workflow = reader.workflow(root);
    (workflow, reader.problems)
}

/// Makes the typed manifest of an action, and says what is wrong that no value shows by itself.
pub(crate) fn manifest(root: &Token, is_well_formed: bool) -> (Option<Manifest>, Vec<Problem>) {
    let places = Places::Words;
    let mut reader = Reader { problems: Vec::new(), places, is_well_formed, pattern_bytes: 0 };
    let manifest = reader.manifest(root);
    (manifest, reader.problems)
}

/// Collects problems while it reads.
struct Reader {
    problems: Vec<Problem>,
    places: Places,
    /// Whether every value stands where it may; else what is absent may have been refused.
    is_well_formed: bool,
    /// How many bytes of filter patterns were read.
    pattern_bytes: usize,
}

impl Reader {
    fn workflow(&mut self, root: &Token) -> Workflow {
        let mut workflow = Workflow {
            name: None,
            run_name: None,
            triggers: Vec::new(),
            env: Default::default(),
            defaults: Default::default(),
            permissions: None,
            concurrency: None,
            jobs: Vec::new(),
            unsupported: support::lacks(root),
        };
        for pair in root.pairs() {
            let value = &pair.value;
            match pair.key.text() {
                Some(keys::NAME) => {
                    workflow.name = value.text().filter(|name| !name.is_empty()).map(str::to_owned);
                }
                Some(keys::RUN_NAME) => {
                    workflow.run_name =
                        fields::template(value).filter(|name| name.as_literal() != Some(""));
                }
                Some(keys::ON) => workflow.triggers = self.triggers(value),
                Some(keys::PERMISSIONS) => workflow.permissions = fields::permissions(value),
                Some(keys::ENV) => workflow.env = fields::env(value),
                Some(keys::DEFAULTS) => workflow.defaults = fields::defaults(value),
                Some(keys::CONCURRENCY) => workflow.concurrency = self.concurrency(value),
                Some(keys::JOBS) => workflow.jobs = self.jobs(value),
                _ => {}
            }
        }
        workflow
    }
}
