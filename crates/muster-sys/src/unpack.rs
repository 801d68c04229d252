//! Unpacking an archive (tar) into a folder that is to be the root of a machine.
//!
//! Paths and links in it mean what they mean in that root: none leads out of it, whoever made the archive.

use std::cell::Cell;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use tar::{Archive, Entry, EntryType};

/// The most bytes of all files, and the most entries.
const MAX_BYTES: u64 = 64 << 30;
const MAX_ENTRIES: usize = 4_000_000;
/// What describes an entry, its long names and extended attributes, has no more bytes: it is held in memory.
const MAX_HEAD: u64 = 1 << 20;
const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::PATH);
/// As a folder is opened that is read, and that is no link.
const OPENED: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// What the entries of an archive mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entries {
    /// What is there.
    All,
    /// What is different from the layers below, as the Open Container Initiative has it: a name that begins with `.wh.`
    /// takes away what is there by the rest of it
    /// (<https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts>).
    Layer,
}

/// Unpacks an archive over what is in a folder, with its owners, modes and times. Devices and pipes are left out.
///
/// # Errors
///
/// When it is no archive, a path in it leads out by `..`, it has more than 64 GiB or four million entries, or something
/// cannot be written.
pub fn unpack(archive: impl Read, root: &Path, entries: Entries) -> io::Result<()> {
    let root = rustix::fs::open(root, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
    let left = Cell::new(MAX_HEAD);
    let mut archive = Archive::new(Bounded { inner: archive, left: &left });
    let mut parent = Parent { root: root.as_fd(), path: PathBuf::new(), folder: None };
    let mut made = HashSet::new();
    let mut bytes = 0_u64;
    for (count, entry) in archive.entries()?.enumerate() {
        // What is no archive shows at once, and what is said of that is of no use to anybody.
        let mut entry = entry.map_err(|error| match count {
            0 if left.get() > 0 => io::Error::other("it is no archive (tar)"),
            _ => error,
        })?;
        left.set(entry.size().saturating_add(MAX_HEAD));
        bytes = bytes.saturating_add(entry.size());
        if bytes > MAX_BYTES || count >= MAX_ENTRIES {
            return Err(io::Error::other("there is more in it than may be"));
        }
        let path = plain(&entry.path()?)?;
        put(&mut entry, &path, &mut parent, (entries, &made)).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        if entries == Entries::Layer {
            // What is above is of the layer, too: below it some is.
            let new = path.ancestors().take_while(|above| !made.contains(*above));
            let new: Vec<PathBuf> = new.map(Path::to_owned).collect();
            made.extend(new);
        }
    }
    Ok(())
}

/// Reads no more than is left.
struct Bounded<'l, R> {
    inner: R,
    left: &'l Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.left.get().saturating_sub(count as u64);
        self.left.set(left);
        if left == 0 && count > 0 {
            return Err(io::Error::other("what describes an entry is too long"));
        }
        Ok(count)
    }
}

/// Returns a path without what says nothing.
fn plain(path: &Path) -> io::Result<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::other(format!("`{}` leads out of it", path.display())));
            }
        }
    }
    Ok(plain)
}

/// The folder that the last entry was in: the next is mostly in it too.
struct Parent<'r> {
    root: BorrowedFd<'r>,
    path: PathBuf,
    folder: Option<OwnedFd>,
}

impl Parent<'_> {
    /// Opens a folder, making what of it is not there.
    fn open(&mut self, path: &Path) -> io::Result<BorrowedFd<'_>> {
        if self.folder.is_none() || self.path != path {
            let folder = match within(self.root, path, FOLDER) {
                Err(Errno::NOENT) => {
                    let mut made = PathBuf::new();
                    for part in path.components() {
                        let above = within(self.root, &made, FOLDER)?;
                        made.push(part);
                        match rustix::fs::mkdirat(
                            &above,
                            part.as_os_str(),
                            Mode::from_raw_mode(0o755),
                        ) {
                            Ok(()) | Err(Errno::EXIST) => {}
                            Err(error) => return Err(error.into()),
                        }
                    }
                    within(self.root, path, FOLDER)?
                }
                opened => opened?,
            };
            self.folder = Some(folder);
            path.clone_into(&mut self.path);
        }
        self.folder.as_ref().map(AsFd::as_fd).ok_or_else(|| io::Error::other("it is gone"))
    }

    /// Forgets it: what is opened by its path may be another folder from now on.
    fn forget(&mut self) {
        self.folder = None;
    }
}

