//! A container engine of the tests alone, its images, and a registry that wants a password.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use muster_sys::clock;
use muster_sys::process::{Output, Program};

use crate::kept::Kept;
use crate::server::kill;

const LIMIT: Duration = Duration::from_secs(120);
/// Docker is up within this time, or not at all.
const BEGINNING: Duration = Duration::from_secs(60);

/// What a test needs in an image: BusyBox, and the C library for programs of the machine.
pub(crate) const IMAGE: &str = "localhost/muster-test:1";
/// Who may pull from the registry, by which password, and its hash.
pub(crate) const USER: &str = "puller";
pub(crate) const PASSWORD: &str = "registry-password";
const HASH: &str = "$2b$05$3j1YQcYASOLaIDD2XdFYhuLlff1dXEqgn2Y/Jcr68WPAGTXmsef9G";

/// Docker, and a registry beside it.
pub(crate) struct Engine {
    docker: Kept,
    _registry: Kept,
    _open: Kept,
    /// The image in a registry that wants a password, and in one that does not.
    pub(crate) remote: String,
    pub(crate) base: String,
}

/// Returns Docker; `None`, which is said, where there can be none. Where `CI` is set there must be one.
pub(crate) fn engine() -> Option<&'static Engine> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    there(ENGINE.get_or_init(|| started(Engine::docker_of_its_own)))
}

/// Returns Podman, as [`engine`] returns Docker.
pub(crate) fn podman() -> Option<&'static Engine> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    there(ENGINE.get_or_init(|| started(Engine::podman_of_its_own)))
}

/// Makes of each story a test with Docker and one with Podman.
macro_rules! on_engines {
    ($($story:ident),* $(,)?) => {
        mod docker {
            $(#[test]
            fn $story() {
                let Some(engine) = crate::engine::engine() else { return };
                insta::allow_duplicates! { super::$story(engine); }
            })*
        }
        mod podman {
            $(#[test]
            fn $story() {
                let Some(engine) = crate::engine::podman() else { return };
                insta::allow_duplicates! { super::$story(engine); }
            })*
        }
    };
}
pub(crate) use on_engines;

fn started(start: fn([u16; 2]) -> Kept) -> Result<Engine, String> {
    match rustix::process::geteuid().is_root() {
        true => Engine::start(start),
        false => Err("an engine of the tests' own needs root".to_owned()),
    }
}

fn there(engine: &'static Result<Engine, String>) -> Option<&'static Engine> {
    match engine {
        Ok(engine) => Some(engine),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "{why}");
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("skipped: {why}");
            }
            None
        }
    }
}

impl Engine {
    /// Returns a Docker that is nobody else's, to be killed.
    pub(crate) fn to_be_killed() -> Self {
        started(Self::docker_of_its_own).unwrap()
    }

    /// Kills it, and what it has started to look after containers.
    pub(crate) fn kill(&self) {
        for file in ["pid", "exec/containerd/containerd.pid"] {
            let pid = fs::read_to_string(self.docker.folder.join(file)).unwrap();
            kill(pid.trim());
        }
    }

    /// Docker, in a folder of its own.
    fn docker_of_its_own(_registries: [u16; 2]) -> Kept {
        let folder = Kept::folder();
        let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let host = format!("unix://{}", at("docker.sock"));
        let command = [
            ("dockerd", String::new()),
            ("--data-root", at("data")),
            ("--exec-root", at("exec")),
            ("--pidfile", at("pid")),
            ("--host", host),
            // A bridge of that name may be another engine's.
            ("--bridge", "none".to_owned()),
        ];
        let command = command.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        let command: Vec<String> = command.filter(|word| !word.is_empty()).collect();
        Kept::start(folder, "TERM", &command)
    }

