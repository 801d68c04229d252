//! `/api/v1/secrets` and `/api/v1/variables`: what people keep for jobs. Secrets are written, never read.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use muster_core::secrets::Entry;
use muster_core::trust::Trust;
use muster_sys::clock;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::repository_named;
use super::audit::note;
use super::error::Problem;
use crate::loops::Shared;
use crate::secrets::{MAX_VALUE, kept_name_of};
use crate::store::secrets::{Kind, Place, Stored};

/// The largest body that sets one, in bytes: a value can be escaped six times as long.
pub(super) const MAX_BODY: usize = 8 * MAX_VALUE;
/// The longest name of an environment: [as at GitHub](https://docs.github.com/en/actions/reference/workflows-and-actions/deployments-and-environments).
const MAX_ENVIRONMENT: usize = 255;

/// Where one belongs, as people say it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Where {
    name: String,
    /// A repository's name; without one it is for all.
    repository: Option<String>,
    environment: Option<String>,
    trust: Option<String>,
}

/// What sets one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct New {
    name: String,
    repository: Option<String>,
    environment: Option<String>,
    trust: Option<String>,
    value: SecretString,
}

/// `PUT /api/v1/secrets`
pub(super) async fn set_secret(
    State(shared): State<Arc<Shared>>,
    Json(new): Json<New>,
) -> Result<StatusCode, Problem> {
    set(&shared, Kind::Secret, new).await
}

/// `PUT /api/v1/variables`
pub(super) async fn set_variable(
    State(shared): State<Arc<Shared>>,
    Json(new): Json<New>,
) -> Result<StatusCode, Problem> {
    set(&shared, Kind::Variable, new).await
}

/// `GET /api/v1/secrets`: all but their values.
pub(super) async fn secrets(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let stored = shared.store.values(Kind::Secret).await?;
    let list: Vec<Value> = stored.iter().map(shown).collect();
    Ok(Json(json!({ "secrets": list })))
}

/// `GET /api/v1/variables`
pub(super) async fn variables(State(shared): State<Arc<Shared>>) -> Result<Json<Value>, Problem> {
    let stored = shared.store.values(Kind::Variable).await?;
    let list = stored.iter().map(|stored| {
        let mut json = shown(stored);
        json["value"] = stored.value.as_str().into();
        json
    });
    Ok(Json(json!({ "variables": list.collect::<Vec<_>>() })))
}

/// `DELETE /api/v1/secrets?name=NAME`
pub(super) async fn remove_secret(
    State(shared): State<Arc<Shared>>,
    Query(of): Query<Where>,
) -> Result<StatusCode, Problem> {
    remove(&shared, Kind::Secret, of).await
}

/// `DELETE /api/v1/variables?name=NAME`
pub(super) async fn remove_variable(
    State(shared): State<Arc<Shared>>,
    Query(of): Query<Where>,
) -> Result<StatusCode, Problem> {
    remove(&shared, Kind::Variable, of).await
}

async fn set(shared: &Shared, kind: Kind, new: New) -> Result<StatusCode, Problem> {
    let New { name, repository, environment, trust, value } = new;
    let of = repository.clone();
    let place = place(shared, kind, Where { name, repository, environment, trust }).await?;
    let value = value.expose_secret();
    if value.len() > MAX_VALUE {
        return Err(bad(format!(
            "a value has at most {MAX_VALUE} bytes, this one {}",
            value.len()
        )));
    }
    if value.contains('\0') {
        return Err(bad("a value has no NUL: programs could not be given it".to_owned()));
    }
    let bytes = serde_json::to_string(value).map_or(value.len(), |json| json.len());
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let value = match kind {
        Kind::Variable => value.to_owned(),
        Kind::Secret if value.is_empty() => {
            return Err(bad("the secret is empty: one that is not there is as good".to_owned()));
        }
        Kind::Secret => {
            let vault = &shared.vault;
            let there = shared.store.values(kind).await?;
            if !vault.has_key() {
                // A new one opens nothing of what is there.
                if !there.is_empty() {
                    let why = format!(
                        "the key of the secrets, {}, is gone: put it back, or remove all secrets first",
                        vault.file().display()
                    );
                    return Err(Problem::new(StatusCode::CONFLICT, why));
                }
                vault.make_key().map_err(anyhow::Error::from)?;
            }
            // No two are to be sealed with keys of which one alone can be there.
            let other = there.iter().find(|other| other.place.seal() != place.seal());
            let opened = other.map(|other| vault.open(&other.place.seal(), &other.value));
            let sealed = opened.transpose().and_then(|_| vault.seal(&place.seal(), value));
            sealed.map_err(|error| {
                Problem::new(StatusCode::CONFLICT, format!("the secrets that are there: {error}"))
            })?
        }
    };
    let entry = place.entry.clone();
    shared.store.keep_value(place, value, bytes, clock::now_ms()).await?;
    noted(shared, kind, "set", &entry, of.as_deref()).await
}