/// Opens a path as who lives in the root would.
fn within(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)
}

/// Makes what one entry says.
fn put(
    entry: &mut Entry<'_, impl Read>,
    path: &Path,
    parent: &mut Parent<'_>,
    (entries, made): (Entries, &HashSet<PathBuf>),
) -> io::Result<()> {
    let header = entry.header();
    let (kind, mode) = (header.entry_type(), Mode::from_raw_mode(header.mode()? & 0o7777));
    let number = |number: u64| u32::try_from(number).map_err(io::Error::other);
    let owner = (number(header.uid()?)?, number(header.gid()?)?);
    let time = i64::try_from(header.mtime()?).unwrap_or(0);
    let Some(name) = path.file_name() else {
        // The root itself.
        let root = within(parent.root, Path::new("."), OFlags::CLOEXEC | OFlags::DIRECTORY)?;
        rustix::fs::fchown(&root, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)))?;
        return Ok(rustix::fs::fchmod(&root, mode)?);
    };
    let above = path.parent().unwrap_or(Path::new(""));
    if entries == Entries::Layer
        && let Some(hidden) = name.as_bytes().strip_prefix(b".wh.")
    {
        // Together with what they follow, these are names of no file.
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(io::Error::other("it hides what has no name"));
        }
        let folder = parent.open(above)?;
        // What the layer itself has there stays, wherever in it that stands.
        match OsStr::from_bytes(hidden) {
            all if all == ".wh..opq" => spare(folder, above, made)?,
            name if !made.contains(&above.join(name)) => remove(folder, name)?,
            name => match rustix::fs::openat(folder, name, OPENED, Mode::empty()) {
                Ok(inner) => spare(inner.as_fd(), &above.join(name), made)?,
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            },
        }
        parent.forget();
        return Ok(());
    }
    let linked = entry.link_name()?.map(std::borrow::Cow::into_owned);
    let no_target = || io::Error::other("a link to nothing");
    let root = parent.root;
    let folder = parent.open(above)?;
    let there = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
    let is_folder = there.is_ok_and(|of| FileType::from_raw_mode(of.st_mode).is_dir());
    let is_replaced = there.is_ok() && !(kind.is_dir() && is_folder);
    match kind {
        EntryType::Char | EntryType::Block | EntryType::Fifo => return Ok(()),
        _ if is_replaced => remove(folder, name)?,
        _ => {}
    }
    match kind {
        EntryType::Directory => match rustix::fs::mkdirat(folder, name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        },
        EntryType::Symlink => {
            rustix::fs::symlinkat(linked.ok_or_else(no_target)?, folder, name)?;
        }
        EntryType::Link => {
            let target = plain(&linked.ok_or_else(no_target)?)?;
            let its_folder = within(root, target.parent().unwrap_or(Path::new("")), FOLDER)?;
            let its_name = target.file_name().ok_or_else(no_target)?;
            // It is the same file: its owner and mode are said where it is.
            return Ok(rustix::fs::linkat(its_folder, its_name, folder, name, AtFlags::empty())?);
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let file = rustix::fs::openat(folder, name, flags | OFlags::NOFOLLOW, mode)?;
            io::copy(entry, &mut File::from(file))?;
        }
        // What only describes others.
        _ => return Ok(()),
    }
    let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    let at = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(folder, name, Some(user), Some(group), at)?;
    if kind != EntryType::Symlink {
        // A new owner takes away that a program is started as its owner.
        rustix::fs::chmodat(folder, name, mode, AtFlags::empty())?;
    }
    let time = Timespec { tv_sec: time, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(folder, name, &times, at)?;
    if is_replaced {
        parent.forget();
    }
    Ok(())
}

