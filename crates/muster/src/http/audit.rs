//! `/api/v1/audit`: what people have done.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde_json::{Value, json};

use super::api::Asked;
use super::error::Problem;
use crate::loops::Shared;
use crate::store::audit::Deed;

/// Notes what the administrator has done.
pub(super) async fn note(
    shared: &Shared,
    action: &str,
    subject: &str,
    detail: &str,
) -> Result<(), Problem> {
    Ok(shared.store.note(&Deed { action, subject, detail }).await?)
}

/// `GET /api/v1/audit`: what people have done, the newest first.
pub(super) async fn audit(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Problem> {
    let deeds = shared.store.newest_deeds(asked.page()).await?;
    let list = deeds.iter().map(|deed| {
        json!({
            "id": deed.number,
            "at": deed.at,
            "who": deed.who,
            "action": deed.action,
            "subject": deed.subject,
            "detail": deed.detail,
        })
    });
    Ok(Json(json!({ "audit": list.collect::<Vec<_>>() })))
}
