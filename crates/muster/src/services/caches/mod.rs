//! Caches: what jobs leave for jobs of later runs, under a key and a version each.
//!
//! GitHub's `CacheService`, as
//! [`@actions/cache`](https://github.com/actions/toolkit/tree/main/packages/cache/src/generated) calls it, and the
//! [older interface](v1) that it uses beside other code hosts. A cache that is there is never another.

pub(super) mod v1;

use std::collections::HashSet;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path as UrlPath, State};
use axum::http::HeaderMap;
use muster_core::cache::is_of_members;
use muster_sys::clock;
use object_store::path::Path as Place;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::blobs::place;
use super::error::Refusal;
use super::keep::All;
use super::uploads::name_of;
use super::{Bearer, GUESTS_SHARE, Services, number};

/// The longest key, in bytes, and version.
const MAX_KEY: usize = 512;
/// How many keys a look-up may name.
const MAX_KEYS: usize = 10;
/// How many caches a repository has at most: all are looked through for what goes when one comes.
const MAX_CACHES: u64 = 2_000;
/// When a cache was used is noted no more often than this, in milliseconds.
const NOTED: i64 = 3_600_000;

/// A cache that is complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Cache {
    id: i64,
    key: String,
    version: String,
    /// Bytes.
    size: u64,
    scope: String,
    /// Milliseconds since 1970.
    created_at: i64,
    used_at: i64,
    /// The object that holds it.
    blob: String,
}

/// What an upload that was begun is to become.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    key: String,
    version: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Call {
    #[serde(default)]
    key: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    restore_keys: Vec<String>,
    #[serde(default)]
    size_bytes: Option<Value>,
}

/// `POST /twirp/github.actions.results.api.v1.CacheService/METHOD`
pub(super) async fn call(
    State(services): State<Arc<Services>>,
    UrlPath(method): UrlPath<String>,
    headers: HeaderMap,
    Json(call): Json<Call>,
) -> Result<Json<Value>, Refusal> {
    let (bearer, _under_way) = services.bearer(&headers).await?;
    let answer = match method.as_str() {
        "CreateCacheEntry" => match reserve(&services, &bearer, &call.key, &call.version).await? {
            Some(id) => {
                let sig = services.key.signature("upload", &id);
                let url = format!("{}uploads/{id}?sig={sig}", services.url);
                json!({ "ok": true, "signed_upload_url": url })
            }
            None => json!({ "ok": false, "message": already(&call.key) }),
        },
        "FinalizeCacheEntryUpload" => {
            let upload = upload(&bearer, &call.key, &call.version);
            let size = call.size_bytes.as_ref().and_then(number);
            let size = size.and_then(|size| u64::try_from(size).ok());
            let id = commit(&services, bearer, upload, size).await?;
            json!({ "ok": true, "entry_id": id.to_string() })
        }
        "GetCacheEntryDownloadURL" => {
            let keys: Vec<String> = std::iter::once(call.key).chain(call.restore_keys).collect();
            match find(&services, &bearer, &keys, &call.version).await? {
                Some((cache, url)) => {
                    json!({ "ok": true, "signed_download_url": url, "matched_key": cache.key })
                }
                None => json!({ "ok": false, "signed_download_url": "", "matched_key": "" }),
            }
        }
        other => return Err(Refusal::not_found(format!("there is no method `{other}`"))),
    };
    Ok(Json(answer))
}

fn already(key: &str) -> String {
    format!("a cache with the key `{key}` and this version already exists")
}

/// Returns the folder of the caches of a version in a scope.
fn shelf(repository: &str, scope: &str, version: &str) -> Place {
    Place::from_iter([repository, &name_of(&[scope]), &name_of(&[version])])
}

fn described(repository: &str, cache: (&str, &str, &str)) -> Place {
    let (scope, version, key) = cache;
    shelf(repository, scope, version).join(format!("{}.json", name_of(&[key])))
}

/// Names the upload of a cache: one of each key and version in a job.
fn upload(bearer: &Bearer, key: &str, version: &str) -> String {
    name_of(&["cache", &bearer.run, &bearer.job, &bearer.attempt.to_string(), key, version])
}

/// Begins a cache, and returns the name of its upload; `None` where there is one.
async fn reserve(
    services: &Arc<Services>,
    bearer: &Bearer,
    key: &str,
    version: &str,
) -> Result<Option<String>, Refusal> {
    if key.is_empty() || key.len() > MAX_KEY || key.contains(',') || version.len() > MAX_KEY {
        return Err(Refusal::invalid(format!("`{key}` is no key of a cache")));
    }
    let at = described(&bearer.repository, (&bearer.caches.write, version, key));
    if services.caches.described::<Cache>(&at).await?.is_some() {
        return Ok(None);
    }
    let id = upload(bearer, key, version);
    let begun = Begun { key: key.to_owned(), version: version.to_owned() };
    let (upload, allowance) = (id.clone(), bearer.allowance(&services.bounds));
    services.on_disk(move |uploads| uploads.begin(&upload, &allowance, &begun)).await?;
    Ok(Some(id))
}

/// Returns what an upload is to become that the job itself has begun.
fn begun(services: &Services, bearer: &Bearer, upload: &str) -> Result<Begun, Refusal> {
    let Some(begun) = services.uploads.about::<Begun>(upload)? else {
        return Err(Refusal::not_found("the cache was not begun"));
    };
    if self::upload(bearer, &begun.key, &begun.version) != upload {
        return Err(Refusal::forbidden("another job has begun it"));
    }
    Ok(begun)
}

