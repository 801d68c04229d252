//! Where a job runs: its folders, as the runner sees them and as its steps do.
//!
//! As the runner's own user both are the same. In a sandbox the steps see GitHub's places
//! (`/home/runner/work/…`), and as another user theirs are below `/run/muster`; everything that they may
//! change belongs to them then: so the runner never follows a path of theirs, only names in folders that
//! are its own.

mod contained;
mod doorway;
mod imaged;
mod inside;

pub(crate) use self::contained::{WORKSPACE, places as places_in_a_container};
pub(crate) use self::doorway::Door;
pub(crate) use self::inside::plain;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown, fchown};
use std::path::{Component, Path, PathBuf};

use muster_sys::files;
use muster_sys::process::{Place, ProcessError, Program, Running, own_program};
use muster_sys::sandbox::{
    self, Bind, Guest, InForce, Layers, Layout, Limits, Range, Root, Sandbox, SandboxError, Stay,
};
use muster_sys::terminal::Terminal;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::containers::Inmate;
use crate::egress::Network;
use crate::spec::{Cage, HOME, Isolation, JobSpec, Kit, LODGING, Lodging, Source, Tool};

/// Shells of which another takes the place where they are missing.
const SHELLS: [&str; 2] = ["bash", "python"];

/// The folder beside the workspace that has the actions from elsewhere, with GitHub's name.
const ACTIONS: &str = "_actions";

/// Where the steps find what is theirs, when that is not where the runner has it.
#[derive(Debug, Clone, Copy)]
struct Map {
    home: &'static str,
    work: &'static str,
    temp: &'static str,
    tool_cache: &'static str,
    repository: &'static str,
    objects: &'static str,
    muster: &'static str,
}

/// In a sandbox: as on GitHub's machines.
const SANDBOX: Map = Map {
    home: HOME,
    work: "/home/runner/work",
    temp: "/home/runner/work/_temp",
    tool_cache: "/opt/hostedtoolcache",
    repository: "/opt/muster/repository",
    objects: "/opt/muster/objects",
    muster: "/opt/muster/bin/muster",
};

/// As another user of this machine, whose other folders are as they are.
const GUEST: Map = Map {
    home: LODGING,
    work: "/run/muster/work",
    temp: "/run/muster/work/_temp",
    tool_cache: "/run/muster/tool-cache",
    repository: "/run/muster/repository",
    objects: "/run/muster/objects",
    muster: "/run/muster/bin/muster",
};

/// The places of a job as its steps see them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) workspace: PathBuf,
    pub(crate) temp: PathBuf,
    pub(crate) event: PathBuf,
    pub(crate) tool_cache: PathBuf,
    /// Where actions are that come from elsewhere.
    pub(crate) actions: PathBuf,
}

/// Where a job runs. Dropping it kills what is left of a sandboxed job.
#[derive(Debug)]
pub(crate) struct Ground {
    /// As the steps see them.
    pub(crate) places: Places,
    /// Where checkouts come from, as the steps see it.
    pub(crate) source: Source,
    /// The variables that every step has beside GitHub's.
    pub(crate) environment: Vec<(String, String)>,
    /// The program that does a checkout when it is called as `PROGRAM checkout ORDER`, as the steps see it:
    /// muster itself.
    pub(crate) program: PathBuf,
    /// What is said of it in the first lines of the log.
    pub(crate) description: String,
    /// The folder that the workspace lies in, as the runner sees it.
    work: PathBuf,
    /// Where the workspace is in `work`, or the work tree that stands for it.
    workspace: Workspace,
    /// The folder of scripts and command files, as the runner sees it.
    temp: PathBuf,
    /// Who owns what the steps may change, when that is not us.
    user: Option<u32>,
    footing: Footing,
}

/// Where a workspace is, as the runner sees it.
#[derive(Debug)]
enum Workspace {
    /// In the folder `work`, which the steps own, at this path.
    In(PathBuf),
    /// A work tree that the job runs in.
    Tree(PathBuf),
}

