//! Looking at repositories: what differs from what is stored has happened.
//!
//! The truth is the list of refs. A hook's nudge only says when to look.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use muster_core::change::{Change, GitRef};
use muster_core::id::Sha;
use muster_sys::clock;

use super::lanes::Lanes;
use super::{Shared, Step};
use crate::git::{Mirror, Remote, ls_remote};
use crate::store::repositories::{Look, Repository};

/// More refs than this in one repository are not watched.
const MAX_REFS: usize = 50_000;

pub(super) struct Watch {
    looker: Looker,
    lanes: Lanes,
    /// When each repository elsewhere is looked at next.
    due: HashMap<String, Instant>,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { looker: Looker { shared }, lanes: Lanes::default(), due: HashMap::new() }
    }
}

/// Looks at repositories.
#[derive(Clone)]
struct Looker {
    shared: Arc<Shared>,
}

impl Looker {
    /// Looks at a repository and stores what happened.
    async fn look(&self, repository: &Repository) -> anyhow::Result<()> {
        let id = repository.id();
        let stored = self.shared.store.refs(&id).await?;
        let remote = self.shared.remote(repository)?;
        let _mirrors = self.shared.mirrors.read().await;
        let (first, default_branch) =
            (repository.seen_at.is_none(), repository.default_branch.clone());
        let mirror = self.shared.data.mirror(&id);
        let look = tokio::task::spawn_blocking(move || {
            look(&remote, mirror, &stored, first, &default_branch)
        });
        let Some(look) = look.await?? else { return Ok(()) };
        let happened = !look.changes.is_empty();
        self.shared.store.record_look(&id, look, clock::now_ms()).await?;
        if happened {
            self.shared.wake.plan.notify_one();
            self.shared.wake.deliver.notify_one();
        }
        Ok(())
    }

    /// Looks at a repository; what keeps it from being seen is stored too.
    async fn try_look(&self, repository: &Repository) -> anyhow::Result<()> {
        let Err(error) = self.look(repository).await else { return Ok(()) };
        let problem = format!("{error:#}");
        if repository.problem.as_deref() != Some(&problem) {
            tracing::warn!(repo.name = repository.name, problem, "cannot look at the repository");
            self.shared.store.record_failed_look(&repository.id(), problem).await?;
        }
        Ok(())
    }
}

impl Step for Watch {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        let shared = &self.looker.shared;
        let config = &shared.config;
        let now = clock::monotonic();
        for repository in shared.store.repositories().await? {
            if repository.is_at_github() {
                continue;
            }
            let local = Path::new(&repository.location).is_absolute();
            let due = self.due.get(&repository.location).is_none_or(|due| now >= *due);
            if !local && !due {
                continue;
            }
            let Some(lane) = self.lanes.enter(&repository.id()) else { continue };
            let until = now + Duration::from_secs(config.poll_remote_s);
            self.due.insert(repository.location.clone(), until);
            let looker = self.looker.clone();
            drop(shared.errands.spawn("look", async move {
                if let Err(error) = looker.try_look(&repository).await {
                    tracing::error!(error = format!("{error:#}"), "a look is not stored");
                }
                // What was looked at may have changed since.
                if lane.leave() {
                    looker.shared.wake.watch.notify_one();
                }
            }));
        }
        Ok(Duration::from_secs(config.poll_local_s))
    }
}

/// Compares a repository with what is known of it; `None` where nothing differs.
fn look(
    remote: &Remote,
    mirror: std::path::PathBuf,
    known: &[(String, Sha)],
    first: bool,
    default_branch: &str,
) -> anyhow::Result<Option<Look>> {
    let there = ls_remote(remote)?;
    let branch = there.default_branch.unwrap_or_else(|| default_branch.to_owned());
    if there.refs.len() > MAX_REFS {
        anyhow::bail!("it has {} branches and tags, more than {MAX_REFS}", there.refs.len());
    }
    if there.refs == known && !first && branch == default_branch {
        return Ok(None);
    }
    let mirror = Mirror::open(mirror)?;
    mirror.fetch(remote, None).context("cannot fetch")?;
    // What was fetched is what counts: the list may have changed since it was read.
    let refs = mirror.refs()?;
    // What was there before muster came starts nothing.
    let changes = if first { Vec::new() } else { changes(&mirror, known, &refs)? };
    Ok(Some(Look { refs, default_branch: branch, changes }))
}

fn changes(
    mirror: &Mirror,
    before: &[(String, Sha)],
    after: &[(String, Sha)],
) -> anyhow::Result<Vec<Change>> {
    let old: HashMap<&str, &Sha> = before.iter().map(|(name, sha)| (name.as_str(), sha)).collect();
    let new: HashMap<&str, &Sha> = after.iter().map(|(name, sha)| (name.as_str(), sha)).collect();
    let mut changes = Vec::new();
    for (name, sha) in before {
        if let (None, Some(git_ref)) = (new.get(name.as_str()), GitRef::parse(name)) {
            changes.push(Change::Delete { git_ref, before: sha.clone() });
        }
    }
    for (name, sha) in after {
        let before = old.get(name.as_str()).copied();
        let Some(git_ref) = GitRef::parse(name) else { continue };
        if before == Some(sha) {
            continue;
        }
        // A tag may name something that is no commit; nothing can be run for it.
        let Ok(commit) = mirror.peel(sha) else { continue };
        let head = match mirror.commit(&commit) {
            Ok(head) => head,
            Err(error) => {
                // One commit that cannot be read must not keep the other refs from being heard.
                tracing::warn!(git.name = name, %error, "a commit cannot be read");
                continue;
            }
        };
        let forced = before.is_some_and(|before| !mirror.is_ancestor(before, &commit));
        let before = before.cloned();
        changes.push(Change::Push { git_ref, before, head, forced, sender: None });
    }
    Ok(changes)
}
