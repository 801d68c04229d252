//! Where a job runs: its folders, as the runner sees them and as its steps do.
//!
//! As the runner's own user both are the same. In a sandbox the steps see GitHub's places
//! (`/home/runner/work/…`), and as another user theirs are below `/run/muster`; everything that they may
//! change belongs to them then: so the runner never follows a path of theirs, only names in folders that
//! are its own.

mod contained;
mod doorway;
mod find;
mod imaged;
mod inside;
mod written;

pub(crate) use self::contained::{WORKSPACE, places as places_in_a_container};
pub(crate) use self::doorway::Door;
pub(crate) use self::inside::plain;
pub(crate) use self::written::read_beneath;

use std::fs::{self, File};
use std::io::{self, PipeReader, PipeWriter};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use muster_sys::files;
use muster_sys::process::{Place, ProcessError, Program, Running, own_program};
use muster_sys::sandbox::{
    self, Bind, Guest, InForce, Layers, Layout, Limits, Range, Root, Sandbox, SandboxError, Stay,
};
use muster_sys::terminal::Terminal;

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
        program.spawn_at(self.place())
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
