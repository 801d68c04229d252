//! The services that actions use: artifacts and caches, as GitHub's own clients speak to them.
//!
//! One router for `muster run` and `muster serve`, on an address of its own that only this machine reaches. A job shows
//! its token with each call; what it uploads and downloads goes by addresses that are signed. What is complete lies in
//! an object store, an object that describes it beside the one that holds it, and is there as a whole or not at all.

mod artifacts;
mod blobs;
mod bucket;
mod caches;
mod error;
mod identity;
mod keep;
mod ledger;
#[cfg(test)]
mod tests;
mod token;
mod uploads;

use std::fs;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Method};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use muster_core::cache::Scopes;
use muster_runner::spec::ServiceAccess;
use muster_sys::clock;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use artifacts::Artifact;
pub(crate) use identity::Issuer;
pub(crate) use token::Key;

pub(crate) use self::bucket::StorageConfig;
use self::error::Refusal;
pub(crate) use self::keep::Keep;
use self::ledger::{Allowance, Ledger, UnderWay};
use self::uploads::Uploads;
use crate::config::RetentionConfig;
use crate::store::Store;
use crate::task;

/// How long a token is good for: no job takes longer.
const TOKEN_LASTS: Duration = Duration::from_secs(35 * 24 * 3600);
/// The largest artifact or cache, in bytes.
const LARGEST: u64 = 10 << 30;
/// What the runs of those who may not push have of each bound: a tenth.
const GUESTS_SHARE: u64 = 10;
/// How many uploads are read as a whole at a time.
const READERS: usize = 2;
/// How many connections there may be.
pub(crate) const CONNECTIONS: usize = 1_024;
/// What a run of members may have: calls at a time, pieces of uploads, uploads that are not complete.
const CALLS: usize = CONNECTIONS / 4;
const PIECES: u64 = 100_000;
const UPLOADS: usize = 1_000;
/// The largest call but for uploads, in bytes, and how long it may take to come.
const MAX_CALL: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(10);

/// For whom a token speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bearer {
    /// The run whose artifacts it shares.
    pub(crate) run: String,
    /// Which attempt of the run.
    pub(crate) run_attempt: i64,
    /// Its job, and which attempt of it.
    pub(crate) job: String,
    pub(crate) attempt: i64,
    /// The repository whose caches it sees, and which of them.
    pub(crate) repository: String,
    pub(crate) caches: Scopes,
    /// Whether its run is of somebody who may not push: what it leaves is bounded more closely.
    #[serde(default)]
    pub(crate) guest: bool,
    /// What its identity tokens say, where it may have any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<Map<String, Value>>,
}

impl Bearer {
    /// Returns how much its run may send, and have under way.
    fn allowance(&self, bounds: &Bounds) -> Allowance {
        let (share, uploads_in_all) = if self.guest { (GUESTS_SHARE, 2) } else { (1, 10) };
        let [few, calls] =
            [UPLOADS, CALLS].map(|most| most / usize::try_from(share).unwrap_or(usize::MAX));
        let largest = bounds.largest / share;
        Allowance {
            run: format!("{}.{}", self.run, self.run_attempt),
            largest,
            in_all: largest.saturating_mul(uploads_in_all),
            pieces: PIECES / share,
            uploads: few,
            calls,
        }
    }
}

/// Where the services keep what they are given.
#[derive(Debug)]
pub(crate) struct Places<'p> {
    pub(crate) artifacts: Keep,
    pub(crate) caches: Keep,
    /// What is not complete yet.
    pub(crate) uploads: &'p Path,
}

/// What the services sign with.
#[derive(Debug)]
pub(crate) struct Keys {
    /// What jobs show to the services.
    pub(crate) tokens: Key,
    /// The file of the key of identity tokens, which is made when it is first needed.
    pub(crate) identity: PathBuf,
    /// The address of who vouches for jobs, as clouds reach it; without one it is that of the services.
    pub(crate) issuer: Option<String>,
}

/// How much is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The largest artifact or cache, in bytes.
    pub(crate) largest: u64,
    /// All caches of a repository, in bytes: the least used go first.
    pub(crate) caches: u64,
    /// Artifacts, where their action asks for no shorter time.
    pub(crate) artifacts_for: Duration,
    /// Caches that nobody uses.
    pub(crate) caches_for: Duration,
}

