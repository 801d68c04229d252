//! A job in a container of its own, and what is done for it beside that container.
//!
//! The image need have neither git nor muster: a checkout, and the hashes of files, are done beside it, in a sandbox of
//! the machine as for any other job, and what was checked out is handed over.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use muster_sys::files;
use muster_sys::sandbox::Bind;
use rustix::fs::{CWD, Mode, OFlags};

use super::{Door, Footing, Ground, Map, Workspace, furnish, in_work, inside};
use crate::containers::{Containers, Inmate, Plan};
use crate::engine::{Image, Mounted};
use crate::spec::{JobSpec, Kit};
use muster_workflow::container::Wanted;

/// In a container: as GitHub's runner has it.
pub(super) const CONTAINER: Map = Map {
    home: "/github/home",
    work: "/__w",
    temp: "/__w/_temp",
    tool_cache: "/__t",
    repository: "/opt/muster/repository",
    objects: "/opt/muster/objects",
    muster: "/opt/muster/bin/muster",
};
/// Where the event is.
const EVENT: &str = "/github/workflow";
/// The PATH of an image that names none, as engines have it.
pub(super) const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where this machine's Node.js is, for actions: an image need not have one.
pub(super) const NODE: &str = "/__e/node/bin/node";

impl Ground {
    /// A container of an image: the steps see that, and own what they may change.
    ///
    /// # Errors
    ///
    /// A sentence, where it cannot be.
    pub(crate) fn contained(
        spec: &JobSpec,
        containers: &mut Containers,
        image: &Image,
        wanted: &Wanted,
    ) -> Result<Self, String> {
        if spec.in_place.is_some() {
            return Err(
                "a job with a `container` runs in a workspace of its own; leave out `--in-place`"
                    .to_owned(),
            );
        }
        let unprepared =
            |error: io::Error| format!("cannot prepare {}: {error}", spec.folder.display());
        let mut furnished = furnish(spec, &CONTAINER, &Kit::default(), None).map_err(unprepared)?;
        furnished.places.event = Path::new(EVENT).join("event.json");
        let node = own_node(spec);
        let mut mounts: Vec<Mounted> = furnished.own.iter().map(mounted).collect();
        // What is written for the steps is found by GitHub's name for it, too.
        mounts.push(Mounted::writable(&furnished.temp, EVENT));
        let (muster, repository) = (Path::new(CONTAINER.muster), Path::new(CONTAINER.repository));
        let is_for_it = |bind: &&Bind| {
            bind.to != muster
                && !bind.to.starts_with(repository)
                && bind.to != Path::new(CONTAINER.objects)
        };
        mounts.extend(furnished.fixed.iter().filter(is_for_it).map(mounted));
        mounts.extend(node.iter().map(|node| Mounted::fixed(node, NODE)));
        let safe = format!("[safe]\n\tdirectory = {}\n", furnished.places.workspace.display());
        // git trusts nobody else's work tree, and whose it is depends on the image.
        fs::write(spec.folder.join("home/.gitconfig"), safe).map_err(unprepared)?;
        mounts.extend(lent(spec));
        let env = [("HOME", CONTAINER.home), ("GITHUB_ACTIONS", "true")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let inmate = containers.start(Plan {
            image,
            wanted,
            env: &env,
            mounts,
            aliases: Vec::new(),
            publishes: false,
            is_service: false,
            places: &[],
        })?;
        for name in ["work", "temp", "home", "tools"] {
            hand_over(&spec.folder.join(name), inmate.user).map_err(unprepared)?;
        }
        furnished.environment.clone_from(&inmate.inspected.env);
        if !furnished.environment.iter().any(|(name, _)| name == "PATH") {
            furnished.environment.push(("PATH".to_owned(), USUAL_PATH.to_owned()));
        }
        furnished.environment.extend(containers.door().into_iter().flat_map(Door::variables));
        let description = format!("a container of {} ({})", image.name, short(&image.id));
        let description = format!("{description} by {}.", containers.description());
        let user = Some(inmate.user).filter(|_| rustix::process::geteuid().is_root());
        let node = node.map(|_| NODE.into());
        let footing = Footing::Container { inmate, node };
        let ground = Self::on(footing, &CONTAINER, spec, user, furnished, description);
        ground.write_event(spec)?;
        Ok(ground)
    }

    /// Makes a place beside the root that the job has of its own, as the job would have without one. There is a workspace of its own
    /// in it; the job's can be read.
    ///
    /// # Errors
    ///
    /// What cannot be made, as a sentence.
    pub(crate) fn beside(&self, spec: &JobSpec) -> Result<Self, String> {
        let beside = JobSpec { folder: spec.folder.join("beside"), ..spec.clone() };
        let beside = JobSpec { private: Default::default(), ..beside };
        fs::create_dir_all(&beside.folder)
            .map_err(|error| format!("cannot prepare {}: {error}", beside.folder.display()))?;
        // Who is root of an image owns what its steps have made, and is nobody else of this machine.
        let user = self.user.filter(|_| matches!(self.footing, Footing::Image { .. }));
        let work = Bind { from: self.work.clone(), to: CONTAINER.work.into(), writable: false };
        Self::with(&beside, None, &[work], user)
    }

    /// Returns where the workspace of a job with a root of its own is for who is beside it.
    pub(crate) fn workspace_from(&self, beside: &Self) -> PathBuf {
        match (&beside.footing, &self.workspace) {
            (Footing::Own, Workspace::In(below)) => self.work.join(below),
            (_, Workspace::In(below)) => Path::new(CONTAINER.work).join(below),
            (_, Workspace::Tree(tree)) => tree.clone(),
        }
    }

    /// Hands the workspace beside the container, in which something was checked out, over to the steps, at a path from
    /// their workspace on: what is there goes, all of it.
    ///
    /// # Errors
    ///
    /// When it cannot be moved, or the steps have put something in the way.
    pub(crate) fn adopt(&self, beside: &Self, below: &Path) -> io::Result<()> {
        let (Workspace::In(theirs), Workspace::In(ours)) = (&beside.workspace, &self.workspace)
        else {
            return Err(io::Error::other("it has no workspace of its own"));
        };
        let (from, to) = (beside.work.join(theirs), ours.join(below));
        if let Some(user) = self.user {
            files::give_tree(&from, user)?;
        }
        let (parent, name) = (to.parent().unwrap_or(Path::new("")), to.file_name());
        let name = name.ok_or_else(|| io::Error::other("it leads nowhere"))?;
        let folder = self.step_into(&self.work, parent)?;
        // A process of the steps may still be in what is there: it goes out of their reach now, and with the job.
        let old = unused(&beside.temp.with_file_name("replaced"))?;
        match rustix::fs::renameat(&folder, name, CWD, &old) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        rustix::fs::renameat(CWD, &from, &folder, name)?;
        beside.begin_anew()
    }

    /// Makes the workspace an empty one, for who is beside a container. What was in it goes with the job.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub(crate) fn begin_anew(&self) -> io::Result<()> {
        let Workspace::In(below) = &self.workspace else { return Ok(()) };
        let place = self.work.join(below);
        if fs::symlink_metadata(&place).is_ok() {
            fs::rename(&place, unused(&self.temp.with_file_name("replaced"))?)?;
        }
        fs::create_dir(&place)?;
        std::os::unix::fs::chown(&place, self.user, self.user)
    }

