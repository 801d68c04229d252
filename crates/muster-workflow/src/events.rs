//! The events that `on` can name, and those that muster serves.

/// The events of GitHub's
/// [table](https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows).
const KNOWN: [&str; 37] = [
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "create",
    "delete",
    "deployment",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "fork",
    "gollum",
    "image_version",
    "issue_comment",
    "issues",
    "label",
    "member",
    "merge_group",
    "milestone",
    "page_build",
    "project",
    "project_card",
    "public",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_target",
    "push",
    "registry_package",
    "release",
    "repository_dispatch",
    "schedule",
    "status",
    "watch",
    "workflow_call",
    "workflow_dispatch",
    "workflow_run",
    "project_column",
];

/// The activities of `pull_request` that GitHub has.
pub(crate) const PULL_REQUEST_TYPES: [&str; 21] = [
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
];

/// The activities of `pull_request` that start a workflow which names none.
pub(crate) const PULL_REQUEST_DEFAULT_TYPES: [&str; 3] = ["opened", "synchronize", "reopened"];

/// Returns true for an event that GitHub has.
pub(crate) fn is_known(event: &str) -> bool {
    KNOWN.contains(&event)
}

/// Returns true for an event that starts workflows here.
pub(crate) fn is_served(event: &str) -> bool {
    matches!(event, "push" | "pull_request")
}
