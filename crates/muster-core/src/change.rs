//! What happened to a repository, in one closed form, and how a workflow sees it.

use std::collections::BTreeMap;

use muster_workflow::trigger::{ChangedFiles, Event, Target};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::id::Sha;

/// Who does what nobody does.
const CLOCK: &str = "muster";
/// The longest name of a ref that is listened to, in bytes; GitHub takes a quarter of that.
const MAX_REF: usize = 1024;

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
    /// Reads a full ref name; `None` for what is neither a branch nor a tag, or no name that git allows.
    pub fn parse(name: &str) -> Option<Self> {
        // What git itself refuses in a name: https://git-scm.com/docs/git-check-ref-format
        let refused =
            |c: char| c <= ' ' || matches!(c, '\u{7f}' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
        let bad_part =
            |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with(".lock");
        if name.contains(refused)
            || name.contains("..")
            || name.contains("@{")
            || name.ends_with('.')
            || name.split('/').any(bad_part)
            || name.len() > MAX_REF
        {
            return None;
        }
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

    fn target(&self) -> Target {
        match self {
            Self::Branch(name) => Target::Branch(name.clone()),
            Self::Tag(name) => Target::Tag(name.clone()),
        }
    }
}

/// The commit that a push brought.
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

/// Somebody at a code host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Their number there, which stays when they change their name.
    pub id: Option<i64>,
    /// Their name now.
    pub login: String,
}

/// What was done to a pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullRequestAction {
    /// It was made.
    Opened,
    /// Its head moved.
    Synchronize,
    /// It was opened again.
    Reopened,
    /// It is no draft any more.
    ReadyForReview,
    /// It goes to another branch.
    Edited,
    /// It was merged or given up.
    Closed,
}

impl PullRequestAction {
    /// Returns GitHub's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Synchronize => "synchronize",
            Self::Reopened => "reopened",
            Self::ReadyForReview => "ready_for_review",
            Self::Edited => "edited",
            Self::Closed => "closed",
        }
    }
}

/// A pull request, as it was when something was done to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// Its number in the repository.
    pub number: i64,
    /// What was done.
    pub action: PullRequestAction,
    /// Its title.
    pub title: String,
    /// Whether it is a draft.
    pub draft: bool,
    /// When it last changed, as ISO 8601 in UTC: later events have later times.
    pub updated_at: String,
    /// Who made it.
    pub author: Person,
    /// Who did this to it.
    pub sender: Person,
    /// The commit that it asks to merge.
    pub head: Sha,
    /// The branch of that commit, in the repository that it comes from.
    pub head_ref: String,
    /// Whether it comes from another repository.
    pub from_fork: bool,
    /// The commit that its base was at.
    pub base: Sha,
    /// The branch that it asks to be merged into.
    pub base_ref: String,
}

/// Somebody asked for a workflow of a branch or tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    /// The branch or tag.
    pub git_ref: GitRef,
    /// The commit that it was at.
    pub sha: Sha,
    /// The path of the workflow's file in the repository.
    pub workflow: String,
    /// What was filled in, by the names of its inputs.
    pub inputs: BTreeMap<String, String>,
    /// Who asked.
    pub sender: Person,
}

/// The time of a workflow has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The default branch.
    pub git_ref: GitRef,
    /// The commit that it is at.
    pub sha: Sha,
    /// The path of the workflow's file in the repository.
    pub workflow: String,
    /// The schedule, as it is written.
    pub cron: String,
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
        /// Who pushed, where the code host says so.
        sender: Option<Person>,
    },
    /// A branch or tag is gone.
    Delete {
        /// The branch or tag.
        git_ref: GitRef,
        /// What it pointed to.
        before: Sha,
    },
    /// Something was done to a pull request.
    PullRequest(PullRequest),
    /// Somebody asked for a workflow.
    Dispatch(Dispatch),
    /// It is time.
    Due(Due),
}

/// Marks in a commit message that ask for no run, as GitHub reads them.
const SKIP_MARKS: [&str; 5] =
    ["[skip ci]", "[ci skip]", "[no ci]", "[skip actions]", "[actions skip]"];