impl Workspace {
    fn of(spec: &JobSpec) -> Self {
        match &spec.in_place {
            Some(tree) => Self::Tree(tree.clone()),
            None => Self::In(in_work(Path::new(""), spec)),
        }
    }
}

/// As whom the steps run, and in what.
#[derive(Debug)]
enum Footing {
    /// As the runner does.
    Own,
    /// As another user.
    Guest {
        guest: Guest,
        /// What is shown to it and never changes.
        fixed: Vec<Bind>,
        /// What it sees empty.
        hidden: Option<PathBuf>,
    },
    Sandbox {
        sandbox: Sandbox,
        /// What of this machine is inside and never changes.
        fixed: Vec<Bind>,
    },
    /// In a sandbox whose root is of an image.
    Image {
        sandbox: Sandbox,
        /// The image, and what the job has changed.
        root: Root,
        /// This machine's Node.js, as the steps see it.
        node: Option<PathBuf>,
        /// Who they are outside, and the image: others may be that, and it may go away, once the sandbox is gone.
        _held: (Range, Option<File>),
    },
    /// In a container of its own.
    Container {
        inmate: Inmate,
        /// This machine's Node.js, as the steps see it.
        node: Option<PathBuf>,
    },
    /// What is left of it was killed.
    Gone,
}

/// What a job is given that does not run as we do.
struct Furnished {
    work: PathBuf,
    temp: PathBuf,
    places: Places,
    source: Source,
    environment: Vec<(String, String)>,
    /// What the steps may change.
    own: Vec<Bind>,
    /// What never changes.
    fixed: Vec<Bind>,
    /// Symbolic links: where, and to what.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Ground {
    /// Makes the folders, and the sandbox where there is to be one.
    ///
    /// # Errors
    ///
    /// What cannot be made, as a sentence.
    pub(crate) fn prepare(spec: &JobSpec, door: Option<&Door>) -> Result<Self, String> {
        Self::with(spec, door, &[], None)
    }

    /// As [`Self::prepare`], with something more of this machine inside where it is not all there, and in a sandbox as
    /// this user where it is to be one.
    fn with(
        spec: &JobSpec,
        door: Option<&Door>,
        more: &[Bind],
        user: Option<u32>,
    ) -> Result<Self, String> {
        let ground = match &spec.isolation {
            Isolation::None { why, guest } => Self::open(spec, why.clone(), guest.as_ref(), more),
            Isolation::Sandbox(cage) => {
                Self::caged(spec, cage, door, more, user).map_err(|error| error.to_string())
            }
            Isolation::Auto { cage, guest } => match Self::caged(spec, cage, door, more, user) {
                Ok(ground) => Ok(ground),
                // The author is trusted with this machine; that there is no sandbox is said.
                Err(error) => Self::open(spec, Some(error.to_string()), guest.as_ref(), more),
            },
        }?;
        ground.write_event(spec)?;
        Ok(ground)
    }

    /// Writes the event that the run is for.
    fn write_event(&self, spec: &JobSpec) -> Result<(), String> {
        let event = spec.github.get("event").cloned().unwrap_or_default();
        let event = serde_json::to_vec(&event).map_err(io::Error::from);
        event
            .and_then(|event| self.write("event.json", &event))
            .map(drop)
            .map_err(|error| format!("cannot prepare {}: {error}", spec.folder.display()))
    }

