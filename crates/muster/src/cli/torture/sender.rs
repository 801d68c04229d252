//! Webhooks as a code host sends them on a bad day: twice, late, without order, without waiting for an answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::bail;
use fastrand::Rng;
use muster_forge::github::sign;
use tokio::task::JoinHandle;

use super::ground::Push;
use crate::task;

/// A push is sent so often at most, answered or not.
const MOST_COPIES: usize = 3;
/// An answer is waited for so long.
const ANSWER: Duration = Duration::from_secs(10);
/// One in so many is sent by somebody who does not wait for the answer at all.
const HASTY: u32 = 5;
const HASTE: Duration = Duration::from_millis(2);
/// What was not answered is sent again after so long.
const AGAIN: Duration = Duration::from_millis(20);
/// So long at most lies between two webhooks, in milliseconds.
const CALM_MS: u64 = 500;

/// Where webhooks go, and how.
#[derive(Debug, Clone)]
pub(super) struct Hook {
    http: reqwest::Client,
    url: String,
    secret: String,
}

/// Sends webhooks beside what else happens.
#[derive(Debug)]
pub(super) struct Sender {
    sending: JoinHandle<usize>,
    /// How many were answered.
    answered: Arc<AtomicUsize>,
}

impl Sender {
    /// Begins to send these, in any order, each until it is answered.
    pub(super) fn start(
        runtime: &tokio::runtime::Runtime,
        hook: Hook,
        mut rng: Rng,
        pushes: Vec<Push>,
    ) -> Self {
        let mut turns: Vec<Push> =
            pushes.into_iter().flat_map(|push| vec![push; rng.usize(1..=MOST_COPIES)]).collect();
        rng.shuffle(&mut turns);
        let _inside = runtime.enter();
        let answered = Arc::new(AtomicUsize::new(0));
        let sending = send_all(hook, rng, turns, Arc::clone(&answered));
        Self { sending: task::spawn("torture's webhooks", sending), answered }
    }

    /// Waits until all are answered; returns in how many attempts.
    ///
    /// # Errors
    ///
    /// When none is answered for so long.
    pub(super) async fn all_are_answered(mut self, limit: Duration) -> anyhow::Result<usize> {
        loop {
            let before = self.answered.load(Ordering::Relaxed);
            match tokio::time::timeout(limit, &mut self.sending).await {
                Ok(attempts) => return Ok(attempts?),
                Err(_) if self.answered.load(Ordering::Relaxed) > before => {}
                Err(_) => bail!("no webhook is answered for {} s", limit.as_secs()),
            }
        }
    }
}

async fn send_all(hook: Hook, mut rng: Rng, turns: Vec<Push>, answered: Arc<AtomicUsize>) -> usize {
    let mut attempts = 0;
    for push in turns {
        tokio::time::sleep(Duration::from_millis(rng.u64(0..CALM_MS))).await;
        loop {
            attempts += 1;
            let hasty = rng.u32(0..HASTY) == 0;
            if hook.send(&push, if hasty { HASTE } else { ANSWER }).await {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
    attempts
}

impl Hook {
    pub(super) fn new(server: &str, secret: String) -> anyhow::Result<Self> {
        // A connection for each: what another one was told is not this one's matter.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).build()?;
        Ok(Self { http, url: format!("{server}/webhooks/github"), secret })
    }

    /// Sends a webhook once; returns whether it was taken.
    pub(super) async fn send_once(&self, push: &Push) -> bool {
        self.send(push, ANSWER).await
    }

    async fn send(&self, push: &Push, patience: Duration) -> bool {
        let request = self
            .http
            .post(&self.url)
            .timeout(patience)
            .header("content-type", "application/json")
            .header("x-github-event", "push")
            .header("x-github-delivery", &push.delivery)
            .header("x-hub-signature-256", sign(&self.secret, push.body.as_bytes()))
            .body(push.body.clone());
        let answer = request.send().await;
        answer.is_ok_and(|answer| answer.status() == reqwest::StatusCode::ACCEPTED)
    }
}
