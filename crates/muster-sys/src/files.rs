//! Files and folders.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::Path;

/// Removes a folder and all in it, also what is closed to its owner, as a cache of Go modules is, and
/// what is nested deeper than there are descriptors.
///
/// # Errors
///
/// When something in it cannot be removed all the same.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {}
        done => return done,
    }
    // Folders are taken out of each other, so that none is ever deep.
    let mut count = 0_u64;
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.last().cloned() {
        open(&next)?;
        let known = folders.len();
        for entry in fs::read_dir(&next)? {
            let entry = entry?;
            // Links are not followed.
            if !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
            } else if next == folder {
                folders.push(entry.path());
            } else {
                open(&entry.path())?;
                let place = folder.join(format!("{REMOVED}{count}"));
                count += 1;
                fs::rename(entry.path(), &place)?;
                folders.push(place);
            }
        }
        // It is empty once nothing of it is still to come.
        if next != folder {
            fs::remove_dir(&next)?;
            folders.remove(known - 1);
        } else if folders.len() == known {
            return fs::remove_dir(folder);
        }
    }
    Ok(())
}

/// Copies what is in a folder into another, which belongs to `user` then, with its modes; links stay links.
///
/// # Errors
///
/// When something in it cannot be copied, or is neither file, folder nor link.
pub fn copy_tree(from: &Path, to: &Path, user: Option<u32>) -> io::Result<()> {
    let mut folders = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = folders.pop() {
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
            if kind.is_dir() {
                fs::create_dir(&target)?;
                folders.push((entry.path(), target.clone()));
            } else if kind.is_symlink() {
                symlink(fs::read_link(entry.path())?, &target)?;
            } else if kind.is_file() {
                fs::copy(entry.path(), &target)?;
            } else {
                let text = format!("{} is no file", entry.path().display());
                return Err(io::Error::other(text));
            }
            if user.is_some() {
                lchown(&target, user, user)?;
            }
        }
    }
    Ok(())
}

/// Makes a user the owner of a folder and of all in it; links stay links.
///
/// # Errors
///
/// When something in it cannot be given away.
pub fn give_tree(folder: &Path, user: u32) -> io::Result<()> {
    let user = Some(user);
    lchown(folder, user, user)?;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            lchown(entry.path(), user, user)?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

/// The beginning of a name that nobody else gives.
const REMOVED: &str = ".muster-removed-";

fn open(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_closed_to_its_owner_goes_too() {
        let folder = std::env::temp_dir().join(format!("muster-closed-{}", std::process::id()));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/file"), "").unwrap();
        for closed in ["a/b", "a"] {
            fs::set_permissions(folder.join(closed), Permissions::from_mode(0o500)).unwrap();
        }
        remove_tree(&folder).unwrap();
        assert!(!folder.exists());
    }

    /// Deeper than a path may be long, and than a process may have files open.
    #[test]
    fn what_is_nested_deep_goes_too() {
        let folder = std::env::temp_dir().join(format!("muster-deep-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        for level in 0..60_u32 {
            // Each time a hundred levels more, on top of what there is.
            let under = folder.join("next");
            let mut deep = under.clone();
            for _ in 0..100 {
                deep.push("d");
            }
            fs::create_dir_all(&deep).unwrap();
            if level > 0 {
                fs::rename(folder.join("top"), deep.join("d")).unwrap();
            }
            fs::rename(under, folder.join("top")).unwrap();
        }
        remove_tree(&folder).unwrap();
        assert!(!folder.exists());
    }
}
