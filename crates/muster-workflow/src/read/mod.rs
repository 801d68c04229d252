//! From a workflow file to a [`Workflow`], or to all its problems at once.
//!
//! One file a level of the document: `trigger` (`on`), `job`, `strategy`, `step`; `fields` has what
//! they share. A key that GitHub has and muster does not support is refused as such, never ignored.

mod fields;
mod job;
mod step;
mod strategy;
#[cfg(test)]
mod tests;
mod trigger;

use std::collections::{HashMap, HashSet};

use fields::Reader;

use crate::diagnostic::{Problem, Rule, Span};
use crate::scopes;
use crate::template::Template;
use crate::workflow::Workflow;
use crate::yaml;

/// Reads a workflow file.
///
/// # Errors
///
/// All problems of the file, in the order of their places.
pub fn read(source: &str) -> Result<Workflow, Vec<Problem>> {
    let (root, problems) = yaml::read(source);
    let mut reader = Reader { problems, declared: HashSet::new() };
    let workflow = root.as_ref().and_then(|root| reader.workflow(root));
    let mut problems = reader.problems;
    problems.sort_by_key(|problem| problem.span.start);
    match workflow {
        Some(workflow) if problems.is_empty() => Ok(workflow),
        _ => Err(problems),
    }
}

const KEYS: [&str; 9] = [
    "name",
    "description",
    "run-name",
    "on",
    "permissions",
    "env",
    "defaults",
    "concurrency",
    "jobs",
];

impl Reader {
    fn workflow(&mut self, root: &yaml::Node) -> Option<Workflow> {
        let entries = self.mapping(root, "a workflow")?;
        let mut workflow = Workflow {
            name: None,
            run_name: None,
            triggers: Vec::new(),
            env: Vec::new(),
            defaults: Default::default(),
            permissions: None,
            concurrency: None,
            jobs: Vec::new(),
        };
        for entry in entries {
            let node = &entry.value;
            match entry.key.as_str() {
                "name" | "run-name" | "description" if matches!(node.yaml, yaml::Yaml::Null) => {}
                "name" => workflow.name = self.string(node, "`name`"),
                // For people alone.
                "description" => drop(self.string(node, "`description`")),
                "run-name" => {
                    workflow.run_name = self.template(node, "`run-name`", scopes::RUN_NAME);
                }
                "on" => workflow.triggers = self.triggers(node),
                "permissions" => workflow.permissions = self.permissions(node),
                "env" => workflow.env = self.env(node, scopes::WORKFLOW_ENV),
                "defaults" => workflow.defaults = self.defaults(node, scopes::RUN_NAME),
                "concurrency" => {
                    workflow.concurrency = self.concurrency(node, scopes::WORKFLOW_CONCURRENCY);
                }
                "jobs" => workflow.jobs = self.jobs(node),
                _ => self.unknown_key(entry, "a workflow", &KEYS, &[]),
            }
        }
        for required in ["on", "jobs"] {
            if !entries.iter().any(|entry| entry.key == required) {
                let span = Span { start: root.span.start, end: root.span.start };
                self.problems
                    .push(Problem::invalid(span, format!("a workflow needs `{required}`")));
            }
        }
        self.jobs_fit_together(&workflow);
        Some(workflow)
    }

    /// Checks `needs`: known jobs, no cycle.
    fn jobs_fit_together(&mut self, workflow: &Workflow) {
        let places: HashMap<String, usize> = workflow
            .jobs
            .iter()
            .enumerate()
            .map(|(place, job)| (job.id.to_ascii_lowercase(), place))
            .collect();
        let mut needs = Vec::new();
        for job in &workflow.jobs {
            let mut known = Vec::new();
            for need in &job.needs {
                match places.get(&need.to_ascii_lowercase()) {
                    Some(place) => known.push(*place),
                    // What is wrong with that job has been told.
                    None if self.declared.contains(&need.to_ascii_lowercase()) => {}
                    None => {
                        let message = format!(
                            "job `{}` needs job `{need}`, which is not in this file",
                            job.id
                        );
                        self.problems.push(Problem::invalid(job.span, message).of(Rule::JobNeeds));
                    }
                }
            }
            needs.push(known);
        }
        // One cycle is one problem, not one for each job on it.
        if let Some(cycle) = cycle(&needs) {
            let names: Vec<&str> =
                cycle.iter().map(|place| workflow.jobs[*place].id.as_str()).collect();
            let message = format!("job `{}` needs itself: {}", names[0], names.join(" needs "));
            let span = workflow.jobs[cycle[0]].span;
            self.problems.push(Problem::invalid(span, message).of(Rule::JobNeeds));
        }
    }

    fn template(
        &mut self,
        node: &yaml::Node,
        what: &str,
        scope: crate::expr::Scope<'_>,
    ) -> Option<Template> {
        let text = self.string(node, what)?;
        Some(Template::read(&text, node.span, scope, &mut self.problems))
    }
}

/// Returns a path from a job back to itself along `needs`, when there is one. Linear in jobs and needs,
/// and not recursive: a chain may be as long as the file.
fn cycle(needs: &[Vec<usize>]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        Not,
        OnPath,
        Done,
    }
    let mut seen = vec![Seen::Not; needs.len()];
    for start in 0..needs.len() {
        if seen[start] != Seen::Not {
            continue;
        }
        seen[start] = Seen::OnPath;
        let mut path = vec![(start, 0)];
        while let Some((job, next)) = path.last_mut() {
            let Some(need) = needs[*job].get(*next).copied() else {
                seen[*job] = Seen::Done;
                path.pop();
                continue;
            };
            *next += 1;
            match seen[need] {
                Seen::Done => {}
                Seen::Not => {
                    seen[need] = Seen::OnPath;
                    path.push((need, 0));
                }
                Seen::OnPath => {
                    let from = path.iter().position(|(job, _)| *job == need).unwrap_or(0);
                    return Some(path[from..].iter().map(|(job, _)| *job).chain([need]).collect());
                }
            }
        }
    }
    None
}