/// Returns the mark in a commit message that asks for no run.
pub fn skip_mark(message: &str) -> Option<&'static str> {
    SKIP_MARKS.into_iter().find(|mark| message.contains(mark))
}

impl Change {
    /// Returns the commit that statuses are for, where there is one.
    pub fn sha(&self) -> Option<&Sha> {
        match self {
            Self::Push { head, .. } => Some(&head.sha),
            // What somebody asked for, or the clock, says nothing of whether the commit is good.
            Self::Delete { .. } | Self::Dispatch(_) | Self::Due(_) => None,
            Self::PullRequest(pull) => Some(&pull.head),
        }
    }

    /// Returns the commit whose workflows it is about, where there is one.
    pub fn commit(&self) -> Option<&Sha> {
        match self {
            Self::Dispatch(dispatch) => Some(&dispatch.sha),
            Self::Due(due) => Some(&due.sha),
            _ => self.sha(),
        }
    }

    /// Returns the full name of the ref that a run of it is for.
    pub fn full_ref(&self) -> String {
        match self {
            Self::Push { git_ref, .. } | Self::Delete { git_ref, .. } => git_ref.full(),
            Self::PullRequest(pull) => format!("refs/pull/{}/merge", pull.number),
            Self::Dispatch(dispatch) => dispatch.git_ref.full(),
            Self::Due(due) => due.git_ref.full(),
        }
    }

    /// Returns the number of the pull request that it is about, where it is about one.
    pub fn pull_request(&self) -> Option<i64> {
        match self {
            Self::PullRequest(pull) => Some(pull.number),
            Self::Push { .. } | Self::Delete { .. } | Self::Dispatch(_) | Self::Due(_) => None,
        }
    }

    /// Returns the path of the only workflow file that it is about, where it is about one.
    pub fn workflow(&self) -> Option<&str> {
        match self {
            Self::Dispatch(dispatch) => Some(&dispatch.workflow),
            Self::Due(due) => Some(&due.workflow),
            _ => None,
        }
    }

    /// Returns what `on` is asked about.
    pub fn event(&self, changed: ChangedFiles) -> Event {
        let (action, target) = match self {
            Self::Push { git_ref, .. } | Self::Delete { git_ref, .. } => (None, git_ref.target()),
            Self::PullRequest(pull) => {
                (Some(pull.action.as_str().to_owned()), Target::Branch(pull.base_ref.clone()))
            }
            Self::Dispatch(dispatch) => (None, dispatch.git_ref.target()),
            Self::Due(due) => (None, due.git_ref.target()),
        };
        Event {
            name: self.event_name().to_owned(),
            action,
            target,
            changed,
            follows: None,
            cron: match self {
                Self::Due(due) => Some(due.cron.clone()),
                _ => None,
            },
        }
    }

    /// Returns the event's name, as GitHub has it.
    pub fn event_name(&self) -> &'static str {
        match self {
            Self::Push { .. } => "push",
            Self::Delete { .. } => "delete",
            Self::PullRequest(_) => "pull_request",
            Self::Dispatch(_) => "workflow_dispatch",
            Self::Due(_) => "schedule",
        }
    }

    /// Returns the name of who did it.
    pub fn actor(&self) -> &str {
        match self {
            Self::Push { sender: Some(sender), .. } => &sender.login,
            Self::Push { head, .. } => &head.author_name,
            Self::Delete { .. } => "",
            Self::PullRequest(pull) => &pull.sender.login,
            Self::Dispatch(dispatch) => &dispatch.sender.login,
            Self::Due(_) => CLOCK,
        }
    }
}

/// How many events of a branch are looked through for one that is newer than another.
pub const LAST_HEARD: usize = 20;

/// Returns whether a push to a branch comes after one that followed it at the code host.
///
/// `at` is where the branch is now, `heard` the commits that it was heard to be at before this push, and
/// `is_in` tells whether this push's commit is in the history of another.
pub fn is_late_push(
    sha: &Sha,
    at: Option<&Sha>,
    heard: &[Sha],
    is_in: impl Fn(&Sha) -> bool,
) -> bool {
    let moved_on = at.is_some_and(|at| at != sha);
    moved_on && heard.iter().any(|other| other != sha && (Some(other) == at || is_in(other)))
}

