//! What a job shows to use the services: a token for calls, and signed addresses for what is large.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value as Json, json};
use sha2::Sha256;

use super::Bearer;

/// A secret of the server: it signs what only the server could have said.
pub(crate) struct Key([u8; 32]);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// Makes one that ends with this process.
    pub(crate) fn fresh() -> Self {
        let mut key = [0; 32];
        for part in key.chunks_mut(16) {
            // Each id has 122 random bits.
            part.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        }
        Self(key)
    }

    /// Reads the one that is kept in a file, which is made where there is none.
    pub(crate) fn kept(path: &Path) -> io::Result<Self> {
        if let Ok(kept) = fs::read(path)
            && let Ok(key) = <[u8; 32]>::try_from(kept.as_slice())
        {
            return Ok(Self(key));
        }
        let key = Self::fresh();
        let new = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&key.0)?;
        file.sync_all()?;
        fs::rename(new, path)?;
        Ok(key)
    }

    /// Makes a token for a job: a [JSON Web Token](https://www.rfc-editor.org/rfc/rfc7519), in which GitHub's clients look
    /// for the ids of run and job, and `BuildKit` for the caches.
    pub(super) fn token(&self, bearer: &Bearer, now_ms: i64, lasts: Duration) -> String {
        let now = now_ms / 1_000;
        let scopes = bearer.caches.read.iter().map(|scope| {
            let permission = if *scope == bearer.caches.write { 3 } else { 1 };
            json!({ "Scope": scope, "Permission": permission })
        });
        let claims = json!({
            "iat": now,
            "exp": now.saturating_add(i64::try_from(lasts.as_secs()).unwrap_or(i64::MAX)),
            "scp": format!("Actions.Results:{}:{}", bearer.run, bearer.job),
            "ac": Json::from(scopes.collect::<Vec<_>>()).to_string(),
            "muster": bearer,
        });
        let encode = |json: Json| URL_SAFE_NO_PAD.encode(json.to_string());
        let said = format!("{}.{}", encode(json!({"alg": "HS256", "typ": "JWT"})), encode(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign("token", &said));
        format!("{said}.{signature}")
    }

    /// Returns for whom a token speaks, if it is one of ours and still good.
    pub(super) fn bearer(&self, token: &str, now_ms: i64) -> Option<Bearer> {
        let (said, signature) = token.rsplit_once('.')?;
        if !self.has_signed("token", said, signature) {
            return None;
        }
        let (_, claims) = said.split_once('.')?;
        let claims: Json = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        if claims["exp"].as_i64()? < now_ms / 1_000 {
            return None;
        }
        serde_json::from_value(claims["muster"].clone()).ok()
    }

    /// Signs an address to which something may be written, or which may be read.
    pub(super) fn signature(&self, kind: &str, what: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.sign(kind, what))
    }

    /// Returns whether a signature is one of ours.
    pub(super) fn has_signed(&self, kind: &str, what: &str, signature: &str) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        self.mac(kind, what).verify_slice(&signature).is_ok()
    }

    fn sign(&self, kind: &str, what: &str) -> Vec<u8> {
        self.mac(kind, what).finalize().into_bytes().to_vec()
    }

    fn mac(&self, kind: &str, what: &str) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length");
        // No kind has a colon: one cannot be taken for another.
        mac.update(kind.as_bytes());
        mac.update(b":");
        mac.update(what.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use muster_core::cache::Scopes;

    use super::*;

    #[test]
    fn a_token_is_good_as_it_is_and_for_its_time_alone() {
        let (key, other) = (Key::fresh(), Key::fresh());
        let bearer = Bearer {
            run: "r".into(),
            run_attempt: 1,
            job: "j".into(),
            attempt: 1,
            repository: "p".into(),
            caches: Scopes { write: "member:a".into(), read: vec!["member:a".into()] },
            guest: false,
            identity: None,
        };
        let token = key.token(&bearer, 5_000, Duration::from_secs(10));
        assert_eq!(key.bearer(&token, 5_000), Some(bearer.clone()));
        assert_eq!(key.bearer(&token, 15_999), Some(bearer));
        assert_eq!(key.bearer(&token, 16_000), None);
        assert_eq!(other.bearer(&token, 5_000), None);
        for place in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            // The last letter has bits that say nothing.
            assert!(place + 1 == token.len() || key.bearer(&changed, 5_000).is_none(), "{place}");
        }
        let signature = key.signature("upload", "1");
        assert!(key.has_signed("upload", "1", &signature));
        assert!(
            !key.has_signed("artifact", "1", &signature)
                && !key.has_signed("upload", "2", &signature)
        );
    }
}
