//! Storage that is no folder of this machine: a bucket of S3, or of what speaks like it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::path::Path as Place;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use serde::Deserialize;

use crate::env_file;

/// Of S3, where nobody says another; what speaks like it mostly takes any.
const REGION: &str = "us-east-1";
/// What opens a bucket, by the names that Amazon's own clients have for it.
const NAMES: [(&str, AmazonS3ConfigKey); 3] = [
    ("AWS_ACCESS_KEY_ID", AmazonS3ConfigKey::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", AmazonS3ConfigKey::SecretAccessKey),
    ("AWS_SESSION_TOKEN", AmazonS3ConfigKey::Token),
];
/// What is put there to see whether that works.
const TRIAL: &str = "muster-doctor";

/// Where artifacts and caches are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StorageConfig {
    /// `s3://BUCKET`, or with `/PREFIX` a part of one.
    pub(crate) url: String,
    /// The address of what speaks like S3; without it Amazon's.
    #[serde(default)]
    pub(crate) endpoint: Option<String>,
    /// The region of the bucket.
    #[serde(default)]
    pub(crate) region: Option<String>,
    /// A file with what opens it, as the variables of Amazon's clients; without it these variables themselves, else what the
    /// machine is given where it runs at Amazon's.
    #[serde(default)]
    pub(crate) credentials_file: Option<PathBuf>,
}

impl StorageConfig {
    /// Opens the bucket.
    ///
    /// # Errors
    ///
    /// When the configuration names none, or no credentials can be read; whether it is there is not asked.
    pub(crate) fn open(&self) -> anyhow::Result<Arc<dyn ObjectStore>> {
        let rest = self.url.strip_prefix("s3://");
        let rest =
            rest.with_context(|| format!("[storage] url: `{}` is no s3://BUCKET", self.url))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            bail!("[storage] url: `{}` names no bucket", self.url);
        }
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_region(self.region.as_deref().unwrap_or(REGION))
            // Of two that describe the same thing one comes too late.
            .with_conditional_put(S3ConditionalPut::ETagMatch);
        if let Some(endpoint) = &self.endpoint {
            builder =
                builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        for (key, value) in self.credentials()? {
            builder = builder.with_config(key, value);
        }
        let store = builder.build().context("[storage]")?;
        Ok(match prefix.trim_matches('/') {
            "" => Arc::new(store),
            prefix => Arc::new(PrefixStore::new(store, Place::from(prefix))),
        })
    }

    fn credentials(&self) -> anyhow::Result<Vec<(AmazonS3ConfigKey, String)>> {
        let key =
            |name: &str| NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, key)| key);
        let Some(file) = &self.credentials_file else {
            let given =
                NAMES.into_iter().filter_map(|(name, key)| Some((key, std::env::var(name).ok()?)));
            return Ok(given.collect());
        };
        let mut given = Vec::new();
        let text = std::fs::read(file);
        let text =
            text.with_context(|| format!("[storage] credentials_file: {}", file.display()))?;
        env_file::read(file, text, |name, value| {
            let names = NAMES.map(|(name, _)| name).join(", ");
            let key = key(name).ok_or_else(|| format!("`{name}` is none of {names}"))?;
            given.push((key, value));
            Ok(())
        })?;
        Ok(given)
    }

    /// Puts something there, reads it, and takes it away again.
    ///
    /// # Errors
    ///
    /// What of that does not work.
    pub(crate) async fn try_out(&self) -> anyhow::Result<()> {
        let store = self.open()?;
        let place = Place::from(TRIAL);
        let put = || PutPayload::from_static(b"muster");
        store.put(&place, put()).await.context("nothing can be put there")?;
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match store.put_opts(&place, put(), create).await {
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Ok(_) => bail!(
                "it does not refuse what is there already (`If-None-Match`), which muster relies on"
            ),
            Err(error) => return Err(error).context("it does not know `If-None-Match`"),
        }
        let back = store.get(&place).await.context("nothing can be read there")?.bytes().await?;
        if back != "muster" {
            bail!("what was put there is not what is read");
        }
        store.delete(&place).await.context("nothing can be removed there")
    }

    /// Finds its file from a folder on.
    pub(crate) fn resolve(&mut self, folder: &Path) {
        if let Some(file) = &mut self.credentials_file {
            *file = folder.join(&file);
        }
    }
}
