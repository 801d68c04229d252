//! Whether the server is well: for load balancers, and for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::error::Problem;
use crate::loops::Shared;

/// A database that does not answer in this time is away.
const ANSWER: Duration = Duration::from_secs(2);
/// What Prometheus asks for: <https://prometheus.io/docs/instrumenting/exposition_formats/>.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    state: &'static str,
}

/// `GET /readyz`: whether webhooks are taken in now. Says nothing that is anybody's secret.
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let why = match tokio::time::timeout(ANSWER, shared.store.answers()).await {
        Ok(Ok(_)) if shared.data.has_room() => {
            return "ready\n".into_response();
        }
        Ok(Ok(_)) => "the disk is full\n",
        Ok(Err(_)) => "the database refuses\n",
        Err(_) => "the database does not answer\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

/// `GET /metrics`: what waits, and what room there is.
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let backlog = shared.store.backlog().await?;
    let mut registry = Registry::with_prefix("muster");
    let waiting = Family::<Labels, Gauge>::default();
    for (state, count) in [
        ("webhooks", backlog.webhooks),
        ("events", backlog.events),
        ("approvals", backlog.approvals),
        ("jobs_waiting", backlog.jobs_waiting),
        ("jobs_queued", backlog.jobs_queued),
        ("reports", backlog.reports),
    ] {
        waiting.get_or_create(&Labels { state }).set(count);
    }
    registry.register("backlog", "What waits, by what it is", waiting);
    let gauge = |value: i64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        gauge
    };
    registry.register("jobs_running", "Jobs that run", gauge(backlog.jobs_running));
    let jobs = i64::try_from(shared.config.jobs).unwrap_or(i64::MAX);
    registry.register("jobs_at_once", "Jobs that may run at once", gauge(jobs));
    let given_up = gauge(backlog.given_up);
    registry.register("reports_given_up", "Reports that nobody will be told", given_up);
    let has_room = gauge(i64::from(shared.data.has_room()));
    registry.register("has_room", "Whether the disk has room for webhooks", has_room);
    let sandbox = gauge(i64::from(shared.cageless.is_none()));
    registry.register("has_sandbox", "Whether jobs can have a sandbox", sandbox);
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("no metrics: {error}"))
    })?;
    Ok(([(header::CONTENT_TYPE, TEXT)], text).into_response())
}
