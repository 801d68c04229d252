//! Bringing verdicts to where people look.
//!
//! At GitHub that is a commit status for each context, one write a second. For a plain git
//! repository it is a note (`refs/notes/muster`) on the commit, with one line for each context.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use muster_core::id::RepoId;
use muster_core::outbox::{Answer, BETWEEN_WRITES_MS, MAX_WAIT_MS, sequel};
use muster_forge::github::{ClientError, Limits, StatusUpdate};
use muster_sys::clock;

use super::notes::Notes;
use super::{Shared, Step};
use crate::forge::GitHub;
use crate::store::reports::Unsent;
use crate::store::repositories::Repository;
use crate::store::settings::GITHUB_QUIET_UNTIL;

/// How many reports are looked at at once.
const TOGETHER: i64 = 500;
/// The longest rest without a nudge, and the shortest while something is due that could not be sent.
const REST: Duration = Duration::from_millis(MAX_WAIT_MS.unsigned_abs());
const SHORT_REST: Duration = Duration::from_millis(BETWEEN_WRITES_MS.unsigned_abs());

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
        self.next_write_at = clock::now_ms() + BETWEEN_WRITES_MS;
        let shared = Arc::clone(&self.shared);
        let store = &shared.store;
        let problem = set.as_ref().err().map(ToString::to_string);
        let sequel = sequel(answer(set), report.failures, clock::now_ms());
        if let Some(until) = sequel.quiet_until {
            self.be_quiet_until(until).await?;
        }
        match (sequel.retry_at, problem) {
            (None, _) => store.reports_sent(vec![report], clock::now_ms()).await?,
            (Some(next), problem) => {
                let problem = problem.unwrap_or_default();
                tracing::warn!(
                    repo.name = repository.name,
                    sha = report.sha,
                    problem,
                    "status not set"
                );
                store.report_failed(&report, problem, next).await?;
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

/// Reads what GitHub's answer means for a report.
fn answer(set: Result<Limits, ClientError>) -> Answer {
    match set {
        Ok(Limits { remaining: Some(0), resets_at }) => {
            let more_at = resets_at.map_or(clock::now_ms() + MAX_WAIT_MS, |at| at * 1000);
            Answer::Taken { more_at: Some(more_at) }
        }
        Ok(_) => Answer::Taken { more_at: None },
        // GitHub counts from its answer, and its clock is not ours.
        Err(ClientError::Limited { wait }) => Answer::Limited { wait_ms: millis(wait) },
        Err(error) if error.is_passing() => Answer::Passing,
        // What is wrong with this very status stays wrong; a right may be given later.
        Err(ClientError::Refused { status: 422, .. }) => Answer::Never,
        Err(_) => Answer::Refused,
    }
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
            return Ok(until(at).min(REST));
        }
        // What is due and could not be sent now is looked at again, but not at once: who has
        // something new to send nudges.
        let next = self.shared.store.next_report_at().await?;
        Ok(next.map_or(REST, until).clamp(SHORT_REST, REST))
    }
}
