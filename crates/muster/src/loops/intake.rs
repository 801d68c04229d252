//! From a webhook to its outcome: a change, or the reason why there is none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use muster_core::outcome::{UNKNOWN, is_identified_by_body};
use muster_core::run::Reason;
use muster_forge::github::{Decoded, Payload, decode};
use muster_sys::clock;

use super::{Shared, Step};
use crate::store::deliveries::{DeliveryOutcome, PendingDelivery};

/// How many are taken at once.
const TOGETHER: i64 = 16;
/// A webhook on which muster itself fails so often is dead.
const MAX_FAILURES: u32 = 10;

pub(super) struct Intake {
    shared: Arc<Shared>,
    /// How often muster has failed on webhooks that are still pending.
    failures: HashMap<String, u32>,
}

impl Intake {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, failures: HashMap::new() }
    }

    async fn judge(&self, delivery: &PendingDelivery) -> anyhow::Result<DeliveryOutcome> {
        if is_identified_by_body(&delivery.event)
            && let Some(earlier) = self.shared.store.earlier_same(delivery).await?
        {
            let text = format!("a repeat of delivery {earlier}, under another id");
            return Ok(DeliveryOutcome::Ignored(Reason::new("repeat", text)));
        }
        let body = delivery.body.bytes()?;
        let decoded = Payload::find(&delivery.body.content_type, &body)
            .map(|payload| decode(&delivery.event, &payload));
        Ok(match decoded {
            Err(error) => DeliveryOutcome::Dead(Reason::new("payload", error.to_string())),
            Ok(Decoded::Ignored(reason)) => DeliveryOutcome::Ignored(reason),
            Ok(Decoded::Dead(reason)) => DeliveryOutcome::Dead(reason),
            Ok(Decoded::Change { repository, name, as_of, default_branch, change }) => {
                let store = &self.shared.store;
                match store.github_repository(repository, &name, default_branch, as_of).await? {
                    Some(repository) => DeliveryOutcome::Accepted(repository, change),
                    None => {
                        let text = format!("not added: `muster repo add {name}` adds it");
                        DeliveryOutcome::Ignored(Reason::new(UNKNOWN, text))
                    }
                }
            }
        })
    }
}

impl Intake {
    /// Judges a batch and stores what became of it: at once, and where that fails one after the other,
    /// so that what is wrong with one webhook does not hold up the others.
    async fn take(&mut self, deliveries: Vec<PendingDelivery>) -> anyhow::Result<()> {
        let mut judged = Vec::new();
        let mut failed = None;
        for delivery in deliveries {
            match self.judge(&delivery).await {
                Ok(outcome) => {
                    tracing::info!(delivery.number, delivery.event, ?outcome, "judged");
                    judged.push((delivery.id, outcome));
                }
                Err(error) => failed = self.failed(delivery.id, &error).await?.or(failed),
            }
        }
        let (shared, now) = (Arc::clone(&self.shared), clock::now_ms());
        let store = &shared.store;
        if store.settle_deliveries(judged.clone(), now).await.is_err() {
            for (id, outcome) in judged {
                let one = vec![(id.clone(), outcome)];
                if let Err(error) = store.settle_deliveries(one, now).await {
                    failed = self.failed(id, &error.into()).await?.or(failed);
                }
            }
        }
        match failed {
            // It stays pending; the step is taken again.
            Some(error) => Err(error),
            None => {
                self.failures.clear();
                Ok(())
            }
        }
    }

    /// Counts a failure of muster's own. The store may be away for a moment; a webhook that fails again
    /// and again is dead, and looked at again when it is sent again. Returns the error while there is hope.
    async fn failed(
        &mut self,
        id: String,
        error: &anyhow::Error,
    ) -> anyhow::Result<Option<anyhow::Error>> {
        let failures = self.failures.entry(id.clone()).or_default();
        *failures += 1;
        let text = format!("muster failed on it: {error:#}");
        if *failures < MAX_FAILURES {
            return Ok(Some(anyhow::anyhow!("{text}")));
        }
        let dead = DeliveryOutcome::Dead(Reason::new("failed", text));
        self.shared.store.settle_deliveries(vec![(id, dead)], clock::now_ms()).await?;
        Ok(None)
    }
}

impl Step for Intake {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        loop {
            let deliveries = self.shared.store.pending_deliveries(TOGETHER).await?;
            if deliveries.is_empty() {
                return Ok(Duration::from_secs(10));
            }
            // What of two equal ones becomes of the second depends on the first.
            let mut seen = HashSet::new();
            let first = deliveries.into_iter().take_while(|delivery| {
                seen.insert((delivery.event.clone(), delivery.body_sha256.clone()))
            });
            self.take(first.collect()).await?;
            self.shared.wake.plan.notify_one();
            self.shared.wake.drive.notify_one();
            self.shared.wake.deliver.notify_one();
        }
    }
}
