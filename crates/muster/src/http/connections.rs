//! Connections: how many there may be, and how long one may take to ask for something.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service as _;

use super::caller::Peer;
use crate::task;

/// A caller may take so long for the head of a request, also for the next one on the same connection; where many
/// are connected, less.
const PATIENCE: Duration = Duration::from_secs(10);
const HASTE: Duration = Duration::from_secs(1);
/// A server that ends waits so long for the first request of who has just connected: of a webhook that finds no answer
/// nobody hears again.
const NEWCOMERS: Duration = Duration::from_secs(1);
/// A longer head is refused, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// So many descriptors are kept for all else.
const KEPT: u64 = 256;
/// No more connections than this, however many descriptors there are.
const AT_MOST: u64 = 20_000;

/// Serves until told to end, and lets requests that have begun come to theirs. There are at most so many connections
/// as there are `places`.
pub(crate) async fn serve<L>(
    mut listener: L,
    router: Router,
    places: usize,
    until: impl Future<Output = ()>,
) -> io::Result<()>
where
    L: Listener<Addr = SocketAddr>,
{
    let room = Arc::new(Semaphore::new(places));
    let [patient, hasty] = [PATIENCE, HASTE].map(|head| {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(MAX_HEAD);
        http
    });
    let (connected, ending) = (TaskTracker::new(), CancellationToken::new());
    let mut until = pin!(until);
    loop {
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, (stream, address)) = tokio::select! {
            next = next => next,
            () = &mut until => break,
        };
        let Ok(place) = place else { break };
        let http = if room.available_permits() > places / 2 { &patient } else { &hasty };
        let (router, asked) = (router.clone(), Arc::new(Notify::new()));
        let asks = Arc::clone(&asked);
        let answer = service_fn(move |request| {
            asks.notify_one();
            answer(router.clone(), address, request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), answer).with_upgrades();
        let ending = ending.clone();
        drop(task::spawn(
            "connection",
            connected.track_future(async move {
                let mut connection = pin!(connection);
                // Who breaks off, or never asks, is gone.
                let end = async {
                    ending.cancelled().await;
                    drop(tokio::time::timeout(NEWCOMERS, asked.notified()).await);
                };
                tokio::select! {
                    _ = &mut connection => {}
                    () = end => {
                        // What has never been asked for anything it closes at once.
                        connection.as_mut().graceful_shutdown();
                        drop(connection.await);
                    }
                }
                drop(place);
            }),
        ));
    }
    drop(listener);
    ending.cancel();
    connected.close();
    connected.wait().await;
    Ok(())
}

async fn answer(
    mut router: Router,
    address: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(Peer::at(address)));
    router.call(request).await
}

/// Returns how many connections there may be in all; asks for as many descriptors as we may have.
pub(crate) fn places() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(AT_MOST + KEPT, |most| most.min(AT_MOST + KEPT));
    let raised = Rlimit { current: Some(wanted.max(limit.current.unwrap_or(0))), ..limit };
    // Without more of them there is room for fewer.
    let have = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    let places = have.current.unwrap_or(AT_MOST).saturating_sub(KEPT).clamp(8, AT_MOST);
    usize::try_from(places).unwrap_or(usize::MAX)
}
