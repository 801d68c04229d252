//! Packing a folder as a tape archive, whatever its owner does to it meanwhile.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use tar::{Builder, EntryType, Header};

/// The most bytes of the files in an archive, and the most of its entries.
const MAX_BYTES: u64 = 4 << 30;
const MAX_ENTRIES: usize = 1_000_000;

/// Packs the folder at `below`, a path from `top` on that may lead over links as long as these stay below `top`. Links in
/// it are packed as links; what is neither file, folder nor link is left out.
///
/// # Errors
///
/// When it is not there, leads elsewhere, cannot be read, or has more than 4 GiB or a million entries.
pub fn pack(top: &Path, below: &Path, to: &mut File) -> io::Result<()> {
    let folder = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let top = rustix::fs::open(top, folder | OFlags::NOFOLLOW, Mode::empty())?;
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let first = rustix::fs::openat2(&top, below, folder, Mode::empty(), within)?;
    let mut builder = Builder::new(to);
    let mut open = vec![(first, PathBuf::new())];
    let (mut bytes, mut entries) = (0_u64, 0);
    while let Some((folder, path)) = open.pop() {
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(io::Error::other("there is too much in it"));
            }
            let path = path.join(name);
            let (of, opened) = look(&folder, name)?;
            let mut header = Header::new_gnu();
            header.set_mode(of.st_mode & 0o7777);
            header.set_mtime(u64::try_from(of.st_mtime).unwrap_or(0));
            header.set_size(0);
            match (FileType::from_raw_mode(of.st_mode), opened) {
                (FileType::Directory, Some(opened)) => {
                    header.set_entry_type(EntryType::Directory);
                    builder.append_data(&mut header, &path, io::empty())?;
                    open.push((opened, path));
                }
                (FileType::RegularFile, Some(opened)) => {
                    let size = u64::try_from(of.st_size).unwrap_or(0);
                    bytes += size;
                    if bytes > MAX_BYTES {
                        return Err(io::Error::other("there is too much in it"));
                    }
                    header.set_entry_type(EntryType::Regular);
                    header.set_size(size);
                    // One that grows is cut; one that shrinks is wrong, which the reader finds.
                    let file = io::Read::take(File::from(opened), size);
                    builder.append_data(&mut header, &path, file)?;
                }
                (FileType::Symlink, _) => {
                    header.set_entry_type(EntryType::Symlink);
                    let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
                    builder.append_link(
                        &mut header,
                        &path,
                        OsStr::from_bytes(target.to_bytes()),
                    )?;
                }
                _ => {}
            }
        }
    }
    builder.finish()
}

/// Opens what is in a folder, if it is a file or folder, and says what it is.
fn look(folder: &OwnedFd, name: &OsStr) -> io::Result<(Stat, Option<OwnedFd>)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let found = rustix::fs::statat(folder, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory | FileType::RegularFile => {
            let opened = rustix::fs::openat(folder, name, flags, Mode::empty())?;
            // What was opened counts, not what was there before.
            Ok((rustix::fs::fstat(opened.as_fd())?, Some(opened)))
        }
        _ => Ok((found, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_packed_and_not_followed() {
        let folder = std::env::temp_dir().join(format!("muster-pack-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("top/action/deep")).unwrap();
        std::fs::write(folder.join("secret"), "secret").unwrap();
        std::fs::write(folder.join("top/action/deep/file"), "text").unwrap();
        std::os::unix::fs::symlink("../../secret", folder.join("top/action/link")).unwrap();
        std::os::unix::fs::symlink("..", folder.join("top/out")).unwrap();
        std::os::unix::fs::symlink("action", folder.join("top/in")).unwrap();
        let packed = |below: &str| {
            let path = folder.join("packed");
            let mut file = File::create(&path)?;
            pack(&folder.join("top"), Path::new(below), &mut file)?;
            let mut archive = tar::Archive::new(File::open(&path)?);
            let mut names = Vec::new();
            for entry in archive.entries()? {
                let entry = entry?;
                let link = entry.link_name()?.map(|link| format!(" -> {}", link.display()));
                names.push(format!("{}{}", entry.path()?.display(), link.unwrap_or_default()));
            }
            names.sort();
            Ok::<_, io::Error>(names)
        };
        let expected = ["deep", "deep/file", "link -> ../../secret"];
        assert_eq!(packed("action").unwrap(), expected);
        assert_eq!(packed("in").unwrap(), expected);
        for wrong in ["out", "../top", "nowhere", "action/deep/file"] {
            assert!(packed(wrong).is_err(), "{wrong}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