impl From<&RetentionConfig> for Bounds {
    fn from(config: &RetentionConfig) -> Self {
        let days = |days: u64| Duration::from_secs(days.saturating_mul(24 * 3600));
        Self {
            largest: LARGEST,
            caches: config.cache_mib << 20,
            artifacts_for: days(config.artifact_days),
            caches_for: days(config.cache_days),
        }
    }
}

/// Listens where jobs of this machine reach the services: at the port that a file names, so that jobs which outlive a
/// server find the next one, or at another, which is noted there.
pub(crate) async fn bind(port_file: &Path) -> io::Result<TcpListener> {
    let noted = fs::read_to_string(port_file).ok().and_then(|port| port.trim().parse().ok());
    let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = match TcpListener::bind(local(noted.unwrap_or(0))).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(
                port = noted,
                %error,
                "the services for actions move to another port: jobs that run already do not find them"
            );
            TcpListener::bind(local(0)).await?
        }
    };
    let port = listener.local_addr()?.port();
    if noted != Some(port) {
        fs::write(port_file, format!("{port}\n"))?;
    }
    Ok(listener)
}

/// The services, running.
#[derive(Debug)]
pub(crate) struct Services {
    artifacts: Keep,
    caches: Keep,
    uploads: Uploads,
    ledger: Arc<Ledger>,
    bounds: Bounds,
    key: Key,
    /// Who vouches for jobs; without an address of its own, the services themselves.
    issuer: Issuer,
    /// Where jobs of this machine reach them, with a slash at the end.
    url: String,
    /// Who looks at an upload as a whole: a few at a time, for the others' work.
    readers: Arc<Semaphore>,
    /// The last number that an artifact or cache has got.
    last_number: AtomicI64,
    /// Knows which jobs run; without one all that have a token do.
    store: Option<Store>,
}

impl Services {
    /// Opens the services that answer at the address of `listener`.
    ///
    /// # Errors
    ///
    /// When a folder of theirs cannot be made or used.
    pub(crate) fn open(
        places: Places<'_>,
        bounds: Bounds,
        keys: Keys,
        listener: &TcpListener,
        store: Option<Store>,
    ) -> io::Result<Arc<Self>> {
        let url = format!("http://{}/", listener.local_addr()?);
        let issuer = Issuer::new(keys.issuer.as_deref().unwrap_or(&url), keys.identity);
        let ledger = Ledger::new(places.uploads.to_owned());
        Ok(Arc::new(Self {
            artifacts: places.artifacts,
            caches: places.caches,
            uploads: Uploads::open(places.uploads.to_owned(), Arc::clone(&ledger))?,
            ledger,
            bounds,
            key: keys.tokens,
            issuer,
            url,
            readers: Arc::new(Semaphore::new(READERS)),
            last_number: AtomicI64::new(0),
            store,
        }))
    }

    /// Returns what a job is given to use the services.
    pub(crate) fn access(&self, bearer: &Bearer, now_ms: i64) -> ServiceAccess {
        let token = self.key.token(bearer, now_ms, TOKEN_LASTS);
        // Clients add the audience with `&`.
        let identity = bearer.identity.is_some();
        let identity_url = identity.then(|| format!("{}identity/token?api-version=2.0", self.url));
        ServiceAccess { url: self.url.clone(), token, identity_url }
    }

