//! Telling of verdicts on default branches that changed.

use std::sync::Arc;
use std::time::Duration;

use muster_sys::clock;

use super::{Shared, Step};
use crate::store::notices::LONGEST_WAIT_MS;

/// How often what is due is looked for without a nudge.
const AT_LEAST: Duration = Duration::from_secs(2);
/// After so many tries, the last of them two days after the first, a notice is given up.
const MAX_FAILURES: i64 = 60;

pub(super) struct Notify {
    shared: Arc<Shared>,
}

impl Notify {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Step for Notify {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        let (store, channels) = (&self.shared.store, &self.shared.notices);
        // One a step: who is slow to listen must not keep us from ending.
        if let Some(notice) = store.due_notice(clock::now_ms()).await? {
            let mut problem = None;
            for channel in channels.all().iter().filter(|c| !notice.was_told(c.name())) {
                match channels.tell(channel, &notice).await {
                    Ok(()) => store.notice_told(&notice.id, channel.name()).await?,
                    Err(error) => problem = Some(format!("{}: {error:#}", channel.name())),
                }
            }
            let now = clock::now_ms();
            match problem {
                None => store.notice_done(&notice.id, None, now).await?,
                Some(problem) if notice.failures >= MAX_FAILURES => {
                    tracing::error!(problem, "a notice is given up");
                    store.notice_done(&notice.id, Some(problem), now).await?;
                }
                Some(problem) => {
                    tracing::warn!(problem, "nobody could be told yet");
                    let wait = (1_000 << notice.failures.clamp(0, 12)).min(LONGEST_WAIT_MS);
                    store.notice_failed(&notice.id, problem, now + wait).await?;
                }
            }
            return Ok(Duration::ZERO);
        }
        // Verdicts nudge; what failed is tried again when it is due.
        Ok(AT_LEAST)
    }
}
