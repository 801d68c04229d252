//! A job whose machine is an image: a sandbox with a root of its own, in which the steps are root.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use muster_sys::sandbox::{OF_A_ROOT, Range, Root};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::contained::{NODE, USUAL_PATH, own_node};
use super::{Door, Footing, Furnished, Ground, SANDBOX, describe, furnish, inside};
use crate::cancel::Cancel;
use crate::images;
use crate::log::Log;
use crate::spec::{Isolation, JobSpec, Kit, MachineImage};

/// What stands for `sudo`: the steps are root.
const SUDO: &str = include_str!("sudo.sh");

impl Ground {
    /// A sandbox whose root is of an image.
    ///
    /// # Errors
    ///
    /// A sentence, where it cannot be.
    pub(crate) fn imaged(
        spec: &JobSpec,
        machine: &MachineImage,
        door: Option<&Door>,
        log: &mut Log<'_>,
        cancel: &Cancel,
    ) -> Result<Self, String> {
        let cage = match &spec.isolation {
            Isolation::Sandbox(cage) | Isolation::Auto { cage, .. } => cage,
            Isolation::None { .. } => {
                return Err(format!(
                    "the machine of this job is an image ({}), and that takes a sandbox: `isolation` is `none`",
                    machine.source
                ));
            }
        };
        if spec.in_place.is_some() {
            return Err(
                "a job whose machine is an image runs in a workspace of its own; leave out `--in-place`"
                    .to_owned(),
            );
        }
        let users = Range::take().map_err(|error| error.to_string())?;
        let user = Some(users.first());
        let unprepared =
            |error: io::Error| format!("cannot prepare {}: {error}", spec.folder.display());
        let image = images::find(machine, &spec.engine, log, cancel)?;
        let mut environment = image.env;
        if !environment.iter().any(|(name, _)| name == "PATH") {
            environment.push(("PATH".to_owned(), USUAL_PATH.to_owned()));
        }
        // As on GitHub's machines: nobody is there to be asked.
        environment.push(("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned()));
        let kit = Kit { environment, ..Kit::default() };
        let mut furnished = furnish(spec, &SANDBOX, &kit, user).map_err(unprepared)?;
        for name in ["USER", "LOGNAME"] {
            furnished.environment.push((name.to_owned(), "root".to_owned()));
        }
        // Its libraries are not this machine's: what takes muster is done beside it.
        furnished.fixed.retain(|bind| bind.to != Path::new(SANDBOX.muster));
        let node = own_node(spec);
        furnished.fixed.extend(node.iter().map(|node| inside::read_only(node, NODE)));
        let scratch = spec.folder.join("root");
        let layer = Layer::over(&image.folder, &scratch, users.first());
        let laid = layer.and_then(|layer| layer.lay(&mut furnished, cage.network.is_open()));
        laid.map_err(|error| format!("the image {}: {error}", image.name))?;
        let root = Root { image: image.folder.clone(), scratch };
        let sandbox = Self::enclose(cage, door, &mut furnished, user, Some(root.clone()));
        let sandbox = sandbox.map_err(|error| error.to_string())?;
        let description = describe(sandbox.layers(), cage);
        let description = format!("an image, {} as {}; {description}", image.name, machine.label);
        let footing = Footing::Image {
            sandbox,
            root,
            node: node.map(|_| NODE.into()),
            _held: (users, image.used),
        };
        let ground = Self::on(footing, &SANDBOX, spec, user, furnished, description);
        ground.write_event(spec)?;
        Ok(ground)
    }
}

/// What lies over an image: what a job changes, and before that what it has in the place of what the image has. Links of the
/// image lead where they lead in it, whoever follows them.
struct Layer<'i> {
    image: &'i Path,
    upper: PathBuf,
    /// Root of the image.
    user: u32,
}

impl<'i> Layer<'i> {
    /// Makes an empty one below a folder that is made for it.
    fn over(image: &'i Path, scratch: &Path, user: u32) -> io::Result<Self> {
        fs::create_dir(scratch)?;
        // What jobs make in it, whatever its mode is, is nobody else's.
        fs::set_permissions(scratch, Permissions::from_mode(0o700))?;
        let [upper, work] = ["upper", "work"].map(|name| scratch.join(name));
        fs::create_dir(&work)?;
        let layer = Self { image, upper, user };
        fs::create_dir(&layer.upper)?;
        layer.own(Path::new(""))?;
        Ok(layer)
    }

