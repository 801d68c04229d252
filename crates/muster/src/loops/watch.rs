//! Looking at repositories: what differs from what is stored has happened.
//!
//! The truth is the list of refs. A hook's nudge only says when to look.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use muster_core::change::{Change, GitRef};
use muster_core::id::{RepoId, Sha};
use muster_sys::clock;
use muster_workflow::text::one_line;

use super::lanes::Lanes;
use super::{Shared, Step};
use crate::git::{Mirror, Remote, ls_remote};
use crate::store::repositories::{Look, Repository};

/// The longest rest of a repository that cannot be looked at.
const MAX_REST: Duration = Duration::from_secs(300);
/// More refs than this in one repository are not watched.
const MAX_REFS: usize = 50_000;

pub(super) struct Watch {
    looker: Looker,
    /// Those on this machine do not wait for those elsewhere, which may hang.
    local: Lanes,
    elsewhere: Lanes,
    known: HashMap<RepoId, Known>,
}

/// What is known of the looks at a repository.
#[derive(Debug, Clone, Default)]
struct Known {
    /// When the last one began, and how many nudges there had been by then.
    looked: Option<(Instant, u64)>,
    /// How many have failed since one did not.
    failures: Arc<AtomicU32>,
}

impl Known {
    /// Returns whether it is time for another look.
    fn is_due(&self, now: Instant, nudges: u64, local: bool, every: Duration) -> bool {
        let Some((looked, heard)) = self.looked else { return true };
        // A nudge is of some repository on this machine; which one, it does not say.
        let rest = every * (1 << self.failures.load(Ordering::Relaxed).min(16));
        (local && heard != nudges) || now.duration_since(looked) >= rest.min(MAX_REST.max(every))
    }
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            looker: Looker { shared },
            local: Lanes::default(),
            elsewhere: Lanes::default(),
            known: HashMap::new(),
        }
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
        let remote = Arc::new(self.shared.remote(repository)?);
        let asked = Arc::clone(&remote);
        let there = tokio::task::spawn_blocking(move || ls_remote(&asked)).await??;
        let branch = there.default_branch.unwrap_or_else(|| repository.default_branch.clone());
        if there.refs.len() > MAX_REFS {
            anyhow::bail!("it has {} branches and tags, more than {MAX_REFS}", there.refs.len());
        }
        let first = repository.seen_at.is_none();
        if there.refs == stored && !first && branch == repository.default_branch {
            return Ok(());
        }
        let _mirrors = self.shared.mirrors.read().await;
        let mirror = self.shared.data.mirror(&id);
        let look = tokio::task::spawn_blocking(move || {
            let (refs, changes) = fetch(&remote, mirror, &stored, first)?;
            anyhow::Ok(Look { refs, default_branch: branch, changes })
        });
        let look = look.await??;
        let happened = !look.changes.is_empty();
        self.shared.store.record_look(&id, look, clock::now_ms()).await?;
        if happened {
            self.shared.wake.plan.notify_one();
            self.shared.wake.deliver.notify_one();
        }
        Ok(())
    }

    /// Looks at a repository; what keeps it from being seen is stored too. Returns whether it was seen.
    async fn try_look(&self, repository: &Repository) -> anyhow::Result<bool> {
        let Err(error) = self.look(repository).await else { return Ok(true) };
        let problem = one_line(&format!("{error:#}").replace('\n', " "));
        if repository.problem.as_deref() != Some(&problem) {
            tracing::warn!(repo.name = repository.name, problem, "cannot look at the repository");
            self.shared.store.record_failed_look(&repository.id(), problem).await?;
        }
        Ok(false)
    }
}

impl Step for Watch {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        let shared = &self.looker.shared;
        let config = &shared.config;
        let nudges = shared.wake.nudges.load(Ordering::Relaxed);
        let now = clock::monotonic();
        let mut due = Vec::new();
        let repositories = shared.store.repositories().await?;
        self.known.retain(|id, _| repositories.iter().any(|repository| repository.id() == *id));
        for repository in repositories {
            if repository.is_at_github() {
                continue;
            }
            let local = is_local(&repository);
            let every = if local { config.poll_local_s } else { config.poll_remote_s };
            let known = self.known.entry(repository.id()).or_default();
            if known.is_due(now, nudges, local, Duration::from_secs(every)) {
                due.push((known.looked.map(|(looked, _)| looked), repository));
            }
        }
        // Who was looked at longest ago comes first, so that everybody's turn comes.
        due.sort_by_key(|(looked, _)| *looked);
        for (_, repository) in due {
            let lanes = if is_local(&repository) { &self.local } else { &self.elsewhere };
            let Some(lane) = lanes.enter(&repository.id()) else { continue };
            let known = self.known.entry(repository.id()).or_default();
            known.looked = Some((now, nudges));
            let (looker, failures) = (self.looker.clone(), Arc::clone(&known.failures));
            drop(shared.errands.spawn("look", async move {
                match looker.try_look(&repository).await {
                    Ok(true) => failures.store(0, Ordering::Relaxed),
                    Ok(false) => drop(failures.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => {
                        tracing::error!(error = format!("{error:#}"), "a look is not stored");
                        failures.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // Somebody may be due whose turn could not come.
                if lane.leave() {
                    looker.shared.wake.watch.notify_one();
                }
            }));
        }
        Ok(Duration::from_secs(config.poll_local_s))
    }
}

fn is_local(repository: &Repository) -> bool {
    Path::new(&repository.location).is_absolute()
}

type Refs = Vec<(String, Sha)>;

/// Fetches a repository; returns its refs, and what happened since `known`.
fn fetch(
    remote: &Remote,
    mirror: PathBuf,
    known: &[(String, Sha)],
    first: bool,
) -> anyhow::Result<(Refs, Vec<Change>)> {
    let mirror = Mirror::open(mirror)?;
    mirror.fetch(remote, None).context("cannot fetch")?;
    // What was fetched is what counts: the list may have changed since it was read.
    let refs = mirror.refs()?;
    // What was there before muster came starts nothing.
    let changes = if first { Vec::new() } else { changes(&mirror, known, &refs)? };
    Ok((refs, changes))
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