    /// Returns who vouches for jobs.
    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Returns all routes.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route(
                "/twirp/github.actions.results.api.v1.ArtifactService/{method}",
                post(artifacts::call),
            )
            .route("/twirp/github.actions.results.api.v1.CacheService/{method}", post(caches::call))
            .route("/identity/token", get(identity::token))
            .route("/.well-known/openid-configuration", get(identity::discovery))
            .route("/.well-known/jwks", get(identity::keys))
            .route("/_apis/artifactcache/cache", get(caches::v1::find))
            .route("/_apis/artifactcache/caches", post(caches::v1::reserve))
            .route(
                "/_apis/artifactcache/caches/{id}",
                post(caches::v1::commit).patch(caches::v1::write),
            )
            .layer(middleware::from_fn(whole))
            .layer(DefaultBodyLimit::max(MAX_CALL))
            .route("/uploads/{id}", put(blobs::write).layer(DefaultBodyLimit::disable()))
            .route("/artifacts/{run}/{blob}", get(blobs::read_artifact))
            .route("/caches/{repository}/{blob}", get(blobs::read_cache))
            .fallback(|| async { Refusal::not_found("there is no such service") })
            .with_state(Arc::clone(self))
    }

    /// Returns for whom a call speaks. The call is under way until the second is dropped.
    async fn bearer(&self, headers: &HeaderMap) -> Result<(Bearer, UnderWay), Refusal> {
        let header = headers.get(AUTHORIZATION);
        let token = header.and_then(|value| value.to_str().ok()?.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let bearer = token.and_then(|(_, token)| self.key.bearer(token.trim(), clock::now_ms()));
        let bearer = bearer.ok_or_else(Refusal::unauthenticated)?;
        let Allowance { run, calls, .. } = bearer.allowance(&self.bounds);
        let under_way = self.ledger.call(&run, calls)?;
        if let Some(store) = &self.store {
            let runs = store.is_running(&bearer.job, bearer.attempt).await;
            if !runs.map_err(anyhow::Error::from)? {
                return Err(Refusal::unauthenticated());
            }
        }
        Ok((bearer, under_way))
    }

    /// Waits for a run's own turn among those that read or write as much as an upload: each run has one, so that none
    /// stands in the way of all others.
    async fn turn(&self, run: &str) -> Result<OwnedSemaphorePermit, Refusal> {
        Ok(self.ledger.turn(run).acquire_owned().await.map_err(anyhow::Error::from)?)
    }

    /// Does what reads or writes as much as an upload, in its turn. It comes to its end, also where its caller has gone
    /// away meanwhile, and the turn is over then.
    async fn in_turn<T: Send + 'static>(
        &self,
        turn: OwnedSemaphorePermit,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let reader = Arc::clone(&self.readers).acquire_owned().await;
        let reader = reader.map_err(anyhow::Error::from)?;
        let done = task::spawn("upload", async move {
            let _turns = (turn, reader);
            work.await
        });
        done.await.map_err(anyhow::Error::from)?
    }

    /// Does what waits for the disk.
    async fn on_disk<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Uploads) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let its = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&its.uploads));
        done.await.map_err(anyhow::Error::from)?
    }

    /// Returns a number for what is complete: a later one is greater, also after a restart, and JavaScript can still
    /// hold it.
    fn next_number(&self, now_ms: i64) -> i64 {
        let of_time = now_ms.saturating_mul(4_096);
        let next = |last: i64| Some(of_time.max(last + 1));
        let last = self.last_number.try_update(Ordering::Relaxed, Ordering::Relaxed, next);
        of_time.max(last.unwrap_or(0) + 1)
    }

    /// Removes what is too old, and what uploads that came to no end have left.
    pub(crate) async fn tidy(self: &Arc<Self>, now_ms: i64) -> anyhow::Result<()> {
        artifacts::tidy(self, now_ms).await?;
        caches::tidy(self, now_ms).await?;
        let its = Arc::clone(self);
        Ok(tokio::task::spawn_blocking(move || its.uploads.tidy(now_ms)).await??)
    }

    /// Returns the artifacts of a run, by name.
    pub(crate) async fn artifacts_of(&self, run: &str) -> anyhow::Result<Vec<Artifact>> {
        artifacts::of_run(self, run).await
    }

    /// Writes the artifacts of a run to a folder, and returns their files.
    pub(crate) async fn export(&self, run: &str, to: &Path) -> anyhow::Result<Vec<PathBuf>> {
        artifacts::export(self, run, to).await
    }

    /// Returns an artifact of a run to be read, by its name.
    pub(crate) async fn artifact(&self, run: &str, name: &str) -> anyhow::Result<Option<Response>> {
        artifacts::read(self, run, name).await
    }
}

/// Reads what a call says before anybody looks at it: a client that is slow has no call of its own yet, and little time.
/// What an upload writes is looked at as it comes.
async fn whole(request: Request, next: Next) -> Response {
    if request.method() == Method::PATCH {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, MAX_CALL)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(parts, body.into())).await,
        Ok(Err(_)) => Refusal::too_large("the call is too large, or was cut off").into_response(),
        Err(_) => Refusal::invalid("the call took too long").into_response(),
    }
}

/// Reads a number that may be written as a text, as those of 64 bits are in Twirp.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}
