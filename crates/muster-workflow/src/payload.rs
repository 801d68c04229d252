//! What the payload of a webhook says of an event: what `on` asks, and what `github` holds.
//!
//! Follows GitHub's page on
//! [events that trigger workflows](https://docs.github.com/en/actions/reference/workflows-and-actions/events-that-trigger-workflows).

use serde_json::{Value as Json, json};

use crate::trigger::{ChangedFiles, Event, Target};

const HEADS: &str = "refs/heads/";
const TAGS: &str = "refs/tags/";

/// The events that are about the merge of a pull request with its base.
const PULL_REQUESTS: [&str; 3] =
    ["pull_request", "pull_request_review", "pull_request_review_comment"];

/// Returns what `on` is asked about an event.
///
/// `git_ref` is what the event is about, where the payload does not say: a branch by its name, or a full ref; for a
/// pull request its base.
pub fn event(name: &str, payload: &Json, git_ref: Option<&str>, changed: ChangedFiles) -> Event {
    let text = |path: &str| payload.pointer(path).and_then(Json::as_str);
    let action = text("/action").map(str::to_owned);
    let target = match name {
        "push" => text("/ref").or(git_ref),
        "pull_request" | "pull_request_target" => text("/pull_request/base/ref").or(git_ref),
        "merge_group" => text("/merge_group/base_ref").or(git_ref),
        "workflow_run" => text("/workflow_run/head_branch").or(git_ref),
        _ => None,
    };
    Event {
        name: name.to_owned(),
        action,
        target: target.map_or(Target::None, target_of),
        changed,
        follows: text("/workflow_run/name").or(text("/workflow/name")).map(str::to_owned),
        cron: text("/schedule").map(str::to_owned),
    }
}

fn target_of(git_ref: &str) -> Target {
    match git_ref.strip_prefix(TAGS) {
        Some(tag) => Target::Tag(tag.to_owned()),
        None => Target::Branch(git_ref.strip_prefix(HEADS).unwrap_or(git_ref).to_owned()),
    }
}

/// Returns the `github` context of an event, as far as its payload tells.
pub fn github(name: &str, payload: &Json, git_ref: Option<&str>) -> Json {
    let text = |path: &str| payload.pointer(path).and_then(Json::as_str);
    let default = text("/repository/default_branch").unwrap_or("main");
    let is_about_merge = PULL_REQUESTS.contains(&name);
    let (head, base) = match name {
        _ if is_about_merge || name == "pull_request_target" => {
            (text("/pull_request/head/ref"), text("/pull_request/base/ref").or(git_ref))
        }
        _ => (None, None),
    };
    let is_merged =
        payload.pointer("/pull_request/merged").and_then(Json::as_bool).unwrap_or_default();
    let full = |short: &str| match short.starts_with("refs/") {
        true => short.to_owned(),
        false => format!("{HEADS}{short}"),
    };
    // What is about no branch runs on the default one.
    let git_ref = match name {
        "push" | "workflow_dispatch" => full(text("/ref").or(git_ref).unwrap_or(default)),
        "create" => match (text("/ref_type"), text("/ref")) {
            (Some("tag"), Some(tag)) => format!("{TAGS}{tag}"),
            (_, branch) => full(branch.or(git_ref).unwrap_or(default)),
        },
        "deployment" | "deployment_status" => {
            full(text("/deployment/ref").or(git_ref).unwrap_or(default))
        }
        "pull_request_target" => full(base.unwrap_or(default)),
        _ if is_about_merge && is_merged => full(base.unwrap_or(default)),
        _ if is_about_merge => {
            let number = payload.pointer("/pull_request/number").and_then(Json::as_i64);
            format!("refs/pull/{}/merge", number.unwrap_or(1))
        }
        "merge_group" => full(text("/merge_group/head_ref").or(git_ref).unwrap_or(default)),
        "release" => match text("/release/tag_name") {
            Some(tag) => format!("{TAGS}{tag}"),
            None => full(git_ref.unwrap_or(default)),
        },
        _ => full(git_ref.unwrap_or(default)),
    };
    let short = ["refs/heads/", "refs/tags/", "refs/pull/"];
    let short = short.iter().find_map(|folder| git_ref.strip_prefix(folder)).unwrap_or(&git_ref);
    let sha = match name {
        "pull_request_target" => text("/pull_request/base/sha"),
        // The commit that GitHub merges for it is known when it is made.
        _ if is_about_merge => {
            text("/pull_request/merge_commit_sha").or(text("/pull_request/head/sha"))
        }
        _ => text("/after").or(text("/merge_group/head_sha")).or(text("/deployment/sha")),
    };
    let actor = text("/sender/login").unwrap_or_default();
    let repository = text("/repository/full_name").unwrap_or_default();
    json!({
        "actor": actor,
        "triggering_actor": actor,
        "base_ref": base.unwrap_or_default(),
        "head_ref": head.unwrap_or_default(),
        "event": payload,
        "event_name": name,
        "ref": git_ref,
        "ref_name": short,
        "ref_type": if git_ref.starts_with(TAGS) { "tag" } else { "branch" },
        "ref_protected": false,
        "repository": repository,
        "repository_owner": repository.split('/').next().unwrap_or_default(),
        "run_id": "1",
        "run_number": "1",
        "run_attempt": "1",
        "sha": sha.unwrap_or_default(),
        "server_url": "https://github.com",
        "api_url": "https://api.github.com",
        "graphql_url": "https://api.github.com/graphql",
    })
}
