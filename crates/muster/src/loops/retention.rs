//! What is kept, and for how long: logs, webhooks, workspaces and mirrors.
//!
//! Runs and their verdicts stay. A log that is complete is sealed; one whose time is over is replaced by
//! one line that says so; what belongs to nothing any more goes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use muster_runner::forget_unused;
use muster_sys::{clock, files, sandbox};
use tokio::sync::RwLockWriteGuard;

use super::{Shared, Step};
use crate::git::Mirror;
use crate::{logs, shell};

/// How often it is looked for.
const EVERY: Duration = Duration::from_secs(3600);
/// How many webhooks are forgotten in one transaction.
const PORTION: i64 = 500;
/// How often a moment is looked for in which mirrors can be removed.
const TRIES: usize = 200;
const BETWEEN_TRIES: Duration = Duration::from_millis(50);
const DAY_MS: i64 = 24 * 3600 * 1000;
/// What seems to belong to nothing may only just have been made.
const FRESH_MS: i64 = 3600 * 1000;

pub(super) struct Retention {
    shared: Arc<Shared>,
    /// When this server started.
    started: Instant,
}

/// A file or folder, and how long it has not changed.
struct Old {
    path: PathBuf,
    name: String,
    bytes: u64,
    age_ms: i64,
    is_file: bool,
}

impl Retention {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, started: clock::monotonic() }
    }

    /// Returns whether nobody has to do with an attempt any more. The lock of one that is kept is on its log as it is.
    fn is_over(&self, running: &HashSet<String>, attempt: &str) -> bool {
        !running.contains(attempt) && !shell::is_open(&self.shared.data.jobs().join(attempt))
    }

    /// Cuts logs by age and by size, and removes those of jobs that are gone.
    async fn logs(&self, running: &HashSet<String>) -> anyhow::Result<()> {
        let folder = self.shared.data.logs();
        let mut logs = tokio::task::spawn_blocking(move || listed(&folder)).await??;
        logs.retain(|log| logs::attempt_of(&log.name).is_none_or(|of| self.is_over(running, of)));
        // The newest first: the room is theirs.
        logs.sort_by_key(|log| log.age_ms);
        let keep = self.shared.config.retention.clone();
        let mut room = keep.log_mib << 20;
        for log in logs {
            let job = log.name.split('.').next().unwrap_or_default();
            // Also what a replacement that a crash has cut short has left.
            let attempt = logs::attempt_of(&log.name);
            let is_ours = log.is_file
                && attempt.is_some()
                && (log.age_ms <= FRESH_MS || self.shared.store.has_job(job).await?);
            let why = if !is_ours && log.age_ms > FRESH_MS {
                None
            } else if log.age_ms > keep.log_days.saturating_mul(DAY_MS) {
                Some(format!("it was older than {} days ([retention] log_days)", keep.log_days))
            } else if log.bytes > room {
                Some(format!("all logs had more than {} MiB ([retention] log_mib)", keep.log_mib))
            } else {
                room -= log.bytes;
                continue;
            };
            let path = log.path.clone();
            let unsealed =
                attempt.map(|attempt| self.shared.data.logs().join(format!("{attempt}.log")));
            let done = tokio::task::spawn_blocking(move || match (why, unsealed) {
                (Some(why), Some(log)) => {
                    logs::replace(&log, &format!("This log was removed: {why}."))
                }
                (None, _) | (_, None) => fs::remove_file(path),
            });
            told(&log.path, done.await?);
        }
        Ok(())
    }

    /// Seals the logs of attempts that have ended.
    async fn seal(&self) -> anyhow::Result<()> {
        let folder = self.shared.data.logs();
        let logs = tokio::task::spawn_blocking(move || listed(&folder)).await??;
        // Asked after the logs were listed: an attempt that starts now is not among them.
        let running = running(&self.shared).await?;
        for log in logs {
            let attempt = log.name.strip_suffix(".log");
            if log.is_file && attempt.is_some_and(|attempt| self.is_over(&running, attempt)) {
                let path = log.path.clone();
                let sealed = tokio::task::spawn_blocking(move || logs::seal(&path)).await?;
                if let Err(error) = sealed {
                    tracing::warn!(path = %log.path.display(), %error, "cannot be sealed");
                }
            }
        }
        Ok(())
    }

    /// Tidies the mirrors, and removes those of repositories in which nothing has happened for long, or
    /// that have no room.
    async fn mirrors(&self) -> anyhow::Result<()> {
        let data = &self.shared.data;
        let keep = &self.shared.config.retention;
        let mirrors: Vec<_> = self
            .shared
            .store
            .repositories()
            .await?
            .iter()
            .map(|found| data.mirror(&found.id()))
            .collect();
        let sizes = tokio::task::spawn_blocking(move || {
            let mut sizes = HashMap::new();
            for folder in mirrors.into_iter().filter(|folder| folder.is_dir()) {
                if let Err(error) = Mirror::open(folder.clone()).and_then(|mirror| mirror.tidy()) {
                    tracing::warn!(path = %folder.display(), %error, "cannot be tidied");
                }
                sizes.insert(folder.clone(), size(&folder));
            }
            sizes
        });
        let mut sizes = sizes.await?;
        let Some(_alone) = self.alone_with_mirrors().await else { return Ok(()) };
        let mut excess = sizes.values().sum::<u64>().saturating_sub(keep.mirror_mib << 20);
        let old = clock::now_ms().saturating_sub(keep.mirror_days.saturating_mul(DAY_MS));
        for (repository, last) in self.shared.store.idle_repositories().await? {
            let mirror = data.mirror(&repository);
            let Some(bytes) = sizes.remove(&mirror) else { continue };
            if last >= old && excess == 0 {
                break;
            }
            excess = excess.saturating_sub(bytes);
            tracing::info!(path = %mirror.display(), bytes, "a mirror is removed");
            // Under another name it is no mirror of anything, and goes with those.
            let gone = mirror.with_extension("gone");
            told(&mirror, fs::rename(&mirror, &gone));
            drop(tokio::task::spawn_blocking(move || told(&gone, files::remove_tree(&gone))));
        }
        Ok(())
    }

    /// Waits for a moment in which nothing is done with a mirror. Nobody has to wait for us: where there
    /// is none, there is another time.
    async fn alone_with_mirrors(&self) -> Option<RwLockWriteGuard<'_, ()>> {
        for _ in 0..TRIES {
            if let Ok(alone) = self.shared.mirrors.try_write() {
                return Some(alone);
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        tracing::warn!(
            "mirrors are in use all the time; whether some have to go is looked at later"
        );
        None
    }

    /// Removes the folders of attempts that do not run any more, which a crash leaves, and the mirrors of
    /// repositories that are not watched any more.
    async fn folders(&self, running: HashSet<String>) -> anyhow::Result<()> {
        let repositories = self.shared.store.repositories().await?;
        let known: HashSet<_> =
            repositories.iter().map(|found| self.shared.data.mirror(&found.id())).collect();
        let (jobs, mirrors) = (self.shared.data.jobs(), self.shared.data.mirrors());
        // What an earlier server has left was not made just now.
        let since_start = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(FRESH_MS);
        let fresh = FRESH_MS.min(since_start);
        let work = move || -> io::Result<()> {
            let mut old = listed(&jobs)?;
            old.retain(|folder| !running.contains(&folder.name));
            let mut unknown = listed(&mirrors)?;
            unknown.retain(|mirror| !known.contains(&mirror.path));
            old.retain(|folder| folder.age_ms > fresh && !shell::is_kept(&folder.path));
            old.iter().for_each(|folder| sandbox::forget(&folder.name));
            unknown.retain(|mirror| mirror.age_ms > fresh);
            for folder in old.into_iter().chain(unknown) {
                told(&folder.path, files::remove_tree(&folder.path));
            }
            Ok(())
        };
        Ok(tokio::task::spawn_blocking(work).await??)
    }
}

