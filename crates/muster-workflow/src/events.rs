//! The events that `on` can name, and what it can ask of each.
//!
//! From GitHub's
//! [table](https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows)
//! and the schema of its own parser.

use crate::grammar::{self, Rule};

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
    Event::new("image_version", &["created", "ready", "deleted"], &["names", "versions"]),
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
    Event::new("merge_group", &["checks_requested"], &["branches", "branches-ignore"]),
    Event::new("milestone", &["created", "closed", "opened", "edited", "deleted"], &[]),
    Event::new("page_build", &[], &[]),
    Event::new("project", &["created", "closed", "reopened", "edited", "deleted"], &[]),
    Event::new("project_card", &["created", "moved", "converted", "edited", "deleted"], &[]),
    Event::new("project_column", &["created", "updated", "moved", "deleted"], &[]),
    Event::new("public", &[], &[]),
    Event::new(
        "pull_request",
        PULL_REQUEST_TYPES,
        &["branches", "branches-ignore", "paths", "paths-ignore"],
    ),
    Event::new("pull_request_comment", &["created", "edited", "deleted"], &[]),
    Event::new("pull_request_review", &["submitted", "edited", "dismissed"], &[]),
    Event::new("pull_request_review_comment", &["created", "edited", "deleted"], &[]),
    Event::new(
        "pull_request_target",
        PULL_REQUEST_TYPES,
        &["branches", "branches-ignore", "paths", "paths-ignore"],
    ),
    Event::new(
        "push",
        &[],
        &["branches", "branches-ignore", "tags", "tags-ignore", "paths", "paths-ignore"],
    ),
    Event::new("registry_package", &["published", "updated"], &[]),
    Event::new(
        "release",
        &["published", "unpublished", "created", "edited", "deleted", "prereleased", "released"],
        &[],
    ),
    Event::of_its_own("repository_dispatch", &grammar::REPOSITORY_DISPATCH),
    Event::of_its_own("schedule", &grammar::SCHEDULE),
    Event::new("status", &[], &[]),
    Event::new("watch", &["started"], &[]),
    Event::of_its_own("workflow_call", &grammar::WORKFLOW_CALL),
    Event::of_its_own("workflow_dispatch", &grammar::WORKFLOW_DISPATCH),
    Event::new(
        "workflow_run",
        &["requested", "completed", "in_progress"],
        &["workflows", "branches", "branches-ignore"],
    ),
];

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

/// The activities of `pull_request` that start a workflow which names none.
pub(crate) const PULL_REQUEST_DEFAULT_TYPES: [&str; 3] = ["opened", "synchronize", "reopened"];

/// Returns the event called `name`.
pub(crate) fn event(name: &str) -> Option<&'static Event> {
    EVENTS.iter().find(|event| event.name == name)
}

/// Returns true for an event that starts workflows here.
pub(crate) fn is_served(event: &str) -> bool {
    matches!(event, "push" | "pull_request")
}
