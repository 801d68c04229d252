//! Where a job runs: its folders, as the runner sees them and as its steps do.
//!
//! Without isolation both are the same. In a sandbox the steps see GitHub's places
//! (`/home/runner/work/…`), and everything that they may change belongs to them: so the runner never
//! follows a path of theirs, only names in folders that are its own.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Component, Path, PathBuf};

use muster_sys::files;
use muster_sys::process::{ProcessError, Program, Running};
use muster_sys::sandbox::{self, Bind, Layers, Layout, Limits, Sandbox, SandboxError};

use crate::spec::{Cage, Content, HOME, Isolation, JobSpec, Seed, Source, Tool};

const TEMP: &str = "/home/runner/work/_temp";
const TOOL_CACHE: &str = "/opt/hostedtoolcache";
const REPOSITORY: &str = "/opt/muster/repository";
const OBJECTS: &str = "/opt/muster/objects";
const MUSTER: &str = "/opt/muster/bin/muster";
/// Folders of the system that are inside as they are outside.
const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];
/// What of `/etc` is inside: what programs need to start and to find each other, nothing private.
/// Files are copied, for a mount costs more.
const SETTINGS: [&str; 17] = [
    "bash.bashrc",
    "debian_version",
    "gai.conf",
    "host.conf",
    "inputrc",
    "ld.so.cache",
    "localtime",
    "lsb-release",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "profile",
    "protocols",
    "services",
    "ssl/openssl.cnf",
    "timezone",
];
/// Folders of `/etc` that are inside.
const SETTINGS_FOLDERS: [&str; 8] = [
    "alternatives",
    "crypto-policies",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "pki/ca-trust",
    "pki/tls/certs",
    "ssl/certs",
];
/// Shells of which another takes the place where they are missing.
const SHELLS: [&str; 2] = ["bash", "python"];
/// How far a chain of borrowed object folders is followed.
const MAX_ALTERNATES: usize = 8;

/// The places of a job as its steps see them.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) workspace: PathBuf,
    pub(crate) temp: PathBuf,
    pub(crate) event: PathBuf,
    pub(crate) tool_cache: PathBuf,
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
    /// muster itself, as the steps see it.
    pub(crate) program: PathBuf,
    /// What is said of it in the first lines of the log.
    pub(crate) description: String,
    /// The folder that the workspace lies in, as the runner sees it.
    work: PathBuf,
    /// The folder of scripts and command files, as the runner sees it.
    temp: PathBuf,
    /// Who owns what the steps may change, when that is not us.
    user: Option<u32>,
    /// What of this machine is inside and never changes; empty without a sandbox.
    fixed: Vec<Bind>,
    sandbox: Option<Sandbox>,
}

impl Ground {
    /// Makes the folders, and the sandbox where there is to be one.
    ///
    /// # Errors
    ///
    /// What cannot be made, as a sentence.
    pub(crate) fn prepare(spec: &JobSpec) -> Result<Self, String> {
        let ground = match &spec.isolation {
            Isolation::None { why } => Self::open(spec, why.as_deref()),
            Isolation::Sandbox(cage) => Self::caged(spec, cage).map_err(|error| error.to_string()),
            Isolation::Auto(cage) => match Self::caged(spec, cage) {
                Ok(ground) => Ok(ground),
                // The author is trusted with this machine; that there is no sandbox is said.
                Err(error) => Self::open(spec, Some(&error.to_string())),
            },
        }?;
        let event = spec.github.get("event").cloned().unwrap_or_default();
        let event = serde_json::to_vec(&event).map_err(io::Error::from);
        event
            .and_then(|event| ground.write("event.json", &event))
            .map_err(|error| format!("cannot prepare {}: {error}", spec.folder.display()))?;
        Ok(ground)
    }