/// Returns the attempts that run, as `ID.ATTEMPT`.
async fn running(shared: &Shared) -> anyhow::Result<HashSet<String>> {
    let running = shared.store.running_attempts().await?;
    Ok(running.into_iter().map(|of| format!("{}.{}", of.job_id, of.attempt)).collect())
}

/// Says what could not be removed; it holds up nothing else, and is tried again.
fn told(path: &Path, done: io::Result<()>) {
    if let Err(error) = done {
        tracing::warn!(path = %path.display(), %error, "cannot be removed");
    }
}

impl Step for Retention {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        self.seal().await?;
        let store = &self.shared.store;
        let running = running(&self.shared).await?;
        self.logs(&running).await?;
        self.folders(running).await?;
        self.mirrors().await?;
        let (keep, now) = (&self.shared.config.retention, clock::now_ms());
        let ago = |days: i64| now.saturating_sub(days.saturating_mul(DAY_MS));
        let text = format!("nobody approved it within {} days", keep.waiting_days);
        if store.expire_waiting(ago(keep.waiting_days), text, now).await? > 0 {
            self.shared.wake.deliver.notify_one();
        }
        // In portions, for webhooks that come meanwhile want to be stored.
        while store.forget_deliveries(ago(keep.delivery_days), PORTION).await? > 0 {}
        let (images, unused) = (self.shared.data.images(), keep.unused_images());
        let forgotten = tokio::task::spawn_blocking(move || forget_unused(&images, unused)).await?;
        told(&self.shared.data.images(), forgotten.map(drop));
        // Last, for it may be another machine that has what is tidied.
        self.shared.services.tidy(now).await?;
        Ok(EVERY)
    }
}

/// Returns the bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.metadata().ok().map(|of| (entry.path(), of)));
    sizes.map(|(path, of)| if of.is_dir() { size(&path) } else { of.len() }).sum()
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
        let (bytes, is_file) = (metadata.len(), metadata.is_file());
        found.push(Old { path: entry.path(), name, bytes, age_ms, is_file });
    }
    Ok(found)
}
