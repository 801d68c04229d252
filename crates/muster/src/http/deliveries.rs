//! `/api/v1/deliveries`: webhooks as they came, and what became of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State};
use muster_forge::github::Payload;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Asked;
use super::audit::note;
use super::error::Problem;
use crate::loops::Shared;
use crate::store::deliveries::{DeliveriesOf, DeliveryRow};

/// Which webhooks are asked for: `?limit=N&before=ID&outcome=WORD&event=NAME`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedDeliveries {
    limit: Option<i64>,
    before: Option<i64>,
    outcome: Option<String>,
    event: Option<String>,
}

/// `GET /api/v1/deliveries`: webhooks and what became of them, the newest last.
pub(super) async fn deliveries(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<AskedDeliveries>,
) -> Result<Json<Value>, Problem> {
    let AskedDeliveries { limit, before, outcome, event } = asked;
    let of = DeliveriesOf { outcome, event };
    let deliveries = shared.store.newest_deliveries(Asked { limit, before }.page(), &of).await?;
    let list: Vec<Value> = deliveries.iter().rev().map(delivery_json).collect();
    let total = shared.store.count_deliveries().await?;
    Ok(Json(json!({ "total": total, "deliveries": list })))
}

fn delivery_json(delivery: &DeliveryRow) -> Value {
    json!({
        "id": delivery.number,
        "guid": delivery.delivery_id,
        "event": delivery.event,
        "received_at": delivery.received_at,
        "times": delivery.times,
        "outcome": delivery.outcome,
        "reason": delivery.reason_text,
    })
}

/// `GET /api/v1/deliveries/NUMBER`: one webhook, with all that came.
pub(super) async fn delivery(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<i64>,
) -> Result<Json<Value>, Problem> {
    let found = shared.store.delivery(number).await?;
    let found = found.ok_or_else(|| Problem::not_found(format!("delivery {number}")))?;
    let body = found.body.bytes()?;
    let payload = Payload::find(&found.body.content_type, &body).ok();
    let payload = payload.and_then(|payload| payload.value().ok());
    let mut json = delivery_json(&found.row);
    json["hook"] = found.hook.as_str().into();
    json["sha"] = found.sha.clone().into();
    json["subject"] = found.subject.clone().into();
    json["content_type"] = found.body.content_type.as_str().into();
    json["payload"] = payload.clone().unwrap_or_default();
    // What is none is shown as it came.
    json["body"] = payload.is_none().then(|| String::from_utf8_lossy(&body)).into();
    Ok(Json(json))
}

/// `POST /api/v1/deliveries/NUMBER/replay`: judges a webhook once more that led to nothing.
pub(super) async fn replay(
    State(shared): State<Arc<Shared>>,
    Path(number): Path<i64>,
) -> Result<Json<Value>, Problem> {
    if !shared.store.replay(number).await? {
        return Err(Problem::not_found(format!("delivery {number}")));
    }
    shared.wake.intake.notify_one();
    note(&shared, "delivery.replay", &format!("delivery {number}"), "").await?;
    Ok(Json(json!({ "delivery": number })))
}
