//! Files and folders.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Removes a folder and all in it, also what is closed to its owner, as a cache of Go modules is.
///
/// # Errors
///
/// When something in it cannot be removed all the same.
pub fn remove_tree(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        done => return done,
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            // Links are not followed.
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(folder)
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
}
