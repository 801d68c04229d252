//! A fake GitHub: over real HTTP, with GitHub's state and limits, refusing what GitHub refuses.
//!
//! It keeps repositories (bare ones, on disk), commit statuses and the order in which they came, and
//! sends signed webhooks. A client that calls while it was asked to wait is banned, and the test
//! hears of it through [`FakeGitHub::faults`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hmac::{Hmac, KeyInit as _, Mac as _};
use muster_sys::clock;
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;

use crate::description::description;

/// The token that the API wants.
pub const TOKEN: &str = "ghp_0123456789abcdefghijklmnopqrstuvwxyz";
/// The secret that webhooks are signed with.
pub const SECRET: &str = "It's a Secret to Everybody";
/// GitHub's bound on statuses of one context of one commit.
const MAX_STATUSES: usize = 1_000;
/// A webhook that is not answered by then is never.
const WEBHOOK: Duration = Duration::from_secs(60);

/// A status as it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The commit.
    pub sha: String,
    /// The name.
    pub context: String,
    /// The state.
    pub state: String,
    /// The sentence.
    pub description: String,
}

/// A pull request of the fake.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// Its number.
    pub number: i64,
    /// The commit that it asks to merge.
    pub head: String,
    /// Whether it comes from another repository.
    pub from_fork: bool,
}

#[derive(Debug, Default)]
struct Inner {
    statuses: Vec<Status>,
    faults: Vec<String>,
    /// Until when nobody may call.
    quiet_until: Option<Instant>,
    /// What the next calls are answered with instead: a status and a number of seconds to wait.
    answers: Vec<(u16, Option<u64>)>,
    deliveries: u64,
    /// The contexts that `main` requires: by protection, and by a ruleset.
    required: (Vec<String>, Vec<String>),
    /// The webhooks; none where the token may not see them.
    hooks: Option<Vec<Value>>,
    /// Counts up with each change of a pull request: its `updated_at`.
    ticks: u64,
}

/// A fake GitHub with one repository, `team/app`.
#[derive(Debug)]
pub struct FakeGitHub {
    inner: Arc<Mutex<Inner>>,
    address: SocketAddr,
    folder: TempDir,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

type Shared = State<Arc<Mutex<Inner>>>;

impl FakeGitHub {
    /// Starts it. `team/app` is number 4711; its bare repository is made by the test.
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let inner = Arc::new(Mutex::new(Inner::default()));
        let router = Router::new()
            .route("/repos/{owner}/{name}", get(repository))
            .route("/repos/{owner}/{name}/statuses/{sha}", post(set_status))
            .route("/repos/{owner}/{name}/branches/{branch}", get(branch))
            .route("/repos/{owner}/{name}/rules/branches/{branch}", get(rules))
            .route("/repos/{owner}/{name}/hooks", get(hooks))
            .fallback(unknown)
            .layer(from_fn_with_state(Arc::clone(&inner), as_described))
            .with_state(Arc::clone(&inner));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let serve = axum::serve(listener, router).into_future();
        drop(runtime.handle().spawn(serve));
        let folder = tempfile::tempdir().unwrap();
        // Each webhook comes by a connection of its own, as GitHub's do, and not for ever.
        let http = crate::http_client().pool_max_idle_per_host(0).timeout(WEBHOOK);
        Self { inner, address, folder, runtime, http: http.build().unwrap() }
    }

    /// Returns the lines of configuration for a server beside it.
    pub fn config(&self) -> String {
        let secrets = self.folder.path().join("secrets");
        std::fs::write(&secrets, format!("an older secret\n{SECRET}\n")).unwrap();
        let token = self.folder.path().join("token");
        std::fs::write(&token, TOKEN).unwrap();
        format!(
            "[github]\nurl = \"https://github.example\"\napi_url = \"http://{}\"\ngit_url = \"file://{}\"\n\
             token_file = \"{}\"\nwebhook_secret_file = \"{}\"\n",
            self.address,
            self.folder.path().display(),
            token.display(),
            secrets.display()
        )
    }

