//! Thirty-six ways out of a sandbox, each of which must fail: the program is in `muster-testkit/escapes`.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use muster_sys::process::{Conversation, Program};
use tempfile::TempDir;

use crate::engine::{Engine, IMAGE, engine};
use crate::images::{small, there_can_be_roots};
use crate::sandbox::there_can_be_one;
use crate::scene::{Scene, install_muster};
use crate::server::processes;

const LIMIT: Duration = Duration::from_secs(120);
/// The halves of a secret that is outside; inside it never stands whole.
const HALVES: [&str; 2] = ["canary-", "73c1f0a9"];
/// Keeps a key in the kernel, and a piece of memory under a number, until its input ends.
const KEEPER: &str = "import ctypes, sys
c = ctypes.CDLL(None)
number, name = int(sys.argv[1]), sys.argv[2].encode()
c.shmget(number, 4096, 0o1666)
key = c.syscall(248, b'user', name, b'secret', 6, -4)
c.syscall(250, 5, key, 0x3f3f3f3f)
print(flush=True)
sys.stdin.read()
c.shmctl(c.shmget(number, 0, 0), 0, 0)
c.syscall(250, 9, key, -4)
";

/// As whom muster runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum User {
    Own,
    /// Under root: somebody who is not.
    Nobody,
}

impl User {
    fn program(self, name: &str) -> Program {
        match self {
            Self::Own => Program::new(name),
            Self::Nobody => Program::new("setpriv").args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--",
                name,
            ]),
        }
    }
}

/// What a job must not find.
struct Canaries {
    folder: TempDir,
    tcp: [TcpListener; 2],
    by_path: UnixListener,
    without_path: UnixListener,
    keeper: Conversation,
    memory: u32,
    name: String,
}

impl Canaries {
    fn put_out(user: User) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, HALVES.concat()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let memory = 4_000_000 + std::process::id();
        let name = format!("escape-canary-{memory}");
        let by_path = UnixListener::bind(folder.path().join("socket")).unwrap();
        fs::set_permissions(folder.path().join("socket"), fs::Permissions::from_mode(0o777))
            .unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let without_path = UnixListener::bind_addr(&address).unwrap();
        let tcp = loop {
            let one = TcpListener::bind("127.0.0.1:0").unwrap();
            // The same number may be taken there.
            if let Ok(other) = TcpListener::bind(("::1", one.local_addr().unwrap().port())) {
                break [one, other];
            }
        };
        // One that a version manager has installed for us may be closed to others.
        let system = "/usr/bin/python3";
        let python = if Path::new(system).exists() { system } else { "python3" };
        let keeper = user.program(python).args(["-c", KEEPER, &memory.to_string(), &name]);
        let mut keeper = keeper.converse().unwrap();
        std::io::Read::read_exact(&mut keeper.output, &mut [0]).unwrap();
        Self { folder, tcp, by_path, without_path, keeper, memory, name }
    }

    /// Returns the variables by which the attempts know what to look for.
    fn variables(&self) -> String {
        let folder = self.folder.path().display();
        let port = self.tcp[0].local_addr().unwrap().port();
        assert!(self.by_path.local_addr().is_ok() && self.without_path.local_addr().is_ok());
        [
            ("HALF1", HALVES[0].to_owned()),
            ("HALF2", HALVES[1].to_owned()),
            ("FILE", format!("{folder}/file")),
            ("SOCKET", format!("{folder}/socket")),
            ("PORT", port.to_string()),
            ("ABSTRACT", self.name.clone()),
            ("SHM", self.memory.to_string()),
            ("PID", std::process::id().to_string()),
            ("KEY", self.name.clone()),
        ]
        .map(|(name, value)| format!("      CANARY_{name}: \"{value}\"\n"))
        .concat()
    }

    fn take_in(mut self) {
        drop(self.keeper.input);
        self.keeper.child.wait().unwrap();
        assert_eq!(fs::read_to_string(self.folder.path().join("file")).unwrap(), HALVES.concat());
    }
}

/// What says to the attempts that the job has this machine's network by configuration.
const NETWORK: &str = "      CANARY_NETWORK: \"yes\"\n";

