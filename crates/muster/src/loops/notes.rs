//! Verdicts on commits of plain git, written into the repositories themselves as notes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;

use muster_core::id::{RepoId, Sha};
use muster_core::outbox::backoff;
use muster_sys::clock;

use super::Shared;
use super::lanes::Lanes;
use crate::git::{GitError, Mirror, Remote};
use crate::store::reports::Unsent;
use crate::store::repositories::Repository;

/// Writes notes.
pub(super) struct Notes {
    writer: Writer,
    lanes: Lanes,
}

#[derive(Clone)]
struct Writer {
    shared: Arc<Shared>,
}

impl Notes {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { writer: Writer { shared }, lanes: Lanes::default() }
    }

    /// Returns the repositories that are being written to.
    pub(super) fn busy(&self) -> Vec<RepoId> {
        self.lanes.busy()
    }

    /// Starts to write all that is due of one repository, unless some of it is being written. The deliverer
    /// is woken afterwards.
    pub(super) fn write(&self, repository: Repository, due: Vec<Unsent>) {
        let Some(lane) = self.lanes.enter(&repository.id()) else { return };
        let writer = self.writer.clone();
        drop(self.writer.shared.errands.spawn("notes", async move {
            let written = writer.try_write(&repository, due).await;
            lane.leave();
            match written {
                // What changed meanwhile was not looked at.
                Ok(()) => writer.shared.wake.deliver.notify_one(),
                // What is due still is, and is tried again at the next interval.
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "verdicts are not written");
                }
            }
        }));
    }
}

impl Writer {
    /// Writes all that is due of one repository.
    async fn try_write(&self, repository: &Repository, due: Vec<Unsent>) -> anyhow::Result<()> {
        let id = repository.id();
        let mut notes = HashMap::new();
        for report in &due {
            let sha = Sha::parse(&report.sha)?;
            if let Entry::Vacant(place) = notes.entry(sha) {
                let note = self.note(&id, place.key()).await?;
                place.insert(note);
            }
        }
        let (mirror, remote) = (self.shared.data.mirror(&id), self.shared.remote(repository)?);
        let written = {
            let _mirrors = self.shared.mirrors.read().await;
            tokio::task::spawn_blocking(move || write_notes(mirror, &remote, notes)).await?
        };
        let now = clock::now_ms();
        match written {
            Ok(()) => self.shared.store.reports_sent(due, now).await?,
            Err(error) => {
                tracing::warn!(repo.name = repository.name, %error, "cannot write verdicts");
                for report in due {
                    let next = now + backoff(report.failures);
                    self.shared.store.report_failed(&report, error.to_string(), next).await?;
                }
            }
        }
        Ok(())
    }

    /// Writes all that a commit shows: the verdicts are few, and a note holds them all.
    async fn note(&self, id: &RepoId, sha: &Sha) -> anyhow::Result<String> {
        let reports = self.shared.store.reports_of(id, sha).await?;
        let url = &self.shared.config.public_url;
        let lines = reports.iter().map(|report| {
            let Unsent { context, state, description, path, .. } = report;
            format!("{context}: {state} ({description}) {url}{path}\n")
        });
        Ok(lines.collect())
    }
}

/// Writes notes of commits that are there; one that is nowhere any more has none.
fn write_notes(
    mirror: PathBuf,
    remote: &Remote,
    mut notes: HashMap<Sha, String>,
) -> Result<(), GitError> {
    let mirror = Mirror::open(mirror)?;
    if notes.keys().any(|sha| !mirror.has(sha)) {
        mirror.fetch(remote, None)?;
        notes.retain(|sha, _| mirror.has(sha));
    }
    mirror.write_notes(remote, &notes)
}