/// What a run is beside its change.
#[derive(Debug, Clone)]
pub struct RunFacts<'a> {
    /// The commit that is tested: of a pull request muster's own merge.
    pub tested: &'a Sha,
    /// The repository as `owner/name`.
    pub repository: &'a str,
    /// The repository's default branch.
    pub default_branch: &'a str,
    /// Where the repository is, for people.
    pub repository_url: &'a str,
    /// Where the code host is, without a slash at the end.
    pub server_url: &'a str,
    /// Where its API is, without a slash at the end.
    pub api_url: &'a str,
    /// The payload as the code host sent it; without one, what is known is put in its form.
    pub payload: Option<Json>,
    /// The workflow's name.
    pub workflow: &'a str,
    /// The workflow's path in the repository.
    pub workflow_path: &'a str,
    /// Whether the ref is protected.
    pub protected: bool,
    /// The server-wide number of the run.
    pub run_id: i64,
    /// The workflow's own count of its runs.
    pub run_number: i64,
}

/// Returns the `github` context of a run, but for what only the runner knows.
pub fn github_context(change: &Change, facts: &RunFacts<'_>) -> Json {
    let owner = facts.repository.split('/').next().unwrap_or_default();
    let git_ref = change.full_ref();
    let ref_type = if git_ref.starts_with("refs/tags/") { "tag" } else { "branch" };
    let folders = ["refs/heads/", "refs/tags/", "refs/pull/"];
    let ref_name = folders.iter().find_map(|folder| git_ref.strip_prefix(folder));
    let (head_ref, base_ref) = match change {
        Change::PullRequest(pull) => (pull.head_ref.as_str(), pull.base_ref.as_str()),
        _ => ("", ""),
    };
    json!({
        "actor": change.actor(),
        "triggering_actor": change.actor(),
        "api_url": facts.api_url,
        "graphql_url": format!("{}/graphql", facts.api_url),
        "server_url": facts.server_url,
        "base_ref": base_ref,
        "head_ref": head_ref,
        "event": facts.payload.clone().unwrap_or_else(|| payload(change, facts)),
        "event_name": change.event_name(),
        "ref": git_ref,
        "ref_name": ref_name,
        "ref_protected": facts.protected,
        "ref_type": ref_type,
        "repository": facts.repository,
        "repository_owner": owner,
        "repositoryUrl": facts.repository_url,
        "retention_days": "90",
        "run_attempt": "1",
        "run_id": facts.run_id.to_string(),
        "run_number": facts.run_number.to_string(),
        "secret_source": "None",
        "sha": facts.tested.as_str(),
        "token": "",
        "workflow": facts.workflow,
        "workflow_ref": format!("{}/{}@{git_ref}", facts.repository, facts.workflow_path),
        "workflow_sha": facts.tested.as_str(),
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
    let sender = json!({"login": change.actor()});
    match change {
        Change::Push { git_ref, before, head, forced, .. } => {
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
        Change::PullRequest(pull) => json!({
            "action": pull.action.as_str(),
            "number": pull.number,
            "pull_request": {
                "number": pull.number,
                "title": pull.title,
                "draft": pull.draft,
                "user": {"login": pull.author.login},
                "head": {"sha": pull.head.as_str(), "ref": pull.head_ref},
                "base": {"sha": pull.base.as_str(), "ref": pull.base_ref},
            },
            "repository": repository,
            "sender": sender,
        }),
        Change::Dispatch(dispatch) => json!({
            "inputs": dispatch.inputs,
            "ref": dispatch.git_ref.full(),
            "workflow": dispatch.workflow,
            "repository": repository,
            "sender": sender,
        }),
        Change::Due(due) => json!({
            "schedule": due.cron,
            "workflow": due.workflow,
            "repository": repository,
            "sender": sender,
        }),
    }
}