    /// No isolation: the steps run as we do.
    fn open(spec: &JobSpec, why: Option<&str>) -> Result<Self, String> {
        let temp = spec.folder.join("temp");
        let work = spec.folder.join("work");
        let workspace = match &spec.in_place {
            Some(folder) => folder.clone(),
            None => in_work(&work, spec),
        };
        for folder in [&workspace, &temp, &spec.tool_cache] {
            fs::create_dir_all(folder)
                .map_err(|error| format!("cannot prepare {}: {error}", folder.display()))?;
        }
        let why = why.map(|why| format!(" No sandbox: {why}.")).unwrap_or_default();
        Ok(Self {
            places: Places {
                workspace,
                event: temp.join("event.json"),
                temp: temp.clone(),
                tool_cache: spec.tool_cache.clone(),
            },
            source: spec.source.clone(),
            environment: spec.environment.clone(),
            program: spec.program.clone(),
            description: format!(
                "none; the steps run as this user, with this machine's files and network.{why}"
            ),
            work,
            temp,
            user: None,
            fixed: Vec::new(),
            sandbox: None,
        })
    }

    /// A sandbox: the steps see what they need and own what they may change.
    fn caged(spec: &JobSpec, cage: &Cage) -> Result<Self, SandboxError> {
        let user = sandbox::user_of_its_own()?;
        if spec.in_place.is_some() && user.is_some() {
            return Err(SandboxError::System(io::Error::other(
                "under root a sandboxed job is another user, who may not change the work tree; leave \
                 out `--in-place`",
            )));
        }
        let folder = |name: &str| -> io::Result<PathBuf> {
            let path = spec.folder.join(name);
            fs::create_dir_all(&path)?;
            std::os::unix::fs::chown(&path, user, user)?;
            Ok(path)
        };
        let (work, temp) = (folder("work")?, folder("temp")?);
        let workspace = in_work(&work, spec);
        fs::create_dir_all(&workspace)?;
        for made in workspace.ancestors().take_while(|made| *made != work) {
            std::os::unix::fs::chown(made, user, user)?;
        }
        let home = folder("home")?;
        let mut planted = Vec::new();
        for seed in &cage.home {
            planted.extend(plant(&home, seed, user)?);
        }
        let writable = |from: PathBuf, to: &str| Bind { from, to: to.into(), writable: true };
        let inside_work = Path::new(HOME).join("work");
        let inside_workspace = in_work(&inside_work, spec);
        let mut binds = vec![
            writable(home, HOME),
            Bind { from: work.clone(), to: inside_work, writable: true },
            writable(temp.clone(), TEMP),
            writable(folder("tmp")?, "/tmp"),
            writable(folder("tools")?, TOOL_CACHE),
        ];
        if let Some(tree) = &spec.in_place {
            binds.push(Bind { from: tree.clone(), to: inside_workspace.clone(), writable: true });
        }
        let (system, mut links) = system()?;
        let mut fixed = system;
        fixed.extend(settings(&spec.folder, cage.network)?);
        fixed.extend(repository(spec)?);
        fixed.push(read_only(&spec.program, MUSTER));
        fixed.extend(planted);
        fixed.extend(cage.tools.iter().map(|tool| read_only(&tool.from, &tool.to)));
        links.push(("/var/tmp".into(), "/tmp".into()));
        let known = |tool: &Tool| Some((tool.known_as.clone()?, tool.to.clone()));
        links.extend(cage.tools.iter().filter_map(known));
        binds.extend(fixed.iter().cloned());
        let limits = Limits { memory_bytes: cage.memory_bytes, processes: cage.processes };
        let name = cage.group.clone();
        let sandbox =
            Sandbox::start(&Layout { name, binds, links, network: cage.network, user, limits })?;
        let mut environment = cage.environment.clone();
        for (name, value) in
            [("HOME", HOME), ("USER", "runner"), ("LOGNAME", "runner"), ("SHELL", "/bin/bash")]
        {
            environment.push((name.to_owned(), value.to_owned()));
        }
        Ok(Self {
            places: Places {
                workspace: inside_workspace,
                temp: TEMP.into(),
                event: Path::new(TEMP).join("event.json"),
                tool_cache: TOOL_CACHE.into(),
            },
            source: Source {
                git_dir: REPOSITORY.into(),
                extra_objects: spec.source.extra_objects.as_ref().map(|_| OBJECTS.into()),
                ..spec.source.clone()
            },
            environment,
            program: MUSTER.into(),
            description: describe(sandbox.layers(), cage),
            work,
            temp,
            user,
            fixed,
            sandbox: Some(sandbox),
        })
    }

