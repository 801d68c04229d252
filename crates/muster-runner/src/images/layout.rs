//! Image layouts of the Open Container Initiative: an index, a manifest, a configuration, and layers
//! (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use muster_sys::unpack::{Entries, unpack};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::{hex, plain};
use crate::engine::variables;

/// The file that says that a folder is a layout.
const MARK: &str = "oci-layout";
/// What describes others has no more bytes; as at registries.
const MAX_DESCRIPTION: u64 = 4 << 20;
/// Indexes lead to indexes no deeper.
const MAX_DEPTH: usize = 4;

/// A layout, of which one image is meant: that for this machine.
#[derive(Debug)]
pub(super) struct Layout {
    folder: PathBuf,
    manifest: Manifest,
    config: Config,
    digest: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(rename = "mediaType", default)]
    media_type: String,
    platform: Option<Platform>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Config {
    #[serde(default)]
    config: Run,
}

#[derive(Debug, Default, Deserialize)]
struct Run {
    #[serde(rename = "Env", default)]
    env: Option<Vec<String>>,
}

impl Layout {
    /// Returns whether a folder is one.
    pub(super) fn is_at(folder: &Path) -> bool {
        folder.join(MARK).is_file()
    }

    /// Reads one, and finds the image for this machine.
    ///
    /// # Errors
    ///
    /// A sentence, where it is not as it says, or has none or several that could be meant.
    pub(super) fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join("index.json");
        let index = File::open(&path).map_err(|error| format!("index.json: {error}"))?;
        let mut index: Index = parse("index.json", index)?;
        for _ in 0..MAX_DEPTH {
            let meant = choose(&index)?;
            if meant.media_type.contains("index") || meant.media_type.contains("manifest.list") {
                index = described(folder, &meant.digest)?;
                continue;
            }
            let manifest: Manifest = described(folder, &meant.digest)?;
            let config = described(folder, &manifest.config.digest)?;
            let digest = meant.digest.clone();
            return Ok(Self { folder: folder.to_owned(), manifest, config, digest });
        }
        Err("its indexes lead to each other".to_owned())
    }

    /// Returns what is the same for the same image.
    pub(super) fn id(&self) -> String {
        self.digest.rsplit(':').next().unwrap_or_default().to_owned()
    }

    /// Returns the variables of its programs.
    pub(super) fn env(&self) -> Vec<(String, String)> {
        variables(self.config.config.env.clone().unwrap_or_default())
    }

    /// Unpacks its layers over each other; `open` has a look at what is read of each.
    ///
    /// # Errors
    ///
    /// A sentence, where one is not what it is said to be or cannot be unpacked.
    pub(super) fn unpack<R: Read>(
        &self,
        root: &Path,
        open: impl Fn(File) -> io::Result<R>,
    ) -> Result<(), String> {
        for layer in &self.manifest.layers {
            let digest = &layer.digest;
            let failed = |error: io::Error| format!("its layer {digest}: {error}");
            let path = blob(&self.folder, digest)?;
            let file = File::open(path).and_then(&open).map_err(failed)?;
            let mut checked = Checked { inner: file, hash: Sha256::new() };
            let packed = plain(&mut checked).map_err(failed)?;
            unpack(packed, root, Entries::Layer).map_err(failed)?;
            // What comes after the archive belongs to it too.
            io::copy(&mut checked, &mut io::sink()).map_err(failed)?;
            if format!("sha256:{}", hex(&checked.hash.finalize())) != *digest {
                return Err(format!("its layer {digest} is not what that says"));
            }
        }
        Ok(())
    }
}

/// Chooses what is for this machine.
fn choose(index: &Index) -> Result<&Descriptor, String> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let ours = Platform { architecture: architecture.to_owned(), os: "linux".to_owned() };
    let is_ours = |of: &&Descriptor| of.platform.as_ref().is_none_or(|platform| *platform == ours);
    match *index.manifests.iter().filter(is_ours).collect::<Vec<_>>() {
        [one] => Ok(one),
        [] => Err(format!("it has no image for linux on {architecture}")),
        [..] => Err("it has several images: keep one".to_owned()),
    }
}

/// Returns the path of a blob.
fn blob(folder: &Path, digest: &str) -> Result<PathBuf, String> {
    let (algorithm, name) = digest.split_once(':').unwrap_or_default();
    if algorithm != "sha256" || name.len() != 64 || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!("`{digest}` is no digest by SHA-256"));
    }
    Ok(folder.join("blobs/sha256").join(name))
}

/// Reads a blob that describes others.
fn described<T: DeserializeOwned>(folder: &Path, digest: &str) -> Result<T, String> {
    let file = File::open(blob(folder, digest)?).map_err(|error| format!("{digest}: {error}"))?;
    let mut checked = Checked { inner: file, hash: Sha256::new() };
    let parsed = parse(digest, &mut checked)?;
    if format!("sha256:{}", hex(&checked.hash.finalize())) != digest {
        return Err(format!("{digest} is not what that says"));
    }
    Ok(parsed)
}

fn parse<T: DeserializeOwned>(name: &str, file: impl Read) -> Result<T, String> {
    let mut bytes = Vec::new();
    let read = file.take(MAX_DESCRIPTION).read_to_end(&mut bytes);
    read.map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{name}: {error}"))
}

/// Knows the digest of what was read.
struct Checked<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}
