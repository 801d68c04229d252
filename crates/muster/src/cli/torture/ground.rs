//! The folder of a torture: a configuration, a repository, commits that nobody knows of yet, and the server.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use muster_core::id::Sha;
use muster_sys::clock;
use muster_sys::process::Program;
use serde_json::json;
use tempfile::TempDir;

use super::Arguments;
use super::host::{Host, NUMBER, REPOSITORY};
use super::sender::Hook;
use crate::cli::client::Client;
use crate::config::Config;
use crate::data::Data;
use crate::git::Git;
use crate::store::Store;
use crate::store::backup::POSTGRES_VARIABLES;
use crate::store::settings::ADMIN_TOKEN_HASH;
use crate::token;

/// The job's name, and so its context.
pub(super) const JOB: &str = "count";
/// So many lines each job writes.
pub(super) const LINES: usize = 400;
/// What a server gets of our environment.
const PASSED_ON: [&str; 5] = ["HOME", "LANG", "PATH", "TMPDIR", "USER"];
/// What its servers complain of.
const LOG: &str = "server.log";
/// A server that is told to start at a port that was its own finds it taken for a moment.
const START: Duration = Duration::from_secs(30);
/// A fault comes to pass in this time, or there was no such call.
const FAULT: Duration = Duration::from_secs(2);
/// What is left of jobs goes in this time.
const TIDY: Duration = Duration::from_secs(5);

/// A commit, and the webhook that tells of it.
#[derive(Debug, Clone)]
pub(super) struct Push {
    pub(super) delivery: String,
    pub(super) sha: String,
    pub(super) body: String,
}

/// All that a torture has.
#[derive(Debug)]
pub(super) struct Ground {
    /// What the server has been told of, or will be.
    pub(super) pushes: Vec<Push>,
    folder: TempDir,
    token: String,
    host: Host,
    /// Where the server listens, once it has.
    address: Option<String>,
    server: Option<Child>,
}

impl Ground {
    /// Makes all that is needed: so many pushes, and a server that has never run.
    pub(super) async fn prepare(
        config: &Config,
        arguments: &Arguments,
        host: &Host,
        pushes: usize,
    ) -> anyhow::Result<Self> {
        let folder = make_folder(config, arguments)?;
        let here = folder.path().to_owned();
        let own = toml::to_string(&own_config(config, arguments, host, &here)?)?;
        // The configuration may have the password of a database.
        for (name, text) in
            [("token", &host.token), ("secret", &host.secret()), ("muster.toml", &own)]
        {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(here.join(name))?;
            file.write_all(text.as_bytes())?;
        }
        if let Some(url) = &arguments.database {
            Store::is_empty(url).await?;
        }
        let token = make_token(&here).await?;
        let repository = Repository::make(&here)?;
        let pushes = (0..pushes).map(|number| repository.push(number)).collect::<Result<_, _>>()?;
        let host = host.clone();
        Ok(Self { pushes, folder, token, host, address: None, server: None })
    }

    /// Starts the server, where it was before, and waits until it answers; returns how long that took, in
    /// milliseconds. With a fault the disk fails under it, as strace words it.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub(super) fn start(&mut self, fault: Option<&str>) -> anyhow::Result<f64> {
        let start = clock::monotonic();
        loop {
            match self.try_start(fault)? {
                Some(()) => return Ok(start.elapsed().as_secs_f64() * 1000.0),
                None if fault.is_some() => bail!("the server did not start on a failing disk"),
                None if start.elapsed() > START => {
                    bail!("the server does not start: {}", self.last_words())
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Returns the last line that a server has complained of.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
        log.lines().last().unwrap_or("it says nothing").to_owned()
    }

    fn try_start(&mut self, fault: Option<&str>) -> anyhow::Result<Option<()>> {
        let muster = std::env::current_exe()?;
        let listen = self.address.as_deref().unwrap_or("127.0.0.1:0");
        let program = match fault {
            None => Program::new(&muster),
            // The tracer stands beside the server: who kills the child kills the server.
            Some(fault) => {
                drop(fs::remove_file(self.trace()));
                let calls = fault.split(':').next().unwrap_or_default();
                Program::new("strace")
                    .args(["-D", "-f", "-qq", "-e", &format!("trace={calls}"), "-o"])
                    .arg(self.trace())
                    .args(["-e", &format!("inject={fault}")])
                    .arg(&muster)
            }
        };
        let names = PASSED_ON.iter().chain(&POSTGRES_VARIABLES);
        let passed_on = names.filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let log = self.folder.path().join(LOG);
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut talk = program
            .args(["serve", "--config", "muster.toml", "--listen", listen])
            .dir(self.folder.path())
            .envs(passed_on)
            .errors_to(log)
            .converse()?;
        let line = first_line(talk.output);
        let Some(url) = line.trim().strip_prefix("muster at http://") else {
            talk.child.kill()?;
            talk.child.wait()?;
            return Ok(None);
        };
        // The one before was killed, perhaps before it heard or stored that the host wants to be left alone.
        self.host.forgive();
        self.address = Some(url.to_owned());
        self.server = Some(talk.child);
        Ok(Some(()))
    }

    /// Kills the server: what it has not handed to the system is gone.
    pub(super) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            // One that has ended by itself is as dead.
            drop(server.kill());
            drop(server.wait());
        }
    }

