//! A code host of its own: it shows one repository, takes commit statuses, and often fails.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use fastrand::Rng;
use muster_core::report::ROLL_UP;
use muster_sys::clock;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::ground::JOB;
use super::text;
use crate::{task, token};

/// The repository's name there, and its number.
pub(super) const REPOSITORY: &str = "torture/app";
pub(super) const NUMBER: i64 = 4711;
/// For so long it wants to be left alone, now and then.
const WAIT: Duration = Duration::from_secs(1);

/// What each commit shows: the state of each context.
pub(super) type Shown = BTreeMap<String, BTreeMap<String, String>>;

/// The code host, which ends with the program.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) api_url: String,
    pub(super) token: String,
    secret: String,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    rng: Rng,
    shown: Shown,
    writes: usize,
    /// Until when nobody may call.
    closed_until: Option<Instant>,
    /// How often somebody did.
    impatient: usize,
}

/// What becomes of a write.
enum Fate {
    Done,
    /// It is done, and the answer says that it is not.
    DoneInSecret,
    Failed,
    Limited,
}

impl Host {
    /// Starts it on a port of this machine.
    pub(super) async fn start(rng: Rng) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.context("cannot listen on this machine")?;
        let api_url = format!("http://{}", listener.local_addr()?);
        let (shown, writes) = (Shown::new(), 0);
        let inner = Inner { rng, shown, writes, closed_until: None, impatient: 0 };
        let inner = Arc::new(Mutex::new(inner));
        let (token, secret) = (token::make(), token::make());
        let host = Self { api_url, token, secret, inner };
        let routes = Router::new()
            .route(&format!("/repos/{REPOSITORY}"), get(repository))
            .route(&format!("/repos/{REPOSITORY}/statuses/{{sha}}"), post(set_status))
            .with_state(host.clone());
        drop(task::spawn("torture's code host", async { axum::serve(listener, routes).await }));
        Ok(host)
    }

    /// Returns the secret that it signs webhooks with.
    pub(super) fn secret(&self) -> String {
        self.secret.clone()
    }

    /// Returns how often something was set.
    pub(super) fn writes(&self) -> usize {
        self.inner().writes
    }

    /// Returns whether a commit shows the last word in each of its contexts.
    pub(super) fn is_final(&self, sha: &str) -> bool {
        let inner = self.inner();
        inner.shown.get(sha).is_some_and(|shown| {
            [ROLL_UP, JOB].iter().all(|context| shown.contains_key(*context))
                && shown.values().all(|state| state != "pending")
        })
    }

    /// Returns what all commits show, how often something was set, and how often somebody called who had been
    /// asked to wait.
    pub(super) fn shown(&self) -> (Shown, usize, usize) {
        let inner = self.inner();
        (inner.shown.clone(), inner.writes, inner.impatient)
    }

    /// Forgets that it wants to be left alone: whom it has told was killed, and may not have stored it.
    pub(super) fn forgive(&self) {
        self.inner().closed_until = None;
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let given = headers.get("authorization").and_then(|value| value.to_str().ok());
        given.and_then(|given| given.strip_prefix("Bearer ")) == Some(&self.token)
    }
}

impl Inner {
    fn fate(&mut self) -> Fate {
        match self.rng.u32(0..100) {
            0..6 => Fate::Failed,
            6..12 => Fate::DoneInSecret,
            12..15 => Fate::Limited,
            _ => Fate::Done,
        }
    }
}

async fn repository(State(host): State<Host>, headers: HeaderMap) -> Response {
    if !host.knows(&headers) {
        return refused(StatusCode::UNAUTHORIZED, "Bad credentials");
    }
    Json(json!({ "id": NUMBER, "full_name": REPOSITORY, "default_branch": "main" })).into_response()
}

async fn set_status(
    State(host): State<Host>,
    Path(sha): Path<String>,
    headers: HeaderMap,
    Json(status): Json<Value>,
) -> Response {
    if !host.knows(&headers) {
        return refused(StatusCode::UNAUTHORIZED, "Bad credentials");
    }
    let mut inner = host.inner();
    let now = clock::monotonic();
    if inner.closed_until.is_some_and(|until| now < until) {
        inner.impatient += 1;
    }
    let fate = inner.fate();
    if let Fate::Limited = fate {
        inner.closed_until = Some(now + WAIT);
        let wait = [("retry-after", WAIT.as_secs().to_string())];
        return (wait, refused(StatusCode::FORBIDDEN, "secondary rate limit")).into_response();
    }
    if let Fate::Done | Fate::DoneInSecret = fate {
        inner.writes += 1;
        let (context, state) = (text(&status, "context"), text(&status, "state"));
        inner.shown.entry(sha).or_default().insert(context.to_owned(), state.to_owned());
    }
    match fate {
        Fate::Done => (StatusCode::CREATED, Json(status)).into_response(),
        _ => refused(StatusCode::BAD_GATEWAY, "Server Error"),
    }
}

fn refused(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}
