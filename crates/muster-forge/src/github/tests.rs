use std::collections::BTreeMap;
use std::path::Path;

use insta::assert_snapshot;
use muster_core::change::Change;
use serde_json::Value as Json;

use super::{Decoded, Payload, decode};

/// The reviewed outcome of every real payload that GitHub's own library has for its tests.
///
/// `cargo xtask test` installs them; without that the test says so and passes, but not with `CI` set.
#[test]
fn every_real_payload_has_its_outcome() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/npm/node_modules/@octokit/webhooks-examples/api.github.com/index.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        assert!(
            std::env::var_os("CI").is_none(),
            "{} is absent: cargo xtask test installs it",
            path.display()
        );
        eprintln!("skipped: {} is absent", path.display());
        return;
    };
    let events: Json = serde_json::from_str(&text).unwrap();
    // Events of which no payload does anything are told together.
    let mut inert = Vec::new();
    let mut table = BTreeMap::new();
    for event in events.as_array().unwrap() {
        let name = event["name"].as_str().unwrap();
        let outcomes: Vec<(String, String)> = event["examples"]
            .as_array()
            .unwrap()
            .iter()
            .map(|payload| {
                let action = payload["action"].as_str().unwrap_or("-");
                let body = payload.to_string();
                let payload = Payload::find("application/json", body.as_bytes()).unwrap();
                (format!("{name} {action}"), outcome(&decode(name, &payload)))
            })
            .collect();
        let not_served = format!("ignored: event `{name}` starts nothing yet");
        if outcomes.iter().all(|(_, outcome)| *outcome == not_served) {
            inert.push(name);
            continue;
        }
        for (key, outcome) in outcomes {
            *table.entry(format!("{key}: {outcome}")).or_insert(0) += 1;
        }
    }
    let lines: Vec<String> = table.iter().map(|(line, count)| format!("{line} x{count}")).collect();
    assert_snapshot!(lines.join("\n"), @"
    ping -: ignored: a ping says only that the hook works x4
    pull_request assigned: ignored: activity `assigned` of a pull request starts nothing x2
    pull_request closed: pull request closed x2
    pull_request converted_to_draft: ignored: activity `converted_to_draft` of a pull request starts nothing x3
    pull_request labeled: ignored: activity `labeled` of a pull request starts nothing x2
    pull_request locked: ignored: activity `locked` of a pull request starts nothing x2
    pull_request opened: pull request opened x4
    pull_request ready_for_review: pull request ready_for_review x3
    pull_request reopened: pull request reopened x2
    pull_request review_request_removed: ignored: activity `review_request_removed` of a pull request starts nothing x1
    pull_request review_requested: ignored: activity `review_requested` of a pull request starts nothing x1
    pull_request synchronize: pull request synchronize x1
    pull_request unassigned: ignored: activity `unassigned` of a pull request starts nothing x2
    pull_request unlabeled: ignored: activity `unlabeled` of a pull request starts nothing x2
    pull_request unlocked: ignored: activity `unlocked` of a pull request starts nothing x2
    push -: delete refs/tags/simple-tag x4
    push -: push new refs/heads/master x2
    push -: push new refs/tags/simple-tag x1
    ");
    assert_snapshot!(inert.join(" "), @"branch_protection_rule check_run check_suite code_scanning_alert commit_comment create delete dependabot_alert deploy_key deployment deployment_review deployment_status discussion discussion_comment fork github_app_authorization gollum installation installation_repositories issue_comment issues label marketplace_purchase member membership merge_group meta milestone organization org_block package page_build project project_card project_column projects_v2_item public pull_request_review pull_request_review_comment pull_request_review_thread release repository_dispatch repository repository_import repository_vulnerability_alert security_advisory sponsorship star status team team_add watch workflow_dispatch workflow_job workflow_run");
}

fn outcome(decoded: &Decoded) -> String {
    match decoded {
        Decoded::Ignored(reason) => format!("ignored: {reason}"),
        Decoded::Dead(reason) => format!("DEAD: {reason}"),
        Decoded::Change { change, .. } => match change.as_ref() {
            Change::Push { git_ref, before, forced, .. } => {
                let new = if before.is_none() { " new" } else { "" };
                let forced = if *forced { " forced" } else { "" };
                format!("push{new}{forced} {}", git_ref.full())
            }
            Change::Delete { git_ref, .. } => format!("delete {}", git_ref.full()),
            Change::PullRequest(pull) => {
                let fork = if pull.from_fork { " from a fork" } else { "" };
                format!("pull request {}{fork}", pull.action.as_str())
            }
            Change::Dispatch(_) | Change::Due(_) => change.event_name().to_owned(),
        },
    }
}
