//! What happened to a repository, in one closed form, and how a workflow sees it.

use muster_workflow::trigger::{ChangedFiles, Event, Target};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::id::Sha;

/// A ref that a change is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GitRef {
    /// `refs/heads/…`.
    Branch(String),
    /// `refs/tags/…`.
    Tag(String),
}

impl GitRef {
    /// Reads a full ref name; `None` for what is neither a branch nor a tag.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(branch) = name.strip_prefix("refs/heads/") {
            return Some(Self::Branch(branch.to_owned()));
        }
        name.strip_prefix("refs/tags/").map(|tag| Self::Tag(tag.to_owned()))
    }

    /// Returns the full name.
    pub fn full(&self) -> String {
        match self {
            Self::Branch(name) => format!("refs/heads/{name}"),
            Self::Tag(name) => format!("refs/tags/{name}"),
        }
    }

    /// Returns the name without its folder.
    pub fn short(&self) -> &str {
        match self {
            Self::Branch(name) | Self::Tag(name) => name,
        }
    }
}

/// The commit that a change brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its name.
    pub sha: Sha,
    /// Its whole message.
    pub message: String,
    /// The author's name.
    pub author_name: String,
    /// The author's address.
    pub author_email: String,
    /// The commit's time as ISO 8601.
    pub timestamp: String,
}

/// Something that happened to a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A branch or tag points to another commit.
    Push {
        /// The branch or tag.
        git_ref: GitRef,
        /// What it pointed to; `None` where it is new.
        before: Option<Sha>,
        /// What it points to now.
        head: Commit,
        /// Whether commits were thrown away.
        forced: bool,
    },
    /// A branch or tag is gone.
    Delete {
        /// The branch or tag.
        git_ref: GitRef,
        /// What it pointed to.
        before: Sha,
    },
}

/// Marks in a commit message that ask for no run, as GitHub reads them.
const SKIP_MARKS: [&str; 5] =
    ["[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]"];

impl Change {
    /// Returns the ref that changed.
    pub fn git_ref(&self) -> &GitRef {
        match self {
            Self::Push { git_ref, .. } | Self::Delete { git_ref, .. } => git_ref,
        }
    }

    /// Returns the commit to test, where there is one.
    pub fn head(&self) -> Option<&Commit> {
        match self {
            Self::Push { head, .. } => Some(head),
            Self::Delete { .. } => None,
        }
    }

    /// Returns the mark in the commit's message that asks for no run.
    pub fn skip_mark(&self) -> Option<&'static str> {
        let message = &self.head()?.message;
        SKIP_MARKS.into_iter().find(|mark| message.contains(mark))
    }

    /// Returns what `on` is asked about.
    pub fn event(&self, changed: ChangedFiles) -> Event {
        let target = match self.git_ref() {
            GitRef::Branch(name) => Target::Branch(name.clone()),
            GitRef::Tag(name) => Target::Tag(name.clone()),
        };
        Event { name: self.event_name().to_owned(), action: None, target, changed }
    }

    /// Returns the event's name, as GitHub has it.
    pub fn event_name(&self) -> &'static str {
        match self {
            Self::Push { .. } => "push",
            Self::Delete { .. } => "delete",
        }
    }
}

/// What a run is beside its change.
#[derive(Debug, Clone)]
pub struct RunFacts<'a> {
    /// The repository as `owner/name`.
    pub repository: &'a str,
    /// The repository's default branch.
    pub default_branch: &'a str,
    /// Where the repository is, for people.
    pub repository_url: &'a str,
    /// Where muster is, without a slash at the end.
    pub server_url: &'a str,
    /// Who did it.
    pub actor: &'a str,
    /// The workflow's name.
    pub workflow: &'a str,
    /// The workflow's path in the repository.
    pub workflow_path: &'a str,
    /// The server-wide number of the run.
    pub run_id: i64,
    /// The workflow's own count of its runs.
    pub run_number: i64,
    /// Which try of the whole run this is.
    pub run_attempt: u32,
}

/// Returns the `github` context of a run, but for what only the runner knows.
pub fn github_context(change: &Change, facts: &RunFacts<'_>) -> Json {
    let owner = facts.repository.split('/').next().unwrap_or_default();
    let (ref_type, git_ref) = match change.git_ref() {
        GitRef::Branch(_) => ("branch", change.git_ref().full()),
        GitRef::Tag(_) => ("tag", change.git_ref().full()),
    };
    let sha = match change {
        Change::Push { head, .. } => head.sha.as_str(),
        Change::Delete { before, .. } => before.as_str(),
    };
    json!({
        "actor": facts.actor,
        "triggering_actor": facts.actor,
        "api_url": format!("{}/api/v3", facts.server_url),
        "graphql_url": format!("{}/api/graphql", facts.server_url),
        "server_url": facts.server_url,
        "base_ref": "",
        "head_ref": "",
        "event": payload(change, facts),
        "event_name": change.event_name(),
        "ref": git_ref,
        "ref_name": change.git_ref().short(),
        "ref_protected": false,
        "ref_type": ref_type,
        "repository": facts.repository,
        "repository_owner": owner,
        "repositoryUrl": facts.repository_url,
        "retention_days": "90",
        "run_attempt": facts.run_attempt.to_string(),
        "run_id": facts.run_id.to_string(),
        "run_number": facts.run_number.to_string(),
        "secret_source": "None",
        "sha": sha,
        "token": "",
        "workflow": facts.workflow,
        "workflow_ref": format!("{}/{}@{git_ref}", facts.repository, facts.workflow_path),
        "workflow_sha": sha,
    })
}

/// Returns the event's payload in GitHub's form, as far as a plain repository knows it.
fn payload(change: &Change, facts: &RunFacts<'_>) -> Json {
    let (owner, name) = facts.repository.split_once('/').unwrap_or(("", facts.repository));
    let repository = json!({
        "name": name,
        "full_name": facts.repository,
        "owner": {"login": owner, "name": owner},
        "html_url": facts.repository_url,
        "default_branch": facts.default_branch,
    });
    let sender = json!({"login": facts.actor});
    match change {
        Change::Push { git_ref, before, head, forced } => {
            let zero = "0".repeat(head.sha.as_str().len());
            let commit = json!({
                "id": head.sha.as_str(),
                "message": head.message,
                "timestamp": head.timestamp,
                "author": {"name": head.author_name, "email": head.author_email},
            });
            json!({
                "ref": git_ref.full(),
                "before": before.as_ref().map_or(zero.as_str(), Sha::as_str),
                "after": head.sha.as_str(),
                "created": before.is_none(),
                "deleted": false,
                "forced": forced,
                "head_commit": commit,
                "commits": [commit],
                "pusher": {"name": head.author_name, "email": head.author_email},
                "repository": repository,
                "sender": sender,
            })
        }
        Change::Delete { git_ref, .. } => json!({
            "ref": git_ref.short(),
            "ref_type": if matches!(git_ref, GitRef::Tag(_)) { "tag" } else { "branch" },
            "repository": repository,
            "sender": sender,
        }),
    }
}
