//! The clock: workflows whose `on` has a `schedule`, of default branches.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use muster_core::change::{Change, Due, GitRef};
use muster_core::id::{RepoId, Sha};
use muster_core::schedule::last_due;
use muster_sys::clock;
use muster_workflow::cron::{Cron, Minute};
use muster_workflow::read;

use super::{Shared, Step};
use crate::git::{Mirror, workflows};
use crate::store::repositories::Repository;

const MINUTE_MS: i64 = 60_000;
/// A clock that was so far ahead when schedules were looked at was wrong.
const AHEAD_MS: i64 = 10 * MINUTE_MS;

pub(super) struct Schedule {
    shared: Arc<Shared>,
    /// What the default branches have, by repository.
    known: HashMap<RepoId, Known>,
}

/// The schedules of a commit.
struct Known {
    sha: Sha,
    times: Vec<Time>,
}

/// A schedule of a workflow.
#[derive(Clone)]
struct Time {
    workflow: String,
    /// As it is written.
    text: String,
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, known: HashMap::new() }
    }

    /// Looks at the schedules of a repository, and stores what is due.
    async fn look(&mut self, repository: &Repository) -> anyhow::Result<()> {
        let id = repository.id();
        let git_ref = GitRef::Branch(repository.default_branch.clone());
        // As far as it was heard of.
        let head = self.shared.store.ref_at(&id, &git_ref.full()).await?;
        let now = clock::now_ms();
        let times = match head {
            Some(sha) => self.times(&id, &sha).await?.map(|times| (sha, times)),
            None => None,
        };
        let store = &self.shared.store;
        let looked = store.scheduled_at(&id).await?;
        let Some((sha, times)) = times.filter(|(_, times)| !times.is_empty()) else {
            if looked.is_some() {
                store.schedule(&id, None, Vec::new(), now).await?;
            }
            return Ok(());
        };
        // What was due before somebody looked for the first time starts nothing.
        let looked = looked.filter(|looked| *looked < now + AHEAD_MS).unwrap_or(now);
        let is_due = |time: &&Time| {
            last_due(&time.cron, looked, now, |moment| minute(moment, &time.zone)).is_some()
        };
        let due = times.iter().filter(is_due).map(|time| {
            Change::Due(Due {
                git_ref: git_ref.clone(),
                sha: sha.clone(),
                workflow: time.workflow.clone(),
                cron: time.text.clone(),
            })
        });
        let due: Vec<Change> = due.collect();
        let is_any = !due.is_empty();
        store.schedule(&id, Some(looked.max(now)), due, now).await?;
        if is_any {
            self.shared.wake.plan.notify_one();
        }
        Ok(())
    }

    /// Returns the schedules of a commit; `None` where its files cannot be read now.
    async fn times(&mut self, id: &RepoId, sha: &Sha) -> anyhow::Result<Option<Vec<Time>>> {
        if let Some(known) = self.known.get(id).filter(|known| known.sha == *sha) {
            return Ok(Some(known.times.clone()));
        }
        // Nobody removes the mirror meanwhile.
        let _mirrors = self.shared.mirrors.read().await;
        let (mirror, commit) = (self.shared.data.mirror(id), sha.clone());
        let read = tokio::task::spawn_blocking(move || {
            let mirror = Mirror::open(mirror)?;
            if mirror.has(&commit) { workflows::of(&mirror, &commit) } else { Ok(None) }
        });
        let Some(files) = read.await?? else { return Ok(None) };
        let times: Vec<Time> = files.iter().flat_map(|(path, text)| of_file(path, text)).collect();
        self.known.insert(id.clone(), Known { sha: sha.clone(), times: times.clone() });
        Ok(Some(times))
    }
}

/// Returns the schedules of a workflow file; what is wrong with it is told when it is pushed.
fn of_file(path: &str, text: &Option<String>) -> Vec<Time> {
    let Some(Ok(workflow)) = text.as_deref().map(read) else { return Vec::new() };
    let times = workflow.schedules().filter_map(|time| {
        let zone = match &time.timezone {
            Some(name) => TimeZone::get(name).ok()?,
            None => TimeZone::UTC,
        };
        let cron = Cron::read(&time.cron).ok()?;
        Some(Time { workflow: path.to_owned(), text: time.cron.clone(), cron, zone })
    });
    times.collect()
}

/// Returns the minute of the calendar that a moment is in somewhere.
fn minute(moment_ms: i64, zone: &TimeZone) -> Minute {
    let moment = Timestamp::from_millisecond(moment_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let there = zone.to_datetime(moment);
    let number = |value: i8| u32::try_from(value).unwrap_or_default();
    Minute {
        minute: number(there.minute()),
        hour: number(there.hour()),
        day: number(there.day()),
        month: number(there.month()),
        weekday: number(there.weekday().to_sunday_zero_offset()),
    }
}

impl Step for Schedule {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        let repositories = self.shared.store.repositories().await?;
        self.known.retain(|id, _| repositories.iter().any(|repository| repository.id() == *id));
        for repository in &repositories {
            // What is wrong with one holds up no other.
            if let Err(error) = self.look(repository).await {
                let name = &repository.name;
                tracing::error!(repo.name = name, error = format!("{error:#}"), "schedules");
            }
        }
        let to_next = MINUTE_MS - clock::now_ms().rem_euclid(MINUTE_MS);
        Ok(Duration::from_millis(u64::try_from(to_next).unwrap_or(1_000)))
    }
}
