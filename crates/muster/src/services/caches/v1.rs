//! The interface of caches before `CacheService`, which GitHub's client uses where `GITHUB_SERVER_URL` is not GitHub's.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{already, begun, commit as keep, find as look_up, reserve as begin};
use crate::services::Services;
use crate::services::error::Refusal;

#[derive(Debug, Deserialize)]
pub(in crate::services) struct Wanted {
    keys: String,
    version: String,
}

/// `GET /_apis/artifactcache/cache?keys=A,B&version=V`
pub(in crate::services) async fn find(
    State(services): State<Arc<Services>>,
    headers: HeaderMap,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Refusal> {
    let (bearer, _under_way) = services.bearer(&headers).await?;
    let keys: Vec<String> = wanted.keys.split(',').map(|key| key.trim().to_owned()).collect();
    let found = look_up(&services, &bearer, &keys, &wanted.version).await?;
    let Some((cache, url)) = found else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let answer = json!({ "archiveLocation": url, "cacheKey": cache.key, "scope": cache.scope });
    Ok(Json(answer).into_response())
}

#[derive(Debug, Deserialize)]
pub(in crate::services) struct Wished {
    key: String,
    version: String,
}

/// `POST /_apis/artifactcache/caches`: the number of an upload, which the client takes for one.
pub(in crate::services) async fn reserve(
    State(services): State<Arc<Services>>,
    headers: HeaderMap,
    Json(wished): Json<Wished>,
) -> Result<Json<Value>, Refusal> {
    let (bearer, _under_way) = services.bearer(&headers).await?;
    match begin(&services, &bearer, &wished.key, &wished.version).await? {
        Some(id) => Ok(Json(json!({ "cacheId": id }))),
        None => Err(Refusal::exists(already(&wished.key))),
    }
}

/// `PATCH /_apis/artifactcache/caches/ID` with `Content-Range: bytes FROM-TO/*`
pub(in crate::services) async fn write(
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let (bearer, _under_way) = services.bearer(&headers).await?;
    begun(&services, &bearer, &id)?;
    let range = headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let from =
        range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    let from =
        from.ok_or_else(|| Refusal::invalid("`Content-Range` does not say where it begins"))?;
    services.uploads.part(&id, from, body).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub(in crate::services) struct Sized {
    size: u64,
}

/// `POST /_apis/artifactcache/caches/ID`
pub(in crate::services) async fn commit(
    State(services): State<Arc<Services>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(sized): Json<Sized>,
) -> Result<StatusCode, Refusal> {
    let (bearer, _under_way) = services.bearer(&headers).await?;
    begun(&services, &bearer, &id)?;
    keep(&services, bearer, id, Some(sized.size)).await?;
    Ok(StatusCode::NO_CONTENT)
}
