//! The secrets that `muster run` is given.

use std::path::Path;

use anyhow::{Context as _, bail};
use muster_runner::spec::Secrets;

use super::super::read_file;
use crate::env_file;
use crate::secrets::name_of;

/// The most bytes of all secrets together.
const MOST_BYTES: usize = 1 << 20;

/// Gathers secrets: of a file first, then those that are named one by one.
///
/// # Errors
///
/// When a name is none, a value is nowhere, or the file cannot be read.
pub(super) fn gather(named: &[String], file: Option<&Path>) -> anyhow::Result<Secrets> {
    let mut all: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: String| -> Result<(), String> {
        let name = name_of(name)?;
        all.retain(|(known, _)| *known != name);
        all.push((name, value));
        Ok(())
    };
    if let Some(path) = file {
        env_file::read(path, read_file(path, env_file::MOST_BYTES)?, &mut add)?;
    }
    for named in named {
        match named.split_once('=') {
            Some((name, value)) => add(name, value.to_owned()).map_err(anyhow::Error::msg)?,
            None => {
                let value = std::env::var(named).ok().with_context(|| {
                    format!(
                        "secret `{named}` has no value: set the variable {named}, or write it in a file for \
                         `--secret-file`"
                    )
                })?;
                add(named, value).map_err(anyhow::Error::msg)?;
            }
        }
    }
    let bytes: usize = all.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MOST_BYTES {
        bail!("the secrets have more than {MOST_BYTES} bytes");
    }
    Ok(Secrets(all))
}
