//! Bringing verdicts to where people look.
//!
//! At GitHub that is a commit status for each context, one write a second. For a plain git
//! repository it is a note (`refs/notes/muster`) on the commit, with one line for each context.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use muster_core::id::RepoId;
use muster_forge::github::{ClientError, StatusUpdate};
use muster_sys::clock;

use super::notes::Notes;
use super::{Shared, Step};
use crate::forge::GitHub;
use crate::store::reports::{NEVER, Unsent};
use crate::store::repositories::Repository;
use crate::store::settings::GITHUB_QUIET_UNTIL;

/// How many reports are looked at at once.
const TOGETHER: i64 = 500;
/// The longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(300);
/// GitHub's advice: at least a second between two writes.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);
/// What is added to the time that GitHub asks for: it bans who calls early.
const MARGIN: Duration = Duration::from_secs(1);
/// The wait after a refusal that an administrator may mend, such as a right that is missing.
const AFTER_REFUSAL: Duration = Duration::from_secs(600);

pub(super) struct Deliver {
    shared: Arc<Shared>,
    notes: Notes,
    /// When the next write to GitHub may be.
    next_write_at: i64,
}

impl Deliver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { notes: Notes::new(Arc::clone(&shared)), shared, next_write_at: 0 }
    }

    /// Sets one commit status.
    async fn set_status(
        &mut self,
        github: &GitHub,
        repository: &Repository,
        report: Unsent,
    ) -> anyhow::Result<()> {
        let status = StatusUpdate {
            state: report.state.clone(),
            target_url: format!("{}{}", self.shared.config.public_url, report.path),
            description: report.description.clone(),
            context: report.context.clone(),
        };
        let now = clock::now_ms();
        let set =
            github.client.set_status(&repository.name, &report.sha, &status, now / 1000).await;
        self.next_write_at = clock::now_ms() + millis(BETWEEN_WRITES);
        let shared = Arc::clone(&self.shared);
        let store = &shared.store;
        match set {
            Ok(limits) => {
                if limits.remaining == Some(0) {
                    let until = limits
                        .resets_at
                        .map_or(now + millis(MAX_WAIT), |at| at * 1000 + millis(MARGIN));
                    self.be_quiet_until(until).await?;
                }
                store.reports_sent(vec![report], clock::now_ms()).await?;
            }
            Err(error) => {
                tracing::warn!(repo.name = repository.name, sha = report.sha, %error, "status not set");
                let next = match &error {
                    ClientError::Limited { wait } => {
                        // GitHub counts from its answer, and its clock is not ours.
                        let until = clock::now_ms() + millis(*wait + MARGIN);
                        self.be_quiet_until(until).await?;
                        until
                    }
                    error if error.is_passing() => now + backoff(report.failures),
                    // What is wrong with this very status stays wrong; a right may be given later.
                    ClientError::Refused { status: 422, .. } => NEVER,
                    _ => now + millis(AFTER_REFUSAL),
                };
                store.report_failed(&report, error.to_string(), next).await?;
            }
        }
        Ok(())
    }

    /// Keeps GitHub's wish to hear nothing in the store, so that a restart does not forget it.
    async fn be_quiet_until(&mut self, until: i64) -> anyhow::Result<()> {
        self.next_write_at = self.next_write_at.max(until);
        Ok(self.shared.store.set_setting(GITHUB_QUIET_UNTIL, until.to_string()).await?)
    }

    /// Sends what may be sent now; returns when there is more to do.
    async fn send_due(&mut self, now: i64) -> anyhow::Result<Option<i64>> {
        let due = self.shared.store.due_reports(now, &self.notes.busy(), TOGETHER).await?;
        let mut repositories: HashMap<String, Option<Repository>> = HashMap::new();
        let mut notes: HashMap<String, Vec<Unsent>> = HashMap::new();
        let mut statuses = Vec::new();
        for report in due {
            let id = report.repository_id.clone();
            if let Entry::Vacant(place) = repositories.entry(id.clone()) {
                place.insert(self.shared.store.repository(&RepoId::new(id.as_str())).await?);
            }
            match &repositories[&id] {
                Some(repository) if repository.is_at_github() => statuses.push(report),
                Some(_) => notes.entry(id).or_default().push(report),
                None => {}
            }
        }
        for (id, due) in notes {
            if let Some(Some(repository)) = repositories.remove(&id) {
                self.notes.write(repository, due);
            }
        }
        let shared = Arc::clone(&self.shared);
        let Some(github) = &shared.github else { return Ok(None) };
        let more = statuses.len() > 1;
        // Verdicts stand first in what is due.
        if let Some(report) = statuses.into_iter().next() {
            if now < self.next_write_at {
                return Ok(Some(self.next_write_at));
            }
            if let Some(Some(repository)) = repositories.remove(&report.repository_id) {
                self.set_status(github, &repository, report).await?;
            }
        }
        Ok(if more { Some(self.next_write_at) } else { None })
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Returns how long to wait before the next try.
pub(super) fn backoff(failures: i64) -> i64 {
    millis(Duration::from_secs(1 << failures.clamp(0, 16)).min(MAX_WAIT))
}

impl Step for Deliver {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        if self.next_write_at == 0 {
            let stored = self.shared.store.setting(GITHUB_QUIET_UNTIL).await?;
            self.next_write_at = stored.and_then(|until| until.parse().ok()).unwrap_or(1);
        }
        let now = clock::now_ms();
        let more_at = self.send_due(now).await?;
        let until = |at: i64| Duration::from_millis((at - clock::now_ms()).max(1).unsigned_abs());
        if let Some(at) = more_at {
            return Ok(until(at).min(MAX_WAIT));
        }
        // What is due and could not be sent now is looked at again, but not at once: who has
        // something new to send nudges.
        let next = self.shared.store.next_report_at().await?;
        Ok(next.map_or(MAX_WAIT, until).clamp(BETWEEN_WRITES, MAX_WAIT))
    }
}