    /// Returns the address of its API.
    pub fn api(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns where the bare repository of `team/app` is to be.
    pub fn repository(&self) -> PathBuf {
        self.folder.path().join("team/app.git")
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what was done that GitHub does not allow.
    pub fn faults(&self) -> Vec<String> {
        self.inner().faults.clone()
    }

    /// Returns all statuses of a commit in the order in which they were set.
    pub fn history(&self, sha: &str) -> Vec<Status> {
        self.inner().statuses.iter().filter(|status| status.sha == sha).cloned().collect()
    }

    /// Returns what a commit shows: `context state: description`, a line for each context.
    pub fn shown(&self, sha: &str) -> String {
        let mut shown: BTreeMap<String, Status> = BTreeMap::new();
        for status in self.history(sha) {
            shown.insert(status.context.clone(), status);
        }
        let lines = shown
            .values()
            .map(|status| format!("{} {}: {}\n", status.context, status.state, status.description));
        lines.collect()
    }

    /// Requires contexts of `main`: by branch protection, and by a ruleset.
    pub fn require(&self, protection: &[&str], ruleset: &[&str]) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        self.inner().required = (owned(protection), owned(ruleset));
    }

    /// Adds a webhook, and lets the token see them. `last` is what the last one was answered.
    pub fn add_hook(&self, url: &str, active: bool, events: &[&str], last: Option<u16>) {
        let hook = json!({
            "active": active,
            "events": events,
            "config": {"url": url, "content_type": "json"},
            "last_response": {"code": last, "status": "", "message": last.map(|_| "Answered")},
        });
        self.inner().hooks.get_or_insert_default().insert(0, hook);
    }

    /// Answers the next call with `status` instead, and asks for `retry_after` seconds of quiet.
    pub fn answer_next(&self, status: u16, retry_after: Option<u64>) {
        self.inner().answers.push((status, retry_after));
    }

    /// Sends a webhook with a new id to the server at `url`; returns the answer's status.
    pub fn deliver(&self, url: &str, event: &str, payload: &Value) -> u16 {
        let id = {
            let mut inner = self.inner();
            inner.deliveries += 1;
            format!("delivery-{}", inner.deliveries)
        };
        let body = payload.to_string().into_bytes();
        self.send(url, event, &id, "application/json", body, Some(SECRET))
    }

    /// Sends any webhook; `secret` signs it.
    pub fn send(
        &self,
        url: &str,
        event: &str,
        id: &str,
        content_type: &str,
        body: Vec<u8>,
        secret: Option<&str>,
    ) -> u16 {
        self.try_send(url, event, id, content_type, body, secret).unwrap()
    }

    /// Sends any webhook to a server that may not be there; `None` when there was no answer.
    pub fn try_send(
        &self,
        url: &str,
        event: &str,
        id: &str,
        content_type: &str,
        body: Vec<u8>,
        secret: Option<&str>,
    ) -> Option<u16> {
        let mut request = self
            .http
            .post(format!("{url}/webhooks/github"))
            .header("x-github-event", event)
            .header("x-github-delivery", id)
            .header("content-type", content_type);
        if let Some(secret) = secret {
            request = request.header("x-hub-signature-256", sign(secret, &body));
        }
        let answer = self.runtime.block_on(async { request.body(body).send().await });
        answer.ok().map(|answer| answer.status().as_u16())
    }

    /// Makes the payload of a push to a branch.
    pub fn push(&self, branch: &str, before: Option<&str>, after: &str, message: &str) -> Value {
        let zero = "0".repeat(40);
        json!({
            "ref": format!("refs/heads/{branch}"),
            "before": before.unwrap_or(&zero),
            "after": after,
            "created": before.is_none(),
            "deleted": false,
            "forced": false,
            "head_commit": {
                "id": after,
                "message": message,
                "timestamp": "2026-01-02T03:04:05Z",
                "author": {"name": "Ana", "email": "ana@example.org"},
            },
            "repository": of_repository(),
            "sender": {"id": 1, "login": "ana"},
        })
    }

    /// Makes the payload of something that was done to a pull request to `main`, later than all that
    /// was done before.
    pub fn pull_request(&self, action: &str, pull: &PullRequest) -> Value {
        let tick = {
            let mut inner = self.inner();
            inner.ticks += 1;
            inner.ticks
        };
        let head_id = if pull.from_fork { 99 } else { 4711 };
        json!({
            "action": action,
            "number": pull.number,
            "pull_request": {
                "number": pull.number,
                "title": "Greet people",
                "draft": false,
                "updated_at": format!("2026-01-02T03:{:02}:{:02}Z", tick / 60, tick % 60),
                "user": {"id": 7, "login": "bo"},
                "head": {
                    "ref": "topic",
                    "sha": pull.head,
                    "repo": {"id": head_id, "full_name": if pull.from_fork { "bo/app" } else { "team/app" }},
                },
                "base": {"ref": "main", "sha": pull.head, "repo": {"id": 4711, "full_name": "team/app"}},
            },
            "repository": of_repository(),
            "sender": {"id": 7, "login": "bo"},
        })
    }
}

/// What a payload says of the repository.
fn of_repository() -> Value {
    json!({"id": 4711, "full_name": "team/app", "updated_at": "2026-01-02T03:04:05Z"})
}

/// Signs a body as GitHub does.
pub fn sign(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
    let hex: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// Judges what every call must have; answers in GitHub's place where a test asked for that.
fn enter(inner: &mut Inner, headers: &HeaderMap, what: &str) -> Result<(), Box<Response>> {
    let text =
        |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if text("authorization") != format!("Bearer {TOKEN}") {
        inner.faults.push(format!("{what}: without the token"));
        return Err(Box::new(refuse(StatusCode::UNAUTHORIZED, "Bad credentials")));
    }
    if text("user-agent").is_empty()
        || text("accept") != "application/vnd.github+json"
        || text("x-github-api-version") != "2022-11-28"
    {
        inner.faults.push(format!("{what}: user agent, accept or version is missing"));
        return Err(Box::new(refuse(
            StatusCode::FORBIDDEN,
            "Request forbidden by administrative rules",
        )));
    }
    if inner.quiet_until.is_some_and(|until| clock::monotonic() < until) {
        inner.faults.push(format!("{what}: called while asked to wait"));
        return Err(Box::new(refuse(StatusCode::FORBIDDEN, "You have been banned")));
    }
    if inner.answers.is_empty() {
        return Ok(());
    }
    let (status, retry_after) = inner.answers.remove(0);
    let mut response = refuse(StatusCode::from_u16(status).unwrap(), "as the test asked");
    if let Some(seconds) = retry_after {
        inner.quiet_until = Some(clock::monotonic() + Duration::from_secs(seconds));
        response.headers_mut().insert("retry-after", seconds.into());
    }
    Err(Box::new(response))
}

fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({ "message": message }))).into_response()
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses every call that GitHub's own description of its API does not have.
async fn as_described(
    State(inner): Shared,
    request: axum::extract::Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, 1 << 20).await else {
        return refuse(StatusCode::BAD_REQUEST, "the body broke off");
    };
    if let Some(description) = description() {
        let (method, path) = (parts.method.as_str(), parts.uri.path());
        let query = parts.uri.query().unwrap_or_default();
        if let Err((status, wrong)) = description.judge(method, path, query, &body) {
            lock(&inner).faults.push(format!("{method} {path}: {wrong}"));
            return refuse(StatusCode::from_u16(status).unwrap(), &wrong);
        }
    }
    next.run(axum::extract::Request::from_parts(parts, body.into())).await
}

