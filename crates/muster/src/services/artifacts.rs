//! Artifacts: what jobs of a run leave for each other and for people, under a name each.
//!
//! GitHub's `ArtifactService`, as
//! [`@actions/artifact`](https://github.com/actions/toolkit/tree/main/packages/artifact/src/generated) calls it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use axum::Json;
use axum::extract::{Path as UrlPath, State};
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{DateTime, SecondsFormat, Utc};
use muster_sys::clock;
use object_store::path::Path as Place;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::blobs::{answer, place};
use super::error::Refusal;
use super::keep::All;
use super::uploads::name_of;
use super::{Bearer, Services, number};

/// What no name of an artifact has: they are names of files on all systems.
const NOT_IN_NAMES: [char; 11] = ['"', ':', '<', '>', '|', '*', '?', '\r', '\n', '\\', '/'];
/// The longest name, in bytes.
const MAX_NAME: usize = 240;
/// How many artifacts a run has at most.
const MAX_ARTIFACTS: usize = 1_000;

/// An artifact that is complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Artifact {
    /// A number of its own; a later artifact has a greater one.
    pub(crate) id: i64,
    pub(crate) name: String,
    /// Bytes, as they are kept.
    pub(crate) size: u64,
    /// `sha256:` and sixty-four digits.
    pub(crate) digest: String,
    /// What kind of file it is.
    pub(crate) mime_type: String,
    /// The attempt of the run that it is of.
    pub(crate) run_attempt: i64,
    /// The job that made it, and in which attempt of its own.
    pub(crate) job: String,
    job_attempt: i64,
    /// Milliseconds since 1970.
    pub(crate) created_at: i64,
    pub(crate) expires_at: i64,
    /// The object that holds it.
    blob: String,
}

impl Artifact {
    /// Returns the name of its file: a zip, where it is one.
    pub(crate) fn file_name(&self) -> String {
        if self.mime_type == ZIP { format!("{}.zip", self.name) } else { self.name.clone() }
    }
}

const DAY_MS: i64 = 24 * 3_600_000;
const ZIP: &str = "application/zip";

/// What an upload that was begun is to become.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    mime_type: String,
    expires_at: i64,
}

/// What the methods are called with: none takes all.
#[derive(Debug, Deserialize)]
pub(super) struct Call {
    workflow_run_backend_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default)]
    mime_type: Option<String>,
    #[serde(default)]
    size: Option<Value>,
    #[serde(default)]
    hash: Option<String>,
    #[serde(default)]
    name_filter: Option<String>,
    #[serde(default)]
    id_filter: Option<Value>,
}

/// `POST /twirp/github.actions.results.api.v1.ArtifactService/METHOD`
pub(super) async fn call(
    State(services): State<Arc<Services>>,
    UrlPath(method): UrlPath<String>,
    headers: HeaderMap,
    Json(call): Json<Call>,
) -> Result<Json<Value>, Refusal> {
    let (bearer, _under_way) = services.bearer(&headers).await?;
    if call.workflow_run_backend_id != bearer.run {
        return Err(Refusal::forbidden("it is the token of a job of another run"));
    }
    let services = &services;
    match method.as_str() {
        "CreateArtifact" => create(services, &bearer, &call).await,
        "FinalizeArtifact" => finalize(services, bearer, call).await,
        "ListArtifacts" => list(services, &bearer, &call).await,
        "GetSignedArtifactURL" => signed(services, &bearer, &call).await,
        "DeleteArtifact" => delete(services, &bearer, &call).await,
        other => Err(Refusal::not_found(format!("there is no method `{other}`"))),
    }
    .map(Json)
}

/// Returns where an artifact of an attempt of a run is described.
fn described(run: &str, run_attempt: i64, name: &str) -> Place {
    Place::from_iter([run, &format!("{}.json", name_of(&[&run_attempt.to_string(), name]))])
}

/// Names the upload of an artifact: one of each name in a job.
fn upload(bearer: &Bearer, name: &str) -> String {
    name_of(&[&bearer.run, &bearer.job, &bearer.attempt.to_string(), name])
}

/// Finds an artifact by its name, of the last attempt that has one.
async fn find(services: &Services, bearer: &Bearer, name: &str) -> Result<Artifact, Refusal> {
    for attempt in (1..=bearer.run_attempt).rev() {
        let at = described(&bearer.run, attempt, name);
        if let Some(found) = services.artifacts.described(&at).await? {
            return Ok(found);
        }
    }
    Err(Refusal::not_found(format!("there is no artifact `{name}` in this run")))
}

async fn all(services: &Services, run: &str) -> anyhow::Result<Vec<Artifact>> {
    let all = services.artifacts.all(&Place::from(run)).await?;
    Ok(all.described.into_iter().map(|(_, artifact)| artifact).collect())
}

