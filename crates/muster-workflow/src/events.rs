//! The events that `on` can name, and what it can ask of each.
//!
//! From GitHub's
//! [table](https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows)
//! and the schema of its own parser.

use crate::grammar::{self, Rule};
use crate::keys;

/// An event that `on` can name.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: &'static str,
    /// The activities that `types` can name; empty where the event has none.
    pub(crate) types: &'static [&'static str],
    /// The filters that it can carry: one pattern or a list of them each.
    pub(crate) filters: &'static [&'static str],
    /// What stands under it, where that is something of its own.
    pub(crate) own: Option<&'static Rule>,
}

impl Event {
    const fn new(
        name: &'static str,
        types: &'static [&'static str],
        filters: &'static [&'static str],
    ) -> Self {
        Self { name, types, filters, own: None }
    }

    const fn of_its_own(name: &'static str, own: &'static Rule) -> Self {
        Self { name, types: &[], filters: &[], own: Some(own) }
    }
}

pub(crate) const SCHEDULE: &str = "schedule";
pub(crate) const WORKFLOW_CALL: &str = "workflow_call";
pub(crate) const WORKFLOW_DISPATCH: &str = "workflow_dispatch";
pub(crate) const WORKFLOW_RUN: &str = "workflow_run";

pub(crate) static EVENTS: [Event; 37] = [
    Event::new("branch_protection_rule", &["created", "edited", "deleted"], &[]),
    Event::new("check_run", &["completed", "created", "rerequested", "requested_action"], &[]),
    Event::new("check_suite", &["completed"], &[]),
    Event::new("create", &[], &[]),
    Event::new("delete", &[], &[]),
    Event::new("deployment", &[], &[]),
    Event::new("deployment_status", &[], &[]),
    Event::new(
        "discussion",
        &[
            "created",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "category_changed",
            "answered",
            "unanswered",
        ],
        &[],
    ),
    Event::new("discussion_comment", &["created", "edited", "deleted"], &[]),
    Event::new("fork", &[], &[]),
    Event::new("gollum", &[], &[]),
    Event::new("image_version", &["created", "ready", "deleted"], &[keys::NAMES, keys::VERSIONS]),
    Event::new("issue_comment", &["created", "edited", "deleted"], &[]),
    Event::new(
        "issues",
        &[
            "opened",
            "edited",
            "deleted",
            "transferred",
            "pinned",
            "unpinned",
            "closed",
            "reopened",
            "assigned",
            "unassigned",
            "labeled",
            "unlabeled",
            "locked",
            "unlocked",
            "milestoned",
            "demilestoned",
            "field_added",
            "field_removed",
            "typed",
            "untyped",
        ],
        &[],
    ),
    Event::new("label", &["created", "edited", "deleted"], &[]),
    Event::new("merge_group", &["checks_requested"], &[keys::BRANCHES, keys::BRANCHES_IGNORE]),
    Event::new("milestone", &["created", "closed", "opened", "edited", "deleted"], &[]),
    Event::new("page_build", &[], &[]),
    Event::new("project", &["created", "closed", "reopened", "edited", "deleted"], &[]),
    Event::new("project_card", &["created", "moved", "converted", "edited", "deleted"], &[]),
    Event::new("project_column", &["created", "updated", "moved", "deleted"], &[]),
    Event::new("public", &[], &[]),
    Event::new("pull_request", PULL_REQUEST_TYPES, PULL_REQUEST_FILTERS),
    Event::new("pull_request_comment", &["created", "edited", "deleted"], &[]),
    Event::new("pull_request_review", &["submitted", "edited", "dismissed"], &[]),
    Event::new("pull_request_review_comment", &["created", "edited", "deleted"], &[]),
    Event::new("pull_request_target", PULL_REQUEST_TYPES, PULL_REQUEST_FILTERS),
    Event::new(
        "push",
        &[],
        &[
            keys::BRANCHES,
            keys::BRANCHES_IGNORE,
            keys::TAGS,
            keys::TAGS_IGNORE,
            keys::PATHS,
            keys::PATHS_IGNORE,
        ],
    ),
    Event::new("registry_package", &["published", "updated"], &[]),
    Event::new(
        "release",
        &["published", "unpublished", "created", "edited", "deleted", "prereleased", "released"],
        &[],
    ),
    Event::of_its_own("repository_dispatch", &grammar::REPOSITORY_DISPATCH),
    Event::of_its_own(SCHEDULE, &grammar::SCHEDULE),
    Event::new("status", &[], &[]),
    Event::new("watch", &["started"], &[]),
    Event::of_its_own(WORKFLOW_CALL, &grammar::WORKFLOW_CALL),
    Event::of_its_own(WORKFLOW_DISPATCH, &grammar::WORKFLOW_DISPATCH),
    Event::new(
        WORKFLOW_RUN,
        &["requested", "completed", "in_progress"],
        &[keys::WORKFLOWS, keys::BRANCHES, keys::BRANCHES_IGNORE],
    ),
];

/// The filters of events that are about a pull request.
const PULL_REQUEST_FILTERS: &[&str] =
    &[keys::BRANCHES, keys::BRANCHES_IGNORE, keys::PATHS, keys::PATHS_IGNORE];

/// The activities of a pull request.
const PULL_REQUEST_TYPES: &[&str] = &[
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "opened",
    "edited",
    "closed",
    "reopened",
    "synchronize",
    "converted_to_draft",
    "locked",
    "unlocked",
    "enqueued",
    "dequeued",
    "milestoned",
    "demilestoned",
    "ready_for_review",
    "review_requested",
    "review_request_removed",
    "auto_merge_enabled",
    "auto_merge_disabled",
    "stacked",
];

/// Returns the activities of an event that start a workflow which names none; none where it has no activities.
pub(crate) fn default_types(name: &str) -> &'static [&'static str] {
    match name {
        "pull_request" | "pull_request_target" => &["opened", "synchronize", "reopened"],
        // All that can be named; of some events GitHub sends others, which start nothing.
        name => event(name).map(|event| event.types).unwrap_or_default(),
    }
}

/// Returns the event called `name`.
pub(crate) fn event(name: &str) -> Option<&'static Event> {
    EVENTS.iter().find(|event| event.name == name)
}

/// Returns true for an event that starts workflows here.
pub(crate) fn is_served(event: &str) -> bool {
    matches!(event, "push" | "pull_request" | WORKFLOW_DISPATCH | WORKFLOW_CALL | SCHEDULE)
}
