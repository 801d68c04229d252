//! Does this event start this workflow? And if not, why not.

use crate::events;
use crate::pattern::Filter;
use crate::workflow::{Details, Trigger, Workflow};

/// What happened, as far as `on` can ask.
#[derive(Debug, Clone)]
pub struct Event {
    /// The event's name, such as `push`.
    pub name: String,
    /// The activity, such as `opened`, of events that have one.
    pub action: Option<String>,
    /// What the branch and tag filters judge: the ref pushed, or a pull request's base branch.
    pub target: Target,
    /// What the path filters judge.
    pub changed: ChangedFiles,
    /// Of `workflow_run`: the name of the workflow that ran.
    pub follows: Option<String>,
    /// Of `schedule`: the schedule whose time has come.
    pub cron: Option<String>,
}

/// The ref that an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A branch, without `refs/heads/`.
    Branch(String),
    /// A tag, without `refs/tags/`.
    Tag(String),
    /// Neither, or not known: these filters pass.
    None,
}

/// The files that a change touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedFiles {
    /// These paths.
    Known(Vec<String>),
    /// No difference could be made (a new branch without a base, too large): path filters pass.
    Unknown,
}

/// At most this many changed files are judged by path filters, as at GitHub.
pub const MAX_CHANGED_FILES: usize = 300;

/// Whether a workflow runs for an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It runs.
    Run,
    /// It does not, for this reason.
    Skip(String),
}

/// Decides whether `event` starts `workflow`.
pub fn judge(workflow: &Workflow, event: &Event) -> Verdict {
    let mut reason = None;
    for trigger in workflow.triggers.iter().filter(|trigger| trigger.event == event.name) {
        match refusal(trigger, event) {
            None => return Verdict::Run,
            Some(why) => reason = Some(why),
        }
    }
    Verdict::Skip(reason.unwrap_or_else(|| format!("`on` does not name `{}`", event.name)))
}

/// Returns true for the name of an event that `on` can have.
pub fn is_event(name: &str) -> bool {
    events::event(name).is_some()
}

/// Returns the events in `on` that never start anything here, because muster does not serve them.
pub fn unserved(workflow: &Workflow) -> Vec<&str> {
    workflow
        .triggers
        .iter()
        .map(|trigger| trigger.event.as_str())
        .filter(|event| !events::is_served(event))
        .collect()
}

fn refusal(trigger: &Trigger, event: &Event) -> Option<String> {
    type_refusal(trigger, event)
        .or_else(|| details_refusal(trigger, event))
        .or_else(|| target_refusal(trigger, event))
        .or_else(|| path_refusal(trigger, event))
}

fn type_refusal(trigger: &Trigger, event: &Event) -> Option<String> {
    let action = event.action.as_deref()?;
    let wanted: Vec<&str> = match &trigger.types {
        Some(types) => types.iter().map(String::as_str).collect(),
        None => events::default_types(&event.name).to_vec(),
    };
    if wanted.is_empty() || wanted.contains(&action) {
        return None;
    }
    Some(format!("activity `{action}` is not among its types ({})", wanted.join(", ")))
}

fn details_refusal(trigger: &Trigger, event: &Event) -> Option<String> {
    match (&trigger.details, &event.follows, &event.cron) {
        (Details::Follows(names), Some(name), _) if !names.is_empty() && !names.contains(name) => {
            Some(format!("workflow `{name}` is not among those it follows ({})", names.join(", ")))
        }
        (Details::Schedule(times), _, Some(cron))
            if !times.iter().any(|time| time.cron == *cron) =>
        {
            Some(format!("`{cron}` is not among its schedules"))
        }
        _ => None,
    }
}

fn target_refusal(trigger: &Trigger, event: &Event) -> Option<String> {
    let (noun, name, own, other) = match &event.target {
        Target::Branch(name) => ("branch", name, &trigger.branches, &trigger.tags),
        Target::Tag(name) => ("tag", name, &trigger.tags, &trigger.branches),
        Target::None => return None,
    };
    // With a filter for only the one kind of ref, the other kind never runs.
    if own.is_empty() && !other.is_empty() {
        return Some(format!("it filters only the other kind of ref, this is a {noun}"));
    }
    own.iter().find_map(|filter| filter_refusal(filter, noun, std::slice::from_ref(name)))
}

fn path_refusal(trigger: &Trigger, event: &Event) -> Option<String> {
    match (&event.target, &event.changed) {
        (Target::Tag(_), _) | (_, ChangedFiles::Unknown) => None,
        (Target::Branch(_) | Target::None, ChangedFiles::Known(paths)) => {
            let paths = &paths[..paths.len().min(MAX_CHANGED_FILES)];
            trigger.paths.iter().find_map(|filter| filter_refusal(filter, "path", paths))
        }
    }
}

fn filter_refusal(filter: &Filter, noun: &str, inputs: &[String]) -> Option<String> {
    let subject = match inputs {
        [single] => format!("{noun} `{single}`"),
        many => format!("each of {} changed {noun}s", many.len()),
    };
    if filter.passes(inputs) {
        return None;
    }
    Some(match filter {
        Filter::Include(patterns) => {
            format!("{subject} is not selected by {}", patterns.describe())
        }
        Filter::Ignore(patterns) => format!("{subject} is ignored by {}", patterns.describe()),
    })
}