async fn create(services: &Arc<Services>, bearer: &Bearer, call: &Call) -> Result<Value, Refusal> {
    let name = &call.name;
    if name.is_empty()
        || name.len() > MAX_NAME
        || name.contains(NOT_IN_NAMES)
        || name.contains(char::is_control)
        || name == "."
        || name == ".."
    {
        return Err(Refusal::invalid(format!("`{name}` is no name of an artifact")));
    }
    let at = described(&bearer.run, bearer.run_attempt, name);
    match services.artifacts.described::<Artifact>(&at).await? {
        // Its own attempt before this one was lost after it had uploaded.
        Some(known) if known.job == bearer.job && known.job_attempt < bearer.attempt => {
            remove(services, &bearer.run, &known).await?;
        }
        Some(_) => return Err(exists(name)),
        None => {}
    }
    if services.artifacts.count(&Place::from(bearer.run.as_str())).await? >= MAX_ARTIFACTS {
        return Err(Refusal::too_large(format!("the run has {MAX_ARTIFACTS} artifacts")));
    }
    let now = clock::now_ms();
    let longest = i64::try_from(services.bounds.artifacts_for.as_millis()).unwrap_or(i64::MAX);
    let asked = call.expires_at.as_deref();
    let asked = asked.and_then(|at| DateTime::parse_from_rfc3339(at).ok());
    let longest = now.saturating_add(longest);
    // A day at least: what is gone at once was left for nobody.
    let asked = asked.map_or(longest, |at| at.timestamp_millis().max(now + DAY_MS));
    let expires_at = asked.min(longest);
    let mime_type = call.mime_type.clone().unwrap_or_else(|| ZIP.to_owned());
    if mime_type.len() > MAX_NAME
        || !mime_type.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        return Err(Refusal::invalid("`mime_type` is no kind of file"));
    }
    let id = upload(bearer, name);
    let (upload, allowance) = (id.clone(), bearer.allowance(&services.bounds));
    let begun = Begun { mime_type, expires_at };
    services.on_disk(move |uploads| uploads.begin(&upload, &allowance, &begun)).await?;
    let sig = services.key.signature("upload", &id);
    Ok(
        json!({ "ok": true, "signed_upload_url": format!("{}uploads/{id}?sig={sig}", services.url) }),
    )
}

fn exists(name: &str) -> Refusal {
    Refusal::exists(format!("an artifact with the name `{name}` already exists in this run"))
}

async fn finalize(services: &Arc<Services>, bearer: Bearer, call: Call) -> Result<Value, Refusal> {
    let run = bearer.allowance(&services.bounds).run;
    let turn = services.turn(&run).await?;
    let its = Arc::clone(services);
    let id = services.in_turn(turn, async move { keep(&its, &bearer, &call).await }).await?;
    Ok(json!({ "ok": true, "artifact_id": id.to_string() }))
}

/// Keeps an artifact that was uploaded, and returns its number.
async fn keep(services: &Arc<Services>, bearer: &Bearer, call: &Call) -> Result<i64, Refusal> {
    let described = described(&bearer.run, bearer.run_attempt, &call.name);
    let upload = upload(bearer, &call.name);
    let Some(begun) = services.uploads.about::<Begun>(&upload)? else {
        // A client that got no answer asks once more.
        let known: Option<Artifact> = services.artifacts.described(&described).await?;
        let ours = known.filter(|it| (&it.job, it.job_attempt) == (&bearer.job, bearer.attempt));
        let ours = ours
            .ok_or_else(|| Refusal::not_found(format!("artifact `{}` was not begun", call.name)))?;
        check(call, ours.size, &ours.digest)?;
        return Ok(ours.id);
    };
    let id = upload.clone();
    let complete = services.on_disk(move |uploads| uploads.complete(&id)).await?;
    check(call, complete.size, &complete.digest)?;
    let now = clock::now_ms();
    let id = services.next_number(now);
    let blob = uuid::Uuid::new_v4().simple().to_string();
    let artifact = Artifact {
        id,
        name: call.name.clone(),
        size: complete.size,
        digest: complete.digest,
        mime_type: begun.mime_type,
        run_attempt: bearer.run_attempt,
        job: bearer.job.clone(),
        job_attempt: bearer.attempt,
        created_at: now,
        expires_at: begun.expires_at,
        blob: blob.clone(),
    };
    let at = place(&bearer.run, &blob);
    services.artifacts.bring(&at, complete.file, complete.size).await?;
    drop(complete.room);
    if !services.artifacts.describe(&described, &artifact).await? {
        services.artifacts.remove(&at).await?;
        return Err(exists(&call.name));
    }
    services.on_disk(move |uploads| uploads.end(&upload)).await?;
    Ok(id)
}

/// Checks that what a client says of its upload is so.
fn check(call: &Call, size: u64, digest: &str) -> Result<(), Refusal> {
    let said = call.size.as_ref().and_then(number);
    if said.is_some_and(|said| said != i64::try_from(size).unwrap_or(-1)) {
        return Err(Refusal::invalid("it has another size than what was uploaded"));
    }
    if call.hash.as_ref().is_some_and(|hash| *hash != *digest) {
        return Err(Refusal::invalid("it has another hash than what was uploaded"));
    }
    Ok(())
}

