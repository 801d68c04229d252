//! Spawning tasks: each has a name in the log, and one that panics is heard of.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// Spawns a named task.
pub(crate) fn spawn<T: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    #[expect(clippy::disallowed_methods, reason = "this is where tasks are spawned")]
    tokio::spawn(work.instrument(tracing::info_span!("task", name)))
}

/// Tasks that a loop has started and does not wait for.
#[derive(Debug, Default)]
pub(crate) struct Errands {
    running: TaskTracker,
}

impl Errands {
    /// Spawns one.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        spawn(name, self.running.track_future(work))
    }

    /// Waits until all are done, at most so long: one that hangs holds up nobody.
    pub(crate) async fn finish(&self, limit: Duration) {
        self.running.close();
        if tokio::time::timeout(limit, self.running.wait()).await.is_err() {
            tracing::warn!(
                left = self.running.len(),
                "errands are given up; they are taken up again"
            );
        }
    }
}
