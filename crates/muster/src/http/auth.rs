//! Who may do what: the admin token, as a bearer token or in a cookie.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::caller::Caller;
use super::error::Problem;
use crate::loops::Shared;
use crate::store::settings::ADMIN_TOKEN_HASH;
use crate::token;

const COOKIE: &str = "muster_token";
/// The longest answer that tells what went wrong, in bytes.
const MAX_SAID: usize = 64 * 1024;

/// How a request showed who it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credentials {
    Bearer,
    Cookie,
    None,
}

/// Lets a request through that may be done; refuses all others.
pub(super) async fn guard(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let public = shared.config.public_read;
    admit(&shared, &caller, public, request, next).await
}

/// As [`guard`], for what `public_read` does not open.
pub(super) async fn guard_from_readers(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    admit(&shared, &caller, false, request, next).await
}

async fn admit(
    shared: &Shared,
    caller: &Caller,
    public: bool,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let credentials = credentials(shared, request.headers()).await?;
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let public = reads && public;
    if credentials == Credentials::None && !public {
        let wants_page = !request.uri().path().starts_with("/api/");
        if wants_page && reads {
            return Ok(Redirect::to("/login").into_response());
        }
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "this needs the admin token"));
    }
    // A browser sends its cookie along from any page; it cannot lie about which page that was.
    if !reads
        && credentials != Credentials::Bearer
        && !same_origin(shared, caller, request.headers())
    {
        return Err(Problem::new(StatusCode::FORBIDDEN, "this came from a page of another site"));
    }
    let to_a_program = request.uri().path().starts_with("/api/");
    in_our_form(next.run(request).await, to_a_program).await
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    status: StatusCode,
    message: &'a str,
}

/// Gives what went wrong its form: JSON to a program, also what the framework says of a request that it
/// does not understand, and a page to a person.
async fn in_our_form(response: Response, to_a_program: bool) -> Result<Response, Problem> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return Ok(response);
    }
    let said = axum::body::to_bytes(response.into_body(), MAX_SAID).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let json: Option<serde_json::Value> = serde_json::from_str(&said).ok();
    let message = json.as_ref().and_then(|json| json["message"].as_str()).unwrap_or(&said);
    let message = if message.is_empty() { &*status.to_string() } else { message };
    if to_a_program {
        return Err(Problem::new(status, message));
    }
    Ok((status, Html(ProblemPage { status, message }.render()?)).into_response())
}

async fn credentials(shared: &Shared, headers: &HeaderMap) -> Result<Credentials, Problem> {
    let Some(hash) = shared.store.setting(ADMIN_TOKEN_HASH).await? else {
        return Ok(Credentials::None);
    };
    let bearer =
        text(headers, header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    if bearer.is_some_and(|given| token::matches(given, &hash)) {
        return Ok(Credentials::Bearer);
    }
    let cookies = text(headers, header::COOKIE).unwrap_or_default();
    let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    if pairs.any(|(name, value)| name == COOKIE && token::matches(value, &hash)) {
        return Ok(Credentials::Cookie);
    }
    Ok(Credentials::None)
}

fn same_origin(shared: &Shared, caller: &Caller, headers: &HeaderMap) -> bool {
    let Some(origin) = text(headers, header::ORIGIN) else { return false };
    origin == shared.config.public_url || Some(origin) == caller.origin.as_deref()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    refused: bool,
}

/// Asks for the token.
pub(super) async fn login_page() -> Result<Html<String>, Problem> {
    Ok(Html(LoginPage { refused: false }.render()?))
}

/// What the login form sends.
#[derive(Debug, Deserialize)]
pub(super) struct Login {
    token: String,
}

/// Takes the token and answers with the cookie.
pub(super) async fn login(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Form(login): Form<Login>,
) -> Result<Response, Problem> {
    let hash = shared.store.setting(ADMIN_TOKEN_HASH).await?;
    if !hash.is_some_and(|hash| token::matches(&login.token, &hash)) {
        tracing::warn!(client = %caller.address, "a login with a wrong token");
        let page = Html(LoginPage { refused: true }.render()?);
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    }
    let mut names =
        [Some(&*shared.config.public_url), caller.origin.as_deref()].into_iter().flatten();
    let secure = if names.any(|name| name.starts_with("https:")) { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age=2592000{secure}",
        login.token
    );
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response())
}
