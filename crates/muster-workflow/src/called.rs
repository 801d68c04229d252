//! The files of a run: the workflow that it is of and, by name, those that it calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::call::MAX_FILES;
use crate::read;
use crate::uses::Uses;
use crate::workflow::Workflow;

/// A workflow and those that it calls, each read once.
#[derive(Debug, Clone)]
pub struct Workflows {
    root: Arc<Workflow>,
    called: BTreeMap<String, (String, Found)>,
}

/// A workflow that is called.
#[derive(Debug, Clone)]
pub enum Found {
    /// It can be read.
    Workflow(Arc<Workflow>),
    /// It cannot be called, and this says what is the matter with it: `is wrong: line 3: …`.
    Wrong(String),
    /// It may be right, but is not here.
    NotHere,
}

/// The text of a file that is called.
#[derive(Debug, Clone)]
pub enum Text {
    /// This one.
    Here(String),
    /// There is none, and this says why: `cannot be had: …`.
    Missing(String),
    /// It is not looked for here.
    NotHere,
}

impl Workflows {
    /// Takes a workflow for itself: those that it calls are not here.
    pub fn alone(root: Workflow) -> Self {
        Self { root: Arc::new(root), called: BTreeMap::new() }
    }

    /// Reads the files that a workflow calls, and those that they call, by a way to read one. No more than
    /// [`MAX_FILES`] are asked for: whoever calls more is refused for that.
    pub fn gather(root: Workflow, read: &mut dyn FnMut(&Uses) -> Text) -> Self {
        let mut this = Self::alone(root);
        let mut open = calls(None, &this.root);
        while let Some(uses) = open.pop() {
            let name = uses.to_string();
            if this.called.contains_key(&name) || this.called.len() >= MAX_FILES {
                continue;
            }
            let (text, found) = match read(&uses) {
                Text::Here(text) => {
                    let found = find(&text);
                    (text, found)
                }
                Text::Missing(why) => (String::new(), Found::Wrong(why)),
                Text::NotHere => (String::new(), Found::NotHere),
            };
            if let Found::Workflow(workflow) = &found {
                open.extend(calls(Some(&uses), workflow));
            }
            this.called.insert(name, (text, found));
        }
        this
    }

    /// Returns the workflow that the run is of.
    pub fn root(&self) -> &Arc<Workflow> {
        &self.root
    }

    /// Returns the workflow that a `uses` names in the file `within`, which is empty for the run's own, and
    /// the name under which it is known.
    pub fn find(&self, within: &str, uses: &str) -> (String, Found) {
        let Some(uses) = resolve(Uses::read(within).as_ref(), uses) else {
            return (uses.to_owned(), Found::NotHere);
        };
        let name = uses.to_string();
        let found = self.called.get(&name).map_or(Found::NotHere, |(_, found)| found.clone());
        (name, found)
    }

    /// Returns the name and text of each file that is called.
    pub fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.called.iter().map(|(name, (text, _))| (name.as_str(), text.as_str()))
    }

    /// Returns the text of the file `name` that is called.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.called.get(name).map(|(text, _)| text.as_str())
    }

    /// Returns the names of the files that have a concurrency group and are called by a job that has one, too.
    fn in_two_groups(&self) -> BTreeSet<String> {
        let read = self.called.iter().filter_map(|(name, (_, found))| match found {
            Found::Workflow(workflow) => Some((name.as_str(), workflow)),
            Found::Wrong(_) | Found::NotHere => None,
        });
        let mut names = BTreeSet::new();
        for (within, workflow) in read.chain([("", &self.root)]) {
            for job in workflow.jobs.iter().filter(|job| job.concurrency.is_some()) {
                let Some(call) = &job.call else { continue };
                if let (name, Found::Workflow(called)) = self.find(within, &call.uses)
                    && called.concurrency.is_some()
                {
                    names.insert(name);
                }
            }
        }
        names
    }

    /// Takes for wrong what of the files that are called muster cannot run.
    pub fn refuse_unsupported(&mut self) {
        let in_two = self.in_two_groups();
        for (name, (text, found)) in &mut self.called {
            let Found::Workflow(workflow) = found else { continue };
            let first = workflow.unsupported.first();
            let why = first.map(|first| format!("line {}: {}", first.line(text), first.message));
            let two = in_two.contains(name).then(|| {
                "it has `concurrency`, and so has a job that calls it: two groups of one call are not supported yet"
                    .to_owned()
            });
            let why = why.or(two);
            if let Some(why) = why {
                *found = Found::Wrong(format!("cannot be run: {why}"));
            }
        }
    }
}

fn find(text: &str) -> Found {
    match read(text) {
        Ok(workflow) => Found::Workflow(Arc::new(workflow)),
        Err(problems) => Found::Wrong(problems.first().map_or(String::new(), |first| {
            format!("is wrong: line {}: {}", first.line(text), first.message)
        })),
    }
}

/// Returns what a workflow calls that stands in the file `within`.
fn calls(within: Option<&Uses>, workflow: &Workflow) -> Vec<Uses> {
    let calls = workflow.jobs.iter().filter_map(|job| job.call.as_ref());
    calls.filter_map(|call| resolve(within, &call.uses)).collect()
}

/// Returns what a `uses` names in the file `within`: what is local there is of that file's own repository.
fn resolve(within: Option<&Uses>, uses: &str) -> Option<Uses> {
    let own = match Uses::read(uses)? {
        Uses::Local(path) => {
            Uses::OwnRepository(path.get(2..).unwrap_or_default().replace('\\', "/"))
        }
        uses => uses,
    };
    let resolved = within.map_or_else(|| own.clone(), |within| own.within(within));
    Some(match resolved {
        Uses::OwnRepository(path) => Uses::Local(format!("./{path}")),
        uses => uses,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_local_belongs_to_the_repository_of_the_file() {
        let resolved = |within: &str, uses: &str| {
            resolve(Uses::read(within).as_ref(), uses).map(|uses| uses.to_string())
        };
        let here = "./.github/workflows/a.yml";
        let there = "owner/name/.github/workflows/a.yml@v1";
        assert_eq!(resolved("", here).as_deref(), Some(here));
        assert_eq!(resolved("", "$/.github/workflows/a.yml").as_deref(), Some(here));
        assert_eq!(resolved(here, there).as_deref(), Some(there));
        assert_eq!(resolved(there, here).as_deref(), Some(there));
        assert_eq!(resolved(there, "$/.github/workflows/a.yml").as_deref(), Some(there));
        assert_eq!(resolved("", "nothing"), None);
    }
}