    /// No sandbox: the steps run as another user where they are to and we may choose one, else as we do.
    fn open(
        spec: &JobSpec,
        why: Option<String>,
        lodging: Option<&Lodging>,
        more: &[Bind],
    ) -> Result<Self, String> {
        let mut why = why.map(|why| format!(" No sandbox: {why}.")).unwrap_or_default();
        // What was made for a sandbox, or another user, is not ours.
        let clear = || {
            for name in ["work", "temp", "home", "tools", "tmp"] {
                drop(files::remove_tree(&spec.folder.join(name)));
            }
        };
        if let Some(lodging) = lodging {
            clear();
            match Self::guest(spec, lodging, &why, more) {
                Ok(Some(ground)) => return Ok(ground),
                Ok(None) => {}
                Err(error @ SandboxError::NoView(_)) => {
                    why = format!("{why} No user of their own: {error}.");
                    clear();
                }
                // Whatever else fails must not give the steps our rights.
                Err(error) => return Err(format!("no user of its own: {error}")),
            }
        }
        let temp = spec.folder.join("temp");
        let work = spec.folder.join("work");
        let workspace = match &spec.in_place {
            Some(folder) => folder.clone(),
            None => in_work(&work, spec),
        };
        let home = spec.folder.join("home");
        for folder in [&work, &workspace, &temp, &home, &spec.tool_cache] {
            fs::create_dir_all(folder)
                .map_err(|error| format!("cannot prepare {}: {error}", folder.display()))?;
        }
        Ok(Self {
            workspace: Workspace::of(spec),
            places: Places {
                workspace,
                event: temp.join("event.json"),
                temp: temp.clone(),
                tool_cache: spec.tool_cache.clone(),
                actions: work.join(ACTIONS),
            },
            source: spec.source.clone(),
            environment: spec.environment.clone(),
            program: own_program(&spec.folder.join("muster"))
                .map_err(|error| format!("cannot find muster itself: {error}"))?,
            description: format!(
                "none; the steps run as this user, with this machine's files and network.{why}"
            ),
            work,
            temp,
            user: None,
            footing: Footing::Own,
        })
    }

    /// Another user of this machine; none where we are not root.
    fn guest(
        spec: &JobSpec,
        lodging: &Lodging,
        why: &str,
        more: &[Bind],
    ) -> Result<Option<Self>, SandboxError> {
        let Some(user) = sandbox::user_of_its_own()? else { return Ok(None) };
        let mut furnished = furnish(spec, &GUEST, &lodging.kit, Some(user))?;
        furnished.fixed.extend_from_slice(more);
        furnished.fixed.extend(inside::users(&spec.folder, user, GUEST.home)?);
        let stay = Stay {
            binds: [furnished.own.as_slice(), &furnished.fixed].concat(),
            links: furnished.links.clone(),
            hidden: lodging.hidden.clone(),
            user,
            name: lodging.group.clone(),
            limits: Limits { memory_bytes: lodging.memory_bytes, processes: lodging.processes },
        };
        let guest = Guest::invite(&stay)?;
        let bounds = bounds(guest.cgroup(), lodging.processes, lodging.memory_bytes);
        let footing = Footing::Guest {
            guest,
            fixed: std::mem::take(&mut furnished.fixed),
            hidden: lodging.hidden.clone(),
        };
        let description = format!(
            "none; the steps run as a user of their own, with this machine's files and network; \
             {bounds}.{why}"
        );
        Ok(Some(Self::on(footing, &GUEST, spec, Some(user), furnished, description)))
    }

    /// A sandbox: the steps see what they need and own what they may change.
    fn caged(
        spec: &JobSpec,
        cage: &Cage,
        door: Option<&Door>,
        more: &[Bind],
        user: Option<u32>,
    ) -> Result<Self, SandboxError> {
        let user = user.map_or_else(sandbox::user_of_its_own, |user| Ok(Some(user)))?;
        if spec.in_place.is_some() && user.is_some() {
            return Err(SandboxError::System(io::Error::other(
                "under root a sandboxed job is another user, who may not change the work tree; leave \
                 out `--in-place`",
            )));
        }
        let mut furnished = furnish(spec, &SANDBOX, &cage.kit, user)?;
        if let Some(tree) = &spec.in_place {
            let to = furnished.places.workspace.clone();
            furnished.own.push(Bind { from: tree.clone(), to, writable: true });
        }
        furnished.fixed.extend_from_slice(more);
        let tmp = folder(spec, "tmp", user)?;
        furnished.own.push(Bind { from: tmp, to: "/tmp".into(), writable: true });
        furnished.links.push(("/var/tmp".into(), "/tmp".into()));
        let (system, links) = inside::system()?;
        furnished.links.extend(links);
        furnished.fixed.splice(0..0, inside::settings(&spec.folder, cage.network.is_open())?);
        furnished.fixed.splice(0..0, system);
        let sandbox = Self::enclose(cage, door, &mut furnished, user, None)?;
        let description = describe(sandbox.layers(), cage);
        let footing = Footing::Sandbox { sandbox, fixed: std::mem::take(&mut furnished.fixed) };
        Ok(Self::on(footing, &SANDBOX, spec, user, furnished, description))
    }

