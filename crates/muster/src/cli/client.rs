//! Talking to a server: the address and the token come from the environment, never from arguments.

use anyhow::{Context as _, bail};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

/// How many rows are asked for at once.
const PAGE: usize = 500;

/// Where the server is.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArguments {
    /// The server's address.
    #[arg(long, env = "MUSTER_URL", value_name = "URL", default_value = "http://127.0.0.1:4567")]
    url: String,
}

/// A connection to a server's API.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// Makes a client of HTTP 1.1: in HTTP 2, which a proxy in front of a server may offer, no connection is upgraded.
fn http(builder: reqwest::ClientBuilder) -> anyhow::Result<reqwest::Client> {
    builder.http1_only().build().context("cannot make an HTTP client")
}

impl Client {
    pub(crate) fn new(arguments: &ServerArguments) -> anyhow::Result<Self> {
        let http = http(reqwest::Client::builder())?;
        let url = arguments.url.trim_end_matches('/').to_owned();
        Ok(Self { http, url, token: std::env::var("MUSTER_TOKEN").ok() })
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.send(Method::GET, path, None).await?.json().await?)
    }

    /// Returns the newest rows of the list at `/api/v1/LIST`, the newest first, page by page.
    pub(crate) async fn newest(&self, list: &str, limit: usize) -> anyhow::Result<Vec<Value>> {
        self.newest_of(list, limit, &[]).await
    }

    /// As [`Self::newest`], of those rows alone that have these values.
    pub(crate) async fn newest_of(
        &self,
        list: &str,
        limit: usize,
        of: &[(&str, Option<&str>)],
    ) -> anyhow::Result<Vec<Value>> {
        let mut filter = form_urlencoded::Serializer::new(String::new());
        for (name, value) in of.iter().filter_map(|(name, value)| Some((name, (*value)?))) {
            filter.append_pair(name, value);
        }
        let filter = filter.finish();
        let mut rows: Vec<Value> = Vec::new();
        let mut before = i64::MAX;
        while rows.len() < limit {
            let wanted = (limit - rows.len()).min(PAGE);
            let path = format!("/api/v1/{list}?limit={wanted}&before={before}&{filter}");
            let mut answer = self.get(&path).await?;
            let Value::Array(mut page) = answer[list].take() else {
                bail!("the server's answer has no list of {list}");
            };
            page.sort_by_key(|row| std::cmp::Reverse(row["id"].as_i64()));
            let Some(oldest) = page.last() else { break };
            before = oldest["id"].as_i64().context("a row has no id")?;
            rows.append(&mut page);
        }
        Ok(rows)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(self.send(Method::POST, path, Some(body)).await?.json().await?)
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(Method::DELETE, path, None).await.map(drop)
    }

    /// Makes a connection to the server at `url` on this machine, as its administrator.
    pub(crate) fn at(url: String, token: String) -> anyhow::Result<Self> {
        let http = http(reqwest::Client::builder().no_proxy())?;
        Ok(Self { http, url, token: Some(token) })
    }

    /// Sends a request that makes the connection another one.
    pub(crate) async fn upgrade(
        &self,
        method: Method,
        path: &str,
        protocol: &str,
    ) -> anyhow::Result<reqwest::Upgraded> {
        let upgrade = |request: RequestBuilder| {
            request.header("connection", "upgrade").header("upgrade", protocol)
        };
        let answer = self.send_with(method, path, upgrade).await?;
        answer
            .upgrade()
            .await
            .context("the server, or what stands before it, does not upgrade the connection")
    }

    /// Sends a request; an answer other than 2xx is an error with the server's own words.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let with_body = |request: RequestBuilder| match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.send_with(method, path, with_body).await
    }

    async fn send_with(
        &self,
        method: Method,
        path: &str,
        more: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Response> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let answer = more(request).send().await.with_context(|| {
            format!("no muster server answers at {} (MUSTER_URL or --url says where)", self.url)
        })?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let message = answer.json::<Value>().await.ok();
        let message = message.as_ref().and_then(|json| json["message"].as_str());
        match (status.as_u16(), message) {
            (401, _) => bail!("the server wants the admin token: set MUSTER_TOKEN"),
            (_, Some(message)) => bail!("{message}"),
            (_, None) => bail!("the server answered {status}"),
        }
    }
}