/// In what the attempts are made.
#[derive(Clone, Copy)]
enum Cage<'e> {
    Sandbox { network: bool },
    Container(&'e Engine),
    Image { network: bool },
}

/// Makes all attempts in a cage; returns what came of each.
fn attempts(user: User, cage: Cage<'_>) -> Vec<String> {
    // What is left is looked for by its name.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let canaries = Canaries::put_out(user);
    let scene = Scene::new();
    let program = scene.path().join("escapes");
    fs::write(&program, muster_testkit::ESCAPES).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let (shared, more, engine) = match cage {
        Cage::Sandbox { network } | Cage::Image { network } => {
            let more = if network { &[][..] } else { &["--no-network"] };
            (if network { NETWORK } else { "" }, more, None)
        }
        Cage::Container(engine) => (NETWORK, &[][..], Some(engine)),
    };
    let image = matches!(cage, Cage::Image { .. })
        .then(|| ["--image".to_owned(), format!("linux={}", small().display())]);
    let container = engine.map(|_| format!("    container: {IMAGE}\n")).unwrap_or_default();
    scene.workflow(&format!(
        "on: push\njobs:\n  out:\n    runs-on: linux\n{container}    env:\n{}{shared}    steps:\n      - uses: actions/checkout@v4\n      - run: ./escapes\n      - run: test -z \"$ESCAPE_FORGED\" && echo nothing was forged\n        if: always()\n",
        canaries.variables()
    ));
    scene.commit("Out");
    let muster = scene.path().join("muster");
    install_muster(&muster);
    fs::set_permissions(scene.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if user == User::Nobody {
        let given = Program::new("chown").args(["-R", "65534:65534"]).arg(scene.path());
        assert!(given.output(LIMIT, 1 << 16).unwrap().status.success());
    }
    let ran = user
        .program(&muster.to_string_lossy())
        .args(["run", "--isolation", "sandbox"])
        .args(more)
        .args(image.into_iter().flatten())
        .dir(scene.path())
        .env("HOME", scene.path())
        .envs(engine.map(Engine::variable))
        .output(LIMIT, 1 << 20)
        .unwrap();
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    let all = out + &String::from_utf8_lossy(&ran.stderr);
    let said = all.lines().filter_map(|line| line.strip_prefix("│ "));
    let said: Vec<String> = said
        .filter(|line| line.starts_with(|first: char| first.is_ascii_digit()))
        .map(str::to_owned)
        .collect();
    assert!(all.contains("│ nothing was forged"), "{all}");
    assert_eq!(said.len(), 36, "{all}");
    // What an attempt leaves outside is seen there alone.
    let leavings = ["escape-daemon", "escape-swapper"];
    let left = processes().into_iter().filter(|(pid, line)| {
        let name = fs::read_to_string(Path::new("/proc").join(pid).join("comm"));
        let name = name.unwrap_or_default();
        leavings.iter().any(|one| line.contains(one) || name.trim() == *one)
    });
    let left: Vec<_> = left.collect();
    assert!(left.is_empty(), "{left:?}");
    canaries.take_in();
    said
}

fn all_are_closed(user: User) {
    if !there_can_be_one() || muster_testkit::ESCAPES.is_empty() {
        return;
    }
    for network in [true, false] {
        let said = attempts(user, Cage::Sandbox { network });
        let open: Vec<_> = said.iter().filter(|line| line.contains(" ESCAPED: ")).collect();
        assert!(open.is_empty(), "{user:?}, network {network}: {open:#?}");
        let held = said.iter().filter(|line| line.contains(" held: ")).count();
        // Five are for what muster does not have yet, or are watched from outside; four ask about a
        // network that the job has by configuration.
        assert_eq!(held, if network { 27 } else { 31 }, "{said:#?}");
    }
}

#[test]
fn every_way_out_is_closed() {
    all_are_closed(User::Own);
}

#[test]
fn every_way_out_is_closed_without_root() {
    if rustix::process::geteuid().is_root() {
        all_are_closed(User::Nobody);
    }
}

/// Returns the attempts that led somewhere, and to what. How many parts each has differs between machines, and files are
/// named by the processes that made them.
fn open(said: &[String]) -> Vec<String> {
    let open = said.iter().filter_map(|line| {
        let (attempt, parts) = line.split_once(" ESCAPED: ")?;
        let (what, parts) = parts.split_once(": ")?;
        let (_, parts) = parts.split_once(" parts: ")?;
        let parts = parts.split("/.escape-").enumerate();
        let parts = parts.map(|(at, part)| match at {
            0 => part.to_owned(),
            _ => format!("/.escape{}", part.trim_start_matches(|c: char| c.is_ascii_digit())),
        });
        Some(format!("{attempt} {what}: {}", parts.collect::<String>()))
    });
    open.collect()
}

/// A job in a container is root of a root of its own, unless its image has another user: that is all that may be open. What
/// is of the init, which is the job's own, leads nowhere.
#[test]
fn every_way_out_of_a_container_is_closed() {
    let Some(engine) = engine() else { return };
    if muster_testkit::ESCAPES.is_empty() {
        return;
    }
    let said = attempts(User::Own, Cage::Container(engine));
    let open = open(&said);
    insta::assert_snapshot!(open.join("\n"), @"
    9 writing to the system: created /.escape; created /bin/.escape; created /lib/.escape; created /etc/.escape; created /opt/.escape; created /opt/muster/repository/.escape; changed the mode of /bin/sh; opened /etc/passwd for writing; changed the mode of /etc/passwd; opened /etc/hosts for writing; changed the mode of /etc/hosts; opened /lib64/ld-linux-x86-64.so.2 for writing
    11 programs with more privileges: gave a file to root
    12 other users and capabilities: CapPrm: 00000000000004fb; CapEff: 00000000000004fb; CapBnd: 00000000000004fb; NoNewPrivs: 0; is user 0; setuid succeeded; setgid succeeded; setreuid succeeded; setresuid succeeded; setresgid succeeded; setgroups succeeded; setfsuid
    14 settings of the kernel: opened /proc/1/oom_score_adj for writing; opened /proc/1/coredump_filter for writing
    29 staying after the end: created /etc/.escape; created /root/.escape; opened /etc/resolv.conf for writing
    32 links to what is not ours: linked /etc/passwd; linkat(3, _, -100, _, 4096) gave 0; linkat(-100, _, -100, _, 1024) gave 0
    34 forged commands: opened /proc/1/fd
    ");
    let held = said.iter().filter(|line| line.contains(" held: ")).count();
    assert_eq!(held + open.len(), 27, "{said:#?}");
}

/// A job in an image is root of 65,536 users of its own: that is all that may be open, and leads nowhere else.
#[test]
fn every_way_out_of_an_image_is_closed() {
    if !there_can_be_roots() || muster_testkit::ESCAPES.is_empty() {
        return;
    }
    for network in [true, false] {
        let said = attempts(User::Own, Cage::Image { network });
        let open = open(&said);
        insta::allow_duplicates! { insta::assert_snapshot!(open.join("\n"), @"
        9 writing to the system: created /.escape; created /usr/.escape; created /usr/local/bin/.escape; created /bin/.escape; created /lib/.escape; created /etc/.escape; created /opt/.escape; created /home/.escape; changed the mode of /bin/sh; opened /etc/passwd for writing; changed the mode of /etc/passwd; opened /etc/hosts for writing
        11 programs with more privileges: gave a file to root; sudo -n true
        12 other users and capabilities: CapInh: 00000000000000db; CapPrm: 00000000000000db; CapEff: 00000000000000db; CapBnd: 00000000000000db; CapAmb: 00000000000000db; is user 0; setuid succeeded; setgid succeeded; setreuid succeeded; setresuid succeeded; setresgid succeeded; setgroups succeeded
        14 settings of the kernel: opened /proc/1/oom_score_adj for writing; opened /proc/1/coredump_filter for writing
        29 staying after the end: created /etc/.escape; created /root/.escape; opened /etc/resolv.conf for writing
        32 links to what is not ours: linked /etc/passwd; linkat(3, _, -100, _, 4096) gave 0; linkat(-100, _, -100, _, 1024) gave 0
        34 forged commands: opened /proc/1/fd
        "); }
        let held = said.iter().filter(|line| line.contains(" held: ")).count();
        assert_eq!(held + open.len(), if network { 27 } else { 31 }, "{said:#?}");
    }
}
