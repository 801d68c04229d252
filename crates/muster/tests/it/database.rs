//! The databases that every story runs on.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use muster_sys::clock;
use muster_sys::process::Program;

use crate::kept::Kept;

const LIMIT: Duration = Duration::from_secs(60);

/// Which database a server uses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Database {
    Sqlite,
    Postgres,
}

/// Makes of each story a test on SQLite and one on PostgreSQL.
macro_rules! on_both {
    ($($story:ident),* $(,)?) => {
        mod sqlite {
            $(#[test]
            fn $story() {
                insta::allow_duplicates! { super::$story(crate::database::Database::Sqlite); }
            })*
        }
        mod postgres {
            $(#[test]
            fn $story() {
                if crate::database::has_postgres() {
                    insta::allow_duplicates! { super::$story(crate::database::Database::Postgres); }
                }
            })*
        }
    };
}
pub(crate) use on_both;

impl Database {
    /// Returns the line of configuration that selects a new, empty database.
    pub(crate) fn config(self) -> String {
        match self {
            Self::Sqlite => String::new(),
            Self::Postgres => format!("database = \"{}\"\n", postgres().create()),
        }
    }
}

/// Returns whether PostgreSQL is installed; where `CI` is set it must be.
pub(crate) fn has_postgres() -> bool {
    let there = programs().is_some();
    assert!(there || std::env::var_os("CI").is_none(), "PostgreSQL is not installed");
    if !there {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: PostgreSQL is not installed");
        }
    }
    there
}

/// A PostgreSQL server of this test program alone.
struct Postgres {
    folder: PathBuf,
    kept: Option<Kept>,
    programs: PathBuf,
    count: AtomicU32,
}

fn postgres() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(Postgres::start)
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    debian.chain(std::env::split_paths(&path)).find(|folder| folder.join("initdb").is_file())
}

impl Postgres {
    fn start() -> Self {
        let (folder, programs) = (Kept::folder(), programs().unwrap());
        let mut server = Self { folder, kept: None, programs, count: AtomicU32::new(0) };
        let all = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(server.path(), all).unwrap();
        let data = server.path().join("data");
        server.run("initdb", &["--auth=trust", "--no-sync", "-U", "muster", "-D", &text(&data)]);
        let socket = text(server.path());
        let options =
            ["-D", &text(&data), "-k", &socket, "-h", "", "-F", "-c", "max_connections=400"];
        let options = options.map(str::to_owned);
        let command = [server.command("postgres"), options.to_vec()].concat();
        server.kept = Some(Kept::start(server.folder.clone(), "QUIT", &command));
        let start = clock::monotonic();
        while !server.is_ready() {
            assert!(start.elapsed() < LIMIT, "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn path(&self) -> &Path {
        &self.folder
    }

    fn is_ready(&self) -> bool {
        let ask = self.program("pg_isready").args(["-q", "-h", &text(self.path())]);
        ask.output(LIMIT, 1024).unwrap().status.success()
    }

    /// Makes an empty database and returns its address.
    fn create(&self) -> String {
        let name = format!("story{}", self.count.fetch_add(1, Ordering::Relaxed));
        let host = text(self.path());
        self.run("createdb", &["-h", &host, "-U", "muster", &name]);
        format!("postgres:///{name}?host={host}&user=muster")
    }

    fn run(&self, program: &str, args: &[&str]) {
        let output = self.program(program).args(args).output(LIMIT, 1 << 20).unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn program(&self, name: &str) -> Program {
        let command = self.command(name);
        Program::new(&command[0]).args(&command[1..]).dir(Path::new("/"))
    }

    /// Returns how a program of PostgreSQL is started, which refuses to run as root.
    fn command(&self, name: &str) -> Vec<String> {
        let path = text(&self.programs.join(name));
        let other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"];
        let as_other = rustix::process::geteuid().is_root().then_some(other);
        as_other.into_iter().flatten().map(str::to_owned).chain([path]).collect()
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