async fn remove(shared: &Shared, kind: Kind, of: Where) -> Result<StatusCode, Problem> {
    let any_trust = of.trust.is_none();
    let repository = of.repository.clone();
    let place = place(shared, kind, of).await?;
    let entry = place.entry.clone();
    let (name, trust) = (&entry.name, (!any_trust).then_some(entry.trust));
    match shared.store.remove_value(place, trust).await?.as_slice() {
        [] => Err(Problem::not_found(format!("{} {name} there", kind.as_str()))),
        [trust] => {
            let entry = Entry { trust: *trust, ..entry };
            noted(shared, kind, "remove", &entry, repository.as_deref()).await
        }
        several => {
            let of = several.iter().map(|trust| trust.as_str()).collect::<Vec<_>>().join(", ");
            let why = format!("{name} is there for {of}: say which is meant by its trust");
            Err(Problem::new(StatusCode::CONFLICT, why))
        }
    }
}

/// Notes that one was set or removed, and where it belongs.
async fn noted(
    shared: &Shared,
    kind: Kind,
    done: &str,
    entry: &Entry,
    repository: Option<&str>,
) -> Result<StatusCode, Problem> {
    let Entry { name, environment, trust, .. } = entry;
    let of = repository.unwrap_or("all repositories");
    let environment = environment.as_ref().map(|name| format!(", environment {name}"));
    let detail = format!("{of}, trust {}{}", trust.as_str(), environment.unwrap_or_default());
    note(shared, &format!("{}.{done}", kind.as_str()), name, &detail).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn place(shared: &Shared, kind: Kind, of: Where) -> Result<Place, Problem> {
    let name = kept_name_of(&of.name).map_err(bad)?;
    let trust = match of.trust.as_deref() {
        None => Trust::Member,
        Some(word) => {
            let trust = Trust::parse(word).filter(|trust| *trust > Trust::Stranger);
            trust.ok_or_else(|| bad("`trust` is `approved`, `member` or `protected`".to_owned()))?
        }
    };
    let environment = of.environment.map(|name| name.trim().to_lowercase());
    let is_name = |name: &String| {
        !name.is_empty() && name.len() <= MAX_ENVIRONMENT && !name.chars().any(char::is_control)
    };
    if environment.as_ref().is_some_and(|name| !is_name(name)) {
        let why = format!("an environment's name is a line of 1 to {MAX_ENVIRONMENT} bytes");
        return Err(bad(why));
    }
    let repository = match &of.repository {
        None => None,
        Some(name) => Some(repository_named(shared, name).await?.id()),
    };
    let of_repository = repository.is_some();
    Ok(Place { kind, repository, entry: Entry { name, of_repository, environment, trust } })
}

fn shown(stored: &Stored) -> Value {
    let entry = &stored.place.entry;
    json!({
        "name": entry.name,
        "repository": stored.repository,
        "environment": entry.environment,
        "trust": entry.trust.as_str(),
        "changed_at": stored.changed_at,
    })
}

fn bad(message: String) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, message)
}
