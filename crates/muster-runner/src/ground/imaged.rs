//! A job whose machine is an image: a sandbox with a root of its own, in which the steps are root.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use muster_sys::sandbox::{Range, Root};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::contained::{NODE, USUAL_PATH, own_node};
use super::{Door, Footing, Ground, SANDBOX, describe, furnish, inside};
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
        let scratch = scratch(spec, users.first(), cage.network.is_open()).map_err(unprepared)?;
        let root = Root { image: image.folder.clone(), scratch };
        let sandbox = Self::enclose(cage, door, &mut furnished, user, Some(root));
        let sandbox = sandbox.map_err(|error| error.to_string())?;
        let description = describe(sandbox.layers(), cage);
        let description = format!("an image, {} as {}; {description}", image.name, machine.label);
        let footing = Footing::Image {
            sandbox,
            image: image.folder.clone(),
            node: node.map(|_| NODE.into()),
            _held: (users, image.used),
        };
        let ground = Self::on(footing, &SANDBOX, spec, user, furnished, description);
        ground.write_event(spec)?;
        Ok(ground)
    }
}

/// Makes the folder in which is kept what a job changes of an image, with what it has in the place of what the image
/// has; its first user owns that.
fn scratch(spec: &JobSpec, user: u32, network: bool) -> io::Result<std::path::PathBuf> {
    let scratch = spec.folder.join("root");
    fs::create_dir(&scratch)?;
    for name in ["upper", "work"] {
        fs::create_dir(scratch.join(name))?;
    }
    let upper = scratch.join("upper");
    let own = |path: &str, mode: u32| {
        fs::set_permissions(upper.join(path), Permissions::from_mode(mode))?;
        chown(upper.join(path), Some(user), Some(user))
    };
    for (folder, mode) in [
        ("", 0o755),
        ("etc", 0o755),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("usr/local", 0o755),
        ("usr/local/bin", 0o755),
    ] {
        fs::create_dir_all(upper.join(folder))?;
        own(folder, mode)?;
    }
    // With this machine's network come the names that it knows.
    let known =
        |name| if network { fs::read_to_string(name).unwrap_or_default() } else { String::new() };
    let hosts = known("/etc/hosts");
    let hosts = format!("127.0.0.1 localhost runner\n::1 localhost runner\n{hosts}");
    for (path, content, mode) in [
        ("etc/hostname", "runner\n", 0o644),
        ("etc/hosts", &hosts, 0o644),
        ("etc/resolv.conf", &known("/etc/resolv.conf"), 0o644),
        ("usr/local/bin/sudo", SUDO, 0o755),
    ] {
        fs::write(upper.join(path), content)?;
        own(path, mode)?;
    }
    Ok(scratch)
}

/// Returns whether an image has a file, by its path there; links lead to what they lead to in it.
pub(super) fn has_file(image: &Path, path: &Path) -> bool {
    let found = || {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let top = rustix::fs::open(image, flags | OFlags::DIRECTORY, Mode::empty())?;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&top, path, flags, Mode::empty(), within)?;
        let stat = rustix::fs::fstat(&file)?;
        Ok::<_, rustix::io::Errno>(FileType::from_raw_mode(stat.st_mode).is_file())
    };
    found().unwrap_or(false)
}