/// Keeps a cache that was uploaded, and returns its number.
async fn commit(
    services: &Arc<Services>,
    bearer: Bearer,
    upload: String,
    size: Option<u64>,
) -> Result<i64, Refusal> {
    let run = bearer.allowance(&services.bounds).run;
    let turn = services.turn(&run).await?;
    let its = Arc::clone(services);
    services.in_turn(turn, async move { keep(&its, &bearer, upload, size).await }).await
}

async fn keep(
    services: &Arc<Services>,
    bearer: &Bearer,
    upload: String,
    size: Option<u64>,
) -> Result<i64, Refusal> {
    let begun = begun(services, bearer, &upload)?;
    let id = upload.clone();
    let complete = services.on_disk(move |uploads| uploads.complete(&id)).await?;
    if size.is_some_and(|size| size != complete.size) {
        return Err(Refusal::invalid("it has another size than what was uploaded"));
    }
    let (most, _) = bound(services, bearer.guest);
    if complete.size > most {
        let most = most >> 20;
        let why = format!("all caches of a repository have {most} MiB ([retention] cache_mib)");
        return Err(Refusal::too_large(why));
    }
    let now = clock::now_ms();
    let blob = uuid::Uuid::new_v4().simple().to_string();
    let cache = Cache {
        id: services.next_number(now),
        key: begun.key,
        version: begun.version,
        size: complete.size,
        scope: bearer.caches.write.clone(),
        created_at: now,
        used_at: now,
        blob: blob.clone(),
    };
    let at = place(&bearer.repository, &blob);
    services.caches.bring(&at, complete.file, complete.size).await?;
    drop(complete.room);
    let described = described(&bearer.repository, (&cache.scope, &cache.version, &cache.key));
    let is_first = services.caches.describe(&described, &cache).await?;
    if !is_first {
        services.caches.remove(&at).await?;
        return Err(Refusal::exists(already(&cache.key)));
    }
    services.on_disk(move |uploads| uploads.end(&upload)).await?;
    make_room(services, &bearer.repository, bearer.guest).await?;
    Ok(cache.id)
}

/// Finds what a run may read: in each scope the first key as it is, then what begins with one of the keys, the newest.
async fn find(
    services: &Services,
    bearer: &Bearer,
    keys: &[String],
    version: &str,
) -> Result<Option<(Cache, String)>, Refusal> {
    if keys.len() > MAX_KEYS {
        return Err(Refusal::invalid(format!("it names more than {MAX_KEYS} keys")));
    }
    for scope in &bearer.caches.read {
        let below = shelf(&bearer.repository, scope, version);
        let caches: Vec<(Place, Cache)> = services.caches.all(&below).await?.described;
        let exact = |key: &String| caches.iter().find(|(_, cache)| cache.key == *key);
        let beginning = |key: &String| {
            let fits = caches.iter().filter(|(_, cache)| cache.key.starts_with(key.as_str()));
            fits.max_by_key(|(_, cache)| cache.id)
        };
        let found = keys.iter().find_map(|key| exact(key).or_else(|| beginning(key)));
        let Some((at, cache)) = found else { continue };
        let now = clock::now_ms();
        if now - cache.used_at > NOTED {
            let used = Cache { used_at: now, ..cache.clone() };
            services.caches.describe_anew(at, &used).await?;
        }
        let at = format!("caches/{}/{}", bearer.repository, cache.blob);
        let url = services.download(bearer, &at, &[]);
        return Ok(Some((cache.clone(), url)));
    }
    Ok(None)
}

/// Returns how many bytes all caches of a repository may have, and how many there may be: those of runs of who may push, or
/// those of others.
fn bound(services: &Services, guests: bool) -> (u64, u64) {
    let share = if guests { GUESTS_SHARE } else { 1 };
    (services.bounds.caches / share, MAX_CACHES / share)
}

/// Removes caches of a repository, the least used first, until all have room: what others have left takes none from those of
/// who may push.
async fn make_room(services: &Services, repository: &str, guests: bool) -> anyhow::Result<()> {
    let mut caches: Vec<(Place, Cache)> =
        services.caches.all(&Place::from(repository)).await?.described;
    caches.retain(|(_, cache)| is_of_members(&cache.scope) != guests);
    caches.sort_by_key(|(_, cache)| std::cmp::Reverse((cache.used_at, cache.id)));
    let mut used = caches.iter().map(|(_, cache)| cache.size).fold(0, u64::saturating_add);
    let (bytes, number) = bound(services, guests);
    while used > bytes || caches.len() as u64 > number {
        let Some((at, cache)) = caches.pop() else { break };
        remove(services, repository, &at, &cache).await?;
        used = used.saturating_sub(cache.size);
    }
    Ok(())
}

/// Removes a cache: first what says that it is there.
async fn remove(
    services: &Services,
    repository: &str,
    at: &Place,
    cache: &Cache,
) -> anyhow::Result<()> {
    services.caches.remove(at).await?;
    services.caches.remove(&place(repository, &cache.blob)).await
}

/// Removes caches that nobody has used for long.
pub(super) async fn tidy(services: &Services, now_ms: i64) -> anyhow::Result<()> {
    let longest = i64::try_from(services.bounds.caches_for.as_millis()).unwrap_or(i64::MAX);
    let mut kept = HashSet::new();
    let all: All<Cache> = services.caches.all(&Place::default()).await?;
    for (at, cache) in all.described {
        let repository = at.parts().next().map(|part| part.as_ref().to_owned()).unwrap_or_default();
        if now_ms - cache.used_at > longest {
            remove(services, &repository, &at, &cache).await?;
        } else {
            kept.insert(place(&repository, &cache.blob));
        }
    }
    // What a cache holds that cannot be read now is not nobody's.
    if all.is_whole { services.caches.remove_orphans(&kept, now_ms).await } else { Ok(()) }
}
