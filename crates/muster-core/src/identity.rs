//! Who a job is to others: the claims of its identity tokens, by which clouds let it in without a stored secret.
//!
//! Follows GitHub's
//! [claims](https://docs.github.com/en/actions/reference/security/oidc#oidc-token-claims), so that a condition that was
//! written for GitHub needs another issuer alone.

use serde_json::{Map, Value as Json, json};

use crate::trust::Trust;

/// A job, as its run knows it.
#[derive(Debug, Clone, Copy)]
pub struct Job<'j> {
    /// Its `github` context.
    pub github: &'j Json,
    /// What it deploys to.
    pub environment: Option<&'j str>,
    /// The name of the file that it is of, where that is called; else it is empty.
    pub file: &'j str,
    /// How far its run is trusted.
    pub trust: Trust,
    /// The repository, where its code host has no number for it.
    pub repository_id: &'j str,
}

/// Returns what a token of the job says of it, but for what is of one token alone.
pub fn claims(job: &Job<'_>) -> Map<String, Json> {
    let text = |pointer: &str| job.github.pointer(pointer).and_then(Json::as_str);
    let number = |pointer: &str| job.github.pointer(pointer).and_then(Json::as_i64);
    let repository = text("/repository").unwrap_or_default();
    let mut claims = Map::new();
    claims.insert("sub".to_owned(), subject(job, repository).into());
    for name in [
        "base_ref",
        "event_name",
        "head_ref",
        "ref",
        "ref_type",
        "repository",
        "repository_owner",
        "run_attempt",
        "run_id",
        "run_number",
        "sha",
        "workflow",
        "workflow_ref",
        "workflow_sha",
    ] {
        claims.insert(name.to_owned(), text(&format!("/{name}")).unwrap_or_default().into());
    }
    let id = |pointer: &str| number(pointer).map(|number| number.to_string());
    let repository_id = id("/event/repository/id");
    let repository_id = repository_id.unwrap_or_else(|| job.repository_id.to_owned());
    claims.insert("repository_id".to_owned(), repository_id.into());
    for (name, pointer) in
        [("actor_id", "/event/sender/id"), ("repository_owner_id", "/event/repository/owner/id")]
    {
        claims.extend(id(pointer).map(|id| (name.to_owned(), Json::from(id))));
    }
    // Who is told by the code host; an author of a commit may call himself anything.
    let actor = text("/actor").filter(|_| claims.contains_key("actor_id"));
    claims.extend(actor.map(|name| ("actor".to_owned(), Json::from(name))));
    let visibility = text("/event/repository/visibility");
    claims.extend(visibility.map(|word| ("repository_visibility".to_owned(), Json::from(word))));
    claims.extend(job.environment.map(|name| ("environment".to_owned(), Json::from(name))));
    let git_ref = text("/ref").unwrap_or_default();
    let job_workflow = match job.file {
        "" => text("/workflow_ref").unwrap_or_default().to_owned(),
        file => match file.strip_prefix("./") {
            Some(path) => format!("{repository}/{path}@{git_ref}"),
            None => file.to_owned(),
        },
    };
    claims.insert("job_workflow_ref".to_owned(), job_workflow.into());
    // GitHub's are texts, too.
    let protected = (job.trust == Trust::Protected).to_string();
    claims.insert("ref_protected".to_owned(), protected.into());
    claims.insert("runner_environment".to_owned(), json!("self-hosted"));
    claims.insert("muster_trust".to_owned(), job.trust.as_str().into());
    claims
}

/// Names a job in one word, as conditions of clouds ask for it.
fn subject(job: &Job<'_>, repository: &str) -> String {
    let text = |name: &str| job.github.get(name).and_then(Json::as_str).unwrap_or_default();
    match (job.environment, text("event_name")) {
        // A colon would end the part.
        (Some(name), _) => format!("repo:{repository}:environment:{}", name.replace(':', "%3A")),
        (None, "pull_request") => format!("repo:{repository}:pull_request"),
        (None, _) => format!("repo:{repository}:ref:{}", text("ref")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_known_by_its_repository_and_ref_or_environment() {
        let github = |event: &str| {
            json!({
                "event_name": event, "ref": "refs/heads/main", "repository": "team/app", "workflow_ref":
                "team/app/.github/workflows/ci.yml@refs/heads/main", "event": {"repository": {"id": 7}},
            })
        };
        let of = |event: &str, environment, file| {
            let github = &github(event);
            let trust = Trust::Member;
            let claims = claims(&Job { github, environment, file, trust, repository_id: "r" });
            ["sub", "job_workflow_ref", "repository_id"]
                .map(|name| claims[name].as_str().unwrap_or_default().to_owned())
                .join(" ")
        };
        let all = [
            of("push", None, ""),
            of("pull_request", None, "./.github/workflows/called.yml"),
            of("pull_request", Some("a:b"), "octo/flows/.github/workflows/x.yml@v1"),
        ];
        insta::assert_snapshot!(all.join("\n"), @"
        repo:team/app:ref:refs/heads/main team/app/.github/workflows/ci.yml@refs/heads/main 7
        repo:team/app:pull_request team/app/.github/workflows/called.yml@refs/heads/main 7
        repo:team/app:environment:a%3Ab octo/flows/.github/workflows/x.yml@v1 7
        ");
    }
}