async fn repository(
    State(inner): Shared,
    UrlPath((owner, name)): UrlPath<(String, String)>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = enter(&mut lock(&inner), &headers, "GET repository") {
        return *refused;
    }
    if (owner.as_str(), name.as_str()) != ("team", "app") {
        return refuse(StatusCode::NOT_FOUND, "Not Found");
    }
    Json(json!({"id": 4711, "full_name": "team/app", "default_branch": "main"})).into_response()
}

async fn branch(
    State(inner): Shared,
    UrlPath((_, _, branch)): UrlPath<(String, String, String)>,
    headers: HeaderMap,
) -> Response {
    let mut inner = lock(&inner);
    if let Err(refused) = enter(&mut inner, &headers, "GET branch") {
        return *refused;
    }
    let contexts = &inner.required.0;
    let protection = json!({
        "enabled": !contexts.is_empty(),
        "required_status_checks": {"enforcement_level": "everyone", "contexts": contexts, "checks": []},
    });
    Json(json!({"name": branch, "protected": !contexts.is_empty(), "protection": protection}))
        .into_response()
}

async fn rules(State(inner): Shared, headers: HeaderMap) -> Response {
    let mut inner = lock(&inner);
    if let Err(refused) = enter(&mut inner, &headers, "GET rules") {
        return *refused;
    }
    let checks: Vec<Value> =
        inner.required.1.iter().map(|context| json!({ "context": context })).collect();
    let mut rules = vec![json!({"type": "deletion"})];
    if !checks.is_empty() {
        rules.push(json!({
            "type": "required_status_checks",
            "parameters": {"required_status_checks": checks, "strict_required_status_checks_policy": false},
        }));
    }
    Json(rules).into_response()
}

