//! Secrets at rest, and what of them and of the variables a job gets.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use muster_core::secrets::{Entry, given, withheld};
use muster_core::trust::Trust;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use tempfile::NamedTempFile;

use crate::store::secrets::Stored;

/// The largest value, in bytes: [as at GitHub](https://docs.github.com/en/actions/reference/security/secrets#limits-for-secrets).
pub(crate) const MAX_VALUE: usize = 48 << 10;
/// The longest name, in bytes.
pub(crate) const MAX_NAME: usize = 255;
/// What a sealed value begins with: how it was sealed.
const FIRST_FORM: &str = "1.";
const KEY_LEN: usize = 32;
/// How much of its file is read, in bytes.
const MAX_KEY_FILE: u64 = 1024;

/// Seals secrets with a key that is in a file, never in the database.
#[derive(Debug, Clone)]
pub(crate) struct Vault {
    file: PathBuf,
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    /// There is no key.
    #[error(
        "the key of the secrets, {0}, is not there: put it back, or remove all secrets and set them again"
    )]
    NoKey(PathBuf),
    /// The file holds no key.
    #[error("{0} is no key of 32 bytes in base64")]
    BadKey(PathBuf),
    /// The file cannot be read or made.
    #[error("cannot use the key of the secrets, {0}: {1}")]
    Unusable(PathBuf, io::Error),
    /// It was sealed with another key, or changed.
    #[error(
        "it was not sealed with the key in {0}: put the one back that it was sealed with, or remove it"
    )]
    OtherKey(PathBuf),
    /// The machine has no random numbers.
    #[error("this machine has no random numbers")]
    Random,
}

impl Vault {
    /// Names the file of the key, which is made with the first secret.
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Returns the file of the key.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Returns whether there is a key.
    pub(crate) fn has_key(&self) -> bool {
        self.file.exists()
    }

    /// Makes the key, unless it is there.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn make_key(&self) -> Result<(), VaultError> {
        let mut key = [0; KEY_LEN];
        SystemRandom::new().fill(&mut key).map_err(|_| VaultError::Random)?;
        let text = format!("{}\n", BASE64.encode(key));
        let folder = self.file.parent().unwrap_or(Path::new("."));
        let write = || {
            // For us alone, as all such files are.
            let mut new = NamedTempFile::new_in(folder)?;
            new.write_all(text.as_bytes())?;
            new.as_file().sync_all()?;
            match new.persist_noclobber(&self.file) {
                // Somebody else has made it meanwhile.
                Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(failed) => Err(failed.error),
                Ok(_) => File::open(folder)?.sync_all(),
            }
        };
        write().map_err(|error| VaultError::Unusable(self.file.clone(), error))
    }

    fn key(&self) -> Result<LessSafeKey, VaultError> {
        let read = || {
            // Opening a pipe would wait for somebody to write to it.
            if !fs::metadata(&self.file)?.is_file() {
                return Err(io::Error::other("it is no file"));
            }
            let mut text = String::new();
            File::open(&self.file)?.take(MAX_KEY_FILE).read_to_string(&mut text)?;
            Ok(text)
        };
        let text = read().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => VaultError::NoKey(self.file.clone()),
            _ => VaultError::Unusable(self.file.clone(), error),
        })?;
        let bytes = BASE64.decode(text.trim().trim_end_matches('='));
        let key = bytes.ok().and_then(|bytes| UnboundKey::new(&CHACHA20_POLY1305, &bytes).ok());
        Ok(LessSafeKey::new(key.ok_or_else(|| VaultError::BadKey(self.file.clone()))?))
    }

    /// Seals a value for a place: it is good for no other.
    ///
    /// # Errors
    ///
    /// When there is no key.
    pub(crate) fn seal(&self, place: &str, value: &str) -> Result<String, VaultError> {
        let key = self.key()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| VaultError::Random)?;
        let mut sealed = value.as_bytes().to_vec();
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(place),
            &mut sealed,
        )
        .map_err(|_| VaultError::Random)?;
        Ok(format!("{FIRST_FORM}{}", BASE64.encode([&nonce[..], &sealed].concat())))
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    ///
    /// When there is no key, or it was sealed with another or for another place.
    pub(crate) fn open(&self, place: &str, sealed: &str) -> Result<String, VaultError> {
        let key = self.key()?;
        let open = || {
            let sealed = BASE64.decode(sealed.strip_prefix(FIRST_FORM)?).ok()?;
            let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut sealed = sealed.to_vec();
            let opened = key.open_in_place(nonce, Aad::from(place), &mut sealed).ok()?;
            String::from_utf8(opened.to_vec()).ok()
        };
        open().ok_or_else(|| VaultError::OtherKey(self.file.clone()))
    }
}

