//! From a webhook's payload to a change, from numeric identities.
//!
//! Payloads are read with structs of only the fields that are used: new fields and actions at GitHub
//! must not break anything.

use muster_core::change::{Change, Commit, GitRef, Person, PullRequest, PullRequestAction};
use muster_core::id::Sha;
use muster_core::run::Reason;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json::Object;
use super::webhook::Payload;

/// What a delivery says.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// Something happened to the repository with this number at GitHub.
    Change {
        /// The repository's number.
        repository: i64,
        /// Its name now, `owner/name`.
        name: String,
        /// When it had that name, as ISO 8601 in UTC, where the webhook says so.
        as_of: Option<String>,
        /// The repository's default branch then.
        default_branch: Option<String>,
        /// What happened.
        change: Box<Change>,
    },
    /// Nothing that starts or ends anything, with the reason.
    Ignored(Reason),
    /// It does not fit its event.
    Dead(Reason),
}

/// The longest name of a branch, in bytes.
const MAX_BRANCH: usize = 1024;

#[derive(Deserialize)]
struct Repository {
    id: i64,
    full_name: String,
    default_branch: Option<String>,
    /// Later events have later times, and a new name is a change.
    updated_at: Option<String>,
}

impl Repository {
    /// Refuses what is no name at GitHub: it becomes a part of addresses, there and here.
    fn check(&self, event: &str) -> Result<(), Decoded> {
        if !is_full_name(&self.full_name) {
            return Err(unfit(event, "its repository's name is no `owner/name`"));
        }
        if self.updated_at.as_ref().is_some_and(|time| !is_time(time)) {
            return Err(unfit(event, "its repository's `updated_at` is no time"));
        }
        let is_branch = |name: &String| {
            !name.is_empty() && name.len() <= MAX_BRANCH && !name.chars().any(char::is_control)
        };
        if self.default_branch.as_ref().is_some_and(|name| !is_branch(name)) {
            return Err(unfit(event, "its repository's `default_branch` is no name"));
        }
        Ok(())
    }
}

/// Returns whether a name is one that a repository can have at GitHub.
fn is_full_name(name: &str) -> bool {
    let is_part = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !part.is_empty()
            && part.len() <= 100
            && part.bytes().all(plain)
            && !part.trim_matches('.').is_empty()
    };
    name.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name))
}

/// Returns whether a text begins as a time of ISO 8601 does, so that it compares with others of its kind.
fn is_time(text: &str) -> bool {
    let form = b"dddd-dd-ddTdd:dd:dd";
    text.len() > form.len()
        && form.iter().zip(text.bytes()).all(|(wanted, byte)| match wanted {
            b'd' => byte.is_ascii_digit(),
            other => byte == *other,
        })
}

#[derive(Deserialize)]
struct User {
    id: i64,
    login: String,
}

impl From<User> for Person {
    fn from(user: User) -> Self {
        Self { id: Some(user.id), login: user.login }
    }
}

#[derive(Deserialize)]
struct Push {
    #[serde(rename = "ref")]
    git_ref: String,
    before: Sha,
    after: Sha,
    forced: bool,
    deleted: bool,
    head_commit: Option<Object<HeadCommit>>,
    repository: Object<Repository>,
    sender: Option<Object<User>>,
}

#[derive(Deserialize)]
struct HeadCommit {
    id: Sha,
    message: String,
    timestamp: String,
    author: Object<Author>,
}

#[derive(Deserialize)]
struct Author {
    name: String,
    email: Option<String>,
}

#[derive(Deserialize)]
struct PullRequestEvent {
    action: String,
    number: i64,
    pull_request: Object<Pull>,
    changes: Option<Object<Changes>>,
    repository: Object<Repository>,
    sender: Object<User>,
}