    /// Starts a program of the job.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn spawn(&self, program: Program) -> Result<Running, ProcessError> {
        match &self.sandbox {
            Some(sandbox) => program.spawn_in(sandbox),
            None => program.spawn(),
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

    /// Takes a temporary file of the job away.
    pub(crate) fn remove(&self, name: &str) {
        // One that stays only takes room until the job's folder goes.
        drop(fs::remove_file(self.temp.join(name)));
    }

    /// Looks a program up as a step would, in `search_path`.
    ///
    /// In a sandbox only among what no step can change; one that is nowhere there is left to the start of
    /// the step to find, but for the shells of which there is another.
    pub(crate) fn find(&self, name: &str, search_path: &str) -> Option<PathBuf> {
        let there = |path: PathBuf| match &self.sandbox {
            None => Some(path).filter(|path| path.is_file()),
            Some(_) => self.outside(&path).filter(|outside| outside.is_file()).map(|_| path),
        };
        if name.contains('/') {
            return if self.sandbox.is_some() { Some(name.into()) } else { there(name.into()) };
        }
        let found = std::env::split_paths(search_path).map(|folder| folder.join(name));
        let found = found.into_iter().find_map(there);
        // One that a step has installed: whether it is there shows when it is started.
        let elsewhere = self.sandbox.is_some() && !SHELLS.contains(&name);
        found.or_else(|| elsewhere.then(|| name.into()))
    }

    /// Returns where a path of the steps is outside, if it is in what never changes.
    fn outside(&self, path: &Path) -> Option<PathBuf> {
        // A step must not learn what there is elsewhere.
        if path.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        self.fixed.iter().find_map(|bind| {
            let below = path.strip_prefix(&bind.to).ok()?;
            Some(if below.as_os_str().is_empty() {
                bind.from.clone()
            } else {
                bind.from.join(below)
            })
        })
    }

    /// Returns true when a folder that a step names is surely not there; in a sandbox the start of
    /// the step tells.
    pub(crate) fn lacks_folder(&self, folder: &Path) -> bool {
        self.sandbox.is_none() && !folder.is_dir()
    }

    /// Kills what is left of a sandboxed job.
    pub(crate) fn kill(&mut self) {
        drop(self.sandbox.take());
    }

    /// Takes the job's own workspace away.
    pub(crate) fn clear(&self) {
        // What cannot be removed is removed with the job's folder by who made it.
        drop(files::remove_tree(&self.work));
    }
}

/// Returns whether nobody but us can write to a file.
fn is_ours_alone(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let ours = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(file)
        .is_ok_and(|of| of.is_file() && of.uid() == ours && of.mode() & 0o022 == 0)
}

/// Puts something into the home of a job that does not run yet; returns what has to be bound there.
fn plant(home: &Path, seed: &Seed, user: Option<u32>) -> io::Result<Option<Bind>> {
    let path = home.join(&seed.path);
    for folder in seed.path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
        let folder = home.join(folder);
        if !folder.is_dir() {
            fs::create_dir(&folder)?;
            std::os::unix::fs::chown(&folder, user, user)?;
        }
    }
    match &seed.content {
        Content::Link(to) => std::os::unix::fs::symlink(to, &path)?,
        Content::Text(text) => fs::write(&path, text)?,
        // To another user a file of ours is closed, in whatever folder.
        Content::Program(from)
            if user.is_some() && is_ours_alone(from) && fs::hard_link(from, &path).is_ok() =>
        {
            return Ok(None);
        }
        Content::Program(from) => {
            return Ok(Some(read_only(from, Path::new(HOME).join(&seed.path))));
        }
    }
    std::os::unix::fs::lchown(&path, user, user)?;
    Ok(None)
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

fn read_only(from: &Path, to: impl Into<PathBuf>) -> Bind {
    Bind { from: from.to_owned(), to: to.into(), writable: false }
}

/// Symbolic links: where, and to what.
type Links = Vec<(PathBuf, PathBuf)>;

/// Returns the system's folders, and those that are only links.
fn system() -> io::Result<(Vec<Bind>, Links)> {
    let (mut binds, mut links) = (Vec::new(), Vec::new());
    for folder in SYSTEM {
        match fs::symlink_metadata(folder) {
            Ok(metadata) if metadata.is_symlink() => {
                links.push((folder.into(), fs::read_link(folder)?));
            }
            Ok(metadata) if metadata.is_dir() => binds.push(read_only(Path::new(folder), folder)),
            _ => {}
        }
    }
    Ok((binds, links))
}

/// Returns what is in `/etc` inside; users, groups and host names are the sandbox's own.
fn settings(folder: &Path, network: bool) -> io::Result<Vec<Bind>> {
    let host = Path::new("/etc");
    let etc = folder.join("etc");
    fs::create_dir_all(&etc)?;
    let write = |name: &str, content: &[u8]| -> io::Result<()> {
        let path = etc.join(name);
        fs::create_dir_all(path.parent().unwrap_or(&etc))?;
        fs::write(&path, content)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))
    };
    for (name, content) in [
        (
            "passwd",
            "root:x:0:0:root:/root:/usr/sbin/nologin\nrunner:x:1001:1001::/home/runner:/bin/bash\n\
             nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
        ),
        ("group", "root:x:0:\nrunner:x:1001:\nnogroup:x:65534:\n"),
        ("hosts", "127.0.0.1 localhost runner\n::1 localhost runner\n"),
        ("hostname", "runner\n"),
    ] {
        write(name, content.as_bytes())?;
    }
    // With this machine's network come the names that it knows.
    let more: &[&str] = if network { &["hosts", "resolv.conf"] } else { &[] };
    for name in SETTINGS.iter().chain(more) {
        // One that is not there is not there inside either.
        if let Ok(content) = fs::read(host.join(name)) {
            write(name, &content)?;
        }
    }
    let mut binds = vec![read_only(&etc, host)];
    for name in SETTINGS_FOLDERS {
        let path = host.join(name);
        if path.is_dir() {
            fs::create_dir_all(etc.join(name))?;
            binds.push(read_only(&path, path.clone()));
        }
    }
    Ok(binds)
}