    /// Makes the sandbox of a job, and answers at its door where it has a network of its own.
    fn enclose(
        cage: &Cage,
        door: Option<&Door>,
        furnished: &mut Furnished,
        user: Option<u32>,
        root: Option<Root>,
    ) -> Result<Sandbox, SandboxError> {
        let door = door.filter(|_| !cage.network.is_open());
        let layout = Layout {
            name: cage.group.clone(),
            root,
            binds: [furnished.own.as_slice(), &furnished.fixed].concat(),
            links: furnished.links.clone(),
            network: cage.network.is_open(),
            doorway: door.map(Door::port),
            user,
            limits: Limits { memory_bytes: cage.memory_bytes, processes: cage.processes },
            walls: cage.walls,
        };
        let mut sandbox = Sandbox::start(&layout)?;
        if let Some((listener, door)) = sandbox.take_doorway().zip(door) {
            furnished.environment.extend(door.variables());
            door.clone().keep(listener)?;
        }
        Ok(sandbox)
    }

    fn on(
        footing: Footing,
        map: &Map,
        spec: &JobSpec,
        user: Option<u32>,
        furnished: Furnished,
        description: String,
    ) -> Self {
        let Furnished { work, temp, places, source, environment, .. } = furnished;
        let program = map.muster.into();
        Self {
            workspace: Workspace::of(spec),
            places,
            source,
            environment,
            program,
            description,
            work,
            temp,
            user,
            footing,
        }
    }