async fn hooks(State(inner): Shared, headers: HeaderMap) -> Response {
    let mut inner = lock(&inner);
    if let Err(refused) = enter(&mut inner, &headers, "GET hooks") {
        return *refused;
    }
    match &inner.hooks {
        Some(hooks) => Json(hooks.clone()).into_response(),
        None => refuse(StatusCode::NOT_FOUND, "Not Found"),
    }
}

async fn set_status(
    State(inner): Shared,
    UrlPath((_, _, sha)): UrlPath<(String, String, String)>,
    headers: HeaderMap,
    body: Option<Json<Value>>,
) -> Response {
    let mut inner = lock(&inner);
    if let Err(refused) = enter(&mut inner, &headers, "POST status") {
        return *refused;
    }
    let Json(body) = body.unwrap_or_default();
    let text = |key: &str| body[key].as_str().map(str::to_owned);
    let status = Status {
        sha,
        context: text("context").unwrap_or_else(|| "default".to_owned()),
        state: text("state").unwrap_or_default(),
        description: text("description").unwrap_or_default(),
    };
    let same = |other: &&Status| {
        other.sha == status.sha && other.context.eq_ignore_ascii_case(&status.context)
    };
    let wrong = if !matches!(status.state.as_str(), "error" | "failure" | "pending" | "success") {
        Some("state is none of error, failure, pending, success")
    } else if status.description.chars().count() > 140 {
        Some("description is too long (maximum is 140 characters)")
    } else if status.sha.len() != 40 {
        Some("No commit found for SHA")
    } else if text("target_url").is_none_or(|url| !url.starts_with("http")) {
        Some("target_url must use http(s)")
    } else if inner.statuses.iter().filter(same).count() >= MAX_STATUSES {
        Some("This SHA and context has reached the maximum number of statuses")
    } else {
        None
    };
    if let Some(wrong) = wrong {
        inner.faults.push(format!("POST status: {wrong}"));
        return refuse(StatusCode::UNPROCESSABLE_ENTITY, wrong);
    }
    inner.statuses.push(status);
    (StatusCode::CREATED, Json(body)).into_response()
}

async fn unknown(State(inner): Shared, request: axum::extract::Request) -> Response {
    let what = format!("{} {} is not known here", request.method(), request.uri().path());
    lock(&inner).faults.push(what);
    refuse(StatusCode::NOT_FOUND, "Not Found")
}