/// Removes what is in a folder by a name, if anything is.
fn remove(folder: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let inner = rustix::fs::openat(folder, name, OPENED, Mode::empty())?;
    empty(inner.as_fd())?;
    Ok(rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

/// Removes what is in a folder, which has this path, but for what the layer has made.
fn spare(folder: BorrowedFd<'_>, path: &Path, made: &HashSet<PathBuf>) -> io::Result<()> {
    for name in names(folder)? {
        let path = path.join(&name);
        if !made.contains(&path) {
            remove(folder, &name)?;
            continue;
        }
        match rustix::fs::openat(folder, &name, OPENED, Mode::empty()) {
            Ok(inner) => spare(inner.as_fd(), &path, made)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Returns what a folder has.
fn names(folder: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let entries = Dir::read_from(rustix::fs::openat(folder, ".", OPENED, Mode::empty())?)?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes all that is in a folder.
fn empty(folder: BorrowedFd<'_>) -> io::Result<()> {
    for name in names(folder)? {
        remove(folder, &name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tar::{Builder, Header};

    use super::*;

    /// An entry: what it is, its path, and its content or what it leads to.
    type Told<'a> = (EntryType, &'a str, &'a str);

    fn archive(entries: &[Told<'_>]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (kind, path, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o755);
            // Written as it is: what builds archives refuses what unpacking must.
            let name = &mut header.as_old_mut().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            let owner = rustix::process::geteuid().as_raw();
            header.set_uid(owner.into());
            header.set_gid(rustix::process::getegid().as_raw().into());
            let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
            let data = if is_link { "" } else { content };
            if is_link {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// A folder, and in it `root` and what is beside that.
    fn ground() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        fs::create_dir(folder.path().join("beside")).unwrap();
        fs::write(folder.path().join("beside/file"), "beside").unwrap();
        folder
    }

    fn told(root: &Path, path: &str) -> String {
        fs::read_to_string(root.join(path)).unwrap_or_else(|error| error.to_string())
    }

    #[test]
    fn layers_lie_over_each_other() {
        use EntryType::{Directory, Link, Regular, Symlink};
        let ground = ground();
        let root = ground.path().join("root");
        let lower = archive(&[
            (Directory, "usr/", ""),
            (Regular, "usr/lib/old", "old"),
            (Regular, "usr/lib/kept", "kept"),
            (Symlink, "lib", "/usr/lib"),
            (Regular, "all/one", "1"),
            (Regular, "all/deep/two", "2"),
        ]);
        let upper = archive(&[
            (Regular, "usr/lib/.wh.old", ""),
            // Through a link that means the root's own `/usr/lib`.
            (Regular, "lib/new", "new"),
            (Link, "usr/lib/same", "lib/kept"),
            (Regular, "all/first", "of this layer"),
            (Regular, "all/deep/.wh.two", ""),
            (Regular, "all/.wh..wh..opq", ""),
            (Regular, "all/three", "3"),
            (Regular, "all/.wh.three", ""),
        ]);
        unpack(&*lower, &root, Entries::Layer).unwrap();
        unpack(&*upper, &root, Entries::Layer).unwrap();
        assert!(!root.join("usr/lib/old").exists());
        assert_eq!(told(&root, "usr/lib/new"), "new");
        assert_eq!(told(&root, "usr/lib/same"), "kept");
        assert!(!root.join("all/one").exists() && !root.join("all/deep/two").exists());
        // What is said to be gone is what the layers below have.
        assert_eq!(told(&root, "all/first"), "of this layer");
        assert_eq!(told(&root, "all/three"), "3");
    }

    #[test]
    fn what_describes_an_entry_is_bounded() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_path("a").unwrap();
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = header.as_bytes().chain(io::repeat(b'x').take(64 << 20));
        let ground = ground();
        let refused = unpack(endless, &ground.path().join("root"), Entries::All).unwrap_err();
        assert_eq!(refused.to_string(), "what describes an entry is too long");
    }

    proptest! {
        #[test]
        fn nothing_leads_out(
            entries in prop::collection::vec(
                (
                    prop::sample::select(vec![
                        EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link,
                    ]),
                    "(/|\\./)?(a|b|\\.\\.|\\.wh\\.(|a|\\.|\\.\\.)|\\.wh\\..wh..opq)(/(a|b|\\.\\.|file)){0,3}",
                    "(/|\\.\\./|\\.\\./\\.\\./)?(a|b|beside|beside/file|\\.\\.)(/(a|b|file))?",
                ),
                0..12,
            ),
        ) {
            let ground = ground();
            let root = ground.path().join("root");
            let entries: Vec<Told<'_>> = entries
                .iter()
                .map(|(kind, path, content)| (*kind, path.as_str(), content.as_str()))
                .collect();
            // Whether it can be unpacked or not.
            drop(unpack(&*archive(&entries), &root, Entries::Layer));
            prop_assert_eq!(told(ground.path(), "beside/file"), "beside");
            prop_assert_eq!(fs::read_dir(ground.path()).unwrap().count(), 2);
            prop_assert_eq!(fs::read_dir(ground.path().join("beside")).unwrap().count(), 1);
        }

        #[test]
        fn bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
            let ground = ground();
            drop(unpack(&*bytes, &ground.path().join("root"), Entries::All));
        }
    }
}