    /// Goes down a path of the steps' folders, making those that are not there; no link is followed.
    pub(super) fn step_into(&self, top: &Path, path: &Path) -> io::Result<rustix::fd::OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut folder = rustix::fs::open(top, flags, Mode::empty())?;
        for part in path.components() {
            let part = part.as_os_str();
            match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(0o755)) {
                Err(rustix::io::Errno::EXIST) => {}
                made => {
                    made?;
                    self.give(&folder, part)?;
                }
            }
            folder = rustix::fs::openat(&folder, part, flags, Mode::empty())?;
        }
        Ok(folder)
    }

    /// Returns the folders that an action in a container of its own is shown, by GitHub's names for them, and how the
    /// steps' paths are named there.
    ///
    /// # Errors
    ///
    /// When one cannot be made.
    pub(crate) fn for_an_action(&self, spec: &JobSpec) -> io::Result<(Vec<Mounted>, Renamed)> {
        // Beside what the steps own: the engine would follow a link of theirs.
        let home = self.temp.with_file_name("action-home");
        if !home.is_dir() {
            // Another step may make it at the same time.
            fs::create_dir_all(&home)?;
            fs::set_permissions(&home, Permissions::from_mode(0o777))?;
        }
        let workspace = match &self.workspace {
            Workspace::In(below) => self.work.join(below),
            Workspace::Tree(tree) => tree.clone(),
        };
        let mut mounts = lent(spec);
        mounts.extend([
            Mounted::writable(&workspace, WORKSPACE),
            Mounted::writable(&home, CONTAINER.home),
            Mounted::writable(&self.temp, "/github/runner_temp"),
            Mounted::writable(&self.temp, EVENT),
            Mounted::writable(&self.temp, "/github/file_commands"),
        ]);
        let event = self.places.event.parent().unwrap_or(&self.places.event).to_owned();
        let paths = vec![
            (self.places.workspace.clone(), WORKSPACE),
            (self.places.event.clone(), "/github/workflow/event.json"),
            (self.places.temp.clone(), "/github/runner_temp"),
            // In a container of the job it is no folder of its own.
            (event, EVENT),
        ];
        Ok((mounts, paths))
    }

    /// Returns a folder that is ours, and the workspace from there on.
    pub(crate) fn workspace_folder(&self) -> (PathBuf, PathBuf) {
        match &self.workspace {
            Workspace::In(below) => (self.work.clone(), below.clone()),
            Workspace::Tree(tree) => (tree.clone(), PathBuf::new()),
        }
    }

    /// Returns what the workspace is, however steps have changed the way to it.
    ///
    /// # Errors
    ///
    /// When it is no folder of the job any more.
    pub(crate) fn workspace_seen(&self) -> io::Result<muster_sys::init::Seen> {
        let folder = match &self.workspace {
            Workspace::In(below) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let mut folder = rustix::fs::open(&self.work, flags, Mode::empty())?;
                for part in below.components() {
                    folder = rustix::fs::openat(&folder, part.as_os_str(), flags, Mode::empty())?;
                }
                folder
            }
            Workspace::Tree(tree) => rustix::fs::open(
                tree,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?,
        };
        let of = rustix::fs::fstat(&folder)?;
        Ok(muster_sys::init::Seen(of.st_dev, of.st_ino))
    }

    /// Returns this machine's Node.js, as steps see it that have a root of their own.
    pub(crate) fn own_node(&self) -> Option<&Path> {
        match &self.footing {
            Footing::Container { node, .. } | Footing::Image { node, .. } => node.as_deref(),
            _ => None,
        }
    }

    /// Returns the container that the steps are in.
    pub(crate) fn inmate(&self) -> Option<&Inmate> {
        match &self.footing {
            Footing::Container { inmate, .. } => Some(inmate),
            _ => None,
        }
    }
}

