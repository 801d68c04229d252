//! A running server and a repository that it watches.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use muster_sys::clock;
use muster_sys::process::Program;
use tempfile::TempDir;

use crate::database::Database;
use crate::scene::{Done, Scene, git_in, masked};

/// Nothing in these tests takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server with one repository, `team/app`, and a work tree that pushes to it.
pub(crate) struct Server {
    pub(crate) scene: Scene,
    pub(crate) origin: PathBuf,
    pub(crate) url: String,
    pub(crate) token: String,
    folder: TempDir,
    gate: TempDir,
    child: Option<Child>,
}

/// Waits until `holds`.
pub(crate) fn wait_until(what: &str, holds: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, holds);
}

fn wait_within(patience: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let start: Instant = clock::monotonic();
    while !holds() {
        assert!(start.elapsed() < patience, "{what}: not within {} s", patience.as_secs());
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Server {
    /// Starts a server that watches an empty repository.
    pub(crate) fn start(database: Database, config: &str) -> Self {
        let server = Self::start_without_repository(database, config);
        server.watch_origin();
        server
    }

    /// Has it watch the repository that [`Self::push`] pushes to.
    pub(crate) fn watch_origin(&self) {
        let origin = self.origin.to_string_lossy().into_owned();
        let added = self.muster(&["repo", "add", "team/app", &origin]);
        assert_eq!(added.exit, Some(0), "{}", added.err);
        self.until("the repository has been seen", Self::has_seen);
        let hooked = self.muster(&["init", "--hook", &origin]);
        assert_eq!(hooked.exit, Some(0), "{}", hooked.err);
    }

    /// Starts a server that watches nothing.
    pub(crate) fn start_without_repository(database: Database, config: &str) -> Self {
        Self::start_prepared(database, config, |_| {})
    }

    /// Starts a server on a database that `prepare` has filled, given its address.
    pub(crate) fn start_on(database: Database, prepare: impl FnOnce(&str)) -> Self {
        Self::start_prepared(database, "", prepare)
    }

    fn start_prepared(database: Database, config: &str, prepare: impl FnOnce(&str)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Stories are the same on every machine; those about sandboxes say so.
        let isolation = if config.contains("isolation") { "" } else { "isolation = \"none\"\n" };
        let selected = database.config();
        let data = folder.path().join("muster-data");
        std::fs::create_dir(&data).unwrap();
        let file = format!("sqlite://{}?mode=rwc", data.join("muster.db").display());
        prepare(selected.split('"').nth(1).unwrap_or(&file));
        let config = format!("{isolation}{selected}{config}");
        std::fs::write(folder.path().join("muster.toml"), config).unwrap();
        let scene = Scene::new();
        let origin = folder.path().join("origin.git");
        git_in(
            folder.path(),
            &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"],
        );
        let gate = tempfile::tempdir().unwrap();
        std::fs::set_permissions(gate.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let (url, token) = (String::new(), String::new());
        let mut server = Self { scene, origin, url, token, folder, gate, child: None };
        let made = server.muster(&["init"]);
        let token = made.out.split_whitespace().find(|word| word.starts_with("muster_"));
        server.token = token.unwrap().to_owned();
        server.serve("127.0.0.1:0");
        server
    }

    /// Returns what became of the webhooks, the oldest first.
    pub(crate) fn deliveries(&self) -> String {
        self.muster(&["deliveries"]).out
    }

    /// Starts the server's process, and reads where it listens.
    pub(crate) fn serve(&mut self, listen: &str) {
        self.serve_by_way_of(&[], listen);
    }

    /// Starts the server's process again at the same address.
    pub(crate) fn serve_again(&mut self) {
        self.serve_again_by_way_of(&[]);
    }

    /// Starts it again by way of a program, which becomes it.
    pub(crate) fn serve_again_by_way_of(&mut self, program: &[&str]) {
        let address = self.url.strip_prefix("http://").unwrap().to_owned();
        self.serve_by_way_of(program, &address);
    }

    fn serve_by_way_of(&mut self, program: &[&str], listen: &str) {
        // A port that was ours may be somebody's for a moment, after a restart.
        let start = clock::monotonic();
        while !self.try_serve(program, listen) {
            assert!(start.elapsed() < PATIENCE, "the server does not start at {listen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Makes a program that the server finds before the machine's own.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let path = self.programs().join(name);
        std::fs::create_dir_all(self.programs()).unwrap();
        std::fs::write(&path, script).unwrap();
        let runs = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, runs).unwrap();
    }

    /// Returns the folder of those programs.
    pub(crate) fn programs(&self) -> PathBuf {
        self.folder.path().join("programs")
    }

    /// Returns the file that the server is started from when it is there: a program that can be replaced.
    pub(crate) fn installed(&self) -> PathBuf {
        self.folder.path().join("muster")
    }

    fn path(&self) -> std::ffi::OsString {
        let machine = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(self.programs()).chain(std::env::split_paths(&machine));
        std::env::join_paths(all).unwrap()
    }

    /// Returns what starts the server, by way of another program where there is one.
    fn program_to_serve(&self, by_way_of: &[&str], listen: &str) -> Program {
        let installed = self.installed();
        let built = Path::new(env!("CARGO_BIN_EXE_muster"));
        let muster = if installed.exists() { &installed } else { built };
        let program = match by_way_of {
            [] => Program::new(muster),
            [first, others @ ..] => Program::new(first).args(others).arg(muster),
        };
        program
            .args(["serve", "--listen", listen])
            .dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("PATH", self.path())
            .env("MUSTER_LOG", "error")
    }

    /// Starts a server that is to end by itself; returns what it said.
    pub(crate) fn ends(&self) -> Done {
        Done::of(&self.program_to_serve(&[], "127.0.0.1:0").output(PATIENCE, 1 << 20).unwrap())
    }

    fn try_serve(&mut self, by_way_of: &[&str], listen: &str) -> bool {
        let mut talk = self.program_to_serve(by_way_of, listen).converse().unwrap();
        let mut line = String::new();
        BufReader::new(talk.output).read_line(&mut line).unwrap();
        let Some(url) = line.trim().strip_prefix("muster at ") else {
            talk.child.wait().unwrap();
            return false;
        };
        self.url = url.to_owned();
        self.child = Some(talk.child);
        true
    }

    /// Adds to the configuration, for the next start.
    pub(crate) fn configure(&self, more: &str) {
        let path = self.folder.path().join("muster.toml");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{config}{more}")).unwrap();
    }

    /// Kills the server as a power cut would, and starts it again at the same address.
    pub(crate) fn kill_and_serve(&mut self) {
        self.kill();
        self.serve_again();
    }

    /// Asks the server to end, and waits until it has.
    pub(crate) fn terminate(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            self.until("the server has ended", |_| child.try_wait().unwrap().is_some());
        }
    }

    /// Kills the server's process alone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Returns the id of the server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Returns whether the server's process has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        let Some(child) = &self.child else { return true };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id()));
        // Nobody has waited for it yet.
        stat.is_ok_and(|stat| stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" Z")))
    }

    /// Runs muster beside the server, as its administrator.
    pub(crate) fn muster(&self, args: &[&str]) -> Done {
        self.muster_given("", args)
    }

    /// Runs muster beside the server, with something on standard input.
    pub(crate) fn muster_given(&self, input: &str, args: &[&str]) -> Done {
        let output = Program::new(env!("CARGO_BIN_EXE_muster"))
            .args(args)
            .input(input)
            .dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("MUSTER_URL", &self.url)
            .env("MUSTER_TOKEN", &self.token)
            .output(PATIENCE, 2 << 30)
            .unwrap();
        Done::of(&output)
    }

    /// Returns what the server answers to its administrator at `path`.
    pub(crate) fn get(&self, path: &str) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("{}{path}", self.url);
        runtime.block_on(async {
            let request =
                muster_testkit::http_client().build().unwrap().get(url).bearer_auth(&self.token);
            request.send().await.unwrap().text().await.unwrap()
        })
    }

    /// Returns the status that the server answers to its administrator who sends JSON to `path`.
    pub(crate) fn post(&self, path: &str, json: &str) -> u16 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = format!("{}{path}", self.url);
        runtime.block_on(async {
            let client = muster_testkit::http_client().build().unwrap();
            let request = client.post(url).bearer_auth(&self.token);
            let request = request.header("content-type", "application/json").body(json.to_owned());
            request.send().await.unwrap().status().as_u16()
        })
    }

    /// Returns whether the server says to be ready: the status, and its words.
    pub(crate) fn ready(&self) -> (u16, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let answer = reqwest::get(format!("{}/readyz", self.url)).await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    /// Writes the workflow file; `GATE` in it is the path of [`Self::gate`].
    pub(crate) fn workflow(&self, text: &str) {
        self.scene.workflow(&text.replace("GATE", &self.gate().to_string_lossy()));
    }

    /// Returns the file for which steps wait, which every user can see.
    pub(crate) fn gate(&self) -> PathBuf {
        self.gate.path().join("open")
    }

    pub(crate) fn open_gate(&self) {
        std::fs::write(self.gate(), "").unwrap();
    }

    pub(crate) fn close_gate(&self) {
        std::fs::remove_file(self.gate()).unwrap();
    }

    /// Commits everything in the work tree and pushes it to `branch`; returns the commit.
    pub(crate) fn push(&self, branch: &str, message: &str) -> String {
        let sha = self.scene.commit(message);
        let refspec = format!("HEAD:refs/heads/{branch}");
        self.scene.git(&["push", "--quiet", "--force", &self.origin.to_string_lossy(), &refspec]);
        sha
    }

    /// Waits for the last word on a commit, and returns what `muster why` says.
    pub(crate) fn verdict(&self, sha: &str) -> String {
        let mut said = String::new();
        self.until("the verdict is there", |server| {
            said = server.muster(&["why", sha]).out;
            said.lines()
                .any(|line| line.starts_with("muster ") && !line.starts_with("muster pending"))
        });
        said.lines().map(|line| masked(line) + "\n").collect()
    }

    /// Waits until `holds`.
    pub(crate) fn until(&self, what: &str, holds: impl FnMut(&Self) -> bool) {
        self.until_within(PATIENCE, what, holds);
    }

    /// Waits until `holds`, where GitHub's pace of a status a second adds up.
    pub(crate) fn until_patiently(&self, what: &str, holds: impl FnMut(&Self) -> bool) {
        self.until_within(10 * PATIENCE, what, holds);
    }

    fn until_within(&self, patience: Duration, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        wait_within(patience, what, || holds(self));
    }

    /// Returns what is left on the machine of jobs that are over: processes, control groups, mounts, folders.
    fn leavings(&self) -> Vec<String> {
        let logs = std::fs::read_dir(self.data().join("logs")).into_iter().flatten().flatten();
        let attempts: Vec<String> = logs
            .filter_map(|log| {
                log.file_name().to_string_lossy().split(".log").next().map(str::to_owned)
            })
            .collect();
        let mut left = Vec::new();
        for attempt in &attempts {
            left.extend(marked(&format!("muster_{attempt}")));
            let groups = ["muster", "cpu/muster", "cpuacct/muster", "pids/muster", "memory/muster"];
            let groups = groups.map(|group| Path::new("/sys/fs/cgroup").join(group).join(attempt));
            left.extend(groups.iter().filter(|g| g.exists()).map(|g| g.display().to_string()));
            let folder = self.data().join("jobs").join(attempt);
            left.extend(folder.exists().then(|| folder.display().to_string()));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let data = self.data().to_string_lossy().into_owned();
        left.extend(mounts.lines().filter(|line| line.contains(&data)).map(str::to_owned));
        left
    }

    /// Returns the data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("muster-data")
    }

    /// Returns whether the repository has been looked at: what is pushed from then on runs.
    pub(crate) fn has_seen(&self) -> bool {
        let listed = self.muster(&["repo", "list"]).out;
        listed.contains("team/app") && !listed.contains("not looked at yet")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that runs tidies up behind its jobs; one that was killed has no time to.
        let tidies = !std::thread::panicking() && !self.has_ended();
        if tidies && supervisors(&self.data()).is_empty() {
            let mut left = Vec::new();
            let start = clock::monotonic();
            while start.elapsed() < PATIENCE {
                left = self.leavings();
                if left.is_empty() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(left.is_empty(), "this is left of jobs that are over: {left:#?}");
        }
        self.kill();
        // Supervisors outlive a server; those of a test do not outlive the test.
        let mut doomed: Vec<String> = Vec::new();
        for (pid, _) in supervisors(&self.data()) {
            doomed.extend(descendants(&pid));
            doomed.push(pid);
        }
        doomed.iter().for_each(|pid| kill(pid));
    }
}

/// Returns all that a process has started, and they.
fn descendants(of: &str) -> Vec<String> {
    let parents: Vec<(String, String)> = processes()
        .into_iter()
        .filter_map(|(pid, _)| {
            let stat = std::fs::read_to_string(Path::new("/proc").join(&pid).join("stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.to_owned();
            Some((pid, parent))
        })
        .collect();
    let mut found = vec![of.to_owned()];
    let mut next = 0;
    while let Some(parent) = found.get(next).cloned() {
        next += 1;
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| pid.clone()));
    }
    found.split_off(1)
}

/// Returns the process ids of the supervisors of the server with this data folder.
pub(crate) fn supervisors(data: &Path) -> Vec<(String, String)> {
    let data = data.to_string_lossy();
    let mut found = processes();
    found.retain(|(_, line)| line.contains("supervise") && line.contains(&*data));
    found
}

/// Returns the ids of the processes of an attempt, by the mark that they all bear.
pub(crate) fn marked(mark: &str) -> Vec<String> {
    let variable = format!("RUNNER_TRACKING_ID={mark}");
    let bears = |pid: &str| {
        std::fs::read(Path::new("/proc").join(pid).join("environ"))
            .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == variable.as_bytes()))
    };
    processes().into_iter().map(|(pid, _)| pid).filter(|pid| bears(pid)).collect()
}

/// Kills a process, which may have ended by itself.
pub(crate) fn kill(pid: &str) {
    let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Lists all processes with their command lines.
pub(crate) fn processes() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if let Ok(line) = std::fs::read_to_string(Path::new("/proc").join(&pid).join("cmdline")) {
            found.push((pid, line.replace('\0', " ")));
        }
    }
    found
}
