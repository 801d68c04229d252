//! A narrow client of GitHub's REST API: only what muster calls, with narrow structs.
//!
//! It retries nothing by itself. What GitHub says of its limits is returned with each answer, and
//! the caller, who writes it down, waits.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// The version of the API that is spoken.
const API_VERSION: &str = "2022-11-28";
/// A request that takes longer is given up.
const TIMEOUT: Duration = Duration::from_secs(30);
/// No limit of GitHub lasts longer, whatever an answer says.
const MAX_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// GitHub's advice where a secondary limit names no time.
const UNNAMED_WAIT: Duration = Duration::from_secs(60);

/// A client with a token.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    api_url: String,
    token: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("api_url", &self.api_url).finish_non_exhaustive()
    }
}

/// What GitHub says of its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests left in this window.
    pub remaining: Option<u64>,
    /// When the window ends, in seconds since 1970.
    pub resets_at: Option<i64>,
}

/// A repository, as GitHub has it.
#[derive(Debug, Clone, Deserialize)]
pub struct Repository {
    /// Its number, which it keeps when it is renamed.
    pub id: i64,
    /// `owner/name`.
    pub full_name: String,
    /// Its default branch.
    pub default_branch: String,
}

/// A webhook of a repository.
#[derive(Debug, Clone, Deserialize)]
pub struct Webhook {
    /// Whether it is sent at all.
    pub active: bool,
    /// Which events it is sent for; `*` is all.
    pub events: Vec<String>,
    /// Where it leads.
    pub config: WebhookConfig,
    /// What the last one was answered.
    pub last_response: LastResponse,
}

/// Where a webhook leads.
#[derive(Debug, Clone, Deserialize)]
pub struct WebhookConfig {
    /// The address.
    #[serde(default)]
    pub url: String,
}

/// What the last webhook was answered.
#[derive(Debug, Clone, Deserialize)]
pub struct LastResponse {
    /// The answer's status; none before the first.
    pub code: Option<u16>,
    /// GitHub's words on it.
    pub message: Option<String>,
}

/// A commit status to be set.
#[derive(Debug, Clone, Serialize)]
pub struct StatusUpdate {
    /// `error`, `failure`, `pending` or `success`.
    pub state: String,
    /// Where the link leads.
    pub target_url: String,
    /// At most 140 characters.
    pub description: String,
    /// The name.
    pub context: String,
}

/// Why a call was not done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// GitHub could not be reached, or broke off.
    #[error("{0}")]
    Unreachable(reqwest::Error),
    /// A limit is reached: nothing may be sent for so long.
    #[error("GitHub asks to wait {} s", wait.as_secs())]
    Limited {
        /// How long.
        wait: Duration,
    },
    /// It will never be done: the token may not, the thing is not there, the request is wrong.
    #[error("GitHub refuses ({status}): {message}")]
    Refused {
        /// The answer's status.
        status: u16,
        /// GitHub's own words.
        message: String,
    },
    /// GitHub failed; it may work later.
    #[error("GitHub failed ({status})")]
    Failed {
        /// The answer's status.
        status: u16,
    },
}

impl ClientError {
    /// Returns true when the same call may be done later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Limited { .. } | Self::Failed { .. } => true,
            Self::Refused { status, .. } => *status == 401,
        }
    }
}