    /// Podman, in a folder of its own, with a service that speaks Docker's API.
    fn podman_of_its_own(registries: [u16; 2]) -> Kept {
        let folder = Kept::folder();
        let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let config = "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n";
        fs::write(at("containers.conf"), config).unwrap();
        let insecure = registries.map(|port| {
            format!("[[registry]]\nlocation = \"127.0.0.1:{port}\"\ninsecure = true\n")
        });
        fs::write(at("registries.conf"), insecure.concat()).unwrap();
        let mut command = vec!["env".to_owned()];
        for (name, file) in [
            ("CONTAINERS_CONF", "containers.conf"),
            ("CONTAINERS_REGISTRIES_CONF", "registries.conf"),
        ] {
            command.push(format!("{name}={}", at(file)));
        }
        let options = [("--root", at("root")), ("--runroot", at("run")), ("--tmpdir", at("tmp"))];
        command.push("podman".to_owned());
        command.extend(options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
        command.extend(["system", "service", "--time", "0"].map(str::to_owned));
        command.push(format!("unix://{}", at("docker.sock")));
        Kept::start(folder, "TERM", &command)
    }

    /// Starts an engine, which is told the ports of the registries beside it.
    fn start(start: fn([u16; 2]) -> Kept) -> Result<Self, String> {
        let (registry, port) = self::registry(true);
        let (open, open_port) = self::registry(false);
        let docker = start([port, open_port]);
        let remote = format!("127.0.0.1:{port}/small:1");
        let base = format!("127.0.0.1:{open_port}/small:1");
        let engine = Self { docker, _registry: registry, _open: open, remote, base };
        let start = clock::monotonic();
        while !engine.try_docker(&["info"]).status.success() {
            if start.elapsed() > BEGINNING {
                let log = fs::read_to_string(engine.docker.folder.join("log"));
                return Err(format!("no engine starts here:\n{}", log.unwrap_or_default()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        engine.make_image();
        Ok(engine)
    }

    /// Makes the image, and gives it to the registry, too.
    fn make_image(&self) {
        let root = self.docker.folder.join("image");
        small_root(&root);
        let tar = self.docker.folder.join("image.tar");
        run(Program::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."));
        let tar = tar.to_string_lossy().into_owned();
        let changes = ["-c", "ENV PATH=/bin", "-c", "ENV FROM_IMAGE=yes"];
        self.docker(&[&["import"], &changes[..], &[tar.as_str(), IMAGE]].concat());
        let saved = self.docker.folder.join("saved.tar");
        self.docker(&["save", "--output", &saved.to_string_lossy(), IMAGE]);
        for (to, more) in [
            (&self.remote, &["--dest-creds", &format!("{USER}:{PASSWORD}")][..]),
            (&self.base, &[]),
        ] {
            let copy = ["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"];
            let from = format!("docker-archive:{}", saved.display());
            let copy = Program::new("skopeo").args(copy).args(more).arg(from);
            run(copy.arg(format!("docker://{to}")).env("HOME", &self.docker.folder));
        }
    }

    /// Returns the variable by which muster finds it.
    pub(crate) fn variable(&self) -> (&'static str, String) {
        ("DOCKER_HOST", format!("unix://{}", self.socket().display()))
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.docker.folder.join("docker.sock")
    }

    /// Asks the engine, as a person would.
    pub(crate) fn docker(&self, args: &[&str]) -> String {
        let output = self.try_docker(args);
        assert!(
            output.status.success(),
            "docker {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn try_docker(&self, args: &[&str]) -> Output {
        let (name, value) = self.variable();
        let program = Program::new("docker").args(args).dir(Path::new("/")).env(name, value);
        program.env("HOME", &self.docker.folder).output(LIMIT, 1 << 20).unwrap()
    }

    /// Returns what bears a job's mark: containers, networks, volumes and images.
    pub(crate) fn left(&self, of: &str) -> Vec<String> {
        let format = "{{.ID}} {{.Label \"muster.job\"}}";
        let listed = [
            self.docker(&["ps", "--all", "--format", format]),
            self.docker(&["network", "ls", "--format", format]),
            self.docker(&["volume", "ls", "--format", "{{.Name}} {{.Label \"muster.job\"}}"]),
        ];
        let lines = listed.iter().flat_map(|listed| listed.lines());
        let marked =
            lines.filter(|line| line.split(' ').nth(1).is_some_and(|mark| mark.contains(of)));
        marked.map(str::to_owned).collect()
    }
}

impl Engine {
    /// Returns what `muster run` has left that is over.
    pub(crate) fn left_by_runs(&self) -> Vec<String> {
        let mut left = self.left("run-");
        left.retain(|line| {
            let pid = line.split("run-").nth(1).and_then(|rest| rest.split('-').next());
            !pid.is_some_and(|pid| Path::new("/proc").join(pid).exists())
        });
        left
    }
}

/// Makes the root of a small system: BusyBox, and the libraries of some programs of the machine.
pub(crate) fn small_root(root: &Path) {
    for folder in ["bin", "etc", "tmp", "root", "lib64"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    let users = "root:x:0:0::/root:/bin/sh\nana:x:1234:1234::/tmp:/bin/sh\n";
    fs::write(root.join("etc/passwd"), users).unwrap();
    fs::copy(found("busybox"), root.join("bin/busybox")).unwrap();
    for applet in [
        "cat", "chmod", "cmp", "date", "echo", "env", "false", "grep", "head", "httpd", "id",
        "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "nc", "ps", "pwd", "rm", "seq", "sh",
        "sleep", "sort", "stat", "test", "touch", "tr", "true", "umount", "unshare", "wc", "wget",
    ] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    // For this machine's Node.js, which is shown to every container, and a BusyBox that is not static.
    let node = PathBuf::from(crate::actions::path_with_node().split(':').next().unwrap());
    for program in [node.join("node"), found("busybox")] {
        // It fails for what needs no library.
        let output = Program::new("ldd").arg(program).output(LIMIT, 1 << 20).unwrap();
        for word in String::from_utf8_lossy(&output.stdout).split_whitespace() {
            if word.starts_with('/') && !word.ends_with(':') {
                let to = root.join(word.trim_start_matches('/'));
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::copy(word, to).unwrap();
            }
        }
    }
}

/// Starts a registry, which gives nothing without a password if it is closed; returns it and its port.
fn registry(is_closed: bool) -> (Kept, u16) {
    let folder = Kept::folder();
    // Free until somebody else takes it.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    fs::write(folder.join("htpasswd"), format!("{USER}:{HASH}\n")).unwrap();
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {0}/data}}}}\n\
         http: {{addr: '127.0.0.1:{port}'}}\n{1}",
        folder.display(),
        if is_closed {
            format!("auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}\n", folder.display())
        } else {
            String::new()
        }
    );
    let file = folder.join("config.yml");
    fs::write(&file, config).unwrap();
    let file = file.to_string_lossy().into_owned();
    let command = ["docker-registry".to_owned(), "serve".to_owned(), file];
    let registry = Kept::start(folder, "TERM", &command);
    let start = clock::monotonic();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || fs::read_to_string(registry.folder.join("log")).unwrap_or_default();
        assert!(start.elapsed() < LIMIT, "the registry does not start:\n{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    (registry, port)
}

fn found(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let mut all = std::env::split_paths(&path).map(|folder| folder.join(program));
    all.find(|path| path.is_file()).unwrap_or_else(|| panic!("{program} is not installed"))
}

fn run(program: Program) -> Output {
    let output = program.output(LIMIT, 1 << 20).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}