    /// Lays what every job has, and the places of what is mounted, which are named as they are in the image.
    fn lay(&self, furnished: &mut Furnished, network: bool) -> io::Result<()> {
        for name in ["proc", "dev"] {
            if self.look(Path::new(name))?.is_some_and(|kind| !kind.is_dir()) {
                return Err(io::Error::other(format!("its /{name} is no folder")));
            }
        }
        let tmp = self.upper.join(self.folder(Path::new("tmp"))?);
        fs::set_permissions(tmp, Permissions::from_mode(0o1777))?;
        // With this machine's network come the names that it knows.
        let known = |name| {
            if network { fs::read_to_string(name).unwrap_or_default() } else { String::new() }
        };
        let hosts = known("/etc/hosts");
        let hosts = format!("127.0.0.1 localhost runner\n::1 localhost runner\n{hosts}");
        self.file("etc/hostname", "runner\n", 0o644)?;
        self.file("etc/hosts", &hosts, 0o644)?;
        self.file("etc/resolv.conf", &known("/etc/resolv.conf"), 0o644)?;
        self.file("usr/local/bin/sudo", SUDO, 0o755)?;
        for bind in furnished.own.iter_mut().chain(&mut furnished.fixed) {
            let place = bind.to.strip_prefix("/").unwrap_or(&bind.to).to_owned();
            let real = match bind.from.is_dir() {
                true => self.folder(&place)?,
                false => self.file(&place, "", 0o644)?,
            };
            bind.to = Path::new("/").join(real);
        }
        Ok(())
    }

    /// Makes a file in the place of what the image has there; returns where that is.
    fn file(&self, path: impl AsRef<Path>, content: &str, mode: u32) -> io::Result<PathBuf> {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or_default();
        let real = self.folder(path.parent().unwrap_or(Path::new("")))?.join(name);
        let file = self.upper.join(&real);
        fs::write(&file, content)?;
        fs::set_permissions(&file, Permissions::from_mode(mode))?;
        chown(&file, Some(self.user), Some(self.user))?;
        Ok(real)
    }

    /// Makes a folder, and those above it, as the image has them where it does; returns where it is in truth.
    fn folder(&self, path: &Path) -> io::Result<PathBuf> {
        let mut real = PathBuf::new();
        for part in path.components() {
            let next = real.join(part);
            real = match self.look(&next)? {
                None => next,
                Some(kind) if kind.is_dir() => next,
                Some(kind) if kind.is_symlink() => self.follow(&next)?,
                Some(_) => {
                    return Err(io::Error::other(format!("its /{} is no folder", next.display())));
                }
            };
            let mut above: Vec<&Path> = real.ancestors().collect();
            above.reverse();
            for folder in above {
                match fs::create_dir(self.upper.join(folder)) {
                    Ok(()) => self.own(folder)?,
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(real)
    }

    /// Gives a folder the owner and mode that the image has for it, else root and what is usual.
    fn own(&self, folder: &Path) -> io::Result<()> {
        let of = self.stat(folder, OFlags::NOFOLLOW)?;
        let (user, group, mode) =
            of.map_or((0, 0, 0o755), |of| (of.st_uid, of.st_gid, of.st_mode & 0o7777));
        let within = |id: u32| if id < OF_A_ROOT { self.user + id } else { self.user };
        let path = self.upper.join(folder);
        chown(&path, Some(within(user)), Some(within(group)))?;
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    /// Returns what the image has at a path of which no folder is a link.
    fn look(&self, path: &Path) -> io::Result<Option<FileType>> {
        let of = self.stat(path, OFlags::NOFOLLOW)?;
        Ok(of.map(|of| FileType::from_raw_mode(of.st_mode)))
    }

    fn stat(&self, path: &Path, more: OFlags) -> io::Result<Option<Stat>> {
        match open_in(self.image, path, more) {
            Ok(opened) => Ok(Some(rustix::fs::fstat(opened)?)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns where a link of the image leads in it.
    fn follow(&self, link: &Path) -> io::Result<PathBuf> {
        let wrong = |why: &str| io::Error::other(format!("its /{} {why}", link.display()));
        let opened = open_in(self.image, link, OFlags::DIRECTORY);
        let opened = opened.map_err(|_| wrong("is a link that leads to no folder"))?;
        let top = open_in(self.image, Path::new(""), OFlags::DIRECTORY)?;
        let path = |fd: &OwnedFd| fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let (path, top) = (path(&opened)?, path(&top)?);
        let below = path.strip_prefix(top).map_err(|_| wrong("is a link that leads out of it"))?;
        Ok(below.to_owned())
    }
}

/// Opens a path of an image, as who lives in it would.
fn open_in(image: &Path, path: &Path, more: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let top = rustix::fs::open(image, flags | OFlags::DIRECTORY, Mode::empty())?;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    rustix::fs::openat2(&top, path, flags | more, Mode::empty(), within)
}

/// Returns whether an image has a file, by its path there, or a job has put one there by now; links lead to what they lead
/// to in it.
pub(super) fn has_file(root: &Root, path: &Path) -> bool {
    let upper = root.scratch.join("upper");
    [root.image.as_path(), &upper].into_iter().any(|top| {
        let found = open_in(top, path, OFlags::empty()).and_then(rustix::fs::fstat);
        found.is_ok_and(|of| FileType::from_raw_mode(of.st_mode).is_file())
    })
}