impl Client {
    /// Makes a client of the API at `api_url`, such as `https://api.github.com`.
    ///
    /// # Errors
    ///
    /// When the system's TLS set-up cannot be used.
    pub fn new(api_url: &str, token: String) -> Result<Self, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("application/vnd.github+json"));
        headers.insert("x-github-api-version", HeaderValue::from_static(API_VERSION));
        let http = reqwest::Client::builder()
            .user_agent(concat!("muster/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .timeout(TIMEOUT)
            // A write that is sent elsewhere is not the write that was meant.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(ClientError::Unreachable)?;
        Ok(Self { http, api_url: api_url.trim_end_matches('/').to_owned(), token })
    }

    /// Looks a repository up by its name.
    ///
    /// # Errors
    ///
    /// When it is not there for this token, or GitHub does not answer.
    pub async fn repository(&self, name: &str, now_s: i64) -> Result<Repository, ClientError> {
        self.get(&format!("/repos/{name}"), now_s).await
    }

    /// Returns the contexts that a branch requires before something is merged into it, by branch
    /// protection or by rulesets.
    ///
    /// # Errors
    ///
    /// When the branch is not there for this token, or GitHub does not answer.
    pub async fn required_contexts(
        &self,
        name: &str,
        branch: &str,
        now_s: i64,
    ) -> Result<Vec<String>, ClientError> {
        let branch = segment(branch);
        let path = format!("/repos/{name}/branches/{branch}");
        let protected: Json = self.get(&path, now_s).await?;
        let path = format!("/repos/{name}/rules/branches/{branch}?per_page=100");
        let rules: Json = self.get(&path, now_s).await?;
        let classic = protected.pointer("/protection/required_status_checks/contexts");
        let classic = classic.and_then(Json::as_array).into_iter().flatten();
        let checks = rules.as_array().into_iter().flatten().filter_map(|rule| {
            rule.pointer("/parameters/required_status_checks").and_then(Json::as_array)
        });
        let checks = checks.flatten().map(|check| &check["context"]);
        let mut contexts: Vec<String> =
            classic.chain(checks).filter_map(|name| name.as_str().map(str::to_owned)).collect();
        contexts.sort();
        contexts.dedup();
        Ok(contexts)
    }

    /// Returns the first hundred webhooks of a repository.
    ///
    /// # Errors
    ///
    /// When the token may not see them (it needs `admin:repo_hook`), or GitHub does not answer.
    pub async fn webhooks(&self, name: &str, now_s: i64) -> Result<Vec<Webhook>, ClientError> {
        self.get(&format!("/repos/{name}/hooks?per_page=100"), now_s).await
    }

    async fn get<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        now_s: i64,
    ) -> Result<T, ClientError> {
        let (answer, _) = self.send(Method::GET, path, None, now_s).await?;
        answer.json().await.map_err(ClientError::Unreachable)
    }

    /// Sets a status of a commit.
    ///
    /// # Errors
    ///
    /// When GitHub refuses it, limits us or does not answer.
    pub async fn set_status(
        &self,
        name: &str,
        sha: &str,
        status: &StatusUpdate,
        now_s: i64,
    ) -> Result<Limits, ClientError> {
        let body = serde_json::to_value(status).unwrap_or_default();
        let path = format!("/repos/{name}/statuses/{sha}");
        let (_, limits) = self.send(Method::POST, &path, Some(&body), now_s).await?;
        Ok(limits)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
        now_s: i64,
    ) -> Result<(Response, Limits), ClientError> {
        let mut request = self.http.request(method, format!("{}{path}", self.api_url));
        request = request.bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        // An error of reqwest names the address, which holds no secret.
        let answer = request.send().await.map_err(ClientError::Unreachable)?;
        let limits = limits(answer.headers());
        let status = answer.status();
        if status.is_success() {
            return Ok((answer, limits));
        }
        if let Some(wait) = wait(status, answer.headers(), limits, now_s) {
            return Err(ClientError::Limited { wait });
        }
        if status.is_server_error() {
            return Err(ClientError::Failed { status: status.as_u16() });
        }
        let message = answer.json::<Json>().await.unwrap_or_default();
        let message = message["message"].as_str().unwrap_or("without a word").to_owned();
        // GitHub says some secondary limits only in words.
        if status == StatusCode::FORBIDDEN && message.contains("rate limit") {
            return Err(ClientError::Limited { wait: UNNAMED_WAIT });
        }
        Err(ClientError::Refused { status: status.as_u16(), message })
    }
}

/// Writes a name as one segment of a path.
fn segment(name: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(byte).collect()
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> Option<T> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn limits(headers: &HeaderMap) -> Limits {
    Limits {
        remaining: number(headers, "x-ratelimit-remaining"),
        resets_at: number(headers, "x-ratelimit-reset"),
    }
}

/// Returns how long GitHub asks us to wait, when the answer is a limit: `Retry-After`, else the end
/// of the window when nothing is left in it.
fn wait(status: StatusCode, headers: &HeaderMap, limits: Limits, now_s: i64) -> Option<Duration> {
    if !matches!(
        status,
        StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        return None;
    }
    if let Some(seconds) = number(headers, "retry-after") {
        return Some(Duration::from_secs(seconds).min(MAX_LIMIT));
    }
    if limits.remaining == Some(0) {
        let seconds = limits.resets_at.map_or(60, |at| (at - now_s).max(1));
        return Some(Duration::from_secs(seconds.unsigned_abs()).min(MAX_LIMIT));
    }
    if status == StatusCode::TOO_MANY_REQUESTS { Some(UNNAMED_WAIT) } else { None }
}