/// The places of the steps of a job in a container, before there is one.
pub(crate) fn places(spec: &JobSpec) -> super::Places {
    super::Places {
        workspace: in_work(Path::new(CONTAINER.work), spec),
        temp: CONTAINER.temp.into(),
        event: Path::new(EVENT).join("event.json"),
        tool_cache: CONTAINER.tool_cache.into(),
        actions: Path::new(CONTAINER.work).join(super::ACTIONS),
    }
}

/// Paths of the steps, and how they are named in a container of an action.
pub(crate) type Renamed = Vec<(PathBuf, &'static str)>;

/// Where an action in a container finds the workspace.
pub(crate) const WORKSPACE: &str = "/github/workspace";

fn mounted(bind: &Bind) -> Mounted {
    Mounted { from: bind.from.clone(), to: bind.to.clone(), read_only: !bind.writable }
}

/// Gives a folder to the user of a container, or where we may not, to all: it lies in one that is the job's alone.
fn hand_over(folder: &Path, user: u32) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return files::give_tree(folder, user);
    }
    if rustix::process::geteuid().as_raw() != user {
        fs::set_permissions(folder, Permissions::from_mode(0o777))?;
    }
    Ok(())
}

/// Finds a Node.js of this machine, which is shown in the container as it is: where it needs libraries that the image
/// lacks, it says so when it is asked for its version, and the image's is taken.
pub(super) fn own_node(spec: &JobSpec) -> Option<PathBuf> {
    let cage = spec.cage();
    let environment = cage.map_or(&spec.environment, |cage| &cage.kit.environment);
    let tools = cage.map_or(&[][..], |cage| &cage.kit.tools);
    let path = environment.iter().rev().find(|(name, _)| name == "PATH");
    let folders = std::env::split_paths(path.map(|(_, path)| path.as_str()).unwrap_or_default());
    let here = folders.map(|folder| {
        // In a sandbox some tools are elsewhere.
        let tool = tools.iter().find_map(|tool| {
            let below = folder.strip_prefix(&tool.to).ok()?;
            Some(tool.from.join(below))
        });
        tool.unwrap_or(folder).join("node")
    });
    here.into_iter().find_map(|node| fs::canonicalize(node).ok().filter(|node| node.is_file()))
}

/// Returns the objects that what was checked out borrows, wherever it was: the steps, and git in an action, need them at
/// the paths that it names.
fn lent(spec: &JobSpec) -> Vec<Mounted> {
    let source = &spec.source;
    let at_home = (source.git_dir.as_path(), source.extra_objects.as_deref());
    let mut lent: Vec<Mounted> = Vec::new();
    for (repository, objects) in [
        (Path::new(super::SANDBOX.repository), Some(Path::new(super::SANDBOX.objects))),
        (Path::new(super::GUEST.repository), Some(Path::new(super::GUEST.objects))),
        at_home,
    ] {
        let folder = source.git_dir.join("objects");
        let mut binds = vec![inside::read_only(&folder, repository.join("objects"))];
        inside::alternates(&folder, &repository.join("objects"), &mut binds, 0);
        binds.extend(
            source.extra_objects.iter().zip(objects).map(|(from, to)| inside::read_only(from, to)),
        );
        lent.extend(binds.iter().map(mounted));
    }
    let mut seen = std::collections::BTreeSet::new();
    lent.retain(|mount| seen.insert(mount.to.clone()));
    lent
}

/// Returns a path in a folder, which is made, at which nothing is.
fn unused(folder: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let count = fs::read_dir(folder)?.count();
    Ok(folder.join(count.to_string()))
}

/// Returns the beginning of what an image is.
fn short(id: &str) -> &str {
    id.get(..19).unwrap_or(id)
}
