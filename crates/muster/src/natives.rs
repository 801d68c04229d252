//! Actions that muster brings with it: they take the place of well-known ones, with the same inputs and outputs, and
//! need no code host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A file of an action: its path, and what it holds.
type NativeFile = (&'static str, &'static str);

macro_rules! native {
    ($repository:literal: $($file:literal),+ $(; $($shared:literal),+)?) => {
        ($repository, &[
            $(($file, include_str!(concat!("../assets/natives/", $repository, "/", $file))),)+
            $($(($shared, include_str!(concat!("../assets/natives/", $shared))),)+)?
        ])
    };
}

/// The repositories that are there, and their files.
const NATIVES: [(&str, &[NativeFile]); 5] = [
    native!("actions-rs/cargo": "action.yml"),
    native!("actions-rs/toolchain": "action.yml"; "rust.sh"),
    native!("dtolnay/rust-toolchain": "action.yml"; "rust.sh"),
    native!("hecrj/setup-rust-action": "action.yml"; "rust.sh"),
    native!("taiki-e/install-action": "action.yml"),
];

/// Returns the files that stand for the repository `owner/name`.
pub(crate) fn find(repository: &str) -> Option<&'static [NativeFile]> {
    let found = NATIVES.iter().find(|(name, _)| name.eq_ignore_ascii_case(repository));
    found.map(|(_, files)| *files)
}

/// Writes what stands for a repository below a folder, unless it is there; returns where.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn put(files: &[NativeFile], repository: &str, below: &Path) -> io::Result<PathBuf> {
    // Those of another version are other ones.
    let version = concat!("native-", env!("CARGO_PKG_VERSION"));
    let folder = below.join(repository.to_ascii_lowercase()).join(version);
    for (path, text) in files {
        let path = folder.join(path);
        if fs::read_to_string(&path).is_ok_and(|there| there == *text) {
            continue;
        }
        fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        // Others read it meanwhile, the old or the new.
        let new = folder.join(format!("new-{}", std::process::id()));
        fs::write(&new, text)?;
        fs::rename(new, path)?;
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use muster_workflow::manifest::Manifest;

    use super::NATIVES;

    #[test]
    fn each_is_an_action() {
        for (repository, files) in NATIVES {
            for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".yml")) {
                let problems = Manifest::read(text).err().unwrap_or_default();
                let told: Vec<String> =
                    problems.iter().map(|problem| problem.one_line(path, text)).collect();
                assert!(told.is_empty(), "{repository}: {}", told.join("\n"));
            }
        }
    }
}