    /// Starts a program of the job.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn spawn(&self, program: Program) -> Result<Running, ProcessError> {
        match &self.footing {
            Footing::Own | Footing::Gone => program.spawn(),
            Footing::Guest { guest, .. } => program.spawn_as(guest),
            Footing::Sandbox { sandbox, .. } | Footing::Image { sandbox, .. } => {
                program.spawn_in(sandbox)
            }
            Footing::Container { inmate, .. } => inmate.spawn(program),
        }
    }

    /// Starts a program of the job on a terminal.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn spawn_on(
        &self,
        terminal: &Terminal,
        program: Program,
    ) -> Result<Running, ProcessError> {
        program.spawn_on(terminal, self.place())
    }

    /// Starts a program of the job that is talked with; returns what it writes, and what it reads, too.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn spawn_talking(
        &self,
        program: Program,
    ) -> Result<(Running, PipeReader, PipeWriter), ProcessError> {
        program.spawn_talking(self.place())
    }

    fn place(&self) -> Place<'_> {
        match &self.footing {
            Footing::Own | Footing::Gone => Place::Here,
            Footing::Guest { guest, .. } => Place::As(guest),
            Footing::Sandbox { sandbox, .. } | Footing::Image { sandbox, .. } => Place::In(sandbox),
            Footing::Container { inmate, .. } => inmate.place(),
        }
    }

    /// Writes a new file among the job's temporary ones, and returns its path for the steps.
    ///
    /// # Errors
    ///
    /// When it cannot be written, as when a step has put something in its place.
    pub(crate) fn write(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.temp.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.write_all(content)?;
        fchown(&file, self.user, self.user)?;
        if matches!(self.footing, Footing::Container { .. }) && self.user.is_none() {
            // Who the steps are there is not ours to say; nobody else reaches the folder.
            file.set_permissions(Permissions::from_mode(0o666))?;
        }
        Ok(self.places.temp.join(name))
    }

    /// Reads a file that [`Self::write`] made and that steps may have changed; `None` when it is
    /// gone. At most `max + 1` bytes are read.
    ///
    /// # Errors
    ///
    /// When it is no regular file any more, or cannot be read.
    pub(crate) fn read(&self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        // Neither a link nor a pipe: what is opened is judged, not what the name meant before.
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.cast_signed())
            .open(self.temp.join(name));
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file any more"));
        }
        let mut content = Vec::new();
        file.take(max + 1).read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Gives the steps a copy of an action, `below` the folder of all.
    ///
    /// # Errors
    ///
    /// When it cannot be copied, or a step has put something in its place.
    pub(crate) fn show_action(&self, from: &Path, below: &Path) -> io::Result<()> {
        let staged = self.temp.with_file_name("staged");
        if staged.exists() {
            files::remove_tree(&staged)?;
        }
        fs::create_dir(&staged)?;
        files::copy_tree(from, &staged, self.user)?;
        chown(&staged, self.user, self.user)?;
        let below = Path::new(ACTIONS).join(below);
        let (parent, name) = (below.parent().unwrap_or(Path::new("")), below.file_name());
        // Steps may have put links in the way: none is followed.
        let folder = self.step_into(&self.work, parent)?;
        rustix::fs::renameat(CWD, &staged, &folder, name.unwrap_or_default())?;
        Ok(())
    }

    /// Makes the steps the owner of what is in a folder.
    fn give(&self, folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
        let owner = self.user.map(|user| (Uid::from_raw(user), Gid::from_raw(user)));
        let (user, group) = owner.unzip();
        Ok(rustix::fs::chownat(folder, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Reads a file of the workspace, by its path from there; `None` when it is not there. At most `max + 1` bytes are
    /// read.
    ///
    /// # Errors
    ///
    /// When the path leads out of the workspace, or to what is no regular file, or it cannot be read.
    pub(crate) fn read_in_workspace(&self, path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
        // A step may have put links anywhere, also in the place of the workspace: none leads out.
        match &self.workspace {
            Workspace::In(below) => read_beneath(&self.work, &below.join(path), max),
            Workspace::Tree(tree) => read_beneath(tree, path, max),
        }
    }

    /// Reads a file by its path as the steps see it, from the workspace on: one of the workspace, or of the job's
    /// temporary ones; `None` when it is not there. At most `max + 1` bytes are read.
    ///
    /// # Errors
    ///
    /// When the path leads elsewhere, or to what is no regular file, or it cannot be read.
    pub(crate) fn read_of_job(&self, path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
        let path = plain(&self.places.workspace.join(path));
        if let Ok(below) = path.strip_prefix(&self.places.workspace) {
            return self.read_in_workspace(below, max);
        }
        if let Ok(below) = path.strip_prefix(&self.places.temp) {
            return read_beneath(&self.temp, below, max);
        }
        if let Ok(below) = path.strip_prefix(&self.places.actions) {
            return read_beneath(&self.work, &Path::new(ACTIONS).join(below), max);
        }
        // As ourselves a step could read it, too.
        if self.is_ours() {
            let path = match fs::canonicalize(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                real => real?,
            };
            return read_beneath(Path::new("/"), path.strip_prefix("/").unwrap_or(&path), max);
        }
        Err(io::Error::other(
            "it is neither in the workspace, nor in an action, nor among the job's temporary files",
        ))
    }

    /// Takes a temporary file of the job away.
    pub(crate) fn remove(&self, name: &str) {
        // One that stays only takes room until the job's folder goes.
        drop(fs::remove_file(self.temp.join(name)));
    }

    /// Looks a program up as a step would, in `search_path`.
    ///
    /// Where steps are not as we are, only among what no step can change; one that is nowhere there is left
    /// to the start of the step to find, but for the shells of which there is another.
    pub(crate) fn find(&self, name: &str, search_path: &str) -> Option<PathBuf> {
        let is_ours = self.is_ours();
        let there = |path: PathBuf| self.has_file(&path).then_some(path);
        if name.contains('/') {
            return if is_ours { there(name.into()) } else { Some(name.into()) };
        }
        let found = std::env::split_paths(search_path).map(|folder| folder.join(name));
        let found = found.into_iter().find_map(there);
        // One that a step has installed: whether it is there shows when it is started.
        let is_elsewhere = self.inmate().is_some();
        let elsewhere = is_elsewhere || (!is_ours && !SHELLS.contains(&name));
        found.or_else(|| elsewhere.then(|| name.into()))
    }

    /// Returns whether a file is among what no step changes, or what an image has.
    fn has_file(&self, path: &Path) -> bool {
        match &self.footing {
            Footing::Image { root, .. } => imaged::has_file(root, path),
            _ => self.outside(path).is_some_and(|outside| outside.is_file()),
        }
    }

    /// Returns where a path of the steps is for us, if it is in what no step changes.
    fn outside(&self, path: &Path) -> Option<PathBuf> {
        let (fixed, hidden) = match &self.footing {
            Footing::Own | Footing::Gone => return Some(path.to_owned()),
            Footing::Guest { fixed, hidden, .. } => (fixed, Some(hidden)),
            Footing::Sandbox { fixed, .. } => (fixed, None),
            Footing::Container { .. } | Footing::Image { .. } => return None,
        };
        // A step must not learn what there is elsewhere.
        if path.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let shown = fixed.iter().find_map(|bind| {
            let below = path.strip_prefix(&bind.to).ok()?;
            let is_it = below.as_os_str().is_empty();
            Some(if is_it { bind.from.clone() } else { bind.from.join(below) })
        });
        // All else is as it is, but for what a guest has in the place of something.
        let covered = |folder: &Path| path.starts_with(folder);
        let is_plain = hidden.is_some_and(|hidden| {
            !covered(Path::new(sandbox::PLACE)) && !hidden.as_deref().is_some_and(covered)
        });
        shown.or_else(|| is_plain.then(|| path.to_owned()))
    }

    /// Returns how often the kernel killed something of the job because it had no memory left.
    pub(crate) fn memory_kills(&self) -> u64 {
        match &self.footing {
            // Of a container the engine knows.
            Footing::Own | Footing::Container { .. } | Footing::Gone => 0,
            Footing::Guest { guest, .. } => guest.memory_kills(),
            Footing::Sandbox { sandbox, .. } | Footing::Image { sandbox, .. } => {
                sandbox.memory_kills()
            }
        }
    }

    /// Returns true when the steps have a root of their own, which need have nothing that this machine has.
    pub(crate) fn has_own_root(&self) -> bool {
        matches!(self.footing, Footing::Container { .. } | Footing::Image { .. })
    }

    /// Returns true when the steps are who we are, and see what we see.
    fn is_ours(&self) -> bool {
        matches!(self.footing, Footing::Own)
    }

    /// Returns true when a folder that a step names is surely not there; where steps are not as we are, the
    /// start of the step tells.
    pub(crate) fn lacks_folder(&self, folder: &Path) -> bool {
        self.is_ours() && !folder.is_dir()
    }

    /// Kills what is left of a job in a sandbox or container.
    pub(crate) fn kill(&mut self) {
        if let Footing::Container { inmate, .. } = &self.footing {
            inmate.dismiss();
        }
        drop(std::mem::replace(&mut self.footing, Footing::Gone));
    }

    /// Takes the job's own workspace away.
    pub(crate) fn clear(&self) {
        // What cannot be removed is removed with the job's folder by who made it.
        drop(files::remove_tree(&self.work));
    }
}

/// Makes a folder of the job's, which belongs to its user.
fn folder(spec: &JobSpec, name: &str, user: Option<u32>) -> io::Result<PathBuf> {
    let path = spec.folder.join(name);
    fs::create_dir_all(&path)?;
    chown(&path, user, user)?;
    Ok(path)
}

/// Makes what a job has that does not run as we do, and says where its steps see it.
fn furnish(spec: &JobSpec, map: &Map, kit: &Kit, user: Option<u32>) -> io::Result<Furnished> {
    let (work, temp) = (folder(spec, "work", user)?, folder(spec, "temp", user)?);
    let workspace = in_work(&work, spec);
    fs::create_dir_all(&workspace)?;
    for made in workspace.ancestors().take_while(|made| *made != work) {
        chown(made, user, user)?;
    }
    let home = folder(spec, "home", user)?;
    let mut fixed = inside::repository(spec, map.repository.as_ref(), map.objects.as_ref())?;
    fixed.push(inside::read_only(&own_program(&spec.folder.join("muster"))?, map.muster));
    for seed in &kit.home {
        fixed.extend(inside::plant(&home, map.home.as_ref(), seed, user)?);
    }
    fixed.extend(kit.tools.iter().map(|tool| inside::read_only(&tool.from, &tool.to)));
    let known = |tool: &Tool| Some((tool.known_as.clone()?, tool.to.clone()));
    let links = kit.tools.iter().filter_map(known).collect();
    let writable =
        |from: &Path, to: &str| Bind { from: from.into(), to: to.into(), writable: true };
    let own = vec![
        writable(&home, map.home),
        writable(&work, map.work),
        writable(&temp, map.temp),
        writable(&folder(spec, "tools", user)?, map.tool_cache),
    ];
    let mut environment = kit.environment.clone();
    for (name, value) in [("HOME", map.home), ("USER", "runner"), ("LOGNAME", "runner")] {
        environment.push((name.to_owned(), value.to_owned()));
    }
    let places = Places {
        workspace: in_work(Path::new(map.work), spec),
        temp: map.temp.into(),
        event: Path::new(map.temp).join("event.json"),
        tool_cache: map.tool_cache.into(),
        actions: Path::new(map.work).join(ACTIONS),
    };
    let source = Source {
        git_dir: map.repository.into(),
        extra_objects: spec.source.extra_objects.as_ref().map(|_| map.objects.into()),
        ..spec.source.clone()
    };
    Ok(Furnished { work, temp, places, source, environment, own, fixed, links })
}

/// Returns the workspace in the folder `work`: twice the repository's name, as at GitHub.
fn in_work(work: &Path, spec: &JobSpec) -> PathBuf {
    let full = spec.github.get("repository").and_then(|name| name.as_str()).unwrap_or_default();
    let name = full.rsplit('/').next().unwrap_or_default();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    // `_temp` is the folder of temporary files, beside the repository's.
    let usable = name.bytes().all(plain) && !name.starts_with(['.', '_']) && !name.is_empty();
    let name = if usable { name } else { "repository" };
    work.join(name).join(name)
}

/// Says what stands between the steps and the machine.
fn describe(layers: Layers, cage: &Cage) -> String {
    let landlock = match layers.landlock {
        0 => "no Landlock".to_owned(),
        version => format!("Landlock {version}"),
    };
    let bounds = bounds(layers.cgroup, cage.processes, cage.memory_bytes);
    let network = match &cage.network {
        Network::None => "no network".to_owned(),
        Network::Open => "network: this machine's".to_owned(),
        Network::Only(hosts) => {
            let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
            format!("network: {}", hosts.join(", "))
        }
    };
    let walls = match (cage.walls, layers.landlock) {
        (false, _) => "",
        (true, 0) => ", no walls between steps (that takes Landlock)",
        (true, _) => ", walls between steps",
    };
    format!("sandbox: namespaces, seccomp, {landlock}{walls}, {bounds}; {network}.")
}

/// Says what bounds a job.
fn bounds(cgroup: Option<InForce>, processes: u32, memory_bytes: u64) -> String {
    let Some(InForce { version, processors }) = cgroup else {
        return format!("no cgroup, at most {processes} processes");
    };
    let share = if processors { "a fair" } else { "no" };
    let mib = memory_bytes >> 20;
    format!(
        "cgroup v{version} with {processes} processes, {mib} MiB and {share} share of processors"
    )
}

/// Reads a file beneath a folder, whatever links are there; `None` when it is not there. At most `max + 1` bytes are
/// read.
pub(crate) fn read_beneath(top: &Path, path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::open(top, flags | OFlags::NOFOLLOW, Mode::empty())?;
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(io::Error::other("it leads out of the workspace"));
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file = match rustix::fs::openat2(&top, path, flags, Mode::empty(), within) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::XDEV) => return Err(io::Error::other("it leads out of the workspace")),
        opened => fs::File::from(opened?),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut content = Vec::new();
    file.take(max + 1).read_to_end(&mut content)?;
    Ok(Some(content))
}
