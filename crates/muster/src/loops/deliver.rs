//! Bringing verdicts to where people look.
//!
//! For a plain git repository that is a note (`refs/notes/muster`) on the commit, with one line for
//! each context.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use muster_core::id::{RepoId, Sha};
use muster_sys::clock;

use super::{Shared, Step};
use crate::git::Mirror;
use crate::store::reports::Unsent;

/// How many reports are sent at once.
const TOGETHER: i64 = 500;
/// The longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(300);

pub(super) struct Deliver {
    shared: Arc<Shared>,
}

impl Deliver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Sends all that is due of one repository.
    async fn send(&self, id: &RepoId, due: Vec<Unsent>) -> anyhow::Result<()> {
        let Some(repository) = self.shared.store.repository(id).await? else { return Ok(()) };
        let mut notes = HashMap::new();
        for report in &due {
            let sha = Sha::parse(&report.sha)?;
            if let Entry::Vacant(place) = notes.entry(sha) {
                let note = self.note(id, place.key()).await?;
                place.insert(note);
            }
        }
        let mirror = self.shared.data.mirror(id);
        let location = repository.location.clone();
        let written = tokio::task::spawn_blocking(move || {
            Mirror::open(mirror)?.write_notes(&location, &notes)
        });
        let now = clock::now_ms();
        match written.await? {
            Ok(()) => self.shared.store.reports_sent(due, now).await?,
            Err(error) => {
                tracing::warn!(repo.name = repository.name, %error, "cannot write verdicts");
                for report in due {
                    let wait = Duration::from_secs(1 << report.failures.clamp(0, 16)).min(MAX_WAIT);
                    let next = now + i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
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

impl Step for Deliver {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        loop {
            let now = clock::now_ms();
            let due = self.shared.store.due_reports(now, TOGETHER).await?;
            if due.is_empty() {
                let next = self.shared.store.next_report_at().await?;
                let until = |at: i64| Duration::from_millis((at - now).max(1).unsigned_abs());
                return Ok(next.map_or(MAX_WAIT, until));
            }
            let mut by_repository: HashMap<String, Vec<Unsent>> = HashMap::new();
            for report in due {
                by_repository.entry(report.repository_id.clone()).or_default().push(report);
            }
            for (id, due) in by_repository {
                self.send(&RepoId::new(id), due).await?;
            }
        }
    }
}
