//! Spawning tasks: each has a name in the log, and one that panics is heard of.

use std::future::Future;

use tokio::task::JoinHandle;
use tracing::Instrument as _;

/// Spawns a named task.
pub(crate) fn spawn<T: Send + 'static>(
    name: &'static str,
    work: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    #[expect(clippy::disallowed_methods, reason = "this is where tasks are spawned")]
    tokio::spawn(work.instrument(tracing::info_span!("task", name)))
}
