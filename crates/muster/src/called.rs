//! The workflows that a run calls: those of its own commit, and those of other repositories by git.

use muster_runner::actions::{Fetch as _, check, read_in};
use muster_workflow::diagnostic::Problem;
use muster_workflow::expr::Contexts;
use muster_workflow::uses::Uses;
use muster_workflow::workflow::Workflow;
use muster_workflow::{MAX_JOBS, PlannedJob, Text, Workflows, plan, preview};

use crate::git::Actions;

/// GitHub's bound on a workflow file, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// How many bytes all files may have together that a run calls: they are kept with it.
const MAX_CALLED: usize = 4 << 20;

/// A file of the commit that a run is of: `None` where there is none, or why it cannot be read.
pub(crate) type OwnFile = Result<Option<String>, String>;

/// Reads the workflows that `root` calls. What muster cannot run of them is wrong with them.
pub(crate) fn gather(
    root: Workflow,
    own: impl Fn(&str) -> OwnFile,
    mut actions: Actions<'_>,
) -> Workflows {
    let mut bytes = 0;
    let mut workflows = Workflows::gather(root, &mut |uses| {
        let found = match uses {
            Uses::Local(path) => own(path.strip_prefix("./").unwrap_or(path)),
            _ => elsewhere(uses, &mut actions),
        };
        match found {
            Ok(Some(text)) if bytes + text.len() > MAX_CALLED => {
                let most = MAX_CALLED >> 20;
                Text::Missing(format!("is too much: a run calls at most {most} MiB of files"))
            }
            Ok(Some(text)) => {
                bytes += text.len();
                Text::Here(text)
            }
            Ok(None) => Text::Missing("is not in its repository".to_owned()),
            Err(why) => Text::Missing(format!("cannot be read: {why}")),
        }
    });
    workflows.refuse_unsupported();
    workflows
}

fn elsewhere(uses: &Uses, actions: &mut Actions<'_>) -> OwnFile {
    let Uses::Repository { owner, name, git_ref, .. } = uses else { return Ok(None) };
    check(uses)?;
    let text = match actions.fetch(&format!("{owner}/{name}"), git_ref) {
        Ok(fetched) => read_in(&fetched, uses, MAX_BYTES)?,
        Err(why) => return Err(why),
    };
    let Some(text) = text else { return Ok(None) };
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    String::from_utf8(text).map(Some).map_err(|_| "it is no UTF-8".to_owned())
}

/// Puts together what a run used before: names and texts.
pub(crate) fn again(root: Workflow, called: &[(String, String)]) -> Workflows {
    Workflows::gather(root, &mut |uses| {
        let name = uses.to_string();
        match called.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Text::Here(text.clone()),
            None => Text::Missing("was not kept".to_owned()),
        }
    })
}

/// Plans a run: of one that calls workflows all that it calls is looked at first, for when one call is wrong nothing runs.
///
/// # Errors
///
/// All that is wrong with it, each at its place in the run's own file.
pub(crate) fn plan_all(
    workflows: &Workflows,
    contexts: &Contexts,
) -> Result<Vec<PlannedJob>, Vec<Problem>> {
    let root = workflows.root();
    if let Some(call) = root.jobs.iter().find_map(|job| job.call.as_ref()) {
        let count = preview(workflows, contexts)?.len();
        if count > MAX_JOBS {
            let message = format!("the run has {count} jobs, more than {MAX_JOBS}");
            return Err(vec![Problem::invalid(call.span, message)]);
        }
    }
    plan(root, contexts)
}