/// Checks the name of a secret or variable by GitHub's rules; returns it as it is kept, in capitals.
///
/// # Errors
///
/// Why it is none.
pub(crate) fn name_of(name: &str) -> Result<String, String> {
    let is_word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let starts_well = name.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_');
    if !starts_well || !name.chars().all(is_word) || name.len() > MAX_NAME {
        return Err(format!(
            "`{}` is no name of a secret or variable: write letters, digits and `_`, no digit first",
            muster_workflow::text::one_line(name)
        ));
    }
    Ok(name.to_ascii_uppercase())
}

/// As [`name_of`], for one that the server keeps.
///
/// # Errors
///
/// Also for what is [the server's own](https://docs.github.com/en/actions/reference/security/secrets#naming-your-secrets).
pub(crate) fn kept_name_of(name: &str) -> Result<String, String> {
    let name = name_of(name)?;
    if name.starts_with("GITHUB_") {
        return Err(format!("{name} cannot be set: names with GITHUB_ are the server's own"));
    }
    Ok(name)
}

/// Returns those that a run of this trust gets, by their names: with an environment those of its jobs alone.
pub(crate) fn chosen<'s>(
    stored: &'s [Stored],
    trust: Trust,
    environment: Option<&str>,
) -> Vec<&'s Stored> {
    let places = given(&entries(stored), trust, environment);
    places.into_iter().filter_map(|place| stored.get(place)).collect()
}

/// Says which secrets a job does not get, and why.
pub(crate) fn not_given(stored: &[Stored], trust: Trust, environment: Option<&str>) -> Vec<String> {
    let names = withheld(&entries(stored), trust, environment).into_iter();
    names.map(|(name, least)| format!("{name} ({})", least.as_str())).collect()
}

fn entries(stored: &[Stored]) -> Vec<Entry> {
    stored.iter().map(|stored| stored.place.entry.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_sealed_is_opened_by_its_key_in_its_place_alone() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::new(folder.path().join("key"));
        assert!(matches!(vault.seal("a", "word"), Err(VaultError::NoKey(_))));
        vault.make_key().unwrap();
        let mode = fs::metadata(vault.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let sealed = vault.seal("a", "word").unwrap();
        assert_ne!(sealed, vault.seal("a", "word").unwrap(), "each has a nonce of its own");
        vault.make_key().unwrap();
        assert_eq!(vault.open("a", &sealed).unwrap(), "word");
        assert!(matches!(vault.open("b", &sealed), Err(VaultError::OtherKey(_))));
        for place in FIRST_FORM.len()..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(vault.open("a", &changed).is_err(), "{place}");
        }
        for cut in 0..sealed.len() {
            assert!(vault.open("a", &sealed[..cut]).is_err(), "{cut}");
        }
        fs::remove_file(vault.file()).unwrap();
        assert!(matches!(vault.open("a", &sealed), Err(VaultError::NoKey(_))));
        vault.make_key().unwrap();
        assert!(matches!(vault.open("a", &sealed), Err(VaultError::OtherKey(_))));
        fs::write(vault.file(), "short").unwrap();
        assert!(matches!(vault.open("a", &sealed), Err(VaultError::BadKey(_))));
    }
}
