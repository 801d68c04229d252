//! Jobs that call workflows: what a caller gives against what the called one takes, file by file.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use crate::diagnostic::{Problem, Rule, Span};
use crate::permissions::Permissions;
use crate::workflow::{Argument, CallSecrets, Job, Workflow};

/// GitHub's bound on workflows that call workflows: the first called one is of depth 1.
pub const MAX_NESTED: usize = 9;

/// GitHub's bound on the different files of a run, the first included.
pub const MAX_FILES: usize = 51;

/// How many parts all calls of a run may have together: what each calls is looked at for each call.
pub(crate) const MAX_PARTS: usize = 200_000;

/// Returns how much there is to look at in a workflow that is called.
pub(crate) fn parts(called: &Workflow) -> usize {
    let interface = called.interface();
    let asked = interface.map_or(0, |interface| interface.inputs.len() + interface.secrets.len());
    1 + asked + called.jobs.len()
}

/// What the caller of a workflow is.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Its job.
    pub job: &'a Job,
    /// What its job may do at most; `None` where no file says.
    pub permissions: Option<&'a Permissions>,
    /// What a job may do of which no file says anything.
    pub default: &'a Permissions,
}

/// Returns what is wrong with a call, each at its place in the caller's file.
///
/// `called` is the workflow that `uses` names; a `default` of an input that is wrong is a problem of that file.
pub fn check_call(caller: Caller<'_>, called: &Workflow) -> Vec<Problem> {
    let Some(call) = &caller.job.call else { return Vec::new() };
    let mut problems = Vec::new();
    let mut report = |span: Span, message: String| {
        problems.push(Problem::invalid(span, message).of(Rule::WorkflowCall));
    };
    let Some(interface) = called.interface() else {
        report(
            call.span,
            format!("`{}` cannot be called: its `on` has no `workflow_call`", call.uses),
        );
        return problems;
    };
    let lower = str::to_ascii_lowercase;
    let given: HashMap<String, &Argument> =
        call.with.iter().map(|(name, value)| (lower(name), value)).collect();
    for input in &interface.inputs {
        match given.get(&lower(&input.name)) {
            Some(value) if !input.kind.takes(value) => {
                let (name, kind) = (&input.name, input.kind.name());
                report(value.span(), format!("input `{name}` must be a {kind}"));
            }
            None if input.required => {
                report(call.span, format!("`{}` needs input `{}`", call.uses, input.name));
            }
            _ => {}
        }
    }
    let known: HashSet<String> = interface.inputs.iter().map(|input| lower(&input.name)).collect();
    for (name, value) in &call.with {
        if !known.contains(&lower(name)) {
            report(value.span(), format!("`{}` has no input `{name}`", call.uses));
        }
    }
    if let CallSecrets::Given(secrets) = &call.secrets {
        let given: HashSet<String> = secrets.iter().map(|(name, _)| lower(name)).collect();
        for (name, _) in interface.secrets.iter().filter(|(_, required)| *required) {
            if !given.contains(&lower(name)) {
                report(call.span, format!("`{}` needs secret `{name}`", call.uses));
            }
        }
        let known: HashSet<String> =
            interface.secrets.iter().map(|(name, _)| lower(name)).collect();
        for (name, value) in secrets {
            if !known.contains(&lower(name)) {
                report(value.span, format!("`{}` has no secret `{name}`", call.uses));
            }
        }
    }
    let most = caller.permissions.unwrap_or(caller.default);
    let asking = called.permissions.iter().map(|asked| ("the workflow".to_owned(), asked));
    let jobs = called
        .jobs
        .iter()
        .filter_map(|job| Some((format!("its job `{}`", job.id), job.permissions.as_ref()?)));
    for (who, asked) in asking.chain(jobs) {
        let beyond = asked.beyond(most);
        if beyond.is_empty() {
            continue;
        }
        let mut message = format!("`{}` asks for more than it may have: {who} for ", call.uses);
        for (place, (scope, asked, granted)) in beyond.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            let (asked, granted) = (asked.as_str(), granted.as_str());
            let _ = write!(message, "{comma}{scope} {asked} (it may {granted})");
        }
        report(caller.job.span, message);
    }
    problems
}
