//! What is kept, and for how long: logs, webhooks, workspaces and mirrors.
//!
//! Runs and their verdicts stay. A log whose time is over is replaced by one line that says so; what
//! belongs to nothing any more goes.

use std::collections::HashSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_sys::clock;

use super::{Shared, Step};
use crate::logs;

/// How often it is looked for.
const EVERY: Duration = Duration::from_secs(3600);
const DAY_MS: i64 = 24 * 3600 * 1000;
/// What seems to belong to nothing may only just have been made.
const FRESH_MS: i64 = 3600 * 1000;

pub(super) struct Retention {
    shared: Arc<Shared>,
}

/// A file or folder, and how long it has not changed.
struct Old {
    entry: DirEntry,
    name: String,
    bytes: u64,
    age_ms: i64,
}

impl Retention {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Cuts logs by age and by size, and removes those of jobs that are gone.
    async fn logs(&self, running: &HashSet<String>) -> anyhow::Result<()> {
        let keep = &self.shared.config.retention;
        let mut logs = listed(&self.shared.data.logs())?;
        logs.retain(|log| log.name.strip_suffix(".log").is_some_and(|of| !running.contains(of)));
        // The newest first: the room is theirs.
        logs.sort_by_key(|log| log.age_ms);
        let mut room = keep.log_mib << 20;
        for log in logs {
            let path = log.entry.path();
            let job = log.name.split('.').next().unwrap_or_default();
            if log.age_ms > FRESH_MS && !self.shared.store.has_job(job).await? {
                fs::remove_file(path)?;
                continue;
            }
            let why = if log.age_ms > keep.log_days.saturating_mul(DAY_MS) {
                format!("it was older than {} days ([retention] log_days)", keep.log_days)
            } else if log.bytes > room {
                format!("all logs had more than {} MiB ([retention] log_mib)", keep.log_mib)
            } else {
                room -= log.bytes;
                continue;
            };
            logs::replace(&path, &format!("This log was removed: {why}."))?;
        }
        Ok(())
    }

    /// Removes the folders of attempts that do not run any more; a crash leaves them.
    fn workspaces(&self, running: &HashSet<String>) -> io::Result<()> {
        for folder in listed(&self.shared.data.jobs())? {
            if !running.contains(&folder.name) && folder.age_ms > FRESH_MS {
                fs::remove_dir_all(folder.entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes the mirrors of repositories that are not watched any more.
    async fn mirrors(&self) -> anyhow::Result<()> {
        let repositories = self.shared.store.repositories().await?;
        let known: HashSet<_> =
            repositories.iter().map(|found| self.shared.data.mirror(&found.id())).collect();
        for mirror in listed(&self.shared.data.mirrors())? {
            if !known.contains(&mirror.entry.path()) && mirror.age_ms > FRESH_MS {
                fs::remove_dir_all(mirror.entry.path())?;
            }
        }
        Ok(())
    }
}

impl Step for Retention {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        let store = &self.shared.store;
        let running = store.running_attempts().await?;
        let running = running.into_iter().map(|of| format!("{}.{}", of.job_id, of.attempt));
        let running: HashSet<String> = running.collect();
        self.logs(&running).await?;
        self.workspaces(&running)?;
        self.mirrors().await?;
        let (keep, now) = (&self.shared.config.retention, clock::now_ms());
        let ago = |days: i64| now.saturating_sub(days.saturating_mul(DAY_MS));
        let text = format!("nobody approved it within {} days", keep.waiting_days);
        if store.expire_waiting(ago(keep.waiting_days), text, now).await? > 0 {
            self.shared.wake.deliver.notify_one();
        }
        let before = ago(keep.delivery_days);
        let forgotten = store.forget_deliveries(before).await?;
        if forgotten > 0 {
            tracing::info!(forgotten, "webhooks whose time was over");
        }
        Ok(EVERY)
    }
}

fn listed(folder: &Path) -> io::Result<Vec<Old>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // What goes while we look is gone.
        let Ok(metadata) = entry.metadata() else { continue };
        let changed = metadata.modified()?.duration_since(std::time::UNIX_EPOCH);
        let changed = changed.map_or(0, |span| i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        let name = entry.file_name().to_string_lossy().into_owned();
        let age_ms = clock::now_ms().saturating_sub(changed);
        found.push(Old { entry, name, bytes: metadata.len(), age_ms });
    }
    Ok(found)
}