async fn list(services: &Services, bearer: &Bearer, call: &Call) -> Result<Value, Refusal> {
    let id = match &call.id_filter {
        Some(id) => Some(number(id).ok_or_else(|| Refusal::invalid("`id_filter` is no number"))?),
        None => None,
    };
    let artifacts = all(services, &bearer.run).await?.into_iter().filter(|artifact| {
        call.name_filter.as_ref().is_none_or(|name| *name == artifact.name)
            && id.is_none_or(|id| id == artifact.id)
    });
    let artifacts = artifacts.map(|artifact| {
        let created: DateTime<Utc> =
            DateTime::from_timestamp_millis(artifact.created_at).unwrap_or_default();
        json!({
            "workflow_run_backend_id": bearer.run,
            "workflow_job_run_backend_id": artifact.job,
            "database_id": artifact.id.to_string(),
            "name": artifact.name,
            "size": artifact.size.to_string(),
            "created_at": created.to_rfc3339_opts(SecondsFormat::Millis, true),
            "digest": artifact.digest,
        })
    });
    Ok(json!({ "artifacts": artifacts.collect::<Vec<_>>() }))
}

async fn signed(services: &Services, bearer: &Bearer, call: &Call) -> Result<Value, Refusal> {
    let artifact = find(services, bearer, &call.name).await?;
    let at = format!("artifacts/{}/{}", bearer.run, artifact.blob);
    let (name, kind) = (artifact.file_name(), artifact.mime_type);
    let url = services.download(bearer, &at, &[("name", &name), ("kind", &kind)]);
    Ok(json!({ "signed_url": url }))
}

async fn delete(services: &Services, bearer: &Bearer, call: &Call) -> Result<Value, Refusal> {
    let artifact = find(services, bearer, &call.name).await?;
    remove(services, &bearer.run, &artifact).await?;
    Ok(json!({ "ok": true, "artifact_id": artifact.id.to_string() }))
}

/// Removes an artifact: first what says that it is there.
async fn remove(services: &Services, run: &str, artifact: &Artifact) -> anyhow::Result<()> {
    let described = described(run, artifact.run_attempt, &artifact.name);
    services.artifacts.remove(&described).await?;
    services.artifacts.remove(&place(run, &artifact.blob)).await
}

/// Returns the artifacts of a run, by name; of several attempts the last.
pub(super) async fn of_run(services: &Services, run: &str) -> anyhow::Result<Vec<Artifact>> {
    let mut artifacts = all(services, run).await?;
    artifacts.sort_by(|one, other| (&one.name, other.id).cmp(&(&other.name, one.id)));
    artifacts.dedup_by(|later, first| later.name == first.name);
    Ok(artifacts)
}

/// Returns an artifact to be read.
pub(super) async fn read(
    services: &Services,
    run: &str,
    name: &str,
) -> anyhow::Result<Option<Response>> {
    let all = of_run(services, run).await?;
    let Some(artifact) = all.into_iter().find(|known| known.name == name) else { return Ok(None) };
    let (file, kind) = (artifact.file_name(), &artifact.mime_type);
    answer(&services.artifacts, &place(run, &artifact.blob), Some(&file), Some(kind)).await
}

/// Writes the artifacts of a run to a folder. Their names lead nowhere else, and what is there is replaced, not followed.
pub(super) async fn export(
    services: &Services,
    run: &str,
    to: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = Vec::new();
    for artifact in of_run(services, run).await? {
        let found = services.artifacts.read(&place(run, &artifact.blob)).await?;
        let found = found.with_context(|| format!("artifact `{}` is gone", artifact.name))?;
        let mut path = to.join(artifact.file_name());
        if files.contains(&path) {
            path = to.join(format!("{}-{}", artifact.id, artifact.file_name()));
        }
        let cannot = || format!("cannot write {}", path.display());
        let part = to.join(format!(".{}", uuid::Uuid::new_v4().simple()));
        let mut file = tokio::fs::File::create_new(&part).await.with_context(cannot)?;
        let mut stream = found.into_stream();
        while let Some(piece) = futures_util::StreamExt::next(&mut stream).await {
            file.write_all(&piece?).await.with_context(cannot)?;
        }
        file.flush().await.with_context(cannot)?;
        tokio::fs::rename(part, &path).await.with_context(cannot)?;
        files.push(path);
    }
    Ok(files)
}

/// Removes the artifacts whose time is over.
pub(super) async fn tidy(services: &Services, now_ms: i64) -> anyhow::Result<()> {
    let mut kept = HashSet::new();
    let all: All<Artifact> = services.artifacts.all(&Place::default()).await?;
    for (at, artifact) in all.described {
        let run = at.parts().next().map(|part| part.as_ref().to_owned()).unwrap_or_default();
        if artifact.expires_at <= now_ms {
            remove(services, &run, &artifact).await?;
        } else {
            kept.insert(place(&run, &artifact.blob));
        }
    }
    // What an artifact holds that cannot be read now is not nobody's.
    if all.is_whole { services.artifacts.remove_orphans(&kept, now_ms).await } else { Ok(()) }
}