/// Returns the objects and refs of the repository, and nothing of its configuration.
fn repository(spec: &JobSpec) -> io::Result<Vec<Bind>> {
    let source = &spec.source;
    let folder = spec.folder.join("repository");
    for name in ["objects", "refs"] {
        fs::create_dir_all(folder.join(name))?;
    }
    for (name, content) in [
        ("HEAD", "ref: refs/heads/none\n"),
        ("config", "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"),
        ("packed-refs", ""),
    ] {
        let path = folder.join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    let inside = Path::new(REPOSITORY);
    let mut binds = vec![read_only(&folder, inside)];
    for name in ["objects", "refs", "packed-refs"] {
        let path = source.git_dir.join(name);
        if path.exists() {
            binds.push(read_only(&path, inside.join(name)));
        }
    }
    alternates(&source.git_dir.join("objects"), &inside.join("objects"), &mut binds, 0);
    if let Some(objects) = &source.extra_objects {
        binds.push(read_only(objects, OBJECTS));
    }
    Ok(binds)
}

/// Adds the object folders that one borrows from, where git will look for them.
fn alternates(from: &Path, to: &Path, binds: &mut Vec<Bind>, depth: usize) {
    let Ok(list) = fs::read_to_string(from.join("info/alternates")) else { return };
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (next, inside) = (from.join(line), plain(&to.join(line)));
        if depth < MAX_ALTERNATES && next.is_dir() && !binds.iter().any(|bind| bind.to == inside) {
            binds.push(read_only(&next, &inside));
            alternates(&next, &inside, binds, depth + 1);
        }
    }
}

/// Takes `..` out of a path, by its words alone.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

/// Says what stands between the steps and the machine.
fn describe(layers: Layers, cage: &Cage) -> String {
    let landlock = match layers.landlock {
        0 => "no Landlock".to_owned(),
        version => format!("Landlock {version}"),
    };
    let bounds = match layers.cgroup {
        Some(version) => format!(
            "cgroup v{version} with {} processes and {} MiB",
            cage.processes,
            cage.memory_bytes >> 20
        ),
        None => format!("no cgroup, at most {} processes", cage.processes),
    };
    let network = if cage.network { "network: this machine's" } else { "no network" };
    format!("sandbox: namespaces, seccomp, {landlock}, {bounds}; {network}.")
}
