//! The front door: webhooks are verified and stored, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use futures_util::StreamExt as _;
use muster_forge::github::{Signature, verify};
use muster_sys::clock;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::caller::Caller;
use super::error::Problem;
use crate::loops::Shared;
use crate::store::deliveries::NewDelivery;

/// GitHub sends no more.
const MAX_BODY: usize = 25 << 20;
/// How many bytes of bodies may be in flight at once, in KiB.
pub(crate) const IN_FLIGHT_KIB: usize = 256 << 10;
/// GitHub gives up after ten seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// What a sender is asked to wait when there is no room.
const RETRY_AFTER_S: &str = "30";

/// `POST /webhooks/github` and `POST /event_handler`
pub(super) async fn github(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Some(github) = &shared.github else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "this server has no [github] in its configuration",
        ));
    };
    let length =
        text(&headers, header::CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
    let kib = length.unwrap_or(MAX_BODY).min(MAX_BODY) / 1024 + 1;
    let kib = u32::try_from(kib).unwrap_or(u32::MAX);
    let Ok(_room) = shared.inbox_room.try_acquire_many(kib) else {
        return Ok(no_room("too much at once"));
    };
    if !shared.data.has_room() {
        return Ok(no_room("the disk is full"));
    }
    let Ok(read) = tokio::time::timeout(READ_TIMEOUT, read(body)).await else {
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"));
    };
    let body = read?;
    // One that cannot be read is wrong, not missing.
    let mut signatures = headers.get_all("x-hub-signature-256").iter();
    let signature = match (signatures.next(), signatures.next()) {
        // Which of two is meant nobody can know.
        (Some(_), Some(_)) => Some("?"),
        (one, _) => one.map(|value| value.to_str().unwrap_or("?")),
    };
    match verify(&github.secrets(), signature, &body) {
        Signature::Right => {}
        Signature::Missing if github.config.allow_unsigned && caller.is_local() => {}
        Signature::Missing => {
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "the webhook is not signed: set its secret",
            ));
        }
        Signature::Wrong => {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "the webhook's signature is wrong"));
        }
    }
    let named = |name: &str| {
        let value = text(&headers, name).filter(|value| !value.is_empty() && value.len() <= 200);
        value.map(str::to_owned).ok_or_else(|| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the webhook has no header {name}"))
        })
    };
    let body_sha256 = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    let (body, body_is_base64) = match String::from_utf8(body) {
        Ok(text) if !text.contains('\0') => (text, false),
        other => {
            let bytes =
                other.map_or_else(std::string::FromUtf8Error::into_bytes, String::into_bytes);
            (base64::engine::general_purpose::STANDARD.encode(bytes), true)
        }
    };
    let delivery = NewDelivery {
        hook: "github",
        delivery_id: named("x-github-delivery")?,
        event: named("x-github-event")?,
        content_type: text(&headers, header::CONTENT_TYPE.as_str()).unwrap_or_default().to_owned(),
        body,
        body_is_base64,
        body_sha256,
    };
    shared.store.receive(delivery, clock::now_ms()).await?;
    shared.wake.intake.notify_one();
    Ok((StatusCode::ACCEPTED, Json(json!({ "message": "stored" }))).into_response())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Reads a body. Of one that is too large the rest is read and thrown away, up to a bound: a sender
/// that is cut off in the middle never reads the answer.
async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let mut stream = body.into_data_stream();
    let mut kept = Vec::new();
    let mut length = 0;
    while let Some(chunk) = stream.next().await {
        let broken = |_| Problem::new(StatusCode::BAD_REQUEST, "the body broke off");
        let chunk = chunk.map_err(broken)?;
        length += chunk.len();
        if length <= MAX_BODY {
            kept.extend_from_slice(&chunk);
        } else {
            kept = Vec::new();
        }
        if length > 2 * MAX_BODY {
            break;
        }
    }
    if length > MAX_BODY {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "a webhook has at most 25 MiB"));
    }
    Ok(kept)
}

fn no_room(why: &str) -> Response {
    let body = Json(json!({ "message": format!("muster cannot take this now: {why}") }));
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER_S)], body).into_response()
}
