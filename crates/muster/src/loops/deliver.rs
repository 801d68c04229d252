//! Bringing verdicts to where people look.
//!
//! At GitHub that is a commit status for each context, one write a second. For a plain git
//! repository it is a note (`refs/notes/muster`) on the commit, with one line for each context.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_core::id::RepoId;
use muster_core::outbox::{Answer, BETWEEN_WRITES_MS, MAX_WAIT_MS, Quiet, sequel};
use muster_forge::github::{ClientError, Limits, StatusUpdate};
use muster_sys::clock;

use super::notes::Notes;
use super::{Shared, Step};
use crate::forge::GitHub;
use crate::store::reports::Unsent;
use crate::store::repositories::Repository;
use crate::store::settings::GITHUB_QUIET;

/// How many reports are looked at at once.
const TOGETHER: i64 = 500;
/// The longest rest without a nudge, and the shortest while something is due that could not be sent.
const REST: Duration = Duration::from_millis(MAX_WAIT_MS.unsigned_abs());
const SHORT_REST: Duration = Duration::from_millis(BETWEEN_WRITES_MS.unsigned_abs());

pub(super) struct Deliver {
    shared: Arc<Shared>,
    notes: Notes,
    /// When the next write to GitHub may be; none before it is known what was stored of that.
    next_write: Option<Instant>,
}

impl Deliver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { notes: Notes::new(Arc::clone(&shared)), shared, next_write: None }
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
        let now = clock::now_ms();
        self.next_write = Some(clock::monotonic() + SHORT_REST);
        let shared = Arc::clone(&self.shared);
        let store = &shared.store;
        let problem = set.as_ref().err().map(ToString::to_string);
        let sequel = sequel(answer(set), report.failures, now);
        if let Some(until) = sequel.quiet_until {
            self.be_quiet(Quiet { since: now, until }).await?;
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
    async fn be_quiet(&mut self, quiet: Quiet) -> anyhow::Result<()> {
        self.next_write = self.next_write.max(Some(end_of(quiet)));
        let stored = format!("{} {}", quiet.since, quiet.until);
        Ok(self.shared.store.set_setting(GITHUB_QUIET, stored).await?)
    }

    /// Returns when the next write to GitHub may be, also after a restart.
    async fn next_write(&mut self) -> anyhow::Result<Instant> {
        if let Some(at) = self.next_write {
            return Ok(at);
        }
        let stored = self.shared.store.setting(GITHUB_QUIET).await?.unwrap_or_default();
        let mut numbers = stored.split(' ').map_while(|number| number.parse().ok());
        let quiet = match (numbers.next(), numbers.next()) {
            (Some(since), Some(until)) => Quiet { since, until },
            // As it was stored once.
            (Some(until), None) => Quiet { since: 0, until },
            (None, _) => Quiet::default(),
        };
        let at = end_of(quiet);
        self.next_write = Some(at);
        Ok(at)
    }

    /// Sends what may be sent now; returns when there is more to do.
    async fn send_due(&mut self, now: i64) -> anyhow::Result<Option<Instant>> {
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
            let at = self.next_write().await?;
            if clock::monotonic() < at {
                return Ok(Some(at));
            }
            if let Some(Some(repository)) = repositories.remove(&report.repository_id) {
                self.set_status(github, &repository, report).await?;
            }
        }
        if more { self.next_write().await.map(Some) } else { Ok(None) }
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Returns when a time of quiet is over, by the clock that nobody sets.
fn end_of(quiet: Quiet) -> Instant {
    clock::monotonic() + Duration::from_millis(quiet.left(clock::now_ms()).unsigned_abs())
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
        if let Some(at) = self.send_due(clock::now_ms()).await? {
            return Ok(at.saturating_duration_since(clock::monotonic()).min(REST));
        }
        let until = |at: i64| Duration::from_millis((at - clock::now_ms()).max(1).unsigned_abs());
        // What is due and could not be sent now is looked at again, but not at once: who has
        // something new to send nudges.
        let next = self.shared.store.next_report_at().await?;
        Ok(next.map_or(REST, until).clamp(SHORT_REST, REST))
    }
}
