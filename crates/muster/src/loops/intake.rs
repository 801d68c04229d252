//! From a webhook to its outcome: a change, or the reason why there is none.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use muster_core::run::Reason;
use muster_forge::github::{Decoded, decode, payload};
use muster_sys::clock;

use super::{Shared, Step};
use crate::store::deliveries::{DeliveryOutcome, PendingDelivery};

/// How many are taken at once; each may have 25 MiB.
const TOGETHER: i64 = 16;
/// Events whose body says which one it is: the same body is the same event. A dispatch is not.
const IDENTIFIED_BY_BODY: [&str; 2] = ["push", "pull_request"];

pub(super) struct Intake {
    shared: Arc<Shared>,
}

impl Intake {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    async fn judge(&self, delivery: &PendingDelivery) -> anyhow::Result<DeliveryOutcome> {
        if IDENTIFIED_BY_BODY.contains(&delivery.event.as_str())
            && let Some(earlier) = self.shared.store.earlier_same(delivery).await?
        {
            let text = format!("a repeat of delivery {earlier}, under another id");
            return Ok(DeliveryOutcome::Ignored(Reason::new("repeat", text)));
        }
        let payload =
            match body(delivery).and_then(|body| Ok(payload(&delivery.content_type, &body)?)) {
                Ok(payload) => payload,
                Err(error) => {
                    return Ok(DeliveryOutcome::Dead(Reason::new("payload", error.to_string())));
                }
            };
        Ok(match decode(&delivery.event, &payload) {
            Decoded::Ignored(reason) => DeliveryOutcome::Ignored(reason),
            Decoded::Dead(reason) => DeliveryOutcome::Dead(reason),
            Decoded::Change { repository, name, change } => {
                match self.shared.store.github_repository(repository, &name).await? {
                    Some(repository) => DeliveryOutcome::Accepted(repository, change),
                    None => {
                        let text = format!("not added: `muster repo add {name}` adds it");
                        DeliveryOutcome::Ignored(Reason::new("unknown", text))
                    }
                }
            }
        })
    }
}

impl Intake {
    /// Stores what became of a batch: at once, and where that fails one after the other, so that what
    /// is wrong with one webhook does not hold up the others.
    async fn settle(&self, judged: Vec<(String, DeliveryOutcome)>) -> anyhow::Result<()> {
        let (store, now) = (&self.shared.store, clock::now_ms());
        if store.settle_deliveries(judged.clone(), now).await.is_ok() {
            return Ok(());
        }
        for (id, outcome) in judged {
            if let Err(error) = store.settle_deliveries(vec![(id.clone(), outcome)], now).await {
                let dead = DeliveryOutcome::Dead(failed(&error.into()));
                store.settle_deliveries(vec![(id, dead)], now).await?;
            }
        }
        Ok(())
    }
}

/// Says that muster itself failed on a webhook. A redelivery of a dead one is looked at again.
fn failed(error: &anyhow::Error) -> Reason {
    Reason::new("failed", format!("muster failed on it: {error:#}"))
}

fn body(delivery: &PendingDelivery) -> anyhow::Result<Vec<u8>> {
    if delivery.body_is_base64 == 0 {
        return Ok(delivery.body.clone().into_bytes());
    }
    Ok(base64::engine::general_purpose::STANDARD.decode(&delivery.body)?)
}

impl Step for Intake {
    async fn step(&mut self) -> anyhow::Result<Duration> {
        loop {
            let deliveries = self.shared.store.pending_deliveries(TOGETHER).await?;
            if deliveries.is_empty() {
                return Ok(Duration::from_secs(10));
            }
            let mut judged = Vec::new();
            for delivery in deliveries {
                let outcome = match self.judge(&delivery).await {
                    Ok(outcome) => outcome,
                    Err(error) => DeliveryOutcome::Dead(failed(&error)),
                };
                tracing::info!(delivery.number, delivery.event, ?outcome, "judged");
                judged.push((delivery.id, outcome));
            }
            self.settle(judged).await?;
            self.shared.wake.plan.notify_one();
            self.shared.wake.drive.notify_one();
            self.shared.wake.deliver.notify_one();
        }
    }
}
