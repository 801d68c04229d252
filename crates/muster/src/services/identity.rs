//! Identity tokens: a job shows one to a cloud, which asks the issuer's keys whether it is real
//! ([OpenID Connect](https://openid.net/specs/openid-connect-discovery-1_0.html)).

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use muster_sys::clock;
use muster_sys::process::Program;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use super::Services;
use super::error::Refusal;

/// How long a token is good for, and how far before its making: clocks differ. As at GitHub.
const LASTS_S: i64 = 300;
const BEFORE_S: i64 = 600;
/// The longest name of whom a token is for, in bytes.
const MAX_AUDIENCE: usize = 1024;
const KEYGEN_LIMIT: Duration = Duration::from_secs(60);

/// Who vouches for jobs.
#[derive(Debug)]
pub(crate) struct Issuer {
    /// Its address, without a slash at the end.
    url: String,
    /// The file of its key, which is made when it is first needed.
    file: PathBuf,
    key: OnceCell<Signer>,
}

struct Signer {
    pair: RsaKeyPair,
    id: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.id)
    }
}

impl Issuer {
    /// Names an issuer by its address; its key is kept in a file.
    pub(crate) fn new(url: &str, file: PathBuf) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), file, key: OnceCell::new() }
    }

    async fn signer(&self) -> anyhow::Result<&Signer> {
        let load = || async {
            let file = self.file.clone();
            tokio::task::spawn_blocking(move || Signer::kept(&file)).await?
        };
        self.key.get_or_try_init(load).await
    }

    /// Says what the issuer is, in the form that [clouds](https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata)
    /// ask for.
    pub(crate) fn discovery(&self) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}/.well-known/jwks", self.url),
            "subject_types_supported": ["public"],
            "response_types_supported": ["id_token"],
            "claims_supported": [
                "sub", "aud", "exp", "iat", "iss", "jti", "nbf", "ref", "sha", "repository", "repository_id",
                "repository_owner", "repository_owner_id", "repository_visibility", "run_id", "run_number",
                "run_attempt", "actor", "actor_id", "workflow", "workflow_ref", "workflow_sha", "head_ref",
                "base_ref", "event_name", "ref_type", "ref_protected", "environment", "job_workflow_ref",
                "runner_environment", "muster_trust",
            ],
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid"],
        })
    }

    /// Returns the keys that its tokens are signed with.
    ///
    /// # Errors
    ///
    /// When the key cannot be made or read.
    pub(crate) async fn keys(&self) -> anyhow::Result<Value> {
        // Anybody may ask, and makes nothing by that.
        if !self.file.exists() {
            return Ok(json!({ "keys": [] }));
        }
        let Signer { pair, id } = self.signer().await?;
        let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Ok(json!({
            "keys": [{
                "kty": "RSA", "alg": "RS256", "use": "sig", "kid": id,
                "n": encode(&public.n), "e": encode(&public.e),
            }],
        }))
    }

    async fn token(
        &self,
        mut claims: Map<String, Value>,
        audience: &str,
    ) -> anyhow::Result<String> {
        let Signer { pair, id } = self.signer().await?;
        let now = clock::now_ms() / 1_000;
        for (name, value) in [
            ("jti", json!(uuid::Uuid::new_v4().to_string())),
            ("iss", json!(self.url)),
            ("aud", json!(audience)),
            ("iat", json!(now)),
            ("nbf", json!(now - BEFORE_S)),
            ("exp", json!(now + LASTS_S)),
        ] {
            claims.insert(name.to_owned(), value);
        }
        let encode = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": id});
        let said = format!("{}.{}", encode(header), encode(claims.into()));
        let mut signature = vec![0; pair.public().modulus_len()];
        let signed =
            pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), said.as_bytes(), &mut signature);
        signed.ok().context("the token cannot be signed")?;
        Ok(format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl Signer {
    /// Reads the key of a file, which is made where there is none.
    fn kept(file: &Path) -> anyhow::Result<Self> {
        if !file.exists() {
            make(file).context("cannot make the key of identity tokens")?;
        }
        let at = || format!("the key of identity tokens, {}", file.display());
        let text = fs::read_to_string(file).with_context(at)?;
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(body).ok();
        let pair = der.and_then(|der| RsaKeyPair::from_pkcs8(&der).ok());
        let pair = pair.with_context(|| format!("{} is no RSA key in PKCS #8", at()))?;
        let id = Sha256::digest(pair.public().as_ref());
        Ok(Self { id: URL_SAFE_NO_PAD.encode(&id[..16]), pair })
    }
}

/// Makes a key: ring makes none of this kind, which alone all clouds take.
fn make(file: &Path) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(file.parent().unwrap_or(Path::new(".")))?;
    let new = folder.path().join("key");
    let made = Program::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "", "-C", "", "-f"])
        .arg(&new)
        .output(KEYGEN_LIMIT, 1 << 16)
        .context("ssh-keygen (`apt-get install openssh-client`)")?;
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    anyhow::ensure!(made.status.success(), "ssh-keygen: {}", said.trim());
    fs::File::open(&new)?.sync_all()?;
    match fs::hard_link(&new, file) {
        // Somebody else has made it meanwhile.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => Ok(other?),
    }
}

/// For whom a token is to be.
#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    audience: Option<String>,
}

/// `GET /identity/token?audience=WHOM`
pub(super) async fn token(
    State(services): State<Arc<Services>>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let (bearer, _under_way) = services.bearer(&headers).await?;
    let claims = bearer.identity.ok_or_else(|| {
        Refusal::forbidden(
            "the job has no `permissions: {id-token: write}`, or its run is not trusted so far",
        )
    })?;
    let own = || {
        let owner = claims.get("repository_owner").and_then(Value::as_str).unwrap_or_default();
        format!("{}/{owner}", services.issuer.url)
    };
    let audience = asked.audience.filter(|whom| !whom.is_empty()).unwrap_or_else(own);
    if audience.len() > MAX_AUDIENCE {
        return Err(Refusal::invalid(format!("an audience has at most {MAX_AUDIENCE} bytes")));
    }
    let value = services.issuer.token(claims, &audience).await?;
    Ok(Json(json!({ "count": value.len(), "value": value })))
}

/// `GET /.well-known/openid-configuration`
pub(super) async fn discovery(State(services): State<Arc<Services>>) -> Json<Value> {
    Json(services.issuer.discovery())
}

/// `GET /.well-known/jwks`
pub(super) async fn keys(State(services): State<Arc<Services>>) -> Result<Json<Value>, Refusal> {
    Ok(Json(services.issuer.keys().await?))
}
