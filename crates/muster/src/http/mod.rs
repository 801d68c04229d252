//! HTTP: pages, API, live logs.
//!
//! Everything but the hooks, `/healthz`, `/readyz`, the login and the look of the pages needs the admin token or a cookie
//! with it; `public_read` opens reading. A test walks the routes without credentials.

mod api;
mod audit;
mod auth;
mod caller;
mod connections;
mod deliveries;
mod dispatches;
mod error;
mod health;
mod hooks;
mod live;
mod pages;
mod secrets;
mod shell;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};

use crate::loops::Shared;

pub(crate) use caller::Network;
pub(crate) use connections::{places, serve};
pub(crate) use hooks::IN_FLIGHT_KIB;
pub(crate) use tls::{TlsConfig, TlsListener};

/// An answer begins in this time, or never; a look at a repository somewhere has a minute.
const ANSWER: Duration = Duration::from_secs(120);
/// The largest body of an API call, in bytes.
const MAX_BODY: usize = 64 * 1024;

/// Returns all routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let closed = Router::new()
        .route("/", get(pages::home))
        .route("/runs/{number}", get(pages::run))
        .route("/runs/{number}/artifacts/{name}", get(pages::artifact))
        .route("/jobs/{number}", get(pages::job))
        .route("/commits/{sha}", get(pages::commit))
        .route("/deliveries", get(pages::deliveries))
        .route("/outbox", get(pages::outbox))
        .route("/metrics", get(health::metrics))
        .route("/api/v1/outbox", get(api::outbox))
        .route("/api/v1/repositories", get(api::repositories).post(api::add_repository))
        .route("/api/v1/repositories/{*name}", delete(api::remove_repository))
        .route("/api/v1/deliveries", get(deliveries::deliveries))
        .route("/api/v1/runs", get(api::runs))
        .route("/api/v1/runs/{number}", get(api::run))
        .route("/api/v1/runs/{number}/cancel", post(api::cancel))
        .route("/api/v1/runs/{number}/rerun", post(api::rerun))
        .route("/api/v1/commits/{sha}", get(api::commit))
        .route("/api/v1/commits/{sha}/approve", post(api::approve))
        .route("/api/v1/adopt/{*name}", post(api::adopt))
        .route(
            "/api/v1/dispatches",
            post(dispatches::dispatch).layer(DefaultBodyLimit::max(dispatches::MAX_BODY)),
        )
        .route("/api/v1/dispatches/{event}", get(dispatches::outcome))
        .route("/api/v1/protection/{*name}", put(api::protect))
        .route("/api/v1/jobs/{number}/log", get(api::log))
        .route("/api/v1/jobs/{number}/live", get(live::live))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), auth::guard));
    let never_public = Router::new()
        .route(
            "/api/v1/secrets",
            get(secrets::secrets).put(secrets::set_secret).delete(secrets::remove_secret),
        )
        .route(
            "/api/v1/variables",
            get(secrets::variables).put(secrets::set_variable).delete(secrets::remove_variable),
        )
        .route("/api/v1/audit", get(audit::audit))
        .route("/api/v1/deliveries/{number}", get(deliveries::delivery))
        .route("/api/v1/deliveries/{number}/replay", post(deliveries::replay))
        .route("/api/v1/jobs/{number}/shell", post(shell::open))
        .layer(DefaultBodyLimit::max(secrets::MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), auth::guard_from_readers));
    Router::new()
        .merge(closed)
        .merge(never_public)
        .route("/login", get(auth::login_page).post(auth::login))
        .route("/webhooks/github", post(hooks::github))
        .route("/event_handler", post(hooks::github))
        .route("/.well-known/openid-configuration", get(api::discovery))
        .route("/.well-known/jwks", get(api::identity_keys))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(health::readyz))
        .route(
            "/assets/style.css",
            get(|| asset("text/css", include_str!("../../assets/style.css"))),
        )
        .route(
            "/assets/icon.svg",
            get(|| asset("image/svg+xml", include_str!("../../assets/icon.svg"))),
        )
        .route(
            "/assets/log.js",
            get(|| asset("text/javascript", include_str!("../../assets/log.js"))),
        )
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(in_time))
        .layer(middleware::map_response(secure))
        .with_state(shared)
}

/// Gives up a request whose answer does not begin in time: its body may come a byte a minute.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "it took too long\n").into_response(),
    }
}

async fn asset(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text)
}

/// Adds what keeps a browser from doing more with an answer than showing it.
async fn secure(mut response: Response) -> Response {
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                  img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}