/// What an edit has changed.
#[derive(Deserialize)]
struct Changes {
    base: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Pull {
    title: String,
    draft: Option<bool>,
    updated_at: String,
    user: Object<User>,
    head: Object<Side>,
    base: Object<Side>,
}

#[derive(Deserialize)]
struct Side {
    #[serde(rename = "ref")]
    git_ref: String,
    sha: Sha,
    /// Gone when the fork was deleted.
    repo: Option<Object<Fork>>,
}

#[derive(Deserialize)]
struct Fork {
    id: i64,
}

/// Decodes the payload of a delivery of `event`.
pub fn decode(event: &str, payload: &Payload<'_>) -> Decoded {
    let decoded = match event {
        "push" => payload.read().map(push),
        "pull_request" => payload.read().map(pull_request),
        other => payload.read::<Any>().map(|_| inert(other)),
    };
    decoded.unwrap_or_else(|error| unfit(event, &error.to_string()))
}

/// What every payload is, whatever its event.
#[derive(Deserialize)]
struct Any {
    #[expect(dead_code, reason = "where there is one, it must be an object")]
    repository: Option<Object<Nothing>>,
}

/// An object of which nothing is used.
#[derive(Deserialize)]
struct Nothing {}

fn inert(event: &str) -> Decoded {
    match event {
        "ping" => ignored("ping", "a ping says only that the hook works"),
        other => ignored("event", &format!("event `{other}` starts nothing yet")),
    }
}

fn push(push: Push) -> Decoded {
    let Object(repository) = push.repository;
    if let Err(why) = repository.check("push") {
        return why;
    }
    let Some(git_ref) = GitRef::parse(&push.git_ref) else {
        return ignored("ref", &format!("`{}` is neither a branch nor a tag", push.git_ref));
    };
    let before = if push.before.is_zero() { None } else { Some(push.before) };
    let head = push.head_commit.map(|Object(head)| head);
    let change = match (push.deleted, before, head) {
        (true, Some(before), _) => Change::Delete { git_ref, before },
        (true, None, _) => return ignored("ref", "what never was is deleted"),
        // An annotated tag's own object is `after`; the commit is what it names.
        (false, _, Some(head)) if head.id.is_zero() => return unfit("push", "its commit is none"),
        (false, before, Some(head)) => Change::Push {
            git_ref,
            before,
            head: Commit {
                sha: head.id,
                message: head.message,
                author_name: head.author.0.name,
                author_email: head.author.0.email.unwrap_or_default(),
                timestamp: head.timestamp,
            },
            forced: push.forced,
            sender: push.sender.map(|Object(sender)| sender.into()),
        },
        (false, _, None) => {
            let reason = format!("the push of {} names no head commit", push.after);
            return Decoded::Dead(Reason::new("payload", reason));
        }
    };
    Decoded::Change {
        repository: repository.id,
        name: repository.full_name,
        as_of: repository.updated_at,
        default_branch: repository.default_branch,
        change: Box::new(change),
    }
}

fn pull_request(event: PullRequestEvent) -> Decoded {
    let (Object(repository), Object(pull)) = (event.repository, event.pull_request);
    let (Object(head), Object(base)) = (pull.head, pull.base);
    if let Err(why) = repository.check("pull_request") {
        return why;
    }
    if event.number <= 0 {
        return unfit("pull_request", "no pull request has such a number");
    }
    if head.sha.is_zero() {
        return unfit("pull_request", "its head is no commit");
    }
    if !is_time(&pull.updated_at) {
        return unfit("pull_request", "its `updated_at` is no time");
    }
    let new_base = event.changes.is_some_and(|Object(changes)| changes.base.is_some());
    let action = match event.action.as_str() {
        "opened" => PullRequestAction::Opened,
        "synchronize" => PullRequestAction::Synchronize,
        "reopened" => PullRequestAction::Reopened,
        "ready_for_review" => PullRequestAction::ReadyForReview,
        "edited" if new_base => PullRequestAction::Edited,
        "closed" => PullRequestAction::Closed,
        other => {
            return ignored(
                "action",
                &format!("activity `{other}` of a pull request starts nothing"),
            );
        }
    };
    for name in [&base.git_ref, &head.git_ref] {
        if GitRef::parse(&format!("refs/heads/{name}")).is_none() {
            let text = format!("`{}` is no name of a branch", name.escape_debug());
            return Decoded::Dead(Reason::new("payload", text));
        }
    }
    let from_fork = head.repo.is_none_or(|Object(of)| of.id != repository.id);
    let change = Change::PullRequest(PullRequest {
        number: event.number,
        action,
        title: pull.title,
        draft: pull.draft.unwrap_or(false),
        updated_at: pull.updated_at,
        author: pull.user.0.into(),
        sender: event.sender.0.into(),
        head: head.sha,
        head_ref: head.git_ref,
        from_fork,
        base: base.sha,
        base_ref: base.git_ref,
    });
    Decoded::Change {
        repository: repository.id,
        name: repository.full_name,
        as_of: repository.updated_at,
        default_branch: repository.default_branch,
        change: Box::new(change),
    }
}

fn unfit(event: &str, why: &str) -> Decoded {
    let text = format!("the payload does not fit event `{event}`: {why}");
    Decoded::Dead(Reason::new("payload", text))
}

fn ignored(code: &str, text: &str) -> Decoded {
    Decoded::Ignored(Reason::new(code, text))
}
