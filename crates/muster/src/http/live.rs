//! A log as it grows, by server-sent events.
//!
//! The id of each event is the attempt and the byte offset after it (`2:1024`), so that a browser that
//! comes back goes on where it was (`Last-Event-ID`). Another attempt is another log: it starts anew.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use tokio::sync::broadcast;

use super::api::find_job;
use super::error::Problem;
use crate::logs;
use crate::loops::Shared;

/// How long a reader waits that nobody tells of growth.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where to start.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    #[serde(default)]
    from: String,
}

/// Reads `ATTEMPT:OFFSET`.
fn position(text: &str) -> Option<(i64, u64)> {
    let (attempt, offset) = text.split_once(':')?;
    Some((attempt.parse().ok()?, offset.parse().ok()?))
}

struct Reader {
    shared: Arc<Shared>,
    number: i64,
    /// The log that is read, once there is one.
    log: Option<PathBuf>,
    /// The job whose attempts these are.
    ran_as: String,
    /// The attempt that is read; 0 before there is one.
    attempt: i64,
    next: u64,
    grown: broadcast::Receiver<String>,
    ended: bool,
}

/// `GET /api/v1/jobs/NUMBER/live`
pub(super) async fn live(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<i64>,
    Query(from): Query<From>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let (job, _) = find_job(&shared, number).await?;
    let resumed = headers.get("last-event-id").and_then(|id| position(id.to_str().ok()?));
    let (attempt, offset) = resumed.or_else(|| position(&from.from)).unwrap_or_default();
    let reader = Reader {
        number,
        log: None,
        ran_as: job.ran_as,
        attempt,
        next: offset,
        grown: shared.grown.subscribe(),
        shared,
        ended: false,
    };
    Ok(Sse::new(unfold(reader, next)).keep_alive(KeepAlive::default()))
}

async fn next(mut reader: Reader) -> Option<(Result<Event, Infallible>, Reader)> {
    if reader.ended {
        return None;
    }
    match reader.more().await {
        Ok(event) => Some((Ok(event), reader)),
        Err(problem) => {
            // The browser comes back and asks again.
            tracing::error!(?problem, job.number = reader.number, "a log cannot be followed");
            None
        }
    }
}

impl Reader {
    fn event(&self, lines: &[logs::Line]) -> Event {
        let json = serde_json::to_string(lines).unwrap_or_default();
        Event::default().id(format!("{}:{}", self.attempt, self.next)).data(json)
    }

    /// Waits for the next lines, or the end.
    async fn more(&mut self) -> Result<Event, Problem> {
        loop {
            // Whether it is over must be known before the end is read, or the last words are missed.
            let over = self.is_over().await?;
            let Some(path) = self.log.clone() else {
                if over {
                    self.ended = true;
                    return Ok(self.event(&[]).event("end"));
                }
                self.wait().await;
                continue;
            };
            let from = self.next;
            let read = tokio::task::spawn_blocking(move || logs::read(&path, from));
            let piece = read.await.map_err(anyhow::Error::from)??;
            let grown = piece.next > self.next;
            self.next = piece.next;
            if over && !grown {
                self.ended = true;
                return Ok(self.event(&piece.lines).event("end"));
            }
            if !piece.lines.is_empty() {
                return Ok(self.event(&piece.lines));
            }
            if !grown {
                self.wait().await;
            }
        }
    }

    /// Waits until the log may have grown.
    async fn wait(&mut self) {
        let told = async {
            loop {
                match self.grown.recv().await {
                    Ok(job) if job != self.ran_as => {}
                    // Told too much to hear it all: look.
                    Ok(_) | Err(_) => return,
                }
            }
        };
        // Nobody telling is the same as the interval passing.
        let _timed_out = tokio::time::timeout(INTERVAL, told).await;
    }

    /// Returns true when nothing will be written any more; takes up the newest attempt of a job that
    /// waited for one, or was tried again.
    async fn is_over(&mut self) -> Result<bool, Problem> {
        let (job, _) = find_job(&self.shared, self.number).await?;
        let attempts = self.shared.store.attempts_of(&self.ran_as).await?;
        if let Some((newest, _)) = attempts.last() {
            if *newest != self.attempt {
                (self.attempt, self.next) = (*newest, 0);
            }
            self.log = Some(self.shared.data.log(&self.ran_as, *newest));
        }
        Ok(job.job.state.conclusion().is_some())
    }
}