    /// Kills the server and starts it again; returns after how many milliseconds it was ready.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub(super) fn kill_and_start(&mut self) -> anyhow::Result<f64> {
        self.kill();
        self.start(None)
    }

    /// Kills the supervisor of some job's first attempt, where one runs; returns whether one did.
    pub(super) fn kill_supervisor(&self) -> bool {
        let first = processes(self.folder.path())
            .into_iter()
            .find(|(_, line)| line.contains(" supervise ") && line.contains(".1/"));
        let pid = first.and_then(|(pid, _)| rustix::process::Pid::from_raw(pid));
        pid.is_some_and(|pid| {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
        })
    }

    /// Returns a connection to the server.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        Client::at(self.url(), self.token.clone())
    }

    /// Returns where its webhooks go.
    pub(super) fn hook(&self) -> anyhow::Result<Hook> {
        Hook::new(&self.url(), self.host.secret())
    }

    fn url(&self) -> String {
        format!("http://{}", self.address.as_deref().unwrap_or_default())
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    /// Waits until a fault has come to pass, for a while; returns whether it has.
    pub(super) fn wait_for_fault(&self) -> bool {
        let start = clock::monotonic();
        loop {
            let trace = fs::read_to_string(self.trace()).unwrap_or_default();
            if trace.contains("(INJECTED)") {
                return true;
            }
            if start.elapsed() > FAULT {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns what is left of a server that was killed, and of its jobs, once they have had time to end:
    /// processes and mounts.
    pub(super) fn leavings(&self) -> Vec<String> {
        let start = clock::monotonic();
        loop {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let folder = self.folder.path().to_string_lossy().into_owned();
            let mounts = mounts.lines().filter(|line| line.contains(&folder)).map(str::to_owned);
            let processes = processes(self.folder.path()).into_iter();
            let processes = processes.map(|(pid, line)| format!("process {pid}: {line}"));
            let left: Vec<String> = processes.chain(mounts).collect();
            if left.is_empty() || start.elapsed() > TIDY {
                return left;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends all that still runs, and removes the folder, or keeps it and returns it.
    pub(super) fn end(mut self, keep: bool) -> Option<PathBuf> {
        self.kill_all();
        self.folder.disable_cleanup(keep);
        keep.then(|| self.folder.path().to_owned())
    }

    fn kill_all(&mut self) {
        self.kill();
        for (pid, _) in processes(self.folder.path()) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.kill_all();
    }
}

/// Reads the first line of a server that may hang.
fn first_line(output: ChildStdout) -> String {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        // Without a line the server does not start.
        drop(BufReader::new(output).read_line(&mut line));
        drop(tell.send(line));
    });
    told.recv_timeout(START).unwrap_or_default()
}

/// Makes the folder: beside the data folder, so that the same disk is tried.
fn make_folder(config: &Config, arguments: &Arguments) -> anyhow::Result<TempDir> {
    let data = std::path::absolute(&config.data)?;
    let beside = data.parent().unwrap_or(Path::new("/")).to_owned();
    let parent = arguments.dir.as_ref().unwrap_or(&beside);
    // Supervisors are known by the folder in their arguments, which has no links in it.
    let parent = parent.canonicalize();
    let parent = parent.with_context(|| format!("cannot find {}", beside.display()))?;
    let made = tempfile::Builder::new().prefix("muster-torture-").tempdir_in(&parent);
    let made = made.with_context(|| {
        format!("cannot make a folder in {}; --dir names another", parent.display())
    })?;
    // Under root the jobs are other users, who must get to what is theirs.
    fs::set_permissions(made.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))?;
    Ok(made)
}

/// Returns the user's configuration, but for what is not to be touched by this, and the host.
fn own_config(
    config: &Config,
    arguments: &Arguments,
    host: &Host,
    folder: &Path,
) -> anyhow::Result<toml::Table> {
    let mut own = match fs::read_to_string(&arguments.config) {
        Ok(text) => text.parse::<toml::Table>()?,
        // As in `Config::load`: without a file everything is as by default.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => toml::Table::new(),
        Err(error) => bail!("cannot read {}: {error}", arguments.config.display()),
    };
    for name in
        ["listen", "public_url", "public_read", "trusted_proxies", "tls", "notices", "database"]
    {
        own.remove(name);
    }
    let path = |below: &str| toml::Value::from(folder.join(below).to_string_lossy().into_owned());
    own.insert("data".to_owned(), path("data"));
    if let Some(database) = &arguments.database {
        own.insert("database".to_owned(), database.clone().into());
    }
    if let Some(sandbox) = own.get_mut("sandbox").and_then(toml::Value::as_table_mut) {
        // Relative paths are meant from where the user's file stands.
        let tools = config.sandbox.tools.iter().map(std::path::absolute);
        let tools = tools.collect::<Result<Vec<_>, _>>()?;
        let tools: Vec<String> =
            tools.iter().map(|tool| tool.to_string_lossy().into_owned()).collect();
        sandbox.insert("tools".to_owned(), tools.into());
    }
    let mut github = toml::Table::new();
    github.insert("url".to_owned(), "https://github.example".into());
    github.insert("api_url".to_owned(), host.api_url.clone().into());
    let git = format!("file://{}", folder.join("git").display());
    github.insert("git_url".to_owned(), git.into());
    github.insert("token_file".to_owned(), path("token"));
    github.insert("webhook_secret_file".to_owned(), path("secret"));
    own.insert("github".to_owned(), github.into());
    Ok(own)
}

/// Makes the administrator's token of a server that has never run.
async fn make_token(folder: &Path) -> anyhow::Result<String> {
    let config = Config::load(&folder.join("muster.toml"))?;
    let data = Data::open(&config.data)?;
    let store = Store::open(config.database.as_deref(), &data.database(), &data.backups()).await?;
    let token = token::make();
    store.set_setting(ADMIN_TOKEN_HASH, token::hash(&token)).await?;
    store.close().await;
    Ok(token)
}

/// The repository at the code host, and where its commits are made.
struct Repository {
    origin: PathBuf,
    work: PathBuf,
}

impl Repository {
    fn make(folder: &Path) -> anyhow::Result<Self> {
        let origin = folder.join("git").join(format!("{REPOSITORY}.git"));
        let work = folder.join("work");
        for (path, bare) in [(&origin, true), (&work, false)] {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
            let git =
                Git::new(folder, "init").args(["--quiet", "--initial-branch=main", "--template="]);
            if bare { git.arg("--bare") } else { git }.arg(path).bytes()?;
        }
        let workflows = work.join(".muster/workflows");
        fs::create_dir_all(&workflows)?;
        // A pause now and then: there is to be a moment at which a job can be killed.
        let script = format!(
            "for i in $(seq 1 {LINES}); do echo \"line $i\"; test $((i % 40)) -gt 0 || sleep 0.05; done"
        );
        fs::write(
            workflows.join("torture.yml"),
            format!(
                "on: push\njobs:\n  {JOB}:\n    runs-on: ubuntu-latest\n    steps:\n      - run: {script}\n"
            ),
        )?;
        Ok(Self { origin, work })
    }

    /// Makes a commit on a branch of its own.
    fn push(&self, number: usize) -> anyhow::Result<Push> {
        fs::write(self.work.join("number"), number.to_string())?;
        Git::new(&self.work, "add").args(["--all"]).bytes()?;
        Git::new(&self.work, "commit")
            .args(["--quiet", "--message", "Torture"])
            .env("GIT_AUTHOR_NAME", "muster")
            .env("GIT_AUTHOR_EMAIL", "muster@localhost")
            .env("GIT_COMMITTER_NAME", "muster")
            .env("GIT_COMMITTER_EMAIL", "muster@localhost")
            .bytes()?;
        let sha: Sha = Git::new(&self.work, "rev-parse").arg("HEAD").sha()?;
        let branch = format!("torture-{number}");
        let refspec = format!("HEAD:refs/heads/{branch}");
        Git::new(&self.work, "push").args(["--quiet"]).arg(&self.origin).arg(refspec).bytes()?;
        let body = json!({
            "ref": format!("refs/heads/{branch}"),
            "before": "0".repeat(40),
            "after": sha.as_str(),
            "created": true,
            "deleted": false,
            "forced": false,
            "head_commit": {
                "id": sha.as_str(),
                "message": "Torture",
                "timestamp": "2026-01-02T03:04:05Z",
                "author": {"name": "muster", "email": "muster@localhost"},
            },
            "repository": {"id": NUMBER, "full_name": REPOSITORY},
            "sender": {"id": 1, "login": "muster"},
        });
        let (delivery, sha) = (format!("torture-{number}"), sha.as_str().to_owned());
        Ok(Push { delivery, sha, body: body.to_string() })
    }
}

/// Lists the processes whose command line names a folder, but for our own.
fn processes(folder: &Path) -> Vec<(i32, String)> {
    let folder = folder.to_string_lossy();
    let ours = std::process::id();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = entries.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&line).replace('\0', " ")))
    });
    all.filter(|(pid, line)| u32::try_from(*pid) != Ok(ours) && line.contains(&*folder)).collect()
}
