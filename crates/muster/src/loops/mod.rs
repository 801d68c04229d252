//! The loops: each acts on stored state, wakes on a nudge and on an interval, and takes its steps.
//!
//! `watch` looks at repositories and `intake` at webhooks, and store what happened; `plan` turns an event
//! into runs; `drive` moves runs and their jobs, each of which `start` gives to a `supervisor`; `deliver`
//! brings verdicts to where people look, by `notes` where there is no code host, and `notify` tells of those
//! that changed on default branches; `retention` throws away what is old. What may take long is done in
//! `lanes`, so that one repository holds up no other. A nudge carries nothing: whoever is nudged looks at
//! the store, so a lost one costs only a wait.

mod deliver;
mod drive;
mod intake;
mod lanes;
mod notes;
mod notify;
mod plan;
mod retention;
mod schedule;
mod start;
mod supervisor;
mod watch;

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use muster_sys::watch::Nudges;
use tokio::sync::{Mutex, Notify, RwLock, Semaphore, broadcast, watch as watch_channel};

use crate::config::Config;
use crate::data::Data;
use crate::forge::GitHub;
use crate::git::Remote;
use crate::notices::Channels;
use crate::secrets::Vault;
use crate::services::Services;
use crate::store::Store;
use crate::store::repositories::Repository;
use crate::task::{self, Errands};

/// What the loops and the pages share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) data: Data,
    pub(crate) config: Config,
    pub(crate) github: Option<GitHub>,
    /// What seals and opens secrets.
    pub(crate) vault: Vault,
    /// What actions use.
    pub(crate) services: Arc<Services>,
    /// Who is told when the verdict on a default branch changes.
    pub(crate) notices: Channels,
    /// Why there is no sandbox for the code of strangers, where there is none.
    pub(crate) cageless: Option<String>,
    /// Room for the bodies of webhooks that are being read, in KiB.
    pub(crate) inbox_room: Semaphore,
    /// Read while something needs a mirror and no stored run says so yet; written to remove one.
    pub(crate) mirrors: RwLock<()>,
    /// Held while a repository is looked at for who asks for a workflow.
    pub(crate) dispatching: Mutex<()>,
    pub(crate) wake: Wake,
    /// What the loops have started and do not wait for.
    pub(crate) errands: Errands,
    /// Tells that the log of a job, by its id, has grown.
    pub(crate) grown: broadcast::Sender<String>,
}

impl Shared {
    /// Returns where a repository is, with what opens it.
    pub(crate) fn remote(&self, repository: &Repository) -> io::Result<Remote> {
        let remote = match &self.github {
            // By the name that it has now: somebody else may have taken the old one.
            Some(github) if repository.is_at_github() => {
                Remote::with_token(github.location(&repository.name), github.credentials()?)
            }
            _ => {
                let key = self.data.deploy_key(&repository.id());
                Remote::new(repository.location.clone(), Some(key))
            }
        };
        Ok(remote.at_most(self.config.max_fetch_mib))
    }
}

/// How the loops are nudged.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    pub(crate) intake: Notify,
    pub(crate) watch: Notify,
    /// How often a repository on this machine said that it has changed.
    pub(crate) nudges: AtomicU64,
    pub(crate) plan: Notify,
    pub(crate) drive: Notify,
    pub(crate) deliver: Notify,
    pub(crate) notify: Notify,
    pub(crate) schedule: Notify,
    pub(crate) retention: Notify,
}

/// The running loops.
#[derive(Debug)]
pub(crate) struct Loops {
    stop: watch_channel::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// A loop: one step, and how long it may sleep.
trait Step: Send + 'static {
    /// Does all that can be done now; returns how long to wait when nobody nudges.
    fn step(&mut self) -> impl Future<Output = anyhow::Result<Duration>> + Send;
}

/// How long a server that ends waits for what its loops have started.
const LAST_ERRANDS: Duration = Duration::from_secs(10);
/// How long a loop rests after a step that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

impl Loops {
    /// Starts all loops.
    pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let (stop, stopped) = watch_channel::channel(false);
        listen(shared)?;
        let s = || Arc::clone(shared);
        let tasks = vec![
            run("watch", s(), |wake| &wake.watch, watch::Watch::new(s()), stopped.clone()),
            run("intake", s(), |wake| &wake.intake, intake::Intake::new(s()), stopped.clone()),
            run("plan", s(), |wake| &wake.plan, plan::Plan::new(s()), stopped.clone()),
            run("drive", s(), |wake| &wake.drive, drive::Drive::new(s()), stopped.clone()),
            run("deliver", s(), |wake| &wake.deliver, deliver::Deliver::new(s()), stopped.clone()),
            run("notify", s(), |wake| &wake.notify, notify::Notify::new(s()), stopped.clone()),
            run(
                "schedule",
                s(),
                |wake| &wake.schedule,
                schedule::Schedule::new(s()),
                stopped.clone(),
            ),
            run("retention", s(), |wake| &wake.retention, retention::Retention::new(s()), stopped),
        ];
        Ok(Self { stop, tasks })
    }

    /// Ends all loops after the step that each is in, and what they have started. Jobs go on without us.
    pub(crate) async fn stop(self, errands: &Errands) {
        self.stop.send_replace(true);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a loop ended badly");
            }
        }
        errands.finish(LAST_ERRANDS).await;
    }
}

fn run(
    name: &'static str,
    shared: Arc<Shared>,
    wake: fn(&Wake) -> &Notify,
    mut step: impl Step,
    mut stopped: watch_channel::Receiver<bool>,
) -> tokio::task::JoinHandle<()> {
    task::spawn(name, async move {
        loop {
            // A panic is a bug, and no reason for the loop to be missing from then on.
            let rest = match AssertUnwindSafe(step.step()).catch_unwind().await {
                Ok(Ok(rest)) => rest,
                Ok(Err(error)) => {
                    tracing::error!(error = format!("{error:#}"), "step failed");
                    AFTER_FAILURE
                }
                Err(_) => {
                    tracing::error!("step panicked");
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = wake(&shared.wake).notified() => {}
                () = tokio::time::sleep(rest) => {}
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
        }
    })
}

/// Turns touched files into nudges: `job-ID` wakes the driver and who reads that log, all else the
/// watcher.
fn listen(shared: &Arc<Shared>) -> std::io::Result<()> {
    let nudges = Nudges::watch(&shared.data.nudges())?;
    let shared = Arc::downgrade(shared);
    std::thread::Builder::new().name("nudges".into()).spawn(move || {
        loop {
            let topics = match nudges.wait() {
                Ok(topics) => topics,
                Err(error) => {
                    tracing::error!(%error, "nudges are not heard any more; intervals go on");
                    return;
                }
            };
            let Some(shared) = shared.upgrade() else { return };
            for topic in topics {
                match topic.strip_prefix("job-") {
                    Some(job) => {
                        shared.wake.drive.notify_one();
                        // Nobody may be reading.
                        drop(shared.grown.send(job.to_owned()));
                    }
                    None => {
                        shared.wake.nudges.fetch_add(1, Ordering::Relaxed);
                        shared.wake.watch.notify_one();
                    }
                }
            }
        }
    })?;
    Ok(())
}
